"""SystemExit and KeyboardInterrupt in the background: the caller gets it, and the loop lives."""

import asyncio
import gc
import threading

import pytest

BOTH = pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])


@pytest.fixture
def reports(syncer):
    """What the exception handler of the loop is given."""
    reported = []
    loop = syncer.get_loop()
    loop.call_soon_threadsafe(loop.set_exception_handler, lambda loop, context: reported.append(context))
    yield reported
    loop.call_soon_threadsafe(loop.set_exception_handler, None)


@pytest.fixture(autouse=True)
def _the_loop_lives(syncer):
    yield
    assert syncer.get_loop().is_running()
    assert syncer.run(asyncio.sleep(0, "alive")) == "alive"


def turns(syncer, n=5):
    for _ in range(n):
        syncer.run(asyncio.sleep(0))


@BOTH
@pytest.mark.parametrize("suspends", [False, True])
def test_the_caller_gets_it(syncer, call, error, suspends, reports):
    @syncer
    async def f():
        if suspends:
            await asyncio.sleep(0)
        raise error(3)

    with pytest.raises(error) as caught:
        call(f)
    assert caught.value.args == (3,)
    del caught
    turns(syncer)
    gc.collect()
    turns(syncer)
    assert reports == []


@BOTH
def test_other_callers_are_not_disturbed(syncer, error):
    @syncer
    async def waits():
        await event.wait()
        return "result"

    @syncer
    async def leaves():
        await asyncio.sleep(0)
        raise error(3)

    event = asyncio.Event()
    futures = [waits.submit() for _ in range(10)]
    leaving = [leaves.submit() for _ in range(10)]
    for future in leaving:
        with pytest.raises(error):
            future.result(10)
    syncer.get_loop().call_soon_threadsafe(event.set)
    assert [future.result(10) for future in futures] == ["result"] * 10


@BOTH
def test_in_a_task_that_the_coroutine_awaits(syncer, call, error, reports):
    async def child():
        await asyncio.sleep(0)
        raise error(3)

    @syncer
    async def f():
        await asyncio.create_task(child())

    with pytest.raises(error) as caught:
        call(f)
    assert caught.value.args == (3,)
    del caught
    turns(syncer)
    gc.collect()
    turns(syncer)
    assert reports == []


@BOTH
def test_in_a_task_that_nobody_awaits_it_is_reported(syncer, error, reports):
    async def child():
        await asyncio.sleep(0)
        raise error(3)

    @syncer
    async def f():
        task = asyncio.create_task(child())
        await asyncio.wait([task])

    f()
    turns(syncer)
    gc.collect()
    turns(syncer)
    assert [repr(report["exception"]) for report in reports] == [f"{error.__name__}(3)"]


@BOTH
def test_in_a_callback_it_is_reported(syncer, error, reports):
    def callback():
        try:
            raise error(3)
        finally:
            called.set()

    called = threading.Event()
    syncer.get_loop().call_soon_threadsafe(callback)
    assert called.wait(10)
    turns(syncer)
    assert [repr(report["exception"]) for report in reports] == [f"{error.__name__}(3)"]


@BOTH
def test_the_handler_that_it_is_reported_to_runs_on_the_loop(syncer, error):
    """Where a blocking call is an error and not a hang."""

    @syncer
    async def blocks():
        pass

    def handler(loop, context):
        try:
            blocks()
        except RuntimeError as refused:
            seen.append(refused)
        handled.set()

    def callback():
        raise error(3)

    seen = []
    handled = threading.Event()
    loop = syncer.get_loop()
    loop.call_soon_threadsafe(loop.set_exception_handler, handler)
    try:
        loop.call_soon_threadsafe(callback)
        assert handled.wait(10)
        assert "Deadlock detected" in str(seen[0])
    finally:
        loop.call_soon_threadsafe(loop.set_exception_handler, None)


def test_an_uncaught_system_exit_ends_the_program_with_its_code(script):
    program = script("""
        import sys
        from syncify import syncify

        @syncify
        async def f():
            sys.exit(7)

        f()
    """)
    assert program.end() == (7, "", "")
