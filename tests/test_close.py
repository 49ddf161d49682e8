"""`close()` ends a loop and all that runs on it; nobody who waits for it is forgotten. So does dropping the syncer."""

import asyncio
import contextlib
import gc
import math
import os
import random
import re
import signal
import sys
import textwrap
import threading
import warnings
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest
from conftest import LOOP_FACTORIES

from syncify import BlockingCallWarning, ClosedError, DeadlockError, SyncContextManager, Syncify

CALLS = int(os.environ.get("SYNCIFY_CALLS", "20000"))


@pytest.fixture
def own(loop_factory):
    """A syncer that a test may close. In the end its thread is gone."""
    syncer = Syncify("own", loop_factory=loop_factory)
    yield syncer
    for gate in gates:
        gate.set()  # so that a test that fails keeps nobody waiting
    gates.clear()
    syncer.close()
    join_all("own")


gates = []


def gate():
    """An event that something on the loop waits for."""
    gates.append(threading.Event())
    return gates[-1]


@pytest.fixture(autouse=True)
def _earlier_threads():
    """What another test has left is no concern of the next."""
    earlier.update(threading.enumerate())
    yield
    earlier.clear()


earlier = weakref.WeakSet()


def join_all(name):
    """Wait for the end of the threads of this name."""
    for thread in threading.enumerate():
        if thread.name == name and thread not in earlier:
            thread.join(20)
            assert not thread.is_alive()


class Things:
    """What can be in flight. All of it comes to `job`, tells that, and waits there."""

    def __init__(self, syncer):
        self.arrived = threading.Semaphore(0)
        self.noted = []  # what has cleaned up

        async def job(swallows):
            self.arrived.release()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                await asyncio.sleep(0.001)
                self.noted.append("cleaned")
                if not swallows:
                    raise
            return "value"

        async def rows(swallows):
            yield await job(swallows)

        @contextlib.asynccontextmanager
        async def enters(swallows):
            yield await job(swallows)

        @contextlib.asynccontextmanager
        async def leaves(swallows):
            yield
            await job(swallows)

        class Iterator:
            def __init__(self, swallows):
                self.swallows = swallows

            def __aiter__(self):
                return self

            async def __anext__(self):
                return await job(self.swallows)

        async def iterator(swallows):
            return Iterator(swallows)

        class Mixed(SyncContextManager, syncer=syncer):
            def __init__(self, swallows):
                self.swallows = swallows

            async def __aenter__(self):
                return await job(self.swallows)

            async def __aexit__(self, *exc_info):
                pass

        self.syncer = syncer
        self.job = syncer(job)
        self.job_itself = job
        self.rows = syncer(rows)
        self.ahead = syncer(prefetch=3)(rows)
        self.enters = syncer(enters)
        self.leaves = syncer(leaves)
        self.iterator = syncer(iterator)
        self.mixed = Mixed


def _enter(manager):
    return manager.__enter__()


def _leave(manager):
    manager.__enter__()
    return manager.__exit__(None, None, None) or "value"


async def _aenter(manager):
    return await manager.__aenter__()


async def _aleave(manager):
    await manager.__aenter__()
    return await manager.__aexit__(None, None, None) or "value"


# How to wait for a job in a thread.
CALLERS = {
    "call": lambda things, how: things.job(how),
    "submit": lambda things, how: things.job.submit(how).result(),
    "aio": lambda things, how: asyncio.run(things.job.aio(how)),
    "run": lambda things, how: things.syncer.run(things.job_itself(how)),
    "run.submit": lambda things, how: things.syncer.run.submit(things.job_itself(how)).result(),
    "run.aio": lambda things, how: asyncio.run(things.syncer.run.aio(things.job_itself(how))),
    "generator": lambda things, how: next(things.rows(how)),
    "prefetched generator": lambda things, how: next(things.ahead(how)),
    "async generator": lambda things, how: asyncio.run(_first(things.rows.aio(how))),
    "iterator": lambda things, how: next(iter(things.iterator(how))),
    "async iterator": lambda things, how: asyncio.run(_first_of_iterator(things, how)),
    "enter": lambda things, how: _enter(things.enters(how)),
    "async enter": lambda things, how: asyncio.run(_aenter(things.enters.aio(how))),
    "exit": lambda things, how: _leave(things.leaves(how)),
    "async exit": lambda things, how: asyncio.run(_aleave(things.leaves.aio(how))),
    "mixed in": lambda things, how: _enter(things.mixed(how)),
    "async mixed in": lambda things, how: asyncio.run(_aenter(things.mixed(how))),
}


async def _first(rows):
    async with contextlib.aclosing(rows):
        return await anext(rows)


async def _first_of_iterator(things, how):
    return await anext(aiter(await things.iterator.aio(how)))


each_caller = pytest.mark.parametrize("caller", CALLERS)


# What it ends.


def test_it_ends_the_thread_and_closes_the_loop(own):
    loop = own.get_loop()
    (thread,) = [thread for thread in threading.enumerate() if thread.name == "own"]
    own.close()
    assert loop.is_closed()
    thread.join(20)
    assert not thread.is_alive()
    assert repr(own) == "<Syncify 'own', closed>"


def test_before_the_first_call_there_is_nothing_to_end_and_none_will_begin():
    def factory():
        raise AssertionError

    syncer = Syncify("unused", loop_factory=factory)
    syncer.close()
    with pytest.raises(ClosedError, match=r"^The syncer 'unused' is closed\.$"):
        syncer.get_loop()


def test_as_a_context_manager_it_is_closed_at_the_end_of_the_block(loop_factory):
    with Syncify("own", loop_factory=loop_factory) as syncer:
        loop = syncer.get_loop()
        assert syncer.run(asyncio.sleep(0, "works")) == "works"
    assert loop.is_closed()
    with pytest.raises(ClosedError):
        syncer.get_loop()


def test_it_is_closed_as_well_by_a_block_that_raises(loop_factory):
    with pytest.raises(ZeroDivisionError), Syncify("own", loop_factory=loop_factory) as syncer:
        loop = syncer.get_loop()
        raise ZeroDivisionError
    assert loop.is_closed()


def test_a_second_time_it_does_nothing(own):
    own.get_loop()
    own.close()
    own.close()
    own.close(None)


def test_any_thread_may_close(own):
    loop = own.get_loop()
    with ThreadPoolExecutor(1) as pool:
        pool.submit(own.close).result(20)
    assert loop.is_closed()


def test_many_threads_may_close_at_once(loop_factory):
    """Each of them returns when all is ended."""

    def close(syncer, loop):
        barrier.wait()
        syncer.close()
        return loop.is_closed()

    barrier = threading.Barrier(6)
    with ThreadPoolExecutor(6) as pool:
        for _ in range(100):
            syncer = Syncify("own", loop_factory=loop_factory)
            assert list(pool.map(close, [syncer] * 6, [syncer.get_loop()] * 6)) == [True] * 6
    join_all("own")


