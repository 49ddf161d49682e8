"""The loop starts with the first call: once, wherever that comes from, be it when the interpreter shuts down."""

import asyncio
import contextlib
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from syncify import Syncify


def make_ways(syncer):
    """Each way to use a syncer for the first time; each returns the loop that it ran on."""

    @syncer
    async def f():
        await asyncio.sleep(0)
        return asyncio.get_running_loop()

    @syncer
    async def rows():
        yield asyncio.get_running_loop()

    @syncer(prefetch=2)
    async def ahead():
        yield asyncio.get_running_loop()

    @syncer
    @contextlib.asynccontextmanager
    async def manager():
        yield asyncio.get_running_loop()

    async def plain():
        return asyncio.get_running_loop()

    async def iterate():
        (loop,) = [loop async for loop in rows.aio()]
        return loop

    async def enter():
        async with manager.aio() as loop:
            return loop

    def enter_blocking():
        with manager() as loop:
            return loop

    return {
        "call": f,
        "submit": lambda: f.submit().result(20),
        "aio": lambda: asyncio.run(f.aio()),
        "run": lambda: syncer.run(plain()),
        "run.submit": lambda: syncer.run.submit(plain()).result(20),
        "run.aio": lambda: asyncio.run(syncer.run.aio(plain())),
        "generator": lambda: next(rows()),
        "prefetched generator": lambda: next(ahead()),
        "async generator": lambda: asyncio.run(iterate()),
        "context manager": enter_blocking,
        "async context manager": lambda: asyncio.run(enter()),
        "get_loop": syncer.get_loop,
    }


WAYS = list(make_ways(Syncify("never used")))


# Once, and not before.


def test_what_is_made_and_not_run_starts_nothing():
    def factory():
        raise AssertionError

    syncer = Syncify("unused", loop_factory=factory)

    @syncer
    async def f():
        pass

    @syncer
    async def rows():
        yield

    @syncer(prefetch=3)
    async def ahead():
        yield

    @syncer
    @contextlib.asynccontextmanager
    async def manager():
        yield

    f.aio().close()
    made = [rows(), rows.aio(), ahead(), manager(), manager.aio()]
    made[0].close()
    made[2].close()
    del made
    assert repr(syncer) == "<Syncify 'unused', not started>"


@pytest.mark.parametrize("way", WAYS)
def test_every_way_to_use_it_may_be_the_first(way, loop_factory):
    with Syncify("first", loop_factory=loop_factory) as syncer:
        assert make_ways(syncer)[way]() is syncer.get_loop()


def test_first_calls_of_every_kind_at_the_same_moment_get_one_loop(loop_factory):
    barrier = threading.Barrier(len(WAYS))

    def first(way):
        barrier.wait()
        return way()

    with ThreadPoolExecutor(len(WAYS)) as pool:
        for _ in range(60):
            made = []
            syncer = Syncify("of every kind", loop_factory=lambda made=made: made.append(loop_factory()) or made[-1])
            assert set(pool.map(first, make_ways(syncer).values())) == set(made)
            assert len(made) == 1
            assert sum(thread.name == "of every kind" for thread in threading.enumerate()) == 1
            thread = next(thread for thread in threading.enumerate() if thread.name == "of every kind")
            syncer.close()
            thread.join(20)
            assert not thread.is_alive()


def test_if_the_start_fails_one_caller_is_told_and_the_others_get_the_loop_of_the_next_try():
    barrier = threading.Barrier(8)

    def first(f):
        barrier.wait()
        try:
            return f()
        except ZeroDivisionError as error:
            return error

    with ThreadPoolExecutor(8) as pool:
        for _ in range(100):
            made = []

            def factory(made=made):
                made.append(None)
                if len(made) == 1:
                    raise ZeroDivisionError
                return asyncio.new_event_loop()

            with Syncify("second try", loop_factory=factory) as syncer:
                results = list(pool.map(first, [make_ways(syncer)["call"]] * 8))
                assert len(made) == 2
                assert sum(isinstance(result, ZeroDivisionError) for result in results) == 1
                assert sum(result is syncer.get_loop() for result in results) == 7


