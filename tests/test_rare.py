"""What is rare: two things that come together at one moment. Each test brings them about on purpose."""

import asyncio
import contextlib
import gc
import logging
import os
import threading
import warnings
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest
from conftest import new_event_loop

from syncify import ClosedError, DeadlockError, Syncify, _deadline, _deadlock, _exit, _loop, timeout
from syncify._loop import BackgroundLoop

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
QUIET = "-Wignore::DeprecationWarning"  # Python's own, about forking with threads


@pytest.fixture
def own():
    syncer = Syncify("own", loop_factory=new_event_loop)
    syncer.get_loop()
    yield syncer
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        syncer.close()


@pytest.fixture
def posts(monkeypatch):
    """Has the next calls of `post` do what is said: functions that are given the real one, and what is posted."""
    script = []
    real = BackgroundLoop.post

    def post(self, callback):
        if script:
            script.pop(0)(lambda: real(self, callback))
        else:
            real(self, callback)

    monkeypatch.setattr(BackgroundLoop, "post", post)
    return script


def interrupt(post):
    raise KeyboardInterrupt


def just_post(post):
    post()


class Sleeper:
    """Sleeps on the loop until it is cancelled, and notes that it has cleaned up."""

    def __init__(self, syncer):
        self.begun, self.noted = threading.Event(), []

        @syncer
        async def sleep():
            self.begun.set()
            try:
                await asyncio.sleep(1000)
            finally:
                for _ in range(10):
                    await asyncio.sleep(0.001)
                self.noted.append("cleaned")

        self.sleep = sleep

    def post_and_interrupt(self, post):
        post()
        self.begun.wait(20)
        raise KeyboardInterrupt


def wait_for_end(syncer):
    while "0 calls in flight" not in repr(syncer):
        syncer.run(asyncio.sleep(0))


# Signals.


def test_an_interrupt_that_strikes_while_one_is_seen_to_is_seen_to_as_well(own, posts):
    sleeper = Sleeper(own)
    posts += [sleeper.post_and_interrupt, interrupt]
    with pytest.raises(KeyboardInterrupt):
        sleeper.sleep()
    wait_for_end(own)
    assert sleeper.noted == ["cleaned"]


def test_a_second_interrupt_after_the_cancellation_was_posted_does_not_cancel_the_cleanup(own, posts):
    def post_and_interrupt(post):
        post()
        own._background.loop.call_soon_threadsafe(cancelled.set)
        cancelled.wait(20)
        raise KeyboardInterrupt

    sleeper, cancelled = Sleeper(own), threading.Event()
    posts += [sleeper.post_and_interrupt, post_and_interrupt]
    with pytest.raises(KeyboardInterrupt):
        sleeper.sleep()
    wait_for_end(own)
    assert sleeper.noted == ["cleaned"]


def test_a_generator_whose_closing_is_interrupted_is_closed_though_it_is_held(own, posts):
    begun, closed = threading.Event(), threading.Event()

    @own
    async def rows():
        try:
            yield 1
            try:
                begun.set()
                await asyncio.sleep(1000)
            except asyncio.CancelledError:
                yield 2  # ignores that
        finally:
            closed.set()

    def post_and_interrupt(post):
        post()
        begun.wait(20)
        raise KeyboardInterrupt

    generator = rows()
    assert next(generator) == 1
    posts += [post_and_interrupt, just_post, interrupt]  # a step, its cancellation, and the closing
    with pytest.raises(KeyboardInterrupt):
        next(generator)
    assert closed.wait(20)
    assert generator is not None


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_what_is_dropped_is_left_though_a_signal_strikes_its_finalizer(own, posts):
    left = threading.Event()

    @own
    @contextlib.asynccontextmanager
    async def manager():
        try:
            yield
        finally:
            left.set()

    entered = manager()
    entered.__enter__()
    posts.append(interrupt)
    del entered
    gc.collect()
    assert posts == []
    assert left.wait(20)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_dropped_syncer_ends_though_a_signal_strikes_its_finalizer():
    syncer = Syncify("struck")
    syncer.get_loop()
    loop, [thread] = syncer.get_loop(), [each for each in threading.enumerate() if each.name == "struck"]
    real, struck = loop.call_soon_threadsafe, []

    def call_soon_threadsafe(*args, **kwargs):
        if not struck:
            struck.append(True)
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    loop.call_soon_threadsafe = call_soon_threadsafe
    del syncer
    gc.collect()
    assert struck
    thread.join(20)
    assert not thread.is_alive()


