"""What is held across a yield, or from enter to exit, works as if one task ran it all. One does."""

import asyncio
import contextlib
import contextvars
import functools
import sys
import threading
import types

import anyio
import pytest
from conftest import LOOP_FACTORIES

from syncify import SyncContextManager

# Consumers. A scenario is a coroutine, which plain code is to play, too: there all that it awaits blocks.


class Blocking:
    name = "blocking"
    native = False  # whether what is held belongs to the task of the consumer

    def run(self, scenario):
        try:
            scenario.send(None)
        except StopIteration as end:
            return end.value
        raise AssertionError("it has suspended")

    def enter(self, manager):
        return _Entered(manager)

    def iterate(self, function, *args):
        return _Iterated(function(*args))

    async def wait(self, event):
        assert event.wait(30)


class _Entered:
    """A `with` that is written as an `async with`."""

    def __init__(self, manager):
        self.manager = manager

    async def __aenter__(self):
        return self.manager.__enter__()

    async def __aexit__(self, *exc_info):
        return self.manager.__exit__(*exc_info)


class _Iterated:
    """A generator that is written as an async generator."""

    def __init__(self, rows):
        self.rows = rows

    def __aiter__(self):
        return self

    async def _step(self, step, *args):
        try:
            return step(*args)
        except StopIteration:
            raise StopAsyncIteration from None

    def __anext__(self):
        return self._step(self.rows.__next__)

    def asend(self, value):
        return self._step(self.rows.send, value)

    def athrow(self, error):
        return self._step(self.rows.throw, error)

    async def aclose(self):
        self.rows.close()


class AnotherLoop:
    native = False

    def __init__(self, kind):
        self.name = f"another loop ({kind})"
        self._loop_factory = LOOP_FACTORIES[kind]

    def run(self, scenario):
        with asyncio.Runner(loop_factory=self._loop_factory) as runner:
            return runner.run(self._checked(scenario))

    async def _checked(self, scenario):
        try:
            return await scenario
        finally:
            assert asyncio.current_task().cancelling() == 0

    def enter(self, manager):
        return manager

    def iterate(self, function, *args):
        return function.aio(*args)

    async def wait(self, event):
        assert event.wait(30)  # what it waits for happens in another thread


class OwnLoop(AnotherLoop):
    name = "the own loop"
    native = True

    def __init__(self):
        pass

    def run(self, scenario):
        return self.syncer.run(self._checked(scenario))

    async def wait(self, event):
        while not event.is_set():
            await asyncio.sleep(0)


BRIDGED = [Blocking(), *map(AnotherLoop, LOOP_FACTORIES)]


@pytest.fixture(params=[*BRIDGED, OwnLoop()], ids=lambda way: way.name)
def way(request, syncer):
    request.param.syncer = syncer
    return request.param


@pytest.fixture(params=BRIDGED, ids=lambda way: way.name)
def bridged(request, syncer):
    """Consumers that what is held can interrupt without interrupting them."""
    request.param.syncer = syncer
    return request.param


# Things to hold. Each is an async generator function with one yield, held by a generator or from enter to exit.


def by_a_generator(syncer, function):
    rows = syncer(function)
    return contextlib.contextmanager(rows), contextlib.asynccontextmanager(rows.aio)


def by_a_context_manager(syncer, function):
    manager = syncer(contextlib.asynccontextmanager(function))
    return manager, manager.aio


def by_a_class(syncer, function):
    class Holder(SyncContextManager, syncer=syncer):
        async def __aenter__(self):
            self.manager = contextlib.asynccontextmanager(function)()
            return await self.manager.__aenter__()

        async def __aexit__(self, *exc_info):
            return await self.manager.__aexit__(*exc_info)

    return Holder, Holder


def _holder(way, by):
    def held(function):
        plain, aio = by(way.syncer, function)
        return lambda: way.enter(plain() if isinstance(way, Blocking) else aio())

    return held


@pytest.fixture(params=[by_a_generator, by_a_context_manager, by_a_class], ids=lambda by: by.__name__)
def by(request):
    return request.param


@pytest.fixture
def held(way, by):
    """Makes what enters the thing to hold, and leaves it."""
    return _holder(way, by)


@pytest.fixture
def bridged_held(bridged, by):
    return _holder(bridged, by)


def strike(scope):
    """Let the timeout fire at the loop's next turn."""
    scope.reschedule(asyncio.get_running_loop().time())


async def fail(error):
    raise error


async def forever():
    await asyncio.Event().wait()


async def struck(way, event):
    """The body of a `with` that what is held strikes meanwhile, in the only way that a consumer notices."""
    if way.native:
        await forever()
    await way.wait(event)


def leaves(error):
    """The types of the exceptions in a group, and in those that it holds."""
    if isinstance(error, BaseExceptionGroup):
        return [leaf for child in error.exceptions for leaf in leaves(child)]
    return [type(error)]


# Timeouts.


def test_a_timeout_fires_on_the_way_to_the_yield(way, held):
    async def thing():
        async with asyncio.timeout(0):
            await forever()
        yield

    async def scenario():
        with pytest.raises(TimeoutError):
            async with held(thing)():
                raise AssertionError("entered")

    way.run(scenario())