# It does not block the loop of who calls.


def test_the_first_call_does_not_make_its_callers_loop_wait_for_the_coroutine(loop_factory):
    """Not even for one that blocks the background loop, and is the first thing that this runs."""
    go = threading.Event()

    async def main():
        with_it = asyncio.create_task(f.aio())
        while not begun.is_set():
            await asyncio.sleep(0.001)
        asyncio.get_running_loop().call_soon(go.set)  # nobody else sets it
        return await with_it

    for _ in range(20):
        go.clear()
        begun = threading.Event()
        syncer = Syncify("busy at once")

        @syncer
        async def f(begun=begun):
            begun.set()
            return go.wait(20)

        with syncer, asyncio.Runner(loop_factory=loop_factory) as runner:
            assert runner.run(main())


def test_many_first_calls_from_one_loop_at_once(loop_factory):
    syncers = [Syncify(f"s{i}") for i in range(30)]
    ways = [make_ways(syncer)["call"] for syncer in syncers]

    async def main():
        return await asyncio.gather(*(f.aio() for f in ways for _ in range(3)))

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        assert runner.run(main()) == [syncer.get_loop() for syncer in syncers for _ in range(3)]
    for syncer in syncers:
        syncer.close()


def test_a_first_call_that_is_cancelled_at_once_leaves_a_loop_that_works(loop_factory):
    async def main(f):
        task = asyncio.create_task(f.aio())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        return task.cancelled() or task.result() is f()

    for _ in range(20):
        with (
            Syncify("cancelled", blocking="allow") as syncer,
            asyncio.Runner(loop_factory=loop_factory) as runner,
        ):
            assert runner.run(main(make_ways(syncer)["call"]))


# At import time.

SDK = """
import asyncio
from contextlib import asynccontextmanager
from syncify import Syncify

made = []
syncer = Syncify(__name__, loop_factory=lambda: made.append(asyncio.new_event_loop()) or made[-1])

@syncer
async def connect(x):
    import {other}  # in the loop's thread
    await asyncio.to_thread(int)
    await asyncio.sleep(0.001)
    return x

@syncer
async def rows():
    yield 1
    await asyncio.sleep(0)
    yield 2

@syncer
@asynccontextmanager
async def session():
    yield 3

FUTURE = connect.submit(6)
with session() as three:
    VALUES = [*rows(), three, connect(4), syncer.run(connect.aio(5)), FUTURE.result(), asyncio.run(connect.aio(7))]
"""


@pytest.fixture
def modules(tmp_path, script):
    """Starts programs that can import sdk0, sdk1, and so on. Each of these makes first calls when it is imported."""
    for i in range(8):
        (tmp_path / f"other{i}.py").write_text("from syncify import syncify\n")
        (tmp_path / f"sdk{i}.py").write_text(SDK.format(other=f"other{i}"))
    return lambda code: script(f"import sys\nsys.path.insert(0, {str(tmp_path)!r})\n" + textwrap.dedent(code))


def test_the_first_use_is_at_import_time(modules):
    program = modules("""
        import sdk0
        print(sdk0.VALUES, len(sdk0.made))
    """)
    assert program.end() == (0, "[1, 2, 3, 4, 5, 6, 7] 1\n", "")


def test_many_threads_import_the_modules_that_make_first_calls(modules):
    """Each module is imported by several threads at once; also nobody has imported syncify yet."""
    program = modules("""
        import importlib, threading

        def import_all(i):
            barrier.wait()
            for j in range(8):
                found[i].append(importlib.import_module(f"sdk{(i // 2 + j) % 8}"))

        barrier = threading.Barrier(16)
        found = [[] for _ in range(16)]
        threads = [threading.Thread(target=import_all, args=[i]) for i in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        print({(tuple(sdk.VALUES), len(sdk.made)) for each in found for sdk in each}, sum(map(len, found)))
    """)
    assert program.end() == (0, "{((1, 2, 3, 4, 5, 6, 7), 1)} 128\n", "")