@each_caller
def test_what_is_in_flight_is_cancelled_and_cleans_up_and_its_caller_is_told(own, caller):
    things = Things(own)
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(CALLERS[caller], things, False)
        assert things.arrived.acquire(timeout=20)
        own.close()
        assert things.noted == ["cleaned"]
        with pytest.raises(ClosedError, match=r"^The syncer 'own' is closed\.$"):
            future.result(20)


@each_caller
def test_the_caller_of_a_coroutine_that_swallows_the_cancellation_gets_its_value(own, caller):
    things = Things(own)
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(CALLERS[caller], things, True)
        assert things.arrived.acquire(timeout=20)
        own.close()
        assert future.result(20) == "value"


def test_many_callers_of_all_kinds_are_told(own):
    things = Things(own)
    with ThreadPoolExecutor(3 * len(CALLERS)) as pool:
        futures = [pool.submit(caller, things, False) for caller in CALLERS.values() for _ in range(3)]
        for _ in futures:
            assert things.arrived.acquire(timeout=20)
        own.close()
        assert things.noted == ["cleaned"] * len(futures)
        assert {type(future.exception(20)) for future in futures} == {ClosedError}


def test_each_caller_gets_an_error_of_its_own(own):
    """Raised in several threads, one exception would collect the frames of them all."""
    things = Things(own)
    futures = [things.job.submit(False) for _ in range(3)]
    for _ in futures:
        things.arrived.acquire()
    own.close()
    assert len({id(future.exception()) for future in futures}) == 3


def test_a_coroutine_that_fails_in_its_cleanup_tells_its_caller_that(own):
    @own
    async def fails():
        try:
            arrived.set()
            await asyncio.Event().wait()
        finally:
            raise ZeroDivisionError

    arrived = threading.Event()
    future = fails.submit()
    arrived.wait()
    own.close()
    assert isinstance(future.exception(20), ZeroDivisionError)


def test_a_caller_that_is_a_coroutine_of_another_syncer_is_told(own):
    things = Things(own)

    with Syncify("other") as other:

        @other
        async def through():
            return await things.job.aio(False)

        future = through.submit()
        things.arrived.acquire()
        own.close()
        with pytest.raises(ClosedError, match="'own' is closed"):
            future.result(20)
        assert other.run(asyncio.sleep(0, "goes on")) == "goes on"


def test_a_call_that_waits_for_another_syncer_is_cancelled_there_too(own):
    with Syncify("other") as other:
        things = Things(other)

        @own
        async def through():
            return await things.job.aio(False)

        future = through.submit()
        things.arrived.acquire()
        own.close()
        assert things.noted == ["cleaned"]
        with pytest.raises(ClosedError, match="'own' is closed"):
            future.result(20)
        assert other.run(asyncio.sleep(0, "goes on")) == "goes on"


def test_calls_that_have_not_begun_never_do_and_their_callers_are_told(own):
    """They are on their way when the end begins."""
    ran = []

    @own
    async def hold():
        held.set()
        go.wait()

    @own
    async def late():
        ran.append(True)

    @own
    async def rows():
        ran.append(True)
        yield

    held, go = threading.Event(), gate()
    hold.submit()
    held.wait()
    with ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(late), pool.submit(asyncio.run, late.aio()), pool.submit(next, rows()), late.submit()]
        while len(own._background.incoming) < 4:
            pass
        closing = pool.submit(own.close)
        while "closed" not in repr(own):
            pass
        go.set()
        assert {type(future.exception(20)) for future in futures} == {ClosedError}
        closing.result(20)
    assert ran == []


@pytest.mark.parametrize("prefetch", [None, 3])
def test_a_generator_that_is_half_way_is_closed(own, prefetch):
    noted = []

    async def rows():
        try:
            yield 1
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.001)
            noted.append("closed")

    generator = (own if prefetch is None else own(prefetch=prefetch))(rows)()
    assert next(generator) == 1
    own.close()
    assert noted == ["closed"]
    with pytest.raises(ClosedError, match=r"^The syncer 'own' is closed\.$"):
        next(generator)
    generator.close()


def test_a_prefetched_generator_that_has_items_ahead_does_not_end_in_silence(own):
    @own(prefetch=10)
    async def rows():
        for i in range(5):
            yield i
        arrived.set()
        await asyncio.Event().wait()

    arrived = threading.Event()
    generator = rows()
    items = [next(generator)]
    arrived.wait()
    own.close()
    with pytest.raises(ClosedError):
        while True:
            items.append(next(generator))
    assert items == list(range(5))[: len(items)]
    generator.close()


def test_an_async_generator_that_is_half_way_on_another_loop_is_closed(own, loop_factory):
    noted = []

    @own
    async def rows():
        try:
            yield 1
            yield 2
        finally:
            await asyncio.sleep(0.001)
            noted.append("closed")

    async def main():
        generator = rows.aio()
        assert await anext(generator) == 1
        await asyncio.to_thread(own.close)
        assert noted == ["closed"]
        with pytest.raises(ClosedError, match=r"^The syncer 'own' is closed\.$"):
            await anext(generator)
        await generator.aclose()

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main())


def test_closing_a_generator_after_the_syncer_is_quiet(own):
    @own
    async def rows():
        yield 1
        yield 2

    exhausted, half_way, not_begun, dropped = rows(), rows(), rows(), rows()
    assert list(exhausted) == [1, 2]
    assert next(half_way) == next(dropped) == 1
    own.close()
    for generator in exhausted, half_way, not_begun:
        generator.close()
        generator.close()
        assert list(generator) == []  # as with any generator that was closed
    del dropped


def test_closing_an_async_generator_after_the_syncer_is_quiet(own, loop_factory):
    @own
    async def rows():
        yield 1
        yield 2

    async def main():
        half_way, not_begun, dropped = rows.aio(), rows.aio(), rows.aio()
        assert await anext(half_way) == await anext(dropped) == 1
        await asyncio.to_thread(own.close)
        for generator in half_way, not_begun:
            await generator.aclose()
            await generator.aclose()
            assert [item async for item in generator] == []
        del dropped  # the loop closes it in a task, and would report what that raises
        while len(asyncio.all_tasks()) == 1:
            await asyncio.sleep(0)
        while len(asyncio.all_tasks()) > 1:
            await asyncio.sleep(0)

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main())


def test_an_async_generator_that_is_dropped_as_its_own_loop_ends_after_the_syncer_is_quiet(own, loop_factory):
    """That loop cancels the task in which it closes it."""

    @own
    async def rows():
        yield 1

    async def main():
        dropped = rows.aio()
        assert await anext(dropped) == 1
        await asyncio.to_thread(own.close)

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main())