def test_a_timeout_fires_on_the_way_from_the_yield(way, held):
    counts = []

    async def thing():
        try:
            async with asyncio.timeout(None) as scope:
                yield
                strike(scope)
                await forever()
        finally:
            counts.append(asyncio.current_task().cancelling())

    async def scenario():
        with pytest.raises(TimeoutError):
            async with held(thing)():
                pass

    way.run(scenario())
    assert counts == [0]


def test_a_timeout_fires_at_the_yield(way, held):
    cleaned = threading.Event()
    counts = []

    async def thing():
        try:
            async with asyncio.timeout(None) as scope:
                try:
                    strike(scope)
                    yield
                finally:
                    await asyncio.sleep(0.001)
                    counts.append(asyncio.current_task().cancelling())
        finally:
            counts.append(asyncio.current_task().cancelling())
            cleaned.set()

    async def scenario():
        with pytest.raises(TimeoutError):
            async with held(thing)():
                await struck(way, cleaned)

    way.run(scenario())
    assert counts == [1, 0]


def test_a_timeout_that_has_been_moved_by_another_task_fires_at_the_yield(way, held):
    cleaned = threading.Event()

    async def thing():
        async with asyncio.timeout(1000) as scope:
            soon = asyncio.get_running_loop().create_task(move(scope))
            try:
                yield
            finally:
                await soon
                cleaned.set()

    async def move(scope):
        for _ in range(3):
            await asyncio.sleep(0)
        strike(scope)

    async def scenario():
        with pytest.raises(TimeoutError):
            async with held(thing)():
                await struck(way, cleaned)

    way.run(scenario())


def test_the_outer_of_two_timeouts_fires_at_the_yield(way, held):
    cleaned = threading.Event()
    expired = []

    async def thing():
        async with asyncio.timeout(None) as outer:
            try:
                async with asyncio.timeout(1000) as inner:
                    strike(outer)
                    yield
            finally:
                expired.append((outer.expired(), inner.expired()))
                cleaned.set()

    async def scenario():
        with pytest.raises(TimeoutError):
            async with held(thing)():
                await struck(way, cleaned)

    way.run(scenario())
    assert len(expired) == 1
    assert expired[0][1] is False


def test_the_inner_of_two_timeouts_fires_at_the_yield(way, held):
    cleaned = threading.Event()
    seen = []

    async def thing():
        async with asyncio.timeout(1000) as outer:
            try:
                async with asyncio.timeout(None) as inner:
                    strike(inner)
                    yield
            except TimeoutError:
                seen.append((inner.expired(), outer.expired(), asyncio.current_task().cancelling()))
                cleaned.set()
                raise KeyError("inner") from None

    async def scenario():
        with pytest.raises(KeyError, match="inner"):
            async with held(thing)():
                await struck(way, cleaned)

    way.run(scenario())
    assert seen == [(True, False, 0)]


def test_a_timeout_that_is_not_reached_does_nothing(way, held):
    log = []

    async def thing():
        async with asyncio.timeout(1000) as scope:
            yield "item"
            await asyncio.sleep(0)
        log.append((scope.expired(), asyncio.current_task().cancelling()))

    async def scenario():
        async with held(thing)() as item:
            assert item == "item"

    way.run(scenario())
    assert log == [(False, 0)]


def test_a_timeout_is_moved_after_the_yield_that_it_would_have_struck(way, held):
    async def thing():
        async with asyncio.timeout(1000) as scope:
            yield
            scope.reschedule(None)
            await asyncio.sleep(0)
            assert scope.when() is None

    async def scenario():
        async with held(thing)():
            pass

    way.run(scenario())


# Task groups.


def test_a_failing_child_interrupts_on_the_way_to_the_yield(way, held):
    async def thing():
        async with asyncio.TaskGroup() as group:
            group.create_task(fail(KeyError()))
            await forever()
        yield

    async def scenario():
        with pytest.raises(ExceptionGroup) as caught:
            async with held(thing)():
                raise AssertionError("entered")
        assert leaves(caught.value) == [KeyError]

    way.run(scenario())


def test_a_failing_child_interrupts_on_the_way_from_the_yield(way, held):
    counts = []

    async def thing():
        try:
            async with asyncio.TaskGroup() as group:
                yield
                group.create_task(fail(KeyError()))
                await forever()
        finally:
            counts.append(asyncio.current_task().cancelling())

    async def scenario():
        with pytest.raises(ExceptionGroup) as caught:
            async with held(thing)():
                pass
        assert leaves(caught.value) == [KeyError]

    way.run(scenario())
    assert counts == [0]


def test_a_failing_child_interrupts_at_the_yield(way, held):
    cleaned = threading.Event()
    log = []

    async def sibling():
        try:
            await forever()
        finally:
            await asyncio.sleep(0)
            log.append("sibling")

    async def thing():
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(sibling())
                group.create_task(fail(KeyError()))
                try:
                    yield
                finally:
                    await asyncio.sleep(0.001)
                    log.append("interrupted")
        finally:
            log.append(asyncio.current_task().cancelling())
            cleaned.set()

    async def scenario():
        with pytest.raises(ExceptionGroup) as caught:
            async with held(thing)():
                await struck(way, cleaned)
        assert leaves(caught.value) == [KeyError]

    way.run(scenario())
    assert sorted(log[:2]) == ["interrupted", "sibling"]
    assert log[2:] == [0]