def test_a_module_that_another_thread_is_importing_starts_the_loop(modules):
    """The importing thread is in the middle of its first call while the main thread waits for that import."""
    program = modules("""
        import threading, types

        gate = types.ModuleType("gate")
        gate.entered, gate.go = threading.Event(), threading.Event()
        sys.modules["gate"] = gate
        with open(sys.path[0] + "/slow.py", "w") as file:
            file.write('''
        import asyncio, gate
        from syncify import syncify

        @syncify
        async def f():
            gate.entered.set()
            await asyncio.to_thread(gate.go.wait)
            return 7

        VALUE = f()
        '''.replace("\\n        ", "\\n"))

        thread = threading.Thread(target=__import__, args=["slow"])
        thread.start()
        gate.entered.wait()
        threading.Timer(0.01, gate.go.set).start()
        import slow
        print(slow.VALUE)
        from syncify import syncify
        print(syncify.run(slow.f.aio()))
    """)
    assert program.end() == (0, "7\n7\n", "")


# When the interpreter shuts down.

LATE = """
import asyncio, atexit, os, sys, threading

def write(*texts):
    os.write(1, (" ".join(map(str, texts)) + "\\n").encode())

def can_start_threads():  # from Python 3.12 on it depends: not once the main thread has ended, or a little later
    try:
        threading.Thread(target=int).start()
    except RuntimeError:
        return False
    return True

if {before}:
    atexit.register(lambda: at_exit())  # runs after what syncify does at exit

from contextlib import asynccontextmanager
from syncify import ClosedError, Syncify, syncify

if not {before}:
    atexit.register(lambda: at_exit())

@syncify
async def double(x):
    await asyncio.sleep(0.001)
    return 2 * x

@syncify
async def in_a_thread(x):
    return await asyncio.to_thread(lambda: 3 * x) + await asyncio.to_thread(int, 1000)

@syncify
async def fails():
    await asyncio.sleep(0)
    raise ZeroDivisionError

@syncify
async def rows():
    try:
        yield 1
        await asyncio.sleep(0)
        yield 2
    finally:
        await asyncio.sleep(0)
        write("closed")

@syncify(prefetch=2)
async def ahead():
    for i in range(5):
        await asyncio.sleep(0)
        yield i

@syncify
@asynccontextmanager
async def manager():
    await asyncio.sleep(0)
    try:
        yield "entered"
    finally:
        await asyncio.sleep(0)
        write("left")
"""

ALL_KINDS = """
def all_kinds():
    write(double(2), syncify.run(double.aio(3)), in_a_thread(4))
    try:
        fails()
    except ZeroDivisionError:
        write("raised")
    write(list(rows()))
    for row in rows():
        break
    with manager() as value:
        write(value)
"""
OF_ALL_KINDS = "4 6 1012\nraised\nclosed\n[1, 2]\nclosed\nentered\nleft\n"


@pytest.fixture(params=[False, True], ids=["registered after the import", "registered before the import"])
def before(request):
    return request.param


@pytest.fixture
def late(script, before):
    return lambda code: script(LATE.format(before=before) + ALL_KINDS + textwrap.dedent(code))


def test_the_first_use_is_in_an_atexit_handler(late):
    program = late("at_exit = all_kinds")
    assert program.end() == (0, OF_ALL_KINDS, "")


def test_an_atexit_handler_uses_a_loop_that_was_used_before(late):
    program = late("""
        write(double(1), in_a_thread(1))
        at_exit = all_kinds
    """)
    assert program.end() == (0, "2 1003\n" + OF_ALL_KINDS, "")


def test_a_prefetched_generator_in_an_atexit_handler(late):
    program = late("""
        def at_exit():
            write(list(ahead()))
            for i in ahead():
                if i == 2:
                    break
            write(i)
    """)
    assert program.end() == (0, "[0, 1, 2, 3, 4]\n2\n", "")