def test_closing_a_generator_that_was_closed_while_the_syncer_still_is_being_closed_is_quiet(own, loop_factory):
    """The syncer waits for something else."""

    @own
    async def slow():
        try:
            arrived.set()
            await asyncio.Event().wait()
        finally:
            await asyncio.to_thread(go.wait)

    @own
    async def rows():
        try:
            yield 1
            yield 2
        finally:
            closed.release()

    async def main(generator):
        assert await anext(generator) == 1
        kept.append(generator)

    async def aclose(generator):
        await generator.aclose()

    arrived, go, closed, kept = threading.Event(), gate(), threading.Semaphore(0), []
    slow.submit()
    arrived.wait()
    generator = rows()
    next(generator)
    with ThreadPoolExecutor(1) as pool, asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main(rows.aio()))
        closing = pool.submit(own.close)
        for _ in range(2):
            closed.acquire()
        while len(own._background.calls) > 1:
            pass
        try:
            generator.close()
            runner.run(aclose(kept.pop()))
        finally:
            go.set()
        closing.result(20)


def test_throwing_into_a_generator_of_a_closed_syncer_raises(own):
    @own
    async def rows():
        yield 1
        yield 2

    generator = rows()
    next(generator)
    own.close()
    with pytest.raises(ClosedError):
        generator.throw(ZeroDivisionError)


def test_a_context_manager_that_is_entered_is_left(own):
    noted = []

    @own
    @contextlib.asynccontextmanager
    async def manager():
        try:
            yield
        finally:
            await asyncio.sleep(0.001)
            noted.append("left")

    entered = manager()
    entered.__enter__()
    with pytest.raises(ClosedError, match=r"^The syncer 'own' is closed\.$"), manager():
        own.close()
        assert noted == ["left"] * 2
    with pytest.raises(ClosedError, match=r"^The syncer 'own' is closed\.$"):
        entered.__exit__(None, None, None)
    assert noted == ["left"] * 2


def test_an_async_context_manager_that_is_entered_on_another_loop_is_left(own, loop_factory):
    noted = []

    @own
    @contextlib.asynccontextmanager
    async def manager():
        try:
            yield
        finally:
            await asyncio.sleep(0.001)
            noted.append("left")

    async def main():
        with pytest.raises(ClosedError, match=r"^The syncer 'own' is closed\.$"):
            async with manager.aio():
                await asyncio.to_thread(own.close)
                assert noted == ["left"]
        assert noted == ["left"]

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main())


def test_tasks_that_users_have_left_behind_are_cancelled_and_clean_up(own):
    noted = []
    kept = set()

    async def background():
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.001)
            noted.append("cleaned")
            kept.add(asyncio.create_task(begun_by_that()))

    async def begun_by_that():
        try:
            await asyncio.Event().wait()
        finally:
            noted.append("cleaned as well")

    @own
    async def begin():
        kept.add(asyncio.create_task(background()))
        await asyncio.sleep(0)

    begin()
    own.close()
    assert noted[0] == "cleaned"
    assert all(task.done() for task in kept)


def test_what_a_call_needs_for_its_cleanup_is_cancelled_after_it(own):
    """A task of the user that a call talks to outlives the call."""
    noted = []

    async def serve(queue):
        try:
            while True:
                (await queue.get()).set_result("answer")
        finally:
            noted.append("server")

    @own
    async def talks():
        queue = asyncio.Queue()
        server = asyncio.create_task(serve(queue))
        try:
            arrived.set()
            await asyncio.Event().wait()
        finally:
            answer = asyncio.get_running_loop().create_future()
            queue.put_nowait(answer)
            noted.append(await answer)
            assert not server.done()

    arrived = threading.Event()
    talks.submit()
    arrived.wait()
    own.close()
    assert noted == ["answer", "server"]


def test_a_task_that_raises_when_it_is_cancelled_is_reported_to_the_loop(own):
    reported = []

    async def fails():
        try:
            await asyncio.Event().wait()
        finally:
            raise ZeroDivisionError

    @own
    async def begin():
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: reported.append(context))
        kept.append(asyncio.create_task(fails()))
        await asyncio.sleep(0)

    kept = []
    begin()
    own.close()
    (report,) = reported
    assert isinstance(report["exception"], ZeroDivisionError)
    assert report["task"] is kept[0]


def test_async_generators_that_users_have_left_are_closed(own):
    noted = []

    async def rows():
        try:
            yield 1
        finally:
            await asyncio.sleep(0)
            noted.append("closed")

    @own
    async def begin():
        kept.append(rows())
        await anext(kept[0])

    kept = []
    begin()
    own.close()
    assert noted == ["closed"]


def test_functions_in_threads_are_waited_for(own):
    """The call that has begun it is cancelled at once; it goes on, as threads do."""
    noted = []

    def function():
        arrived.set()
        cancelled.wait(20)
        for _ in range(20):  # as long as this runs, so does the loop
            turned = threading.Event()
            loop.call_soon_threadsafe(turned.set)
            assert turned.wait(20)
        noted.append("done")

    @own
    async def calls():
        try:
            await asyncio.to_thread(function)
        finally:
            cancelled.set()

    loop = own.get_loop()
    arrived, cancelled = threading.Event(), threading.Event()
    future = calls.submit()
    arrived.wait()
    own.close()
    assert noted == ["done"]
    assert isinstance(future.exception(20), ClosedError)
    join_all("syncify-to-thread-0")


def test_cleanup_may_use_threads(own):
    @own
    async def calls():
        try:
            arrived.set()
            await asyncio.Event().wait()
        finally:
            noted.append(await asyncio.to_thread(threading.get_ident))

    noted = []
    arrived = threading.Event()
    calls.submit()
    arrived.wait()
    own.close()
    assert len(noted) == 1 and noted[0] != threading.get_ident()
    join_all("syncify-to-thread-0")


def test_an_executor_of_the_users_own_is_shut_down(own):
    @own
    async def calls():
        asyncio.get_running_loop().set_default_executor(executor)
        return await asyncio.to_thread(threading.current_thread)

    executor = ThreadPoolExecutor(1)
    thread = calls()
    own.close()
    thread.join(20)
    assert not thread.is_alive()


# From where.


def test_on_the_loop_itself_it_is_an_error_that_says_why(own):
    @own
    async def closes():
        own.close()

    @own
    async def leaves():
        with own:
            pass

    with pytest.raises(DeadlockError, match=r"close\(\) was called on the background loop 'own'"):
        closes()
    with pytest.raises(DeadlockError, match=r"close\(\) was called on the background loop 'own'"):
        leaves()
    assert own.run(asyncio.sleep(0, "works")) == "works"


def test_in_a_callback_of_the_loop_it_is_an_error(own):
    def callback():
        try:
            own.close()
        except BaseException as error:
            raised.append(error)
        done.set()

    raised, done = [], threading.Event()
    own.get_loop().call_soon_threadsafe(callback)
    done.wait()
    assert isinstance(raised[0], DeadlockError)
    assert own.run(asyncio.sleep(0, "works")) == "works"


