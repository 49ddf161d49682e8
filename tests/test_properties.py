"""Random coroutine programs end alike, whether awaited natively or called in any of our ways."""

import asyncio
import contextlib
import contextvars

import hypothesis.strategies as st
import pytest
from conftest import WAYS
from hypothesis import HealthCheck, given, settings

from syncify import syncify

variable = contextvars.ContextVar("variable", default=0)


class Custom(Exception):
    pass


ERRORS = [ValueError, KeyError, Custom, StopAsyncIteration, asyncio.CancelledError, TimeoutError, BaseException]

values = st.integers() | st.text(max_size=3) | st.none()
steps = st.deferred(
    lambda: st.one_of(
        st.tuples(st.just("await"), st.integers(0, 3)),
        st.tuples(st.just("raise"), st.sampled_from(ERRORS), values),
        st.tuples(st.just("return"), values),
        st.tuples(st.just("set"), st.integers()),
        st.tuples(st.just("get")),
        st.tuples(st.just("cancel"), values),
        st.tuples(st.just("swallow"), programs, st.booleans()),
        st.tuples(st.just("finally"), programs, programs),
        st.tuples(st.just("task"), programs),
        st.tuples(st.just("timeout"), programs),
        st.tuples(st.just("nested"), programs),
    )
)
programs = st.lists(steps, max_size=4)


class Return(Exception):
    def __init__(self, value):
        self.value = value


async def run_program(program, call_nested):
    """Return what the program returns, and the values of all that it has seen on its way."""
    seen = []

    async def run(program):
        for kind, *rest in program:
            if kind == "await":
                for _ in range(rest[0]):
                    await asyncio.sleep(0)
            elif kind == "raise":
                raise rest[0](rest[1])
            elif kind == "return":
                raise Return(rest[0])
            elif kind == "set":
                variable.set(rest[0])
            elif kind == "get":
                seen.append(variable.get())
            elif kind == "cancel":
                asyncio.current_task().cancel(rest[0])
            elif kind == "swallow":
                try:
                    await run(rest[0])
                except asyncio.CancelledError as error:
                    seen.append(error.args)
                    if rest[1]:
                        seen.append(asyncio.current_task().uncancel())
            elif kind == "finally":
                try:
                    await run(rest[0])
                finally:
                    await run(rest[1])
            elif kind == "task":
                await asyncio.create_task(run(rest[0]))
            elif kind == "timeout":
                async with asyncio.timeout(100):
                    await run(rest[0])
            elif kind == "nested":
                seen.append(await call_nested(rest[0]))

    try:
        await run(program)
    except Return as returned:
        return returned.value, seen
    return "fell off the end", seen


async def natively(program):
    return await run_program(program, natively)


@syncify
async def bridged(program):
    return await run_program(program, bridged.aio)


def outcome(function, *args):
    """The result, or the exception with its message and those that led to it."""
    try:
        return function(*args)
    except BaseException as error:
        chain = []
        while error is not None:
            chain.append((type(error), error.args))
            error = error.__context__
        return chain


def native_outcome(program):
    """Caught where it is awaited: a cancel that is still due ends the task that it is due in, and asyncio.run."""
    outcomes = []

    async def main():
        try:
            outcomes.append((await natively(program), None))
        except BaseException as error:
            outcomes.append((None, error))

    with contextlib.suppress(asyncio.CancelledError):
        asyncio.run(main())
    result, error = outcomes[0]
    if error is not None:
        raise error
    return result


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(program=programs)
def test_the_same_outcome(way, program):
    assert outcome(way, syncify, bridged, program) == outcome(native_outcome, program)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    swallows=st.integers(0, 3),
    cancels=st.integers(0, 3),
    cleanup=st.integers(0, 2),
    uncancel=st.booleans(),
    result=values,
    error=st.none() | st.sampled_from([ValueError, Custom, asyncio.CancelledError]),
)
def test_the_same_outcome_for_a_caller_that_is_cancelled(swallows, cancels, cleanup, uncancel, result, error):
    """Cancelled while it waits, again and again, by a task that sees whether it still does."""

    async def program(waiting):
        for _ in range(swallows):
            try:
                waiting()
                await asyncio.Event().wait()
            except asyncio.CancelledError as cancelled:
                seen.append(cancelled.args)
                for _ in range(cleanup):
                    await asyncio.sleep(0)
                if uncancel:
                    asyncio.current_task().uncancel()
        if error is not None:
            raise error(result)
        if cancels > swallows:
            waiting()
            await asyncio.Event().wait()
        return result

    async def main(awaitable_function):
        loop = asyncio.get_running_loop()
        waits = asyncio.Semaphore(0)
        counts = []

        async def caller():
            try:
                return await awaitable_function(lambda: loop.call_soon_threadsafe(waits.release))
            finally:
                counts.append(asyncio.current_task().cancelling())

        task = asyncio.create_task(caller())
        for i in range(max(cancels, swallows)):
            wait = asyncio.create_task(waits.acquire())
            await asyncio.wait([task, wait], return_when="FIRST_COMPLETED")
            wait.cancel()
            task.cancel(i)
        await asyncio.wait([task])
        if task.cancelled():
            try:
                task.result()
            except asyncio.CancelledError as cancelled:
                return "cancelled", cancelled.args, counts
        if task.exception():
            return type(task.exception()), task.exception().args, counts
        return task.result(), counts

    seen = []
    expected = asyncio.run(main(program)), seen
    seen = []
    assert (asyncio.run(main(syncify(program).aio)), seen) == expected
    seen = []
    assert (syncify.run(main(syncify(program).aio)), seen) == expected