def test_a_child_runs_while_it_is_parked(bridged, bridged_held):
    ran = threading.Event()

    async def child():
        await asyncio.sleep(0.001)
        ran.set()
        return "result"

    async def thing():
        async with asyncio.TaskGroup() as group:
            task = group.create_task(child())
            yield
        assert task.result() == "result"

    async def scenario():
        async with bridged_held(thing)():
            await bridged.wait(ran)

    bridged.run(scenario())


def test_leaving_waits_for_the_children(way, held):
    log = []

    async def child(left):
        await left.wait()
        for _ in range(5):
            await asyncio.sleep(0.001)
        log.append("child")

    async def thing():
        async with asyncio.TaskGroup() as group:
            left = asyncio.Event()
            group.create_task(child(left))
            yield
            left.set()

    async def scenario():
        async with held(thing)():
            assert log == []
        assert log == ["child"]

    way.run(scenario())


def test_an_error_in_the_body_cancels_the_children(way, held):
    log = []

    async def child():
        try:
            await forever()
        except asyncio.CancelledError:
            await asyncio.sleep(0)
            log.append("cancelled")
            raise

    async def thing():
        async with asyncio.TaskGroup() as group:
            group.create_task(child())
            await asyncio.sleep(0)
            yield

    async def scenario():
        with pytest.raises(ExceptionGroup) as caught:
            async with held(thing)():
                raise KeyError
        assert leaves(caught.value) == [KeyError]
        assert log == ["cancelled"]

    way.run(scenario())


# What comes of a strike is the answer to the next request.


def test_leaving_after_a_strike_that_was_handled_raises_nothing(bridged, bridged_held):
    cleaned = threading.Event()

    async def thing():
        try:
            async with asyncio.timeout(None) as scope:
                strike(scope)
                yield
        except TimeoutError:
            cleaned.set()

    async def scenario():
        async with bridged_held(thing)():
            await bridged.wait(cleaned)

    bridged.run(scenario())


@pytest.mark.parametrize("by", [by_a_context_manager, by_a_class])
def test_an_error_in_the_body_after_a_strike_that_was_handled_is_raised(bridged, by):
    cleaned = threading.Event()
    error = KeyError()

    async def thing():
        try:
            async with asyncio.timeout(None) as scope:
                strike(scope)
                yield
        except TimeoutError:
            cleaned.set()

    async def scenario():
        with pytest.raises(KeyError) as caught:
            async with _holder(bridged, by)(thing)():
                await bridged.wait(cleaned)
                raise error
        assert caught.value is error

    bridged.run(scenario())


def test_leaving_with_an_error_in_the_body_raises_what_came_of_the_strike(bridged, bridged_held):
    cleaned = threading.Event()
    error = ValueError()

    async def thing():
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(fail(KeyError()))
                yield
        finally:
            cleaned.set()

    async def scenario():
        with pytest.raises(ExceptionGroup) as caught:
            async with bridged_held(thing)():
                await bridged.wait(cleaned)
                raise error
        assert leaves(caught.value) == [KeyError]
        chain = [caught.value]
        while chain[-1].__context__ is not None:
            chain.append(chain[-1].__context__)
        assert chain[-1] is error  # which is shown, too

    bridged.run(scenario())


def test_leaving_raises_the_cancellation_that_has_come_meanwhile(bridged, bridged_held):
    """From somebody who has got hold of the task, and not from what is held."""
    cleaned = threading.Event()
    log = []

    async def thing():
        asyncio.get_running_loop().call_soon(asyncio.current_task().cancel, "message")
        try:
            yield
        except asyncio.CancelledError as error:
            await asyncio.sleep(0)
            log.append(error.args)
            raise
        finally:
            cleaned.set()

    async def scenario():
        with pytest.raises(asyncio.CancelledError, match="message"):
            async with bridged_held(thing)():
                await bridged.wait(cleaned)

    bridged.run(scenario())
    assert log == [("message",)]


def struck_rows(syncer, answer):
    """An async generator that is struck at its first yield, and then does what it is told to."""
    rows = types.SimpleNamespace(cleaned=threading.Event(), received=[])

    async def function():
        try:
            async with asyncio.timeout(None) as scope:
                try:
                    strike(scope)
                    yield "first"
                finally:
                    await asyncio.sleep(0.001)
        except TimeoutError:
            rows.cleaned.set()
            if answer == "error":
                raise KeyError("answer") from None
            if answer == "return":
                return
        try:
            rows.received.append((yield "second"))
            rows.received.append((yield "third"))
        except BaseException as error:
            rows.received.append(type(error))
            raise
        finally:
            rows.received.append(asyncio.current_task().cancelling())

    rows.function = syncer(function)
    return rows


async def _first(way, rows):
    consumed = way.iterate(rows.function)
    assert await anext(consumed) == "first"
    await way.wait(rows.cleaned)
    return consumed


@pytest.mark.parametrize("request_", ["next", "send", "for"])
def test_an_item_that_came_of_a_strike_is_the_next_one(bridged, syncer, request_):
    rows = struck_rows(syncer, "item")

    async def scenario():
        consumed = await _first(bridged, rows)
        if request_ == "for":
            assert [item async for item in consumed] == ["second", "third"]
            assert rows.received == [None, None, 0]
            return
        item = anext(consumed) if request_ == "next" else consumed.asend("to nobody")
        assert await item == "second"
        assert rows.received == []
        assert await consumed.asend("value") == "third"
        assert rows.received == ["value"]
        await consumed.aclose()

    bridged.run(scenario())