def test_a_coroutine_of_the_loop_can_close_it_as_the_error_says(own):
    """Nothing waits for itself: not the call for its own cancellation, nor the end for the thread that waits for it."""

    @own
    async def closes():
        with pytest.raises(DeadlockError) as raised:
            own.close()
        (advice,) = re.findall("`await (.*)`", str(raised.value))
        assert advice == "asyncio.to_thread(syncer.close)"
        await asyncio.to_thread(close)

    def close():
        try:
            own.close(1)
        except BaseException as error:
            outcomes.append(error)
        else:
            outcomes.append("closed")

    outcomes = []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ClosedError):
            closes()
        join_all("syncify-to-thread-0")
    assert outcomes == ["closed"]


def test_on_another_loop_it_warns_as_every_blocking_call_does(own, loop_factory):
    async def main():
        with pytest.warns(BlockingCallWarning, match=r"close\(\) blocks the event loop") as caught:
            own.close()
        assert caught[0].filename == __file__

    loop = own.get_loop()
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main())
    assert loop.is_closed()


def test_on_another_loop_a_strict_syncer_refuses_and_goes_on(loop_factory):
    async def main():
        with pytest.raises(BlockingCallWarning):
            strict.close()

    with Syncify("strict", blocking="error") as strict:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(main())
        assert strict.run(asyncio.sleep(0, "works")) == "works"


def test_another_loop_may_await_it_in_a_thread_while_it_has_calls_in_flight(own, loop_factory):
    things = Things(own)

    async def main():
        task = asyncio.create_task(things.job.aio(False))
        await asyncio.to_thread(things.arrived.acquire)
        await asyncio.to_thread(own.close)
        with pytest.raises(ClosedError):
            await task

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main())


def test_while_another_thread_starts_the_loop(loop_factory):
    def factory():
        begun.set()
        go.wait(20)
        made.append(loop_factory())
        return made[-1]

    made, begun, go = [], threading.Event(), threading.Event()
    syncer = Syncify("own", loop_factory=factory)
    things = Things(syncer)
    with ThreadPoolExecutor(8) as pool:
        futures = [pool.submit(CALLERS[caller], things, False) for caller in ("call", "submit", "aio", "run")]
        begun.wait()
        closing = pool.submit(syncer.close)
        while "closed" not in repr(syncer):
            pass
        go.set()
        closing.result(20)
        assert {type(future.exception(20)) for future in futures} == {ClosedError}
    join_all("own")
    assert [loop.is_closed() for loop in made] == [True]
    assert things.noted == []


def test_at_any_moment_of_the_start(loop_factory):
    """The first call has its result or is told, and no loop is left."""

    async def one():
        return 1

    def call(syncer):
        barrier.wait()
        try:
            return syncer.run(one())
        except ClosedError:
            return None

    def close(syncer, pause):
        barrier.wait()
        for _ in range(pause):
            pass
        syncer.close()

    barrier = threading.Barrier(3)
    outcomes = set()
    with ThreadPoolExecutor(3) as pool:
        for i in range(300):
            made = []
            syncer = Syncify("own", loop_factory=lambda made=made: made.append(loop_factory()) or made[-1])
            calls = [pool.submit(call, syncer) for _ in range(2)]
            pool.submit(close, syncer, 40 * i).result(20)
            outcomes |= {future.result(20) for future in calls}
            join_all("own")
            assert all(loop.is_closed() for loop in made)
    assert outcomes <= {1, None}


# Afterwards.


@each_caller
def test_whoever_comes_afterwards_is_told(own, caller):
    """And no coroutine is left that was never awaited, or that warning would fail this test."""
    things = Things(own)
    own.get_loop()
    own.close()
    with pytest.raises(ClosedError, match=r"^The syncer 'own' is closed\.$"):
        CALLERS[caller](things, False)
    gc.collect()
    assert things.noted == []
    assert not things.arrived.acquire(False)


def test_what_was_made_before_is_refused_afterwards(own, loop_factory):
    things = Things(own)
    own.get_loop()
    generator, ahead, manager = things.rows(False), things.ahead(False), things.enters(False)
    coroutine, async_generator, async_manager = things.job.aio(False), things.rows.aio(False), things.enters.aio(False)
    own.close()
    for step in generator.__next__, ahead.__next__, manager.__enter__:
        with pytest.raises(ClosedError):
            step()

    async def main():
        for awaitable in coroutine, anext(async_generator), async_manager.__aenter__():
            with pytest.raises(ClosedError):
                await awaitable

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main())


def test_whoever_comes_while_it_is_being_closed_is_told(own):
    """The loop still runs then, for the cleanup of what was in flight."""

    @own
    async def slow():
        try:
            arrived.set()
            await asyncio.Event().wait()
        finally:
            cleaning.set()
            await asyncio.to_thread(go.wait)

    arrived, cleaning, go = threading.Event(), threading.Event(), gate()
    future = slow.submit()
    arrived.wait()
    things = Things(own)
    with ThreadPoolExecutor(1) as pool:
        closing = pool.submit(own.close)
        cleaning.wait()
        assert repr(own) == "<Syncify 'own', closed>"
        for caller in CALLERS.values():
            with pytest.raises(ClosedError):
                caller(things, False)
        assert not closing.done()
        try:
            with pytest.raises(ClosedError):
                own.get_loop()
        finally:
            go.set()
        closing.result(20)
    assert isinstance(future.exception(20), ClosedError)


def test_other_syncers_go_on():
    with Syncify("same") as one, Syncify("same") as other:
        other.get_loop()
        one.get_loop()
        one.close()
        assert other.run(asyncio.sleep(0, "works")) == "works"


LEAKS = """
import asyncio, contextlib, gc, os, sys, threading, time, warnings
from syncify import ClosedError, Syncify
if {uvloop}:
    from uvloop import new_event_loop
else:
    from asyncio import new_event_loop

def fds():
    return len(os.listdir("/dev/fd"))

def settle():
    # The thread of a loop lives for a moment longer than the loop.
    while threading.active_count() > 1 or fds() > before:
        gc.collect()
        time.sleep(0.01)

def make():
    return Syncify("own", loop_factory=new_event_loop)

make().close()
with make() as syncer:
    syncer.get_loop()  # whatever is opened once
before = fds()
warnings.simplefilter("error")
"""


@pytest.fixture
def leaks(script, loop_factory):
    """Starts programs that come to an end only if `settle` sees neither threads nor descriptors left over."""
    if sys.platform == "win32":
        pytest.skip("counts file descriptors")
    prelude = LEAKS.format(uvloop=loop_factory is not LOOP_FACTORIES["asyncio"])
    return lambda code: script(prelude + textwrap.dedent(code))


def test_no_thread_and_no_descriptor_is_left(leaks):
    program = leaks("""
        for _ in range(30):
            with make() as syncer:
                @syncer
                async def f(how):
                    await asyncio.to_thread(int)
                    arrived.release()
                    await asyncio.sleep(how)

                @syncer
                async def rows():
                    yield 1
                    yield 2

                arrived = threading.Semaphore(0)
                f(0)
                generator = rows()
                next(generator)
                future = f.submit(1000)
                for _ in range(2):
                    arrived.acquire()
            assert isinstance(future.exception(), ClosedError)
            assert syncer.name
        settle()
        print("done")
    """)
    assert program.end() == (0, "done\n", "")


