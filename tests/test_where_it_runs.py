"""Always on the background loop of its syncer, whoever asks."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from syncify import ClosedError, Syncify, syncify


async def where():
    await asyncio.sleep(0)
    return asyncio.get_running_loop(), threading.current_thread()


def test_always_on_the_one_loop(syncer, call):
    loop, thread = call(syncer(where))
    assert loop is syncer.get_loop()
    assert thread.name == syncer.name
    assert thread.daemon


def test_from_many_threads_it_is_one_loop(syncer):
    f = syncer(where)
    with ThreadPoolExecutor(16) as pool:
        futures = [pool.submit(f) for _ in range(200)]
    assert {future.result() for future in futures} == {(syncer.get_loop(), f()[1])}


def test_first_calls_from_many_threads_start_one_loop():
    for _ in range(50):
        made = []

        def factory(made=made):
            made.append(asyncio.new_event_loop())
            return made[-1]

        syncer = Syncify("once", loop_factory=factory)
        f = syncer(where)
        barrier = threading.Barrier(8)

        def first(f=f, barrier=barrier):
            barrier.wait()
            return f()

        with ThreadPoolExecutor(8) as pool:
            results = {future.result() for future in [pool.submit(first) for _ in range(8)]}
        assert len(results) == len(made) == 1


def test_on_its_own_loop_aio_runs_in_the_callers_task(syncer):
    @syncer
    async def inner():
        await asyncio.sleep(0)
        return asyncio.current_task()

    @syncer
    async def outer():
        return asyncio.current_task() is await inner.aio()

    assert outer()


def test_where_it_runs_is_decided_when_it_is_awaited(syncer, other_syncer, loop_factory):
    f = syncer(where)
    at_once = asyncio.run(f.aio())
    assert at_once[0] is syncer.get_loop()
    made_in_plain_code = f.aio()
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        assert runner.run(made_in_plain_code)[0] is syncer.get_loop()
    assert syncer.run(f.aio())[0] is syncer.get_loop()
    assert other_syncer.run(f.aio())[0] is syncer.get_loop()

    async def make():
        return f.aio()

    made_on_another_loop = asyncio.run(make())
    assert syncer.run(made_on_another_loop)[0] is syncer.get_loop()


def test_two_syncers_of_one_name_are_two():
    one, two = Syncify("same"), Syncify("same")
    assert one.get_loop() is not two.get_loop()

    @two
    async def f():
        return asyncio.get_running_loop()

    @one
    async def g():
        return await f.aio()

    assert g() is two.get_loop()


def test_syncers_call_each_other(syncer, other_syncer):
    there = other_syncer(where)

    @syncer
    async def through():
        return await there.aio(), there()

    (loop, _), (also, _) = through()
    assert loop is also is other_syncer.get_loop()


def test_no_thread_before_the_first_call(script):
    program = script("""
        import threading
        from syncify import Syncify, syncify

        syncer = Syncify("mine")

        @syncer
        async def f():
            pass

        f.aio, syncer.run, syncer.name, repr(syncer)
        print(threading.active_count(), syncer)
        f()
        print(sorted(thread.name for thread in threading.enumerate()), syncer)
        syncify.get_loop()
        print(sorted(thread.name for thread in threading.enumerate()), syncify)
    """)
    assert program.end() == (
        0,
        "1 <Syncify 'mine', not started>\n"
        "['MainThread', 'mine'] <Syncify 'mine', 0 calls in flight>\n"
        "['MainThread', 'mine', 'syncify'] <Syncify 'syncify', 0 calls in flight>\n",
        "",
    )


def test_the_repr_counts_the_calls_in_flight(syncer):
    @syncer
    async def forever():
        started.release()
        await asyncio.Event().wait()

    started = threading.Semaphore(0)
    futures = [forever.submit() for _ in range(3)]
    for _ in range(3):
        started.acquire()
    syncer.run(asyncio.sleep(0))
    assert repr(syncer) == f"<Syncify {syncer.name!r}, 3 calls in flight>"
    for future in futures:
        future.cancel()
    syncer.run(asyncio.sleep(0))
    assert repr(syncer) == f"<Syncify {syncer.name!r}, 0 calls in flight>"


def test_callers_on_other_loops_do_not_wait_for_each_other(syncer, loop_factory):
    """Many calls from one loop are under way at once."""
    arrived = asyncio.Event()
    count = 0

    @syncer
    async def meet():
        nonlocal count
        count += 1
        if count == 100:
            arrived.set()
        await arrived.wait()
        return count

    async def main():
        return await asyncio.gather(*(meet.aio() for _ in range(100)))

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        assert runner.run(main()) == [100] * 100


def test_the_default_syncer_is_one():
    import flyte.syncify
    import syncify as package

    assert flyte.syncify.syncify is package.syncify is syncify
    assert flyte.syncify.Syncify is package.Syncify


def test_a_forked_child_gets_a_loop_of_its_own(script):
    program = script(
        """
        import asyncio, os
        from syncify import syncify

        @syncify
        async def f():
            await asyncio.sleep(0)
            return os.getpid()

        assert f() == os.getpid()
        parents = syncify.get_loop()
        child = os.fork()
        if not child:
            ok = f() == os.getpid() and syncify.get_loop() is not parents
            os._exit(0 if ok else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert f() == os.getpid()
        assert syncify.get_loop() is parents
        print("done")
        """,
        "-Wignore::DeprecationWarning",  # Python's own, about forking with threads
    )
    assert program.end() == (0, "done\n", "")


def test_get_loop_returns_a_running_loop():
    for _ in range(50):
        assert Syncify("runs").get_loop().is_running()


def test_a_loop_that_runs_already_is_refused(syncer):
    with pytest.raises(TypeError, match="has to return a new event loop"):
        Syncify("thief", loop_factory=syncer.get_loop).get_loop()
    assert syncer(where)()[0] is syncer.get_loop()


def test_stop_does_not_stop_it(syncer):
    loop = syncer.get_loop()
    loop.call_soon_threadsafe(loop.stop)
    assert syncer(where)()[0] is loop


def test_a_signal_handler_may_make_a_call_while_the_loop_is_being_started(script):
    program = script("""
        import asyncio, os, signal
        from syncify import Syncify

        async def one():
            return 1

        def handler(*_):
            results.append(f())

        def loop_factory():
            os.kill(os.getpid(), signal.SIGUSR1)
            return asyncio.new_event_loop()

        results = []
        signal.signal(signal.SIGUSR1, handler)
        for _ in range(50):
            f = Syncify("reentrant", loop_factory=loop_factory)(one)
            results.append(f())
        print(set(results), len(results))
        os._exit(0)
    """)
    assert program.line() == "{1} 100"
    assert program.end() == (0, "", "")


def test_a_finalizer_that_makes_a_call_while_its_thread_starts_the_loop_gets_an_error(script):
    program = script("""
        import asyncio
        from syncify import Syncify

        async def one():
            return 1

        class Final:
            def __del__(self):
                try:
                    f()
                except RuntimeError as error:
                    print(error)

        def loop_factory():
            Final()
            return asyncio.new_event_loop()

        f = Syncify("mine", loop_factory=loop_factory)(one)
        print(f())
    """)
    assert program.end() == (0, "the background loop 'mine' is being started by this very thread\n1\n", "")


def test_a_finalizer_that_makes_a_call_when_all_other_threads_are_gone_gets_an_error(script):
    program = script("""
        import sys
        from syncify import syncify

        @syncify
        async def one():
            return 1

        class Final:
            def __del__(self, one=one, sys=sys, print=print):
                if sys.is_finalizing():
                    try:
                        one()
                    except RuntimeError as error:
                        print(error)

        final = Final()
        print(one())
    """)
    code, out, err = program.end()
    assert (code, err) == (0, "")
    assert out.startswith("1\n")


def test_a_loop_that_was_closed_is_an_error_and_no_hang():
    syncer = Syncify("closed")
    loop = syncer.get_loop()
    f = syncer(where)

    def stop_and_close():
        # What a thread that runs the loop could not do: the loop runs on when it is stopped.
        loop._closed = True
        loop.stop()

    loop.call_soon_threadsafe(stop_and_close)
    while loop.is_running():
        pass
    with pytest.raises(ClosedError, match=r"'closed' has come to an end by itself: .*closed by other code"):
        f()
    with pytest.raises(ClosedError, match=r"'closed' has come to an end by itself: .*closed by other code"):
        asyncio.run(f.aio())
    with pytest.raises(ClosedError, match=r"'closed' has come to an end by itself: .*closed by other code"):
        f.submit()
    loop._closed = False
    loop.close()


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_an_exit_of_the_loop_factory_reaches_the_caller(error):
    def factory():
        raise error

    with pytest.raises(error):
        Syncify("exits", loop_factory=factory).get_loop()


def test_a_call_tries_once_to_start_the_loop():
    def factory():
        made.append(1)
        raise ZeroDivisionError

    made = []
    syncer = Syncify("once", loop_factory=factory)
    with pytest.raises(ZeroDivisionError):
        syncer(asyncio.sleep)(0)
    assert len(made) == 1


def test_a_loop_whose_thread_cannot_be_started_is_closed(monkeypatch):
    def fail(thread):
        raise RuntimeError("can't start new thread")

    made = []
    syncer = Syncify("no-thread", loop_factory=lambda: made.append(asyncio.new_event_loop()) or made[-1])
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", fail)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            syncer.get_loop()
    assert made[0].is_closed()
    assert syncer.run(asyncio.sleep(0, "works")) == "works"


def test_a_failed_start_is_not_held_against_a_later_thread():
    """The system gives the ids of threads that have ended to new ones."""
    for _ in range(20):
        makers = [lambda: 1 / 0, asyncio.new_event_loop]
        syncer = Syncify("retried", loop_factory=lambda makers=makers: makers.pop(0)())
        with pytest.raises(ZeroDivisionError):
            syncer.get_loop()
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(syncer.run, asyncio.sleep(0, "works")).result(10) == "works"


def test_nobody_gets_the_loop_before_it_runs():
    class Slow(asyncio.SelectorEventLoop):
        def run_forever(self):
            begun.set()
            go.wait(10)
            super().run_forever()

    syncer = Syncify("slow", loop_factory=Slow)
    begun, go = threading.Event(), threading.Event()
    thread = threading.Thread(target=syncer.get_loop)
    thread.start()
    begun.wait(10)
    thread.join(0.05)
    assert thread.is_alive()
    assert repr(syncer) == "<Syncify 'slow', not started>"
    go.set()
    thread.join(10)
    assert syncer.get_loop().is_running()


def test_a_forked_child_makes_no_call_of_its_parent(script):
    program = script(
        """
        import asyncio, os, threading
        from syncify import syncify

        @syncify
        async def note(x):
            noted.append(x)

        @syncify
        async def hold():
            held.set()
            go.wait()

        noted, held, go = [], threading.Event(), threading.Event()
        in_flight = syncify(asyncio.sleep).submit(1000)
        holder = hold.submit()
        held.wait()
        waiting = note.submit("parent")
        child = os.fork()
        if not child:
            assert repr(syncify) == "<Syncify 'syncify', not started>"
            note("child")
            ok = noted == ["child"] and repr(syncify) == "<Syncify 'syncify', 0 calls in flight>"
            os._exit(0 if ok else 1)
        assert os.waitpid(child, 0)[1] == 0
        go.set()
        waiting.result(10)
        assert repr(syncify) == "<Syncify 'syncify', 1 calls in flight>"
        print(noted)
        """,
        "-Wignore::DeprecationWarning",  # Python's own, about forking with threads
    )
    assert program.end() == (0, "['parent']\n", "")


def test_a_child_forked_while_the_loop_is_being_started_starts_its_own(script):
    program = script(
        """
        import asyncio, os, threading
        from syncify import Syncify

        def loop_factory():
            if os.getpid() == parent:
                begun.set()
                go.wait()
            return asyncio.new_event_loop()

        parent, begun, go = os.getpid(), threading.Event(), threading.Event()
        syncer = Syncify("forked", loop_factory=loop_factory)
        thread = threading.Thread(target=syncer.get_loop)
        thread.start()
        begun.wait()
        child = os.fork()
        if not child:
            os._exit(syncer.run(asyncio.sleep(0, 7)))
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        go.set()
        print(syncer.run(asyncio.sleep(0, 8)))
        """,
        "-Wignore::DeprecationWarning",  # Python's own, about forking with threads
    )
    assert program.end() == (0, "7\n8\n", "")