# The end of a loop.


def test_what_was_abandoned_is_not_collected_while_it_is_pending(own, caplog):
    """Its cleanup would run in a thread of somebody else."""
    noted, arrived, blocked, go = [], threading.Event(), threading.Event(), threading.Event()

    @own
    async def waits():
        arrived.set()
        try:
            await asyncio.get_running_loop().create_future()  # which nobody holds
        finally:
            noted.append(threading.current_thread().name)

    @own
    async def blocks():
        blocked.set()
        go.wait(20)

    with ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(waits)]
        arrived.wait(20)
        futures.append(pool.submit(blocks))
        blocked.wait(20)
        [thread] = [
            each for each in threading.enumerate() if each.name == "own" and each.ident == own._background.life.thread
        ]
        with pytest.warns(RuntimeWarning, match="has abandoned"):
            own.close(0.01)
        assert [type(future.exception(20)) for future in futures] == [ClosedError] * 2
        del futures
    gc.collect()
    assert noted == []
    go.set()
    thread.join(20)
    assert noted == ["own"]
    gc.collect()
    assert caplog.records == []


def test_a_cleanup_may_ask_for_the_loop_while_that_ends(own):
    found, arrived = [], threading.Event()

    @own
    async def call():
        arrived.set()
        try:
            await asyncio.sleep(1000)
        finally:
            found.append(own.get_loop() is asyncio.get_running_loop())

    call.submit()
    arrived.wait(20)
    own.close()
    assert found == [True]


def test_a_close_between_the_two_steps_of_the_start_is_seen(monkeypatch):
    def set_attribute(self, name, value):
        object.__setattr__(self, name, value)
        if name == "life" and value is not None and self is syncer._background:
            closer = threading.Thread(target=syncer.close)
            closer.start()
            closer.join(20)

    syncer = Syncify("closed as it starts")
    monkeypatch.setattr(BackgroundLoop, "__setattr__", set_attribute, raising=False)
    with ThreadPoolExecutor(1) as pool:
        assert isinstance(pool.submit(syncer.run, asyncio.sleep(0)).exception(20), ClosedError)
    assert not [each for each in threading.enumerate() if each.name == "closed as it starts" and each.join(20)]


def test_a_call_that_starts_as_the_loop_is_given_up_is_told(own):
    class Calls(set):
        def add(self, call):
            if not closed:
                closed.append(True)
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    closer = threading.Thread(target=own.close, args=[0])
                    closer.start()
                    closer.join(20)
            super().add(call)

    @own
    async def blocks():
        go.wait(20)

    closed, go, background = [], threading.Event(), own._background
    background.calls = background.life.in_flight = Calls()
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(blocks)
        assert isinstance(future.exception(20), ClosedError)  # and not when it has ended
        go.set()


def test_the_exit_takes_what_a_thread_has_left_of_the_time():
    background = BackgroundLoop("limited", exit_timeout=8.0)
    assert _exit._limit(background, 100.0) == 8
    for waited, limit in (0, 4), (1, 3), (2, 2), (5, 2), (8, 2), (9, 8):
        background.cut_at = 100.0 - waited
        assert _exit._limit(background, 100.0) == limit
    background.exit_timeout = None
    assert _exit._limit(background, 100.0) is None


