"""`submit` returns a `concurrent.futures.Future`, which behaves as one."""

import asyncio
import concurrent.futures
import threading

import pytest

from syncify import DeadlockError


async def echo(x):
    await asyncio.sleep(0)
    return x


def test_it_is_a_future_of_the_standard_library(syncer):
    future = syncer(echo).submit(1)
    assert isinstance(future, concurrent.futures.Future)
    assert future.result(10) == 1
    assert future.done()
    assert not future.cancelled()
    assert future.exception() is None


def test_wait_and_as_completed(syncer):
    futures = [syncer(echo).submit(i) for i in range(100)]
    done, pending = concurrent.futures.wait(futures, timeout=10)
    assert len(done) == 100
    assert not pending
    assert sorted(f.result() for f in concurrent.futures.as_completed(futures, timeout=10)) == list(range(100))


def test_a_time_limit_leaves_the_coroutine_alone(syncer):
    @syncer
    async def f():
        await event.wait()
        return "done"

    event = asyncio.Event()
    future = f.submit()
    with pytest.raises(TimeoutError):
        future.result(0.01)
    with pytest.raises(TimeoutError):
        future.exception(0.01)
    syncer.get_loop().call_soon_threadsafe(event.set)
    assert future.result(10) == "done"


def test_an_exception(syncer):
    error = ValueError("mine")

    @syncer
    async def f():
        raise error

    future = f.submit()
    assert future.exception(10) is error
    with pytest.raises(ValueError, match="mine") as caught:
        future.result()
    assert caught.value is error


def test_a_callback_gets_the_future(syncer):
    called = threading.Event()
    results = []

    def callback(future):
        results.append(future.result())
        called.set()

    syncer(echo).submit(7).add_done_callback(callback)
    assert called.wait(10)
    assert results == [7]


def test_a_cancelled_future_raises_as_those_of_the_standard_library_do(syncer):
    @syncer
    async def forever():
        await asyncio.Event().wait()

    future = forever.submit()
    assert future.cancel()
    with pytest.raises(concurrent.futures.CancelledError):
        future.result(10)
    done, _ = concurrent.futures.wait([future], timeout=10)
    assert done == {future}


def test_a_coroutine_that_cancels_itself_is_no_cancelled_future(syncer):
    @syncer
    async def f():
        raise asyncio.CancelledError("by hand")

    future = f.submit()
    with pytest.raises(asyncio.CancelledError, match="by hand"):
        future.result(10)
    assert not future.cancelled()


def test_a_finished_future_cannot_be_cancelled(syncer):
    future = syncer(echo).submit(1)
    future.result()
    assert not future.cancel()


def test_from_the_background_loop_itself(syncer):
    f = syncer(echo)

    async def main():
        return await asyncio.wrap_future(f.submit(3))

    assert syncer.run(main()) == 3


def test_from_another_loop(syncer, loop_factory):
    f = syncer(echo)

    async def main():
        return await asyncio.gather(*(asyncio.wrap_future(f.submit(i)) for i in range(50)))

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        assert runner.run(main()) == list(range(50))


def test_waiting_for_it_on_the_background_loop_is_a_deadlock(syncer):
    async def main():
        future = syncer(echo).submit(3)
        with pytest.raises(DeadlockError, match=r"Deadlock detected: .*asyncio\.wrap_future"):
            future.result()
        with pytest.raises(DeadlockError, match="Deadlock detected"):
            future.exception()
        with pytest.raises(TimeoutError):
            future.result(0)
        assert await asyncio.wrap_future(future) == 3
        return future.result()

    assert syncer.run(main()) == 3


def test_ten_thousand_in_flight(syncer):
    @syncer
    async def f(i):
        await event.wait()
        return i

    event = asyncio.Event()
    futures = [f.submit(i) for i in range(10_000)]
    syncer.get_loop().call_soon_threadsafe(event.set)
    assert [future.result(30) for future in futures] == list(range(10_000))