def test_what_was_begun_before_the_exit_is_no_hang_in_an_atexit_handler(late, before):
    """The loop ends between the end of the program and the handlers that were registered before the import."""
    program = late("""
        def at_exit():
            try:
                write(next(begun))
            except RuntimeError as error:
                write(type(error).__name__)
            begun.close()
            write(double(1))

        begun = rows()
        next(begun)
    """)
    code, out, err = program.end()
    assert (code, err) == (0, "")
    assert out == ("closed\nRuntimeError\n2\n" if before else "2\nclosed\n2\n")


def test_in_an_atexit_handler_calls_of_two_syncers_call_each_other(late):
    program = late("""
        one, other = Syncify("one", blocking="allow"), Syncify("other", blocking="allow")

        @one
        async def here(x):
            await asyncio.sleep(0.001)
            return 2 * x

        @other
        async def there(x):
            await asyncio.sleep(0.001)
            return here(x) + here(1)

        def at_exit():
            write(there(1))
            write(other.run(there.aio(2)))
    """)
    assert program.end() == (0, "4\n6\n", "")


def test_in_an_atexit_handler_async_code_on_another_loop_makes_a_blocking_call(late):
    program = late("""
        lenient = Syncify("lenient", blocking="allow")

        @lenient
        async def one():
            await asyncio.sleep(0.001)
            return 1

        async def main():
            await asyncio.sleep(0)
            return one() + one()

        def at_exit():
            write(asyncio.run(main()))
    """)
    assert program.end() == (0, "2\n", "")


def test_a_signal_that_strikes_as_a_caller_begins_to_run_the_loop_leaves_it_to_later_ones(late, before):
    """It may come just when the lock for that has been acquired, and is not released then."""
    program = late("""
        def at_exit():
            write(double(1))
            write(syncify._background.has_no_thread)
            syncify._background._driving.acquire()
            write(double(2))
    """)
    code, out, err = program.end()
    assert (code, err) == (0, "")
    assert out == "2\nTrue\n4\n" or (out == "2\nFalse\n4\n" and not before)


def test_a_first_use_that_needs_a_thread_where_none_can_be_started_is_an_error_at_once(late, before):
    program = late("""
        def at_exit():
            async def plain():
                return 1

            async def iterate():
                return [row async for row in rows.aio()]

            async def enter():
                async with manager.aio() as value:
                    return value

            write(can_start_threads())
            for way in (
                lambda: double.submit(1).result(),
                lambda: asyncio.run(double.aio(1)),
                lambda: syncify.run.submit(plain()).result(),
                lambda: asyncio.run(syncify.run.aio(plain())),
                lambda: asyncio.run(iterate()),
                lambda: asyncio.run(enter()),
                lambda: syncify.get_loop().is_running(),
            ):
                try:
                    write(way())
                except ClosedError as error:
                    write("shutting down" in str(error))
            write(double(5))
    """)
    code, out, err = program.end()
    can_start, _, rest = out.partition("\n")
    assert (code, err) == (0, "")
    if can_start == "False" or before:  # by then the loops of this process have been ended
        assert rest == "True\n" * 7 + "10\n"
    else:
        assert rest == "2\n2\n1\n1\nclosed\n[1, 2]\nleft\nentered\nTrue\n10\n"


def test_the_first_use_is_in_a_daemon_thread_after_the_last_other_thread_has_ended(late):
    program = late("""
        def calls():
            go.wait()
            try:
                results.append([double(i) for i in range(20)] + list(rows()) + [in_a_thread(1)])
            finally:
                done.release()

        def at_exit():
            go.set()
            for _ in range(8):
                done.acquire()
            write(len(results), *set(map(str, results)))

        results, go, done = [], threading.Event(), threading.Semaphore(0)
        for _ in range(8):
            threading.Thread(target=calls, daemon=True).start()
    """)
    code, out, err = program.end()
    assert (code, err) == (0, "")
    assert out == "closed\n" * 8 + f"8 {[*range(0, 40, 2), 1, 2, 1003]}\n"