# Its limit.


class Offender:
    """Something that does not end until it is told to."""

    def __init__(self, syncer):
        self.arrived, self.go = threading.Event(), gate()
        self.syncer = syncer

        @syncer
        async def ignores_its_cancellation():
            self.arrived.set()
            while not self.go.is_set():
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.sleep(0.005)

        @syncer
        async def waits_in_a_thread():
            await asyncio.to_thread(runs_for_long)

        def runs_for_long():
            self.arrived.set()
            self.go.wait()

        @syncer
        async def blocks():
            self.arrived.set()
            self.go.wait()

        @syncer
        async def blocks_later():
            await asyncio.sleep(0)
            self.arrived.set()
            self.go.wait()

        @syncer
        async def rows():
            yield 1
            await ignores_its_cancellation.aio()

        @syncer
        @contextlib.asynccontextmanager
        async def manager():
            await ignores_its_cancellation.aio()
            yield

        self.ignores_its_cancellation = ignores_its_cancellation
        self.waits_in_a_thread = waits_in_a_thread
        self.blocks = blocks
        self.blocks_later = blocks_later
        self.rows = rows
        self.manager = manager

    def step(self):
        generator = self.rows()
        next(generator)
        next(generator)

    def leave_a_task(self):
        async def background():
            await self.ignores_its_cancellation.aio()

        @self.syncer
        async def begin():
            self.task = asyncio.create_task(background())

        begin()


# What to do in a thread of its own, and what the warning names.
OFFENCES = {
    "call": (lambda o: o.ignores_its_cancellation(), r"ignores_its_cancellation\(\)"),
    "aio": (lambda o: asyncio.run(o.ignores_its_cancellation.aio()), r"ignores_its_cancellation\(\)"),
    "submit": (lambda o: o.ignores_its_cancellation.submit().result(), r"ignores_its_cancellation\(\)"),
    "run": (lambda o: o.syncer.run(o.ignores_its_cancellation.aio()), "run|ignores_its_cancellation"),
    "generator": (lambda o: o.step(), r"rows\(\)"),
    "context manager": (lambda o: o.manager().__enter__(), r"manager\(\)"),
    "thread": (lambda o: o.waits_in_a_thread(), r"runs_for_long\(\) in a thread"),
    "blocked loop": (lambda o: o.blocks(), "blocks"),
    "blocked loop of a task": (lambda o: o.blocks_later(), "blocks_later"),
    "blocked by a callback": (
        lambda o: o.syncer.get_loop().call_soon_threadsafe(lambda: (o.arrived.set(), o.go.wait())),
        r"what its thread does.*(wait|<lambda>)",
    ),
    "task": (lambda o: o.leave_a_task(), r"background\(\)"),
}
WAITING = ["call", "aio", "submit", "run", "generator", "context manager", "thread", "blocked loop"]
WAITING.append("blocked loop of a task")  # for all of these somebody waits


@pytest.mark.parametrize("offence", OFFENCES)
def test_what_does_not_end_is_abandoned_and_named_and_ends_later_by_itself(own, offence):
    offender = Offender(own)
    loop = own.get_loop()
    act, name = OFFENCES[offence]
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(act, offender)
        assert offender.arrived.wait(20)
        with pytest.warns(RuntimeWarning, match=f"(?s)'own' has abandoned .*{name}.*not ended in 0.05 s") as caught:
            own.close(0.05)
        line = sys._getframe().f_lineno - 1
        assert [(warning.filename, warning.lineno) for warning in caught] == [(__file__, line)]
        if offence in WAITING:
            with pytest.raises(ClosedError, match=r"^The syncer 'own' is closed\.$"):
                future.result(20)
        assert not loop.is_closed()
        with pytest.raises(ClosedError):
            own.get_loop()
        own.close(0.05)  # a second time there is nothing to say
        offender.go.set()
        join_all("own")
        assert loop.is_closed()
        join_all("syncify-to-thread-0")


def test_each_of_several_is_named(own):
    offender = Offender(own)
    offender.waits_in_a_thread.submit()
    offender.arrived.wait()
    offender.arrived.clear()
    offender.ignores_its_cancellation.submit()
    offender.arrived.wait()
    with pytest.warns(RuntimeWarning, match=r"ignores_its_cancellation\(\), .*runs_for_long\(\) in a thread"):
        own.close(0.05)
    offender.go.set()
    join_all("own")


def test_calls_that_wait_behind_a_blocked_loop_are_told(own):
    offender = Offender(own)
    things = Things(own)
    own.get_loop()
    with ThreadPoolExecutor(20) as pool:
        holder = pool.submit(offender.blocks)
        offender.arrived.wait()
        callers = {name: caller for name, caller in CALLERS.items() if "iterator" not in name}
        futures = {name: pool.submit(caller, things, False) for name, caller in callers.items()}
        while len(own._background.incoming) < len(callers):
            pass
        with pytest.warns(RuntimeWarning, match="blocks"):
            own.close(0.05)
        outcomes = {name: type(future.exception(20)) for name, future in futures.items()}
        assert outcomes == dict.fromkeys(callers, ClosedError)
        assert isinstance(holder.exception(20), ClosedError)
        offender.go.set()
        join_all("own")
    assert things.noted == []
    assert not things.arrived.acquire(False)


@pytest.mark.parametrize("caller", ["call", "aio", "submit"])
def test_a_coroutine_that_was_handed_in_and_never_begins_is_closed(caller):
    """The loop is kept when its task is there, and has not made its first step."""

    def make_loop():
        loop = asyncio.new_event_loop()
        loop.set_task_factory(make_task)
        return loop

    def make_task(loop, coroutine, **kwargs):
        loop.call_soon(block)
        return asyncio.Task(coroutine, loop=loop, **kwargs)

    def block():
        blocked.set()
        go.wait()

    async def job():
        noted.append("begun")

    own, blocked, go, noted, coroutine = Syncify("own", loop_factory=make_loop), threading.Event(), gate(), [], job()
    with ThreadPoolExecutor(1) as pool:
        if caller == "submit":
            future = own.run.submit(coroutine)
        else:
            future = (
                pool.submit(own.run, coroutine)
                if caller == "call"
                else pool.submit(asyncio.run, own.run.aio(coroutine))
            )
        del coroutine
        blocked.wait()
        with pytest.warns(RuntimeWarning) as caught:
            own.close(0.01)
        assert isinstance(future.exception(20), ClosedError)
        go.set()
        join_all("own")
    gc.collect()
    assert ["has abandoned" in str(warning.message) for warning in caught] == [True]
    assert noted == []


def test_the_end_of_a_block_warns_at_that_block(monkeypatch):
    def block():
        with syncer:
            offender.ignores_its_cancellation.submit().add_done_callback(futures.append)
            offender.arrived.wait()

    monkeypatch.setattr(Syncify.close, "__defaults__", (0.05,))  # 5 seconds would be long for a test
    syncer, futures = Syncify("own"), []
    offender = Offender(syncer)
    with pytest.warns(RuntimeWarning, match="ignores_its_cancellation") as caught:
        block()
    offender.go.set()
    join_all("own")
    assert isinstance(futures[0].exception(20), ClosedError)
    assert [warning.filename for warning in caught] == [__file__]