@pytest.mark.parametrize("request_", ["throw", "close"])
def test_what_is_thrown_in_strikes_the_yield_to_which_a_strike_has_led(bridged, syncer, request_):
    rows = struck_rows(syncer, "item")

    async def scenario():
        consumed = await _first(bridged, rows)
        if request_ == "throw":
            error = ValueError("thrown")
            with pytest.raises(ValueError, match="thrown") as caught:
                await consumed.athrow(error)
            assert caught.value is error
        else:
            await consumed.aclose()
        assert rows.received == [ValueError if request_ == "throw" else GeneratorExit, 0]
        with pytest.raises(StopAsyncIteration):
            await anext(consumed)

    bridged.run(scenario())


REQUESTS = {
    "next": anext,
    "send": lambda rows: rows.asend("value"),
    "throw": lambda rows: rows.athrow(ValueError()),
    "close": lambda rows: rows.aclose(),
}


@pytest.mark.parametrize("request_", REQUESTS)
def test_an_error_that_came_of_a_strike_is_raised_by_the_next_request(bridged, syncer, request_):
    rows = struck_rows(syncer, "error")

    async def scenario():
        consumed = await _first(bridged, rows)
        with pytest.raises(KeyError, match="answer"):
            await REQUESTS[request_](consumed)
        for _ in range(2):
            with pytest.raises(StopAsyncIteration):
                await anext(consumed)
        await consumed.aclose()

    bridged.run(scenario())


@pytest.mark.parametrize("request_", REQUESTS)
def test_the_return_that_came_of_a_strike_ends_the_next_request(bridged, syncer, request_):
    rows = struck_rows(syncer, "return")
    # What is thrown into a generator that has ended comes back. It is not lost.
    ends = {"close": contextlib.nullcontext(), "throw": pytest.raises(ValueError, match=r"^$")}

    async def scenario():
        consumed = await _first(bridged, rows)
        with ends.get(request_, pytest.raises(StopAsyncIteration)):
            await REQUESTS[request_](consumed)
        for _ in range(2):
            with pytest.raises(StopAsyncIteration):
                await anext(consumed)

    bridged.run(scenario())


@pytest.mark.parametrize("answer", ["item", "return"])
def test_a_loop_is_broken_off_after_a_strike(syncer, answer):
    rows = struck_rows(syncer, answer)
    for item in rows.function():
        assert item == "first"
        assert rows.cleaned.wait(30)
        break
    assert rows.received == ([GeneratorExit, 0] if answer == "item" else [])


@pytest.mark.parametrize("kind", ["plain", "async"])
def test_what_is_dropped_after_a_strike_is_closed_where_that_has_led(syncer, kind):
    cleaned, closed = threading.Event(), threading.Event()

    @syncer
    async def rows():
        try:
            async with asyncio.timeout(None) as scope:
                strike(scope)
                yield 1
        except TimeoutError:
            try:
                cleaned.set()
                yield 2
            except GeneratorExit:
                await asyncio.sleep(0)
                closed.set()
                raise

    def drop():
        consumed = rows()
        assert next(consumed) == 1
        assert cleaned.wait(30)
        del consumed

    async def drop_in_async_code():
        consumed = rows.aio()
        assert await anext(consumed) == 1
        assert cleaned.wait(30)
        del consumed
        async with asyncio.timeout(10):  # the end of the loop would interrupt the cleanup
            while not closed.is_set():
                await asyncio.sleep(0)

    drop() if kind == "plain" else asyncio.run(drop_in_async_code())
    assert closed.wait(10)


def test_an_error_that_came_of_a_strike_is_reported_when_the_loop_is_broken_off(syncer, monkeypatch):
    rows = struck_rows(syncer, "error")
    unraisable = []
    monkeypatch.setattr(sys, "unraisablehook", lambda args: unraisable.append(type(args.exc_value)))
    for _ in rows.function():
        assert rows.cleaned.wait(30)
        break
    assert unraisable == [KeyError]


def test_a_second_strike_comes_when_the_answer_to_the_first_was_taken(bridged, syncer):
    fired, cleaned = threading.Event(), threading.Event()

    @syncer
    async def rows():
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(None) as outer:
                try:
                    async with asyncio.timeout(None) as inner:
                        strike(inner)
                        yield 1
                except TimeoutError:
                    strike(outer)
                    loop.call_soon(loop.call_soon, fired.set)
                    yield 2
        finally:
            assert asyncio.current_task().cancelling() == 0
            cleaned.set()

    async def scenario():
        consumed = bridged.iterate(rows)
        assert await anext(consumed) == 1
        await bridged.wait(fired)
        assert await anext(consumed) == 2
        await bridged.wait(cleaned)
        with pytest.raises(TimeoutError):
            await anext(consumed)

    bridged.run(scenario())


