"""Nothing keeps arguments, results or exceptions alive, not even until the garbage collector comes."""

import asyncio
import contextlib
import gc
import weakref

import pytest


class Thing:
    pass


@pytest.fixture(autouse=True)
def _no_collector():
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def settle(syncer):
    """Let the loop's thread get rid of what it holds of earlier calls."""
    for _ in range(3):
        syncer.run(asyncio.sleep(0))


async def swallow_aio(f, thing):
    with contextlib.suppress(BaseException):
        await f.aio(thing)


def swallow_blocking(syncer, f, thing):
    with contextlib.suppress(BaseException):
        f(thing)


def swallow_submit(syncer, f, thing):
    with contextlib.suppress(BaseException):
        f.submit(thing).result()


def swallow_aio_elsewhere(syncer, f, thing):
    asyncio.run(swallow_aio(f, thing))


def swallow_aio_on_own_loop(syncer, f, thing):
    syncer.run(swallow_aio(f, thing))


each_way = pytest.mark.parametrize(
    "swallow", [swallow_blocking, swallow_submit, swallow_aio_elsewhere, swallow_aio_on_own_loop]
)


@each_way
@pytest.mark.parametrize("suspends", [False, True])
@pytest.mark.parametrize("raises", [None, ValueError, asyncio.CancelledError, SystemExit])
def test_a_call_keeps_nothing(syncer, swallow, suspends, raises):
    @syncer
    async def f(thing):
        ran.append(True)
        if suspends:
            await asyncio.sleep(0)
        if raises is not None:
            raise raises
        return thing

    ran = []
    thing = Thing()
    gone = weakref.ref(thing)
    swallow(syncer, f, thing)
    assert ran
    del thing
    settle(syncer)
    assert gone() is None


@each_way
def test_wrong_arguments_keep_nothing(syncer, swallow):
    @syncer
    async def f():
        pass

    thing = Thing()
    gone = weakref.ref(thing)
    swallow(syncer, f, thing)
    del thing
    settle(syncer)
    assert gone() is None


def test_a_future_that_is_kept_keeps_no_argument(syncer):
    @syncer
    async def f(thing):
        await asyncio.sleep(0)

    thing = Thing()
    gone = weakref.ref(thing)
    future = f.submit(thing)
    del thing
    assert future.result() is None
    settle(syncer)
    assert gone() is None


def test_a_dropped_future_keeps_nothing(syncer):
    @syncer
    async def f(thing):
        await asyncio.sleep(0)
        raise ValueError

    thing = Thing()
    gone = weakref.ref(thing)
    f.submit(thing)
    del thing
    settle(syncer)
    assert gone() is None


def test_a_cancelled_task_keeps_nothing(syncer):
    started = asyncio.Event()

    @syncer
    async def f(thing):
        loop.call_soon_threadsafe(started.set)
        await asyncio.Event().wait()

    async def main():
        nonlocal loop
        loop = asyncio.get_running_loop()
        thing = Thing()
        gone = weakref.ref(thing)
        task = asyncio.create_task(f.aio(thing))
        await started.wait()
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        del task, thing
        return gone

    loop = None
    gone = asyncio.run(main())
    settle(syncer)
    assert gone() is None


def test_what_is_in_flight_is_not_collected(syncer):
    """Asyncio holds its tasks weakly; a call that nobody holds has to end all the same."""
    ended = []

    @syncer
    async def f():
        try:
            # Nothing but this task refers to this future.
            await asyncio.get_running_loop().create_future()
        finally:
            ended.append(True)

    future = f.submit()
    settle(syncer)
    gc.collect()
    settle(syncer)
    assert not ended
    future.cancel()
    settle(syncer)
    assert ended


def test_a_task_that_cancelled_itself_keeps_nothing(syncer):
    @syncer
    async def f(thing):
        try:
            await asyncio.sleep(0)
        finally:
            raise ValueError

    async def main():
        async def caller(thing):
            asyncio.current_task().cancel()
            with contextlib.suppress(ValueError):
                await f.aio(thing)

        thing = Thing()
        gone = weakref.ref(thing)
        await asyncio.wait([asyncio.create_task(caller(thing))])
        return gone

    gone = asyncio.run(main())
    settle(syncer)
    assert gone() is None


def test_a_task_that_cancelled_itself_and_failed_keeps_nothing(syncer):
    @syncer
    async def f():
        raise ValueError

    async def main():
        async def caller(thing):
            asyncio.current_task().cancel()
            await f.aio()

        thing = type("Thing", (), {})()
        gone = weakref.ref(thing)
        task = asyncio.create_task(caller(thing))
        del thing
        await asyncio.wait([task])
        task.exception()
        return gone

    gc.collect()
    gc.disable()
    try:
        gone = asyncio.run(main())
        for _ in range(3):
            syncer.run(asyncio.sleep(0))
        assert gone() is None
    finally:
        gc.enable()