def test_a_cleanup_at_exit_that_submits_a_call_is_told_so(script):
    program = script("""
        import asyncio, threading
        from syncify import ClosedError, Syncify

        a, b = Syncify("a"), Syncify("b")
        begun = threading.Semaphore(0)

        @b
        async def on_b():
            begun.release()
            try:
                await asyncio.sleep(1000)
            finally:
                await tried.wait()

        @a
        async def on_a():
            begun.release()
            try:
                await asyncio.sleep(1000)
            finally:
                while not b._background.closing:
                    await asyncio.sleep(0.001)
                try:
                    on_b.submit()
                except ClosedError:
                    print("told", flush=True)
                b._background.loop.call_soon_threadsafe(tried.set)

        tried = asyncio.Event()
        on_b.submit()
        on_a.submit()
        begun.acquire()
        begun.acquire()
    """)
    assert program.end() == (0, "told\n", "")


def test_the_first_import_is_in_an_atexit_function(script):
    program = script("""
        import asyncio, atexit, concurrent.futures.thread

        @atexit.register
        def late():
            from syncify import syncify
            print(syncify.run(asyncio.sleep(0.001, "works")))
    """)
    assert program.end() == (0, "works\n", "")


def test_a_task_that_is_left_by_a_call_in_a_finalizer_cleans_up(script):
    program = script("""
        import asyncio, os
        from syncify import Syncify

        syncer = Syncify("s")

        @syncer
        async def call():
            asyncio.ensure_future(left())
            await asyncio.sleep(0.001)
            return 1

        async def left():
            try:
                await asyncio.sleep(1000)
            finally:
                os.write(1, b"cleaned\\n")

        class Calls:
            def __del__(self, call=call, write=os.write):
                write(1, b"%d\\n" % call())

        calls = Calls()
    """)
    assert program.end() == (0, "cleaned\n1\n", "")


def test_a_task_that_is_left_by_a_call_after_the_exit_is_collected_in_silence(script):
    program = script("""
        import atexit
        atexit.register(lambda: leave())
        import asyncio
        from syncify import syncify

        async def waits():
            await asyncio.get_running_loop().create_future()

        async def start():
            global task
            task = asyncio.create_task(waits())
            await asyncio.sleep(0)

        def leave():
            syncify.run(start())
            print("left")
    """)
    assert program.end() == (0, "left\n", "")


def test_a_syncer_that_outlives_the_modules_ends_in_silence(script):
    program = script("""
        import atexit
        atexit.register(lambda: use())
        import asyncio, sys
        from syncify import syncify

        async def leave():
            asyncio.ensure_future(asyncio.sleep(1000))
            await asyncio.sleep(0)

        def use():
            syncify.run(leave())
            sys.modules["os"].keep = syncify
    """)
    assert program.end() == (0, "", "")


# Faults.


def test_a_context_manager_that_could_not_be_begun_is_not_left():
    def make_loop():
        loop = asyncio.new_event_loop()
        loop.set_task_factory(make_task)
        return loop

    def make_task(loop, coroutine, **kwargs):
        if fails:
            raise fails.pop()
        return asyncio.Task(coroutine, loop=loop, **kwargs)

    class Manager:
        async def __aenter__(self):
            noted.append("entered")

        async def __aexit__(self, *error):
            noted.append("left")

    async def main():
        with pytest.raises(ValueError, match="no task"):
            async with manager.aio():
                noted.append("body")

    fails, noted = [ValueError("no task")], []
    with Syncify("without tasks", loop_factory=make_loop) as syncer:
        manager = syncer(context_manager=True)(Manager)
        asyncio.run(main())
    assert noted == []


def test_a_task_that_awaits_a_call_that_cannot_be_posted_gets_the_error(own, posts):
    def fail(post):
        raise MemoryError(len(posts))

    @own
    async def one():
        return 1

    async def main():
        posts.extend([fail, fail])
        task = asyncio.create_task(one.aio())
        await asyncio.wait([task], timeout=20)
        assert task.done()
        with pytest.raises(MemoryError) as caught:
            await task
        assert caught.value.args == (1,)  # the first of them
        assert await one.aio() == 1

    asyncio.run(main())


# Forks.