def test_a_second_strike_ends_with_the_timeout_that_it_came_from(bridged, syncer):
    fired = threading.Event()

    @syncer
    async def rows():
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(None) as outer:
                try:
                    async with asyncio.timeout(None) as inner:
                        strike(inner)
                        yield 1
                except TimeoutError:
                    strike(outer)
                    loop.call_soon(loop.call_soon, fired.set)
                    yield 2
        except KeyError:
            yield asyncio.current_task().cancelling()
            yield "unharmed"

    async def scenario():
        consumed = bridged.iterate(rows)
        assert await anext(consumed) == 1
        await bridged.wait(fired)
        assert await consumed.athrow(KeyError()) == 0
        assert await anext(consumed) == "unharmed"
        await consumed.aclose()

    bridged.run(scenario())


def test_one_generator_is_struck_again_and_again(bridged, syncer):
    fired = [threading.Event() for _ in range(50)]

    @syncer
    async def rows():
        for event in fired:
            try:
                async with asyncio.timeout(None) as scope:
                    strike(scope)
                    yield "parked"
            except TimeoutError:
                event.set()
                yield asyncio.current_task().cancelling()

    async def scenario():
        consumed = bridged.iterate(rows)
        for event in fired:
            assert await anext(consumed) == "parked"
            await bridged.wait(event)
            assert await anext(consumed) == 0
        with pytest.raises(StopAsyncIteration):
            await anext(consumed)

    bridged.run(scenario())


def test_a_strike_and_a_request_at_the_same_time_give_one_outcome(bridged, syncer):
    @syncer
    async def rows():
        try:
            async with asyncio.timeout(None) as scope:
                strike(scope)
                yield
                await forever()
        except TimeoutError:
            yield asyncio.current_task().cancelling()

    async def scenario():
        for _ in range(100):
            consumed = bridged.iterate(rows)
            await anext(consumed)
            assert await anext(consumed) == 0
            with pytest.raises(StopAsyncIteration):
                await anext(consumed)

    bridged.run(scenario())


def test_a_strike_and_a_close_at_the_same_time_end_it(bridged, syncer):
    ended = []

    @syncer
    async def rows():
        try:
            async with asyncio.timeout(None) as scope:
                strike(scope)
                yield
        except (TimeoutError, GeneratorExit) as error:
            await asyncio.sleep(0)
            ended.append((type(error), asyncio.current_task().cancelling()))

    async def scenario():
        for n in range(100):
            consumed = bridged.iterate(rows)
            await anext(consumed)
            await consumed.aclose()
            assert len(ended) == n + 1

    bridged.run(scenario())
    assert set(ended) <= {(TimeoutError, 0), (GeneratorExit, 0)}


# anyio.


def expire(scope):
    """Let the deadline of the scope pass before the loop's next turn."""
    asyncio.get_running_loop().call_soon(setattr, scope, "deadline", -1)


def test_move_on_after_moves_on_at_the_yield(way, held):
    cleaned = threading.Event()
    log = []

    async def thing():
        with anyio.move_on_after(1000) as scope:
            try:
                expire(scope)
                yield
                log.append("not reached")
            finally:
                with anyio.CancelScope(shield=True):
                    await anyio.sleep(0.001)
        log.append((scope.cancelled_caught, asyncio.current_task().cancelling()))
        await anyio.sleep(0)
        cleaned.set()

    async def scenario():
        async with held(thing)():
            await struck(way, cleaned)

    way.run(scenario())
    assert log == [(True, 0)]


def test_move_on_after_moves_on_in_a_step(way, held):
    log = []

    async def thing():
        with anyio.move_on_after(0) as before:
            await anyio.sleep_forever()
        with anyio.move_on_after(1000) as after:
            yield
            expire(after)
            await anyio.sleep_forever()
        log.append((before.cancelled_caught, after.cancelled_caught, asyncio.current_task().cancelling()))
        await anyio.sleep(0)

    async def scenario():
        async with held(thing)():
            pass

    way.run(scenario())
    assert log == [(True, True, 0)]


def test_fail_after_fails_at_the_yield(way, held):
    cleaned = threading.Event()

    async def thing():
        try:
            with anyio.fail_after(1000) as scope:
                expire(scope)
                yield
        finally:
            assert asyncio.current_task().cancelling() == 0
            cleaned.set()

    async def scenario():
        with pytest.raises(TimeoutError):
            async with held(thing)():
                await struck(way, cleaned)

    way.run(scenario())


def test_a_cancel_scope_is_cancelled_at_the_yield_by_another_task(way, held):
    cleaned = threading.Event()
    caught = []

    async def thing():
        with anyio.CancelScope() as outer:
            with anyio.CancelScope() as inner:
                asyncio.get_running_loop().call_soon(inner.cancel)
                yield
            caught.append((inner.cancelled_caught, outer.cancel_called, asyncio.current_task().cancelling()))
            await anyio.sleep(0)
            cleaned.set()

    async def scenario():
        async with held(thing)():
            await struck(way, cleaned)

    way.run(scenario())
    assert caught == [(True, False, 0)]