@pytest.mark.parametrize("caller", ["generator", "prefetched generator", "async generator", "manager", "async manager"])
def test_a_loop_that_was_kept_until_it_was_abandoned_ends_all_later(own, caller):
    """What has begun before is closed when the loop goes on, though nobody waits for that any more."""
    noted = []

    async def rows():
        try:
            yield 1
            yield 2
        finally:
            await asyncio.sleep(0)
            noted.append("closed")

    generator, ahead, manager = own(rows), own(prefetch=1)(rows), own(contextlib.asynccontextmanager(rows))

    async def begin():
        kept.append(generator.aio() if caller == "async generator" else manager.aio())
        assert await (anext(kept[0]) if caller == "async generator" else kept[0].__aenter__()) == 1

    kept = []
    if caller == "manager":
        kept.append(manager())
        kept[0].__enter__()
    elif caller.startswith("async"):
        runner = asyncio.Runner()
        runner.run(begin())
    else:
        kept.append(generator() if caller == "generator" else ahead())
        assert next(kept[0]) == 1
    offender = Offender(own)
    future = offender.blocks.submit()
    offender.arrived.wait()
    loop = own.get_loop()
    with pytest.warns(RuntimeWarning, match="has abandoned"):
        own.close(0.01)
    assert isinstance(future.exception(20), ClosedError)
    offender.go.set()
    join_all("own")
    assert loop.is_closed()
    assert noted == ["closed"]
    if caller.startswith("async"):
        with contextlib.suppress(ClosedError):
            runner.close()


def test_one_that_waits_without_a_limit_waits_on_when_another_gives_up(own):
    offender = Offender(own)
    future = offender.ignores_its_cancellation.submit()
    offender.arrived.wait()
    loop = own.get_loop()
    with ThreadPoolExecutor(1) as pool:
        patient = pool.submit(own.close, None)
        while "closed" not in repr(own):
            pass
        with pytest.warns(RuntimeWarning, match="ignores_its_cancellation"):
            own.close(0.05)
        assert isinstance(future.exception(20), ClosedError)
        assert not loop.is_closed()
        offender.go.set()
        patient.result(20)
        join_all("own")
        assert loop.is_closed()


def test_if_warnings_are_errors_it_raises_when_all_is_done(own):
    offender = Offender(own)
    future = offender.ignores_its_cancellation.submit()
    offender.arrived.wait()
    with pytest.raises(RuntimeWarning, match="ignores_its_cancellation"):
        own.close(0.05)
    assert isinstance(future.exception(20), ClosedError)
    offender.go.set()


@pytest.mark.parametrize("offence", ["call", "generator", "thread", "blocked loop"])
def test_what_is_abandoned_gives_back_thread_and_descriptors_when_it_ends(leaks, offence):
    program = leaks(
        {
            "call": "async def offends():\n"
            "    arrived.set()\n"
            "    while not go.is_set():\n"
            "        with contextlib.suppress(asyncio.CancelledError):\n"
            "            await asyncio.sleep(0.001)\n",
            "generator": "async def offends():\n"
            "    arrived.set()\n"
            "    try:\n"
            "        yield 1\n"
            "    finally:\n"
            "        while not go.is_set():\n"
            "            await asyncio.sleep(0.001)\n",
            "thread": "async def offends():\n    await asyncio.to_thread(lambda: (arrived.set(), go.wait()))\n",
            "blocked loop": "async def offends():\n    arrived.set()\n    go.wait()\n",
        }[offence]
        + textwrap.dedent("""
        for _ in range(5):
            arrived, go, syncer = threading.Event(), threading.Event(), make()
            f = syncer(offends)
            if hasattr(f, "submit"):
                future = f.submit()
            else:
                future = f()
                next(future)
            arrived.wait()
            try:
                syncer.close(0.01)
            except RuntimeWarning:
                print("abandoned")
            assert fds() > before
            go.set()
            settle()
        print("done")
        """)
    )
    assert program.end() == (0, "abandoned\n" * 5 + "done\n", "")


@pytest.mark.parametrize("timeout", ["1", True, object(), [1], 1j])
def test_a_limit_that_is_no_number_is_refused_and_closes_nothing(own, timeout):
    with pytest.raises(TypeError, match="timeout takes a number of seconds, or None for no limit, got "):
        own.close(timeout)
    assert own.run(asyncio.sleep(0, "works")) == "works"


@pytest.mark.parametrize("timeout", [-1, -0.001, math.nan, -math.inf])
def test_a_limit_that_makes_no_sense_is_refused_and_closes_nothing(own, timeout):
    with pytest.raises(ValueError, match="timeout takes a number of seconds, 0 or more, got "):
        own.close(timeout)
    assert own.run(asyncio.sleep(0, "works")) == "works"


@pytest.mark.parametrize("timeout", [None, 20, 20.5, math.inf, 1e300, sys.maxsize])
def test_every_number_of_seconds_is_a_limit(own, timeout):
    loop = own.get_loop()
    own.close(timeout)
    assert loop.is_closed()


def test_no_time_at_all_is_a_limit_as_well(own):
    things = Things(own)
    future = things.job.submit(False)
    things.arrived.acquire()
    loop = own.get_loop()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # whether there is anything to abandon, is a matter of luck
        own.close(0)
    assert isinstance(future.exception(20), ClosedError)
    join_all("own")
    assert loop.is_closed()
    assert things.noted == ["cleaned"]


@pytest.mark.skipif(sys.platform == "win32", reason="sends POSIX signals")
@pytest.mark.parametrize("loops", LOOP_FACTORIES)
def test_ctrl_c_stops_waiting_and_the_end_goes_on(script, loops):
    program = script(
        LEAKS.format(uvloop=loops == "uvloop")
        + textwrap.dedent("""
        syncer = make()

        @syncer
        async def slow():
            try:
                arrived.set()
                await asyncio.Event().wait()
            finally:
                print("cleans up", flush=True)
                await asyncio.to_thread(go.wait)
                print("cleaned")

        arrived, go = threading.Event(), threading.Event()
        future = slow.submit()
        arrived.wait()
        loop = syncer.get_loop()
        try:
            syncer.close(None)
        except KeyboardInterrupt:
            print("interrupted", future.done())
        go.set()
        try:
            future.result(20)
        except ClosedError as error:
            print(error)
        syncer.close()
        print(loop.is_closed())
        settle()
        """)
    )
    assert program.line() == "cleans up"
    program.process.send_signal(signal.SIGINT)
    assert program.end() == (0, "interrupted False\ncleaned\nThe syncer 'own' is closed.\nTrue\n", "")


# In a race with calls.