@needs_fork
def test_a_child_does_not_run_the_cleanup_of_the_parents_tasks(script):
    program = script(
        """
        import asyncio, gc, os
        from syncify import Syncify

        syncer = Syncify("s")

        async def waits():
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                os.write(1, b"in the child\\n" if os.getpid() != parent else b"in the parent\\n")

        async def start():
            task = asyncio.create_task(waits())
            await asyncio.sleep(0)
            return task

        parent = os.getpid()
        task = syncer.run(start())
        child = os.fork()
        if not child:
            del task
            gc.collect()
            os._exit(0)
        os.waitpid(child, 0)
        syncer.close()
        """,
        QUIET,
    )
    assert program.end() == (0, "in the parent\n", "")


@needs_fork
def test_the_selector_of_the_childs_copy_of_a_loop_is_not_inherited_by_programs(script):
    program = script(
        """
        import asyncio, os
        from syncify import Syncify

        syncer = Syncify("s", loop_factory=asyncio.new_event_loop)
        selector = syncer.get_loop()._selector
        child = os.fork()
        if not child:
            print(hasattr(selector, "fileno") and os.get_inheritable(selector.fileno()), flush=True)
            os._exit(0)
        os.waitpid(child, 0)
        """,
        QUIET,
    )
    assert program.end() == (0, "False\n", "")


@needs_fork
@pytest.mark.parametrize("attempt", range(4))  # it depends on how far the parent's loop is
@pytest.mark.parametrize("kind", ["asyncio's", "derived"])  # a derived one is woken by `call_soon_threadsafe`
def test_a_fork_between_wake_up_and_note_leaves_no_note_that_counts_in_the_child(script, attempt, kind):
    """In a signal handler, that is, which also starts the child's loop."""
    program = script(
        f"""
        import asyncio, os, threading
        from syncify import Syncify

        derived = {kind == "derived"}

        def strike(real):
            def wake(*args, **kwargs):
                global child
                result = real(*args, **kwargs)
                if armed:
                    armed.clear()
                    child = os.fork()
                    if not child:
                        syncer.get_loop()
                return result

            return wake

        class Derived(asyncio.SelectorEventLoop):
            call_soon_threadsafe = strike(asyncio.SelectorEventLoop.call_soon_threadsafe)

        if derived:
            make_loop = Derived
        else:
            make_loop = None
            os.write = strike(os.write)

        armed = []
        syncer = Syncify("s", loop_factory=make_loop)

        @syncer
        async def one():
            return 1

        one()
        armed.append(True)
        try:
            print(one(), flush=True)
        except RuntimeError:
            print("told", flush=True)
        if not child:
            done = threading.Event()
            one.submit().add_done_callback(lambda _: done.set())
            print(done.wait(20), flush=True)
            os._exit(0)
        os.waitpid(child, 0)
        """,
        QUIET,
    )
    code, out, err = program.end()
    assert (code, err) == (0, "")
    assert out.split().count("True") == 1  # the later call of the child; that of the handler may come to either end
    assert set(out.split()) <= {"1", "told", "True"}


# Deadlocks, stuck loops, time limits.


def test_a_circle_is_seen_though_a_thread_that_waits_has_made_another_call_meanwhile(monkeypatch):
    """A log handler does, for example, that is told of a stuck loop."""

    class Handler(logging.Handler):
        def emit(self, record):
            on_c()
            go.set()

    go = threading.Event()
    a, b, c = (Syncify(name, blocking="allow", stuck_after=0.01) for name in "abc")

    @c
    async def on_c():
        pass

    @b
    async def on_b():
        with pytest.raises(DeadlockError, match="again"):
            again()
        return "the others go on"

    @a
    async def again():
        pass

    @a
    async def on_a():
        return on_b()

    logger = logging.getLogger("syncify")
    monkeypatch.setattr(logger, "handlers", [Handler()])
    monkeypatch.setattr(logger, "propagate", False)
    b.get_loop().call_soon_threadsafe(go.wait, 20)
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(on_a).result(20) == "the others go on"
    for syncer in a, b, c:
        syncer.close()


