"""How calls get to the loop: none is lost, many share a wake-up, and none stops the loop or the others."""

import asyncio
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from syncify import Syncify


@pytest.fixture(autouse=True)
def _switch_threads_often():
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


def test_no_call_of_many_threads_is_lost(syncer):
    @syncer
    async def echo(x, turns):
        for _ in range(turns):
            await asyncio.sleep(0)
        return x

    def caller(start):
        return [echo(start + i, i % 3) for i in range(300)]

    with ThreadPoolExecutor(16) as pool:
        results = list(pool.map(caller, range(0, 16_000, 1000)))
    assert results == [[start + i for i in range(300)] for start in range(0, 16_000, 1000)]


def test_no_call_of_many_loops_is_lost(syncer, loop_factory):
    @syncer
    async def echo(x):
        await asyncio.sleep(0)
        return x

    async def caller(start):
        one_by_one = [await echo.aio(start + i) for i in range(100)]
        return one_by_one + await asyncio.gather(*(echo.aio(start + i) for i in range(100, 200)))

    def on_a_loop(start):
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            return runner.run(caller(start))

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(on_a_loop, range(0, 8000, 1000)))
    assert results == [[start + i for i in range(200)] for start in range(0, 8000, 1000)]


def test_many_calls_share_a_wake_up(loop_factory):
    """Those that come while the loop is busy wake it once."""
    wake_ups = []

    def make_loop():
        loop = loop_factory()

        class Counting(type(loop)):
            def call_soon_threadsafe(self, *args, **kwargs):
                wake_ups.append(args)
                return super().call_soon_threadsafe(*args, **kwargs)

        loop.close()
        return Counting()

    syncer = Syncify("counting", loop_factory=make_loop)

    @syncer
    async def echo(x):
        return x

    @syncer
    async def busy():
        began.set()
        go.wait()

    began, go = threading.Event(), threading.Event()
    blocker = busy.submit()
    began.wait()
    before = len(wake_ups)
    futures = [echo.submit(i) for i in range(1000)]
    go.set()
    assert [future.result(10) for future in futures] == list(range(1000))
    blocker.result(10)
    assert len(wake_ups) - before == 1


def test_a_flood_of_calls_does_not_keep_the_loop_from_its_own_work(syncer):
    stop = threading.Event()
    fired = threading.Event()

    @syncer
    async def echo():
        pass

    def flood():
        while not stop.is_set():
            echo.submit()

    threads = [threading.Thread(target=flood) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        loop = syncer.get_loop()
        loop.call_soon_threadsafe(loop.call_later, 0.01, fired.set)
        assert fired.wait(10)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    echo()


def test_calls_are_started_in_the_order_of_one_caller(syncer):
    order = []

    @syncer
    async def note(i):
        order.append(i)

    futures = [note.submit(i) for i in range(200)]
    note(200)
    assert order == list(range(201))
    assert all(future.done() for future in futures)


def test_a_task_factory_that_raises_is_the_callers_error_and_no_hang(loop_factory):
    def make_loop():
        loop = loop_factory()
        loop.set_task_factory(lambda loop, coroutine, **kwargs: 1 / 0)
        return loop

    syncer = Syncify("bad-factory", loop_factory=make_loop)

    @syncer
    async def f():
        pass

    with pytest.raises(ZeroDivisionError):
        f()
    with pytest.raises(ZeroDivisionError):
        f.submit().result(10)
    with pytest.raises(ZeroDivisionError):
        asyncio.run(f.aio())
    with pytest.raises(ZeroDivisionError):
        syncer.run(asyncio.sleep(0))


def test_a_callback_of_a_future_that_raises_disturbs_nobody(syncer, caplog):
    @syncer
    async def echo(x):
        return x

    future = echo.submit(1)
    future.add_done_callback(lambda future: 1 / 0)
    assert future.result(10) == 1
    assert echo(2) == 2
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks are new in Python 3.12")
def test_eager_task_factories_on_either_side():
    def make_loop():
        loop = asyncio.new_event_loop()
        loop.set_task_factory(asyncio.eager_task_factory)
        return loop

    syncer = Syncify("eager", loop_factory=make_loop)

    @syncer
    async def f(turns):
        for _ in range(turns):
            await asyncio.sleep(0)
        return asyncio.get_running_loop()

    async def main():
        return await asyncio.gather(*(f.aio(i) for i in range(3)))

    assert [f(0), f(1), f.submit(2).result(10)] == [syncer.get_loop()] * 3
    assert syncer.run(main()) == [syncer.get_loop()] * 3
    with asyncio.Runner(loop_factory=make_loop) as runner:
        assert runner.run(main()) == [syncer.get_loop()] * 3


def test_however_many_calls_come_a_turn_of_the_loop_takes_a_bounded_number(loop_factory):
    syncer = Syncify("bounded", loop_factory=loop_factory)
    turn = 0
    taken = []

    def count_turns():
        nonlocal turn
        turn += 1
        if not stop.is_set():
            syncer.get_loop().call_soon(count_turns)

    @syncer
    async def note():
        taken.append(turn)

    def flood():
        for _ in range(5000):
            note.submit()

    stop = threading.Event()
    syncer.get_loop().call_soon_threadsafe(count_turns)
    threads = [threading.Thread(target=flood) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    note()
    stop.set()
    assert len(taken) == 20_001
    # Two, since the loop may run our part at the end of one turn and at the beginning of the next.
    assert max(taken.count(turn) for turn in set(taken)) <= 2 * 256


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of asyncio on Python 3.12, for a task without a name
def test_a_task_factory_that_returns_no_task_is_the_callers_error_and_no_hang(loop_factory):
    def make_loop():
        loop = loop_factory()
        loop.set_task_factory(lambda loop, coroutine, **kwargs: None)
        return loop

    f = Syncify("no-task", loop_factory=make_loop)(asyncio.sleep)
    with pytest.raises(AttributeError):
        f(0)
    with pytest.raises(AttributeError):
        f.submit(0).result(10)


def test_a_callback_of_a_future_that_raises_system_exit_is_reported(syncer):
    @syncer
    async def echo(x):
        return x

    def leave(future):
        raise SystemExit(3)

    reported = threading.Event()
    loop = syncer.get_loop()
    loop.call_soon_threadsafe(loop.set_exception_handler, lambda loop, context: reported.set())
    try:

        async def submit():  # from the loop, so that the callback is there before the call ends
            echo.submit(1).add_done_callback(leave)

        syncer.run(submit())
        assert reported.wait(10)
        assert echo(2) == 2
    finally:
        loop.call_soon_threadsafe(loop.set_exception_handler, None)


def test_a_call_that_failed_when_it_was_posted_is_not_made_later(script):
    """A signal handler, or the recursion limit, may strike when the call waits for the loop, which is not woken yet."""
    program = script("""
        from syncify import syncify

        begun = []

        @syncify
        async def f(x):
            begun.append(x)

        def deep(n):
            if n:
                return deep(n - 1)
            f("deep")
            return True

        import sys
        f("first")
        failed = 0
        for n in range(sys.getrecursionlimit() - 60, sys.getrecursionlimit()):
            begun.clear()
            try:
                deep(n)
            except RecursionError:
                failed += 1
                f("next")
                assert begun == ["next"], (n, begun)
        assert failed
        print("done")
    """)
    assert program.end() == (0, "done\n", "")