def test_the_first_use_is_in_another_thread_after_the_main_thread_has_ended(script):
    program = script(
        LATE.format(before=False)
        + ALL_KINDS
        + textwrap.dedent("""
            def at_exit():
                write("exit")

            def calls():
                threading.main_thread().join()
                all_kinds()

            threading.Thread(target=calls).start()
        """)
    )
    assert program.end() == (0, OF_ALL_KINDS + "exit\n", "")


def test_the_first_use_is_in_many_threads_after_the_main_thread_has_ended(script):
    program = script(
        LATE.format(before=False)
        + textwrap.dedent("""
            def at_exit():
                write(len(results), *set(map(str, results)))

            def calls():
                threading.main_thread().join()
                results.append([double(i) for i in range(20)] + [in_a_thread(1)])

            results = []
            for _ in range(8):
                threading.Thread(target=calls).start()
        """)
    )
    assert program.end() == (0, f"8 {[*range(0, 40, 2), 1003]}\n", "")


def test_a_first_use_that_needs_a_thread_after_the_main_thread_has_ended(script):
    program = script(
        LATE.format(before=False)
        + textwrap.dedent("""
            def at_exit():
                write("exit")

            def calls():
                threading.main_thread().join()
                write(can_start_threads())
                for way in (lambda: double.submit(1).result(), lambda: asyncio.run(double.aio(1))):
                    try:
                        write(way())
                    except ClosedError as error:
                        write("shutting down" in str(error))
                write(double(5))

            threading.Thread(target=calls).start()
        """)
    )
    expected = {"True": "2\n2\n10\nexit\n", "False": "True\nTrue\n10\nexit\n"}
    code, out, err = program.end()
    can_start, _, rest = out.partition("\n")
    assert (code, rest, err) == (0, expected[can_start], "")


@pytest.mark.parametrize(
    "kept",
    [
        "final = Final()",
        "final = Final()\nfinal.itself = final",
        "import builtins\nbuiltins.kept = Final()",
    ],
    ids=["in the main module", "in a cycle", "in builtins"],
)
@pytest.mark.parametrize("used_at_exit", [False, True], ids=["", "used at exit"])
def test_the_first_use_is_in_a_finalizer_when_the_interpreter_shuts_down(script, kept, used_at_exit):
    program = script(
        LATE.format(before=False)
        + ALL_KINDS
        + textwrap.dedent(f"""
            def at_exit():
                if {used_at_exit}:
                    write("exit", double(0))

            class Final:
                def __del__(self, all_kinds=all_kinds, write=write, sys=sys):
                    write(sys.is_finalizing())
                    all_kinds()

        """)
        + kept
    )
    code, out, err = program.end()
    assert (code, err) == (0, "")
    assert out == "exit 0\n" * used_at_exit + "True\n" + OF_ALL_KINDS


def test_a_prefetched_generator_in_a_finalizer_when_the_interpreter_shuts_down(script):
    program = script(
        LATE.format(before=False)
        + textwrap.dedent("""
            def at_exit():
                pass

            class Final:
                def __del__(self, ahead=ahead, write=write):
                    write(list(ahead()))
                    for i in ahead():
                        if i == 2:
                            break
                    write(i)

            final = Final()
        """)
    )
    assert program.end() == (0, "[0, 1, 2, 3, 4]\n2\n", "")


def test_several_finalizers_make_calls_when_the_interpreter_shuts_down(script):
    program = script(
        LATE.format(before=False)
        + textwrap.dedent("""
            def at_exit():
                pass

            class Final:
                def __init__(self, syncer, x):
                    async def f():
                        await asyncio.sleep(0.001)
                        return 2 * x

                    self.f = syncer(f)

                def __del__(self, write=write):
                    write(self.f())

            for i in range(3):
                globals()[f"own{i}"] = Final(Syncify("own"), i)
                globals()[f"shared{i}"] = Final(syncify, i)
        """)
    )
    code, out, err = program.end()
    assert (code, err) == (0, "")
    assert sorted(out.split()) == ["0", "0", "2", "2", "4", "4"]