def test_in_a_race_with_calls_each_of_them_has_its_result_or_is_told(loop_factory):
    def until_told(call):
        barrier.wait()
        results = 0
        try:
            while True:
                assert call() == 1
                results += 1
                if results == 3:
                    ready.release()
        except ClosedError:
            with pytest.raises(ClosedError):  # and so are all that come later
                call()
            if results < 3:
                ready.release()
            return results

    def aio_until_told(f):
        async def main():
            barrier.wait()
            results = 0
            try:
                while True:
                    outcomes = await asyncio.gather(f.aio(), f.aio(), return_exceptions=True)
                    for outcome in outcomes:
                        if outcome != 1:
                            raise outcome
                    results += 1
                    if results == 3:
                        ready.release()
            except ClosedError:
                if results < 3:
                    ready.release()
                return results

        with asyncio.Runner(loop_factory=loop_factory) as runner:
            return runner.run(main())

    barrier = threading.Barrier(6)
    with ThreadPoolExecutor(6) as pool:
        for i in range(150):
            syncer = Syncify("own", loop_factory=loop_factory)
            ready = threading.Semaphore(0)

            @syncer
            async def one(suspends=i % 3):
                for _ in range(suspends):
                    await asyncio.sleep(0)
                return 1

            @syncer
            async def rows(suspends=i % 3):
                yield 1
                for _ in range(suspends):
                    await asyncio.sleep(0)
                yield 2

            @syncer
            @contextlib.asynccontextmanager
            async def manager():
                yield 1

            def iterate(rows=rows):
                return list(rows()) == [1, 2]

            def enter(manager=manager):
                with manager() as value:
                    return value

            def run(syncer=syncer, one=one):
                return syncer.run(one.aio())

            def submit(one=one):
                return one.submit().result(20)

            futures = [pool.submit(until_told, call) for call in (one, submit, run, iterate, enter)]
            futures.append(pool.submit(aio_until_told, one))
            if i % 4:
                for _ in range(random.randrange(7)):
                    assert ready.acquire(timeout=20)
            else:
                assert ready.acquire(timeout=20)
            syncer.close(20)
            for future in futures:
                assert future.result(20) >= 0
    join_all("own")


def test_syncers_that_call_each_other_are_closed_at_once(loop_factory):
    with ThreadPoolExecutor(4) as pool:
        for _ in range(50):
            syncers = [Syncify("own", loop_factory=loop_factory) for _ in range(2)]

            async def there(n, arrived, functions):
                if n:
                    return await functions[n % 2].aio(n - 1, arrived, functions)
                arrived.set()
                await asyncio.Event().wait()
                return None

            functions = [syncer(there) for syncer in syncers]
            events = [threading.Event() for _ in range(2)]
            futures = [pool.submit(functions[n % 2], n, events[n % 2], functions) for n in (6, 7)]
            for arrived in events:
                arrived.wait()
            for closing in [pool.submit(syncer.close, 20) for syncer in syncers]:
                closing.result(20)
            assert {type(future.exception(20)) for future in futures} == {ClosedError}
    join_all("own")


# A syncer that is dropped.


def collect_dropped():
    """Wait for the end of the threads of syncers that were dropped."""
    for thread in threading.enumerate():
        while thread.name == "dropped" and thread not in earlier and thread.is_alive():
            gc.collect()  # functions are cycles; and at first the thread itself may still hold what it has run last
            thread.join(0.05)


def use_calls(syncer):
    @syncer
    async def f():
        await asyncio.sleep(0)
        return 1

    assert f() == f.submit().result(20) == asyncio.run(f.aio()) == syncer.run(f.aio()) == 1


def use_errors(syncer):
    @syncer
    async def f():
        await asyncio.sleep(0)
        raise ZeroDivisionError

    for call in f, lambda: f.submit().result(20), lambda: asyncio.run(f.aio()):
        with pytest.raises(ZeroDivisionError):
            call()


def make_generators(syncer):
    async def rows():
        for i in range(20):
            await asyncio.sleep(0)
            yield i

    return syncer(rows), syncer(prefetch=3)(rows)


def use_generators(syncer):
    for rows in make_generators(syncer):
        assert len(list(rows())) == 20


def use_half_of_generators(syncer):
    async def main(rows):
        async for _ in rows.aio():
            break

    for rows in make_generators(syncer):
        for _ in rows():
            break
        dropped = rows()
        next(dropped)
        asyncio.run(main(rows))
        closed = rows()
        next(closed)
        closed.close()


def use_context_managers(syncer):
    @syncer
    @contextlib.asynccontextmanager
    async def manager():
        await asyncio.sleep(0)
        yield

    with manager():
        pass
    dropped = manager()
    dropped.__enter__()


def use_threads(syncer):
    @syncer
    async def f():
        return await asyncio.to_thread(int)

    assert f() == 0


def use_background_tasks(syncer):
    @syncer
    async def f():
        asyncio.get_running_loop().kept = asyncio.create_task(asyncio.Event().wait())

    if syncer.get_loop().__class__.__module__.startswith("asyncio"):
        f()


def use_cancelled_calls(syncer):
    @syncer
    async def f(arrived):
        arrived.set()
        await asyncio.Event().wait()

    arrived = threading.Event()
    future = f.submit(arrived)
    arrived.wait()
    future.cancel()


USES = {
    use.__name__: use
    for use in (
        Syncify.get_loop,
        use_calls,
        use_errors,
        use_generators,
        use_half_of_generators,
        use_context_managers,
        use_threads,
        use_background_tasks,
        use_cancelled_calls,
    )
}


@pytest.mark.parametrize("use", USES)
def test_a_syncer_that_is_dropped_ends_by_itself(loop_factory, use):
    syncer = Syncify("dropped", loop_factory=loop_factory)
    USES[use](syncer)
    loop = syncer.get_loop()
    gone = weakref.ref(syncer._background)
    del syncer
    collect_dropped()
    assert loop.is_closed()
    while gone() is not None:  # a collection in another thread, which makes this one do nothing, may be under way
        gc.collect()
    join_all("syncify-to-thread-0")


def test_a_syncer_that_is_dropped_does_not_wait_for_the_garbage_collector(loop_factory):
    """As long as no function refers to it: those are cycles."""

    async def one():
        await asyncio.sleep(0)
        return 1

    gc.collect()
    gc.disable()
    try:
        for _ in range(20):
            syncer = Syncify("dropped", loop_factory=loop_factory)
            assert syncer.run(one()) + syncer.run.submit(one()).result(20) + asyncio.run(syncer.run.aio(one())) == 3
            loop = syncer.get_loop()
            del syncer
            join_all("dropped")
            assert loop.is_closed()
    finally:
        gc.enable()


def test_a_syncer_that_is_dropped_in_its_own_loops_thread_ends(loop_factory):
    def clear():
        kept.clear()
        done.set()

    for _ in range(20):
        kept, done = [Syncify("dropped", loop_factory=loop_factory)], threading.Event()
        loop = kept[0].get_loop()
        loop.call_soon_threadsafe(clear)
        done.wait()
        join_all("dropped")
        assert loop.is_closed()