def test_a_yield_in_a_cancelled_scope_is_struck_once_for_each_request(bridged, syncer):
    """A scope goes on to cancel what is in it until that has left."""
    turns = threading.Event()

    @syncer
    async def rows():
        with anyio.CancelScope() as scope:
            asyncio.get_running_loop().call_soon(scope.cancel)
            for n in range(3):
                with contextlib.suppress(asyncio.CancelledError):
                    yield n
                turns.set()
        yield scope.cancelled_caught, asyncio.current_task().cancelling()

    async def scenario():
        consumed = bridged.iterate(rows)
        assert await anext(consumed) == 0
        await bridged.wait(turns)
        assert await anext(consumed) == 1
        assert await anext(consumed) == 2
        assert await anext(consumed) == (False, 0)
        with pytest.raises(StopAsyncIteration):
            await anext(consumed)

    bridged.run(scenario())


def test_a_failing_child_of_anyio_interrupts_at_the_yield(way, held):
    cleaned = threading.Event()

    async def thing():
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(anyio.sleep_forever)
                group.start_soon(fail, KeyError())
                yield
        finally:
            assert asyncio.current_task().cancelling() == 0
            await anyio.sleep(0)
            cleaned.set()

    async def scenario():
        with pytest.raises(ExceptionGroup) as caught:
            async with held(thing)():
                await struck(way, cleaned)
        assert leaves(caught.value) == [KeyError]

    way.run(scenario())


def test_a_failing_child_of_anyio_interrupts_in_a_step(way, held):
    async def thing():
        try:
            async with anyio.create_task_group() as group:
                yield
                group.start_soon(fail, KeyError())
                await anyio.sleep_forever()
        finally:
            assert asyncio.current_task().cancelling() == 0

    async def scenario():
        with pytest.raises(ExceptionGroup) as caught:
            async with held(thing)():
                pass
        assert leaves(caught.value) == [KeyError]

    way.run(scenario())


# What belongs to a task, or to a context.

VAR = contextvars.ContextVar("var", default="default")


def test_contextvars_persist_and_can_be_reset(way, syncer):
    seen = []

    @syncer
    async def rows():
        token = VAR.set("inside")
        for n in range(2):
            yield n
            seen.append(VAR.get())
            await asyncio.sleep(0)
        VAR.reset(token)
        seen.append(VAR.get())

    async def scenario():
        token = VAR.set("consumer")
        try:
            assert [n async for n in way.iterate(rows)] == [0, 1]
            assert VAR.get() == "consumer"
        finally:
            VAR.reset(token)

    way.run(scenario())
    assert seen == ["inside", "inside", "consumer"]


def test_contextvars_are_reset_by_the_cleanup(way, held):
    seen = []

    async def thing():
        token = VAR.set("inside")
        try:
            yield
        finally:
            seen.append(VAR.get())
            VAR.reset(token)
            seen.append(VAR.get())

    async def scenario():
        with pytest.raises(KeyError):
            async with held(thing)():
                raise KeyError

    way.run(scenario())
    assert seen == ["inside", "default"]


def test_contextvars_are_reset_after_a_strike_that_comes_from_another_context(way, held):
    cleaned = threading.Event()
    seen = []

    async def child():
        VAR.set("child")
        raise KeyError

    async def thing():
        token = VAR.set("inside")
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(child())
                try:
                    yield
                finally:
                    seen.append(VAR.get())
        finally:
            VAR.reset(token)
            seen.append(VAR.get())
            cleaned.set()

    async def scenario():
        with pytest.raises(ExceptionGroup):
            async with held(thing)():
                await struck(way, cleaned)

    way.run(scenario())
    assert seen == ["inside", "default"]


def test_contextvars_of_the_consumer_stay_as_they_are(bridged, bridged_held):
    async def thing():
        VAR.set("inside")
        yield

    async def scenario():
        async with bridged_held(thing)():
            assert VAR.get() == "default"
        assert VAR.get() == "default"

    bridged.run(scenario())


def test_the_context_is_that_of_the_first_request(way, syncer):
    seen = []

    @syncer
    async def rows():
        while True:
            seen.append(VAR.get())
            yield

    async def scenario():
        token = VAR.set("first")
        consumed = way.iterate(rows)
        await anext(consumed)
        VAR.set("second")
        await anext(consumed)
        VAR.reset(token)
        await consumed.aclose()

    way.run(scenario())
    assert seen == ["first", "second" if way.native else "first"]


@pytest.mark.parametrize("end", ["exhaust", "close", "throw"])
def test_a_generator_runs_in_one_task(way, syncer, end):
    tasks = []

    @syncer
    async def rows():
        try:
            for _ in range(3):
                tasks.append(asyncio.current_task())
                yield
                await asyncio.sleep(0)
        finally:
            await asyncio.sleep(0)
            tasks.append(asyncio.current_task())

    async def scenario():
        consumed = way.iterate(rows)
        await anext(consumed)
        await consumed.asend("value")
        if end == "exhaust":
            assert [item async for item in consumed] == [None]
        elif end == "close":
            await consumed.aclose()
        else:
            with pytest.raises(KeyError):
                await consumed.athrow(KeyError())
        return asyncio.current_task() if way.native else None

    consumer = way.run(scenario())
    assert len(tasks) == (4 if end == "exhaust" else 3)
    assert len(set(tasks)) == 1
    assert (tasks[0] is consumer) == way.native