def test_a_circle_of_others_that_is_yet_to_be_refused_is_none_of_mine():
    class Call:
        done = False

        def __init__(self, background, task):
            self.background, self.task = background, task

    backgrounds = [object() for _ in range(3)]
    mine, one, two = Call(backgrounds[1], None), Call(backgrounds[2], None), Call(backgrounds[1], None)
    before = dict(_deadlock.waiting)
    try:
        _deadlock.waiting.update({backgrounds[0]: mine, backgrounds[1]: one, backgrounds[2]: two})
        assert _deadlock._find_circle(mine, [mine]) is None
        assert _deadlock._find_circle(one, [one]) == [one, two]
    finally:
        _deadlock.waiting.clear()
        _deadlock.waiting.update(before)


def test_each_time_that_a_loop_is_stuck_is_named(caplog):
    syncer = Syncify("often stuck", loop_factory=new_event_loop, stuck_after=0.05)

    @syncer
    async def one():
        return 1

    class Handler(logging.Handler):
        def emit(self, record):
            go.set()

    handler = Handler()
    logging.getLogger("syncify").addHandler(handler)
    try:
        for _ in range(2):
            go = threading.Event()
            syncer.get_loop().call_soon_threadsafe(go.wait, 20)
            assert one() == 1
            assert go.is_set()
            threading.Event().wait(0.1)  # twice as long as the first interval
    finally:
        logging.getLogger("syncify").removeHandler(handler)
    assert [record.name for record in caplog.records] == ["syncify"] * 2
    syncer.close()


def test_a_generator_that_is_left_early_cleans_up_though_the_time_is_over_meanwhile(own):
    cleaned = []

    @own
    async def rows():
        try:
            yield 1
            yield 2
        finally:
            await asyncio.sleep(0.2)
            cleaned.append("in full")

    with timeout(0.05):
        for _ in rows():
            break
        assert cleaned == ["in full"]


def test_time_limits_that_have_ended_are_not_kept():
    for _ in range(10):
        with timeout(1000):
            pass
    kept, last = 0, _deadline.get_timeout()
    while last is not None:
        kept, last = kept + 1, last._outer
    assert kept == 1


# References.


class Argument:
    pass


@pytest.fixture
def _no_collector():
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("_no_collector")
def test_a_future_that_is_kept_keeps_no_keyword_argument(own):
    @own
    async def call(*, x):
        return 1

    argument = Argument()
    reference = weakref.ref(argument)
    future = call.submit(x=argument)
    assert future.result(20) == 1
    del argument
    own.run(asyncio.sleep(0))
    own.run(asyncio.sleep(0))
    assert reference() is None


@pytest.mark.usefixtures("_no_collector")
@pytest.mark.parametrize("raises", [False, True])
def test_a_thread_that_has_nothing_to_do_keeps_no_argument(own, raises):
    def work(argument):
        if raises:
            raise ZeroDivisionError

    async def call():
        argument = Argument()
        reference = weakref.ref(argument)
        with contextlib.suppress(ZeroDivisionError):
            await asyncio.to_thread(work, argument)
        del argument
        return reference

    reference = own.run(call())
    for _ in range(1000):  # the thread may be just about to drop it
        own.run(asyncio.sleep(0.001))
        if reference() is None:
            break
    assert reference() is None


def test_closed_loops_are_forgotten():
    before = set(_loop.backgrounds)
    for _ in range(10):
        with Syncify("soon closed") as syncer:
            syncer.get_loop()
    assert set(_loop.backgrounds) <= before


def test_what_is_thrown_into_a_generator_does_not_lead_to_who_iterates(own):
    """A generator that is parked in its cleanup keeps it, and the loop would keep all that it leads to."""

    @own
    async def rows():
        try:
            yield 1
        except KeyError:
            yield 2

    async def main():
        generator, error = rows.aio(), KeyError("thrown in")
        assert await anext(generator) == 1
        assert await generator.athrow(error) == 2
        places, trace = [], error.__traceback__
        while trace is not None:
            places.append(os.path.basename(trace.tb_frame.f_code.co_filename))
            trace = trace.tb_next
        await generator.aclose()
        return places

    assert "_generators.py" not in asyncio.run(main())