def test_a_syncer_that_is_dropped_by_a_call_of_its_own_ends_after_that(loop_factory):
    async def drop():
        await asyncio.sleep(0)
        kept.clear()
        gc.collect()
        await asyncio.sleep(0.001)
        return "value"

    for _ in range(4):
        kept = [Syncify("dropped", loop_factory=loop_factory)]
        loop = kept[0].get_loop()
        f = kept[0](drop)
        future = f.submit()
        del f
        assert future.result(20) == "value"
        del future
        collect_dropped()
        assert loop.is_closed()


def test_a_call_in_flight_keeps_its_syncer_until_it_ends(loop_factory):
    async def slow():
        go = loops[0].create_future()
        gos.append(go)
        arrived.set()
        return await go

    def begin():
        syncer = Syncify("dropped", loop_factory=loop_factory)
        loops.append(syncer.get_loop())
        syncer(slow).submit().add_done_callback(lambda future: outcomes.append(future.result()))

    for _ in range(3):
        arrived, loops, gos, outcomes = threading.Event(), [], [], []
        begin()
        arrived.wait()
        gc.collect()
        assert loops[0].is_running()
        loops[0].call_soon_threadsafe(gos[0].set_result, "value")
        collect_dropped()
        assert outcomes == ["value"]
        assert loops[0].is_closed()


def test_a_task_on_another_loop_keeps_the_syncer_that_it_awaits(loop_factory):
    async def slow():
        await asyncio.sleep(0.001)
        return "value"

    async def main():
        task = asyncio.create_task(Syncify("dropped")(slow).aio())
        await asyncio.sleep(0)
        gc.collect()
        return await task

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        assert runner.run(main()) == "value"
    collect_dropped()


def test_a_generator_that_is_half_way_keeps_its_syncer(loop_factory):
    async def rows():
        noted.append("begun")
        try:
            yield 1
            await asyncio.sleep(0)
            yield 2
        finally:
            noted.append("closed")

    noted = []
    generator = Syncify("dropped", loop_factory=loop_factory)(rows)()
    assert next(generator) == 1
    gc.collect()
    assert list(generator) == [2]
    generator = Syncify("dropped", loop_factory=loop_factory)(rows)()
    assert next(generator) == 1
    del generator
    collect_dropped()
    assert noted == ["begun", "closed"] * 2


def test_dropped_syncers_leave_no_thread_and_no_descriptor(leaks):
    program = leaks("""
        async def f():
            await asyncio.sleep(0)
            await asyncio.to_thread(int)
            return 1

        async def fails():
            1 / 0

        async def rows():
            yield 1
            yield 2

        def use():
            syncer = make()
            assert syncer(f)() == 1
            assert next(syncer(rows)()) == 1
            assert list(syncer(rows)()) == [1, 2]
            try:
                syncer(fails)()
            except ZeroDivisionError:
                pass

        for _ in range(30):
            use()
        settle()
        print("done")
    """)
    assert program.end() == (0, "done\n", "")


def test_nothing_grows_with_the_number_of_calls(loop_factory):
    """Half of them raise."""
    syncer = Syncify("counted", loop_factory=loop_factory)

    @syncer
    async def f(fails, suspends, thing):
        if suspends:
            await asyncio.sleep(0)
        if fails:
            raise ZeroDivisionError(thing)
        return thing

    @syncer
    async def rows(fails):
        yield 1
        if fails:
            raise ZeroDivisionError
        yield 2

    @syncer
    @contextlib.asynccontextmanager
    async def manager(fails):
        if fails:
            raise ZeroDivisionError
        yield

    def enter(fails):
        with manager(fails):
            pass

    async def main(rounds):
        for i in range(rounds):
            with contextlib.suppress(ZeroDivisionError):
                await f.aio(i % 2, i % 3, [])

    def some(rounds):
        for i in range(rounds):
            for call in (
                lambda i=i: f(i % 2, i % 3, []),
                lambda i=i: f(i % 2, i % 3, []),
                lambda i=i: f.submit(i % 2, i % 3, []).result(),
                lambda i=i: syncer.run(f.aio(i % 2, i % 3, [])),
                lambda i=i: list(rows(i % 2)),
                lambda i=i: enter(i % 2),
            ):
                with contextlib.suppress(ZeroDivisionError):
                    call()
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(main(rounds))

    def measure():
        for _ in range(3):
            syncer.run(asyncio.sleep(0))
        gc.collect()
        return sys.getallocatedblocks(), len(gc.get_objects())

    some(200)
    blocks, objects = measure()
    some(CALLS // 7)
    more_blocks, more_objects = measure()
    # One for a call would be thousands.
    assert more_objects - objects < 100
    assert more_blocks - blocks < 500
    syncer.close()
    join_all("counted")


def test_callbacks_of_futures_that_wait_for_the_closer_do_not_hold_it(own):
    lock = threading.Lock()
    told = threading.Semaphore(0)

    def callback(_):
        with lock:
            told.release()

    f = own(asyncio.sleep)
    for _ in range(3):
        f.submit(1000).add_done_callback(callback)
    own.run(asyncio.sleep(0))
    with lock, pytest.warns(RuntimeWarning, match="abandoned"):
        own.close(timeout=0.1)
    for _ in range(3):
        assert told.acquire(timeout=20)


@pytest.mark.parametrize("how", ["with", "async with"])
def test_what_the_body_raises_is_not_replaced_by_the_news_that_the_syncer_was_closed(own, how):
    @own
    @contextlib.asynccontextmanager
    async def session():
        yield

    def leave():
        with session():
            own.close()
            raise ZeroDivisionError

    async def leave_async():
        async with session.aio():
            await asyncio.to_thread(own.close)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        leave() if how == "with" else asyncio.run(leave_async())


def test_an_async_generator_that_is_collected_after_the_close_ends_in_silence(own):
    @own
    async def rows():
        yield 1
        yield 2

    async def main():
        left = rows.aio()
        assert await anext(left) == 1
        await asyncio.to_thread(own.close)
        del left
        for _ in range(5):
            await asyncio.sleep(0)
        left = rows.aio()
        with pytest.raises(ClosedError):
            await anext(left)

    asyncio.run(main())


def test_what_its_caller_has_cancelled_before_cleans_up_undisturbed(own):
    begun, cleaned = threading.Semaphore(0), []

    async def f():
        try:
            begun.release()
            await asyncio.Event().wait()
        finally:
            begun.release()
            await asyncio.sleep(0.01)
            cleaned.append("cleaned")

    future = own(f).submit()
    begun.acquire()
    future.cancel()
    begun.acquire()
    own.close()
    assert cleaned == ["cleaned"]


def test_what_has_ignored_its_callers_cancellation_is_cancelled_once_more(own):
    begun, cancelled = threading.Semaphore(0), []

    async def f():
        for _ in range(2):
            try:
                begun.release()
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.append("cancelled")

    future = own(f).submit()
    begun.acquire()
    future.cancel()
    begun.acquire()
    own.close(None)
    assert cancelled == ["cancelled"] * 2