def test_enter_and_exit_run_in_one_task(way, held):
    tasks = []

    async def thing():
        tasks.append(asyncio.current_task())
        await asyncio.sleep(0)
        try:
            yield
        finally:
            tasks.append(asyncio.current_task())
            await asyncio.sleep(0)
            tasks.append(asyncio.current_task())

    async def scenario():
        with pytest.raises(KeyError):
            async with held(thing)():
                raise KeyError
        return asyncio.current_task() if way.native else None

    consumer = way.run(scenario())
    assert len(tasks) == 3
    assert len(set(tasks)) == 1
    assert (tasks[0] is consumer) == way.native


@pytest.mark.parametrize("make_lock", [asyncio.Lock, anyio.Lock, lambda: anyio.CapacityLimiter(1)])
def test_a_lock_is_held_by_its_owner_alone(way, held, syncer, make_lock):
    log = []

    async def make():
        return make_lock()

    @syncer
    async def wait():
        async with lock:
            log.append("got it")

    async def thing():
        async with lock:
            waiting = asyncio.get_running_loop().create_task(wait.aio())
            await asyncio.sleep(0)
            yield
            await asyncio.sleep(0)
            log.append("leaves")
        await waiting

    async def scenario():
        async with held(thing)():
            assert log == []

    lock = syncer(make)()
    way.run(scenario())
    assert log == ["leaves", "got it"]


# Leaving early, with all of these things held.


@contextlib.asynccontextmanager
async def task_group(log):
    async with asyncio.TaskGroup() as group:
        left = asyncio.Event()
        group.create_task(_child(left, log))
        await asyncio.sleep(0)
        yield
        left.set()


@contextlib.asynccontextmanager
async def anyio_task_group(log):
    async with anyio.create_task_group() as group:
        left = asyncio.Event()
        group.start_soon(_child, left, log)
        await asyncio.sleep(0)
        yield
        left.set()


async def _child(left, log):
    try:
        await left.wait()
        await asyncio.sleep(0)
    except asyncio.CancelledError:
        with anyio.CancelScope(shield=True):
            await asyncio.sleep(0)
        log.append("child cancelled")
        raise
    log.append("child ended")


@contextlib.asynccontextmanager
async def variable(log):
    token = VAR.set("inside")
    try:
        yield
    finally:
        await asyncio.sleep(0)
        log.append(VAR.get())
        VAR.reset(token)


@contextlib.asynccontextmanager
async def anyio_scopes(log):
    try:
        with anyio.move_on_after(1000), anyio.fail_after(1000), anyio.CancelScope(shield=True):
            yield
    finally:
        log.append("out of the scopes")


@contextlib.asynccontextmanager
async def locks(log):
    try:
        async with asyncio.Lock(), anyio.Lock(), anyio.CapacityLimiter(1):
            yield
    finally:
        log.append("released")


@contextlib.asynccontextmanager
async def all_of_them(log):
    async with (
        asyncio.timeout(1000),
        locks(log),
        task_group(log),
        anyio_scopes(log),
        anyio_task_group(log),
        variable(log),
    ):
        yield


HELD = {
    "timeout": lambda log: asyncio.timeout(1000),
    **{thing.__name__: thing for thing in (task_group, anyio_task_group, variable, anyio_scopes, locks)},
    "all": all_of_them,
}
WAYS_TO_LEAVE = {
    "exhaust": None,
    "close": lambda rows: rows.aclose(),
    "throw": lambda rows: rows.athrow(KeyError("thrown")),
    "throw a cancellation": lambda rows: rows.athrow(asyncio.CancelledError("thrown")),
    "throw what stops programs": lambda rows: rows.athrow(SystemExit("thrown")),
}


def describe(error):
    """What is the same for equal exceptions."""
    if isinstance(error, BaseExceptionGroup):
        return type(error), error.message, [describe(child) for child in error.exceptions]
    return type(error), str(error)


def _held_rows(thing, log):
    async def rows():
        try:
            async with HELD[thing](log):
                yield 1
                yield 2
        finally:
            await asyncio.sleep(0)
            log.append(asyncio.current_task().cancelling())

    return rows


async def _leave(consumed, leave):
    assert await anext(consumed) == 1
    try:
        if leave is None:
            return [item async for item in consumed]
        return await leave(consumed)
    except BaseException as error:
        return describe(error)


@functools.cache
def _left_natively(thing, leave):
    log = []
    return asyncio.run(_leave(_held_rows(thing, log)(), WAYS_TO_LEAVE[leave])), log


@pytest.mark.parametrize("leave", WAYS_TO_LEAVE)
@pytest.mark.parametrize("thing", HELD)
def test_leaving_a_generator_does_what_it_does_in_async_code(way, syncer, thing, leave):
    log = []
    rows = syncer(_held_rows(thing, log))

    async def scenario():
        return await _leave(way.iterate(rows), WAYS_TO_LEAVE[leave])

    assert (way.run(scenario()), log) == _left_natively(thing, leave)
    assert log[-1] == 0


BODIES = {"no error": None, **{error.__name__: error for error in (KeyError, asyncio.CancelledError, SystemExit)}}


def _held_thing(thing, log):
    async def function():
        try:
            async with HELD[thing](log):
                yield
        finally:
            await asyncio.sleep(0)
            log.append(asyncio.current_task().cancelling())

    return function


async def _run_body(manager, body):
    try:
        async with manager:
            if BODIES[body] is not None:
                raise BODIES[body]("body")
    except BaseException as error:
        return describe(error)


@functools.cache
def _exited_natively(thing, body):
    log = []
    return asyncio.run(_run_body(contextlib.asynccontextmanager(_held_thing(thing, log))(), body)), log


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("thing", ["task_group", "all"])
def test_leaving_a_context_manager_does_what_it_does_in_async_code(way, held, thing, body):
    log = []
    manager = held(_held_thing(thing, log))()
    assert (way.run(_run_body(manager, body)), log) == _exited_natively(thing, body)
    assert log[-1] == 0


@pytest.mark.parametrize("thing", ["timeout", "variable", "anyio_scopes", "locks"])
def test_a_broken_off_loop_has_let_go_of_what_was_held(syncer, thing):
    log = []
    for item in syncer(_held_rows(thing, log))():
        assert item == 1
        break
    assert log[-1] == 0
    assert len(log) == (1 if thing == "timeout" else 2)


@pytest.mark.parametrize("thing", ["task_group", "anyio_task_group", "all"])
def test_a_loop_that_is_broken_off_in_a_task_group_has_stopped_the_children(syncer, thing, monkeypatch):
    """A task group turns the GeneratorExit into a group, which nobody is there to get."""
    log, unraisable = [], []
    monkeypatch.setattr(sys, "unraisablehook", lambda args: unraisable.extend(leaves(args.exc_value)))
    for item in syncer(_held_rows(thing, log))():
        assert item == 1
        break
    assert "child cancelled" in log
    assert log[-1] == 0
    # From Python 3.15 on asyncio's task group lets the GeneratorExit through as it is.
    told = [] if thing == "task_group" and sys.version_info >= (3, 15) else [GeneratorExit]
    assert unraisable == told


def test_an_error_in_a_loop_lets_go_of_what_was_held(syncer):
    log = []

    def consume():
        for _ in syncer(_held_rows("variable", log))():
            raise KeyError

    with pytest.raises(KeyError) as caught:
        consume()
    del caught  # its traceback holds the generator
    assert log == ["inside", 0]


# Cancelling who consumes, while something is held.


@pytest.fixture(params=[*map(AnotherLoop, LOOP_FACTORIES), OwnLoop()], ids=lambda way: way.name)
def async_way(request, syncer):
    request.param.syncer = syncer
    return request.param


@pytest.mark.parametrize("thing", HELD)
def test_a_time_limit_of_the_consumer_strikes_a_step(async_way, syncer, thing):
    log = []

    @syncer
    async def rows():
        try:
            async with HELD[thing](log):
                yield 1
                await forever()
        finally:
            await asyncio.sleep(0)
            log.append(asyncio.current_task().cancelling())

    async def scenario():
        consumed = rows.aio()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(None) as scope:
                assert await anext(consumed) == 1
                strike(scope)
                await anext(consumed)
        assert log[-1] == 1  # the limit takes it back when it ends
        assert asyncio.current_task().cancelling() == 0
        with pytest.raises(StopAsyncIteration):
            await anext(consumed)

    async_way.run(scenario())


def test_a_time_limit_of_the_consumer_and_one_that_is_held(async_way, syncer):
    """Both strike one step: the inner one takes back its cancellation, and the outer one its own."""

    @syncer
    async def rows():
        try:
            async with asyncio.timeout(None) as scope:
                yield 1
                strike(scope)
                await forever()
        except TimeoutError:
            yield asyncio.current_task().cancelling()
            await forever()

    async def scenario():
        async with contextlib.aclosing(rows.aio()) as consumed:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(None) as scope:
                    assert await anext(consumed) == 1
                    assert await anext(consumed) == 0
                    strike(scope)
                    await anext(consumed)
            assert asyncio.current_task().cancelling() == 0

    async_way.run(scenario())


def test_what_a_generator_takes_back_of_a_cancellation_is_taken_back_from_the_consumer(async_way, syncer):
    """And nothing else is: not what an earlier step has kept."""

    @syncer
    async def rows():
        for taken_back in False, True, True:
            try:
                await forever()
            except asyncio.CancelledError:
                if taken_back:
                    asyncio.current_task().uncancel()
                yield asyncio.current_task().cancelling()

    async def scenario():
        consumer = asyncio.current_task()
        consumed = rows.aio()
        for _ in range(3):
            asyncio.get_running_loop().call_soon(consumer.cancel)
            assert await anext(consumed) == 1
            assert consumer.cancelling() == 1
        consumer.uncancel()
        with pytest.raises(StopAsyncIteration):
            await anext(consumed)

    async_way.run(scenario())


# On the own loop what is held belongs to the task of the consumer, and that is what is cancelled.


@pytest.mark.parametrize("way", [OwnLoop()], ids=["the own loop"], indirect=True)
def test_on_the_own_loop_the_consumer_is_cancelled(way, syncer):
    async def scenario():
        async with contextlib.aclosing(rows.aio()) as consumed:
            assert await anext(consumed) == 1
            with pytest.raises(asyncio.CancelledError):
                await forever()
            assert asyncio.current_task().cancelling() == 1
            assert await anext(consumed) == 2
            assert asyncio.current_task().cancelling() == 0

    @syncer
    async def rows():
        async with asyncio.timeout(None) as scope:
            strike(scope)
            yield 1
        yield 2

    way.run(scenario())
