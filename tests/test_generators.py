"""An async generator becomes a generator for plain code, and stays one for async code."""

import asyncio
import collections.abc
import contextlib
import contextvars
import copy
import functools
import gc
import inspect
import os
import sys
import threading
import traceback
import warnings
import weakref

import pytest

import syncify as package
from syncify import BlockingCallWarning, DeadlockError, Syncify

LIBRARY = os.path.dirname(package.__file__)


@pytest.fixture(params=["another loop", "the own loop"])
def run_anywhere(request, syncer, loop_factory):
    """Runs a coroutine where the promises for async code hold: on a loop of the caller's, and on the background one."""

    def run(coroutine):
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            return runner.run(coroutine)

    return run if request.param == "another loop" else syncer.run


def collect(rows):
    """All that it yields, and what it raises at last."""
    items = []
    try:
        for item in rows:
            items.append(item)
    except BaseException as error:
        items.append(error)
    return items


async def collect_async(rows):
    items = []
    try:
        async for item in rows:
            items.append(item)
    except BaseException as error:
        items.append(error)
    return items


@pytest.fixture(params=["blocking", "async"])
def collected(request, run_anywhere):
    """All that `rows(...)` yields, taken by plain code or by async code."""

    def plain(function, *args, **kwargs):
        return collect(function(*args, **kwargs))

    def from_async_code(function, *args, **kwargs):
        async def main():
            return await collect_async(function.aio(*args, **kwargs))

        return run_anywhere(main())

    return plain if request.param == "blocking" else from_async_code


async def count(n, suspends=True):
    for i in range(n):
        if suspends:
            await asyncio.sleep(0)
        yield i


async def echo():
    """Yields what it is sent, and the exceptions that it is thrown."""
    answer = "first"
    while True:
        try:
            await asyncio.sleep(0)
            answer = yield answer
            if answer is None:
                return
        except (ValueError, KeyError) as error:
            answer = error


# What it is.


def test_it_is_a_generator(syncer):
    rows = syncer(count)(3)
    assert isinstance(rows, collections.abc.Generator)
    assert isinstance(rows, collections.abc.Iterator)
    assert iter(rows) is rows
    assert not hasattr(rows, "__aiter__")
    assert [next(rows), *rows] == [0, 1, 2]


@pytest.mark.parametrize("suspends", [False, True])
@pytest.mark.parametrize("n", [0, 1, 100])
def test_all_items_in_order(syncer, collected, n, suspends):
    assert collected(syncer(count), n, suspends) == list(range(n))


def test_nothing_runs_before_the_first_step(syncer):
    began = []

    @syncer
    async def rows():
        began.append(True)
        yield 1

    first, second = rows(), rows()
    syncer.run(asyncio.sleep(0))
    assert not began
    assert next(first) == 1
    assert began == [True]
    second.close()
    assert began == [True]


def test_it_runs_on_the_background_loop(syncer, collected):
    @syncer
    async def rows():
        for _ in range(3):
            yield asyncio.get_running_loop(), threading.current_thread().name
            await asyncio.sleep(0)

    assert collected(rows) == [(syncer.get_loop(), syncer.name)] * 3


def test_two_of_them_take_turns(syncer):
    function = syncer(count)
    assert list(zip(function(3), function(3), strict=True)) == [(0, 0), (1, 1), (2, 2)]


def test_a_step_waits_without_holding_the_loop(syncer):
    event = asyncio.Event()

    @syncer
    async def rows():
        await event.wait()
        yield "item"

    @syncer
    async def tell():
        event.set()

    generator = rows()
    got = []
    thread = threading.Thread(target=lambda: got.append(next(generator)))
    thread.start()
    tell()
    thread.join(10)
    assert got == ["item"]
    generator.close()


# Whose it is.


class Table:
    def __init__(self, n=3):
        self.n = n

    async def __call__(self):
        for i in range(self.n):
            yield self, i

    async def method(self):
        for i in range(self.n):
            yield self, i

    async def of_class(cls):  # noqa: N805 - made a classmethod below
        yield cls, 0

    async def static(n):  # noqa: N805 - made a staticmethod below
        yield n


def test_a_method(syncer, collected):
    class Decorated(Table):
        rows = syncer(Table.method)

    table = Decorated()
    assert collected(table.rows) == [(table, 0), (table, 1), (table, 2)]
    assert collected(Decorated.rows, table) == [(table, 0), (table, 1), (table, 2)]


def test_a_classmethod(syncer, collected):
    class Decorated:
        rows = syncer(classmethod(Table.of_class))

    class Derived(Decorated):
        pass

    assert collected(Decorated.rows) == [(Decorated, 0)]
    assert collected(Derived.rows) == collected(Derived().rows) == [(Derived, 0)]


@pytest.mark.parametrize("order", ["above", "below"])
def test_a_staticmethod(syncer, collected, order):
    decorated = syncer(staticmethod(Table.static)) if order == "above" else staticmethod(syncer(Table.static))

    class Decorated:
        rows = decorated

    assert collected(Decorated.rows, 5) == collected(Decorated().rows, 5) == [5]


def test_a_partial(syncer, collected):
    assert collected(syncer(functools.partial(count, suspends=False)), 2) == [0, 1]
    assert collected(syncer(functools.partial(count, 2))) == [0, 1]


def test_a_bound_method(syncer, collected):
    table = Table(1)
    assert collected(syncer(table.method)) == [(table, 0)]


def test_an_object_whose_call_is_one(syncer, collected):
    table = Table(1)
    assert collected(syncer(table)) == [(table, 0)]


@pytest.mark.parametrize("arguments", [(), (1, 2, 3)])
def test_wrong_arguments_raise_at_the_call(syncer, arguments):
    class Decorated(Table):
        rows = syncer(Table.method)

    with pytest.raises(TypeError, match="argument"):
        syncer(count)(*arguments)
    with pytest.raises(TypeError, match="argument"):
        syncer(count)(1, suspend=True)
    with pytest.raises(TypeError, match="argument"):
        Decorated().rows(1)


def test_wrong_arguments_raise_before_async_code_gets_an_item(syncer, run_anywhere):
    async def main():
        with pytest.raises(TypeError, match="argument"):
            async for _ in syncer(count).aio(1, 2, 3):
                pass

    run_anywhere(main())


def test_to_inspect_its_aio_is_an_async_generator_function(syncer):
    class Decorated(Table):
        rows = syncer(Table.method)
        of_class = syncer(classmethod(Table.of_class))
        static = syncer(staticmethod(Table.static))

    functions = [syncer(count).aio, syncer(functools.partial(count, 1)).aio, syncer(Table()).aio]
    functions += [Decorated.rows.aio, Decorated().rows.aio, Decorated.of_class.aio, Decorated.static.aio]
    for function in functions:
        assert inspect.isasyncgenfunction(function)
        assert not inspect.iscoroutinefunction(function)
    assert not inspect.isasyncgenfunction(syncer(count))
    assert inspect.isasyncgen(syncer(count).aio(3))


# The protocol of generators.


def test_send(syncer):
    generator = syncer(echo)()
    assert generator.send(None) == "first"
    assert [generator.send(i) for i in (1, "two", [])] == [1, "two", []]
    with pytest.raises(StopIteration):
        generator.send(None)


def test_a_generator_that_has_not_begun_can_be_sent_nothing(syncer):
    generator = syncer(echo)()
    with pytest.raises(TypeError, match="can't send non-None value to a just-started generator"):
        generator.send(1)
    assert next(generator) == "first"
    generator.close()


def test_throw(syncer):
    generator = syncer(echo)()
    next(generator)
    error = ValueError("thrown")
    assert generator.throw(error) is error
    assert generator.send("on") == "on"
    with pytest.raises(LookupError, match="not caught"):
        generator.throw(LookupError("not caught"))
    assert list(generator) == []


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [((ValueError,), ()), ((ValueError, "text"), ("text",)), ((ValueError, (1, 2)), (1, 2))],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_throw_takes_a_class_and_arguments(syncer, arguments, expected):
    generator = syncer(echo)()
    next(generator)
    thrown = generator.throw(*arguments)
    assert type(thrown) is ValueError
    assert thrown.args == expected
    generator.close()


@pytest.mark.parametrize("arguments", [(3,), ("text",), (object,), (ValueError("one"), ValueError("two"))])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_throw_refuses_what_is_no_exception_and_the_generator_goes_on(syncer, arguments):
    generator = syncer(echo)()
    next(generator)
    with pytest.raises(TypeError):
        generator.throw(*arguments)
    assert generator.send("on") == "on"
    generator.close()


def test_throw_may_exhaust_it(syncer):
    @syncer
    async def rows():
        with contextlib.suppress(ValueError):
            yield 1

    generator = rows()
    next(generator)
    with pytest.raises(StopIteration) as caught:
        generator.throw(ValueError)
    assert caught.value.value is None
    assert list(generator) == []


def test_throw_into_one_that_has_not_begun_ends_it(syncer):
    began = []

    @syncer
    async def rows():
        began.append(True)
        yield 1

    generator = rows()
    error = ValueError("early")
    with pytest.raises(ValueError, match="early") as caught:
        generator.throw(error)
    assert caught.value is error
    assert list(generator) == []
    assert not began


def test_stop_iteration_for_good_once_exhausted(syncer):
    generator = syncer(count)(2)
    assert list(generator) == [0, 1]
    for _ in range(3):
        with pytest.raises(StopIteration):
            next(generator)
        with pytest.raises(StopIteration):
            generator.send("value")
        generator.close()
    error = ValueError("to nobody")
    with pytest.raises(ValueError, match="to nobody") as caught:
        generator.throw(error)
    assert caught.value is error
    assert next(generator, "nothing") == "nothing"


def test_stop_iteration_for_good_after_an_error_and_after_close(syncer):
    @syncer
    async def rows():
        yield 1
        raise ValueError("mid-way")

    generator = rows()
    assert next(generator) == 1
    with pytest.raises(ValueError, match="mid-way"):
        next(generator)
    assert next(generator, "nothing") == "nothing"
    generator = rows()
    assert next(generator) == 1
    generator.close()
    assert next(generator, "nothing") == "nothing"
    generator = rows()
    generator.close()
    assert next(generator, "nothing") == "nothing"


def test_close_waits_for_the_finally_with_all_it_awaits(syncer):
    log = []

    @syncer
    async def rows():
        try:
            yield 1
        except BaseException as error:
            log.append(type(error))
            raise
        finally:
            for _ in range(3):
                await asyncio.sleep(0.001)
            log.append("cleaned")

    generator = rows()
    next(generator)
    assert generator.close() is None
    assert log == [GeneratorExit, "cleaned"]
    generator.close()
    assert log == [GeneratorExit, "cleaned"]


def test_close_is_content_with_a_generator_that_returns(syncer):
    @syncer
    async def rows():
        with contextlib.suppress(GeneratorExit):
            yield 1

    generator = rows()
    next(generator)
    assert generator.close() is None


def test_a_generator_that_ignores_close_is_an_error_and_goes_on(syncer):
    @syncer
    async def rows():
        try:
            yield 1
        except GeneratorExit:
            yield 2
        yield 3

    generator = rows()
    next(generator)
    with pytest.raises(RuntimeError, match="generator ignored GeneratorExit"):
        generator.close()
    assert list(generator) == [3]


def test_an_async_generator_that_ignores_aclose_is_an_error(syncer, run_anywhere):
    @syncer
    async def rows():
        try:
            yield 1
        except GeneratorExit:
            yield 2

    async def main():
        generator = rows.aio()
        await anext(generator)
        with pytest.raises(RuntimeError, match="async generator ignored GeneratorExit"):
            await generator.aclose()
        assert await collect_async(generator) == []

    run_anywhere(main())


@pytest.mark.parametrize("error", [StopIteration, StopAsyncIteration])
def test_stop_iteration_raised_inside_is_a_runtime_error(syncer, collected, error):
    @syncer
    async def rows():
        yield 1
        raise error("inside")

    item, raised = collected(rows)
    assert item == 1
    assert type(raised) is RuntimeError
    assert type(raised.__cause__) is error


@pytest.mark.parametrize("error", [StopIteration, StopAsyncIteration])
def test_stop_iteration_thrown_in_is_a_runtime_error(syncer, error):
    generator = syncer(count)(3)
    next(generator)
    with pytest.raises(RuntimeError) as caught:
        generator.throw(error("thrown"))
    assert type(caught.value.__cause__) is error
    assert list(generator) == []


def test_generator_exit_thrown_in_comes_back(syncer):
    generator = syncer(count)(3)
    next(generator)
    with pytest.raises(GeneratorExit):
        generator.throw(GeneratorExit)
    assert list(generator) == []


def test_yield_from_passes_everything_on(syncer):
    closed = []

    @syncer
    async def rows():
        try:
            async for item in echo_of(inner := echo()):
                yield item
        finally:
            closed.append(True)
            await inner.aclose()

    async def echo_of(inner):
        answer = await anext(inner)
        while True:
            answer = await inner.asend((yield answer))

    def delegates():
        return (yield from syncer(echo)())

    generator = delegates()
    assert next(generator) == "first"
    assert generator.send("sent") == "sent"
    error = KeyError("thrown")
    assert generator.throw(error) is error
    with pytest.raises(StopIteration) as caught:
        next(generator)
    assert caught.value.value is None

    def delegates_rows():
        yield from rows()

    generator = delegates_rows()
    next(generator)
    generator.close()
    assert closed == [True]


@pytest.mark.parametrize("how", ["close", "throw", "exhaust", "step"])
def test_an_error_of_the_finally_is_raised_to_who_ends_it(syncer, how):
    error = ValueError("in the finally")

    @syncer
    async def rows():
        try:
            yield 1
            if how == "step":
                raise KeyError("in the step")
        finally:
            await asyncio.sleep(0)
            raise error

    generator = rows()
    next(generator)
    end = {"close": generator.close, "throw": lambda: generator.throw(KeyError)}.get(how, generator.__next__)
    with pytest.raises(ValueError, match="in the finally") as caught:
        end()
    assert caught.value is error
    context = {"close": GeneratorExit, "throw": KeyError, "exhaust": type(None), "step": KeyError}[how]
    assert type(error.__context__) is context
    assert list(generator) == []


@pytest.mark.parametrize("how", ["aclose", "athrow", "exhaust"])
def test_an_error_of_the_finally_is_raised_to_async_code_too(syncer, run_anywhere, how):
    error = ValueError("in the finally")

    @syncer
    async def rows():
        try:
            yield 1
        finally:
            await asyncio.sleep(0)
            raise error

    async def main():
        generator = rows.aio()
        await anext(generator)
        with pytest.raises(ValueError, match="in the finally") as caught:
            if how == "aclose":
                await generator.aclose()
            elif how == "athrow":
                await generator.athrow(KeyError())
            else:
                await anext(generator)
        assert caught.value is error
        assert await collect_async(generator) == []

    run_anywhere(main())


@pytest.mark.parametrize("use", ["next", "send", "throw", "close"])
def test_a_generator_that_is_executing_refuses_others(syncer, use):
    event = asyncio.Event()
    waits = threading.Event()

    @syncer
    async def rows():
        yield "first"
        waits.set()
        await event.wait()
        yield "second"

    @syncer
    async def tell():
        event.set()

    generator = rows()
    next(generator)
    got = []
    thread = threading.Thread(target=lambda: got.append(next(generator)))
    thread.start()
    waits.wait()
    try:
        with pytest.raises(ValueError, match="generator already executing"):
            {
                "next": lambda: next(generator),
                "send": lambda: generator.send(1),
                "throw": lambda: generator.throw(KeyError),
                "close": generator.close,
            }[use]()
    finally:
        tell()
        thread.join(10)
    assert got == ["second"]
    assert list(generator) == []


def test_threads_may_take_turns(syncer):
    generator = syncer(count)(6)
    items = []
    for _ in range(6):
        thread = threading.Thread(target=lambda: items.append(next(generator)))
        thread.start()
        thread.join(10)
    assert items == list(range(6))
    assert list(generator) == []


# The protocol of async generators.


def test_asend_athrow_and_aclose(syncer, run_anywhere):
    async def main():
        generator = syncer(echo).aio()
        with pytest.raises(TypeError, match="can't send non-None value to a just-started async generator"):
            await generator.asend("value")
        generator = syncer(echo).aio()
        assert await generator.asend(None) == "first"
        assert [await generator.asend(i) for i in (1, "two", [])] == [1, "two", []]
        error = ValueError("thrown")
        assert await generator.athrow(error) is error
        assert await generator.asend("on") == "on"
        await generator.aclose()
        with pytest.raises(StopAsyncIteration):
            await anext(generator)
        await generator.aclose()

    run_anywhere(main())


def test_athrow_that_is_not_caught_comes_back(syncer, run_anywhere):
    async def main():
        generator = syncer(echo).aio()
        await anext(generator)
        error = LookupError("not caught")
        with pytest.raises(LookupError, match="not caught") as caught:
            await generator.athrow(error)
        assert caught.value is error
        with pytest.raises(StopAsyncIteration):
            await generator.asend(None)

    run_anywhere(main())


def test_athrow_may_exhaust_it(syncer, run_anywhere):
    async def main():
        @syncer
        async def rows():
            with contextlib.suppress(ValueError):
                yield 1

        generator = rows.aio()
        await anext(generator)
        with pytest.raises(StopAsyncIteration):
            await generator.athrow(ValueError())
        assert await collect_async(generator) == []

    run_anywhere(main())


def test_aclose_waits_for_the_finally_with_all_it_awaits(syncer, run_anywhere):
    log = []

    @syncer
    async def rows():
        try:
            yield 1
        except BaseException as error:
            log.append(type(error))
            raise
        finally:
            for _ in range(3):
                await asyncio.sleep(0.001)
            log.append("cleaned")

    async def main():
        generator = rows.aio()
        await anext(generator)
        await generator.aclose()
        assert log == [GeneratorExit, "cleaned"]

    run_anywhere(main())


def test_stop_async_iteration_for_good_once_exhausted(syncer, run_anywhere):
    async def main():
        generator = syncer(count).aio(2)
        assert await collect_async(generator) == [0, 1]
        for _ in range(3):
            with pytest.raises(StopAsyncIteration):
                await anext(generator)
            await generator.aclose()

    run_anywhere(main())


def test_an_async_generator_that_is_running_refuses_others(syncer, run_anywhere):
    event = asyncio.Event()
    waits = threading.Event()

    @syncer
    async def rows():
        waits.set()
        await event.wait()
        yield "item"

    @syncer
    async def tell():
        event.set()

    async def main():
        generator = rows.aio()
        task = asyncio.ensure_future(anext(generator))
        while not waits.is_set():
            await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="already running"):
            await anext(generator)
        await tell.aio()
        assert await task == "item"
        await generator.aclose()

    run_anywhere(main())


def test_an_aio_that_is_made_in_plain_code_may_be_iterated_on_any_loop(syncer, run_anywhere):
    generator = syncer(count).aio(3)
    assert run_anywhere(collect_async(generator)) == [0, 1, 2]


def test_an_aio_cannot_be_iterated_where_no_loop_runs(syncer):
    generator = syncer(count).aio(3)
    with pytest.raises(RuntimeError, match="neither an asyncio event loop nor Trio runs"):
        anext(generator).send(None)


def test_on_its_own_loop_it_runs_in_the_callers_task_and_context(syncer):
    variable = contextvars.ContextVar("variable", default="default")

    @syncer
    async def rows():
        for _ in range(2):
            yield asyncio.current_task(), variable.get()
            variable.set("set inside")

    async def main():
        variable.set("the caller's")
        task = asyncio.current_task()
        generator = rows.aio()
        assert await anext(generator) == (task, "the caller's")
        variable.set("set meanwhile")
        assert await anext(generator) == (task, "set inside")
        assert variable.get() == "set inside"
        assert await collect_async(generator) == []

    syncer.run(main())


def test_on_its_own_loop_there_is_one_forwarding_frame(syncer):
    def names():
        frame, found = sys._getframe(1), []
        while frame.f_code.co_name != "main":
            found.append("LIBRARY" if frame.f_code.co_filename.startswith(LIBRARY) else frame.f_code.co_name)
            frame = frame.f_back
        return found

    @syncer
    async def rows():
        try:
            while True:
                try:
                    yield names()
                except ValueError:
                    yield names()
        finally:
            closed.append(names())

    closed = []

    async def main():
        generator = rows.aio()
        expected = ["rows", "LIBRARY"]
        assert await anext(generator) == expected
        assert await generator.asend("value") == expected
        assert await generator.athrow(ValueError()) == expected
        await generator.aclose()
        assert closed == [expected]

    syncer.run(main())


def test_on_its_own_loop_it_does_not_suspend_where_the_generator_does_not(syncer):
    async def main():
        step = anext(syncer(count).aio(1, suspends=False))
        with pytest.raises(StopIteration) as caught:
            step.__await__().send(None)
        assert caught.value.value == 0

    syncer.run(main())


# Exceptions.


class Custom(Exception):
    pass


def test_an_exception_keeps_its_identity_its_notes_its_cause_and_its_context(syncer, collected):
    error = Custom("mid-way", 1)
    error.add_note("a note")
    error.attribute = "kept"
    cause, context = KeyError("cause"), LookupError("context")

    @syncer
    async def rows():
        yield 1
        await asyncio.sleep(0)
        try:
            raise context
        except LookupError:
            raise error from cause

    item, raised = collected(rows)
    assert item == 1
    assert raised is error
    assert raised.args == ("mid-way", 1)
    assert raised.__notes__ == ["a note"]
    assert raised.attribute == "kept"
    assert raised.__cause__ is cause
    assert raised.__context__ is context


def test_raised_while_the_caller_handles_another_the_context_is_that(syncer, run_anywhere):
    @syncer
    async def rows():
        yield 1
        raise ValueError("inside")

    handled = KeyError("the caller's")

    def plain():
        generator = rows()
        next(generator)
        try:
            raise handled
        except KeyError:
            with pytest.raises(ValueError, match="inside") as caught:
                next(generator)
        return caught.value

    async def from_async_code():
        generator = rows.aio()
        await anext(generator)
        try:
            raise handled
        except KeyError:
            with pytest.raises(ValueError, match="inside") as caught:
                await anext(generator)
        return caught.value

    assert plain().__context__ is handled
    assert run_anywhere(from_async_code()).__context__ is handled


@pytest.mark.parametrize(
    "kind", [ValueError, asyncio.CancelledError, SystemExit, KeyboardInterrupt, GeneratorExit, TimeoutError]
)
def test_whatever_is_raised_inside_comes_to_the_consumer_and_the_loop_goes_on(syncer, collected, kind):
    error = kind("inside")

    @syncer
    async def rows():
        yield 1
        await asyncio.sleep(0)
        raise error

    item, raised = collected(rows)
    assert item == 1
    assert raised is error
    assert collected(syncer(count), 2) == [0, 1]


def test_an_exception_group(syncer, collected):
    @syncer
    async def rows():
        yield 1
        async with asyncio.TaskGroup() as group:
            group.create_task(fails())

    async def fails():
        raise ValueError("child")

    _, raised = collected(rows)
    assert type(raised) is ExceptionGroup
    assert [str(child) for child in raised.exceptions] == ["child"]


# Tracebacks.


def frames_of(error):
    return [
        "LIBRARY" if frame.filename.startswith(LIBRARY) else frame.name
        for frame in traceback.extract_tb(error.__traceback__)
    ]


async def deep(n):
    if n:
        await deep(n - 1)
    await asyncio.sleep(0)
    raise ValueError("deep")


async def deep_rows():
    try:
        yield 1
    except KeyError:
        await deep(1)
    except GeneratorExit:
        await deep(1)
    await deep(1)


EXPECTED = ["LIBRARY", "deep_rows", "deep", "deep"]


@pytest.mark.parametrize("how", ["next", "send", "throw", "close", "for", "list"])
def test_one_frame_of_the_library_between_those_of_the_user(syncer, how):
    generator = syncer(deep_rows)()
    next(generator)

    def ends():
        if how == "next":
            next(generator)
        elif how == "send":
            generator.send(1)
        elif how == "throw":
            generator.throw(KeyError())
        elif how == "close":
            generator.close()
        elif how == "for":
            for _ in generator:
                pass
        else:
            list(generator)

    with pytest.raises(ValueError, match="deep") as caught:
        ends()
    frames = frames_of(caught.value)
    assert frames[frames.index("ends") :] == ["ends", *EXPECTED]


@pytest.mark.parametrize("how", ["anext", "asend", "athrow", "aclose", "for"])
def test_one_frame_of_the_library_for_async_code(syncer, run_anywhere, how):
    async def ends():
        generator = syncer(deep_rows).aio()
        await anext(generator)
        if how == "anext":
            await anext(generator)
        elif how == "asend":
            await generator.asend(1)
        elif how == "athrow":
            await generator.athrow(KeyError())
        elif how == "aclose":
            await generator.aclose()
        else:
            async for _ in generator:
                pass

    async def main():
        with pytest.raises(ValueError, match="deep") as caught:
            await ends()
        return frames_of(caught.value)

    assert run_anywhere(main()) == ["main", "ends", *EXPECTED]


def test_a_thrown_exception_shows_the_yield_that_it_struck(syncer):
    generator = syncer(count)(3)
    next(generator)

    def ends():
        generator.throw(ValueError("thrown"))

    with pytest.raises(ValueError, match="thrown") as caught:
        ends()
    frames = frames_of(caught.value)
    assert frames[frames.index("ends") :] == ["ends", "LIBRARY", "count"]


def test_wrong_arguments_show_the_call(syncer):
    def calls():
        syncer(count)(1, 2, 3)

    with pytest.raises(TypeError) as caught:
        calls()
    frames = frames_of(caught.value)
    assert frames[frames.index("calls") :] == ["calls", "LIBRARY"]


# Where a step would block a loop.


@pytest.mark.parametrize("use", ["next", "send", "throw", "close", "for"])
def test_on_the_background_loop_a_blocking_step_is_a_deadlock_error(syncer, use):
    function = syncer(echo)
    generator = function()
    next(generator)

    async def main():
        with pytest.raises(DeadlockError) as caught:
            if use == "next":
                next(generator)
            elif use == "send":
                generator.send(1)
            elif use == "throw":
                generator.throw(ValueError())
            elif use == "close":
                generator.close()
            else:
                for _ in generator:
                    pass
        return str(caught.value)

    message = syncer.run(main())
    assert message.startswith("Deadlock detected: ")
    assert "`async for ... in echo.aio(...)`" in message
    assert generator.send("nothing has happened to it") == "nothing has happened to it"
    generator.close()


def test_on_the_background_loop_nothing_is_started(syncer):
    began = []

    @syncer
    async def rows():
        began.append(True)
        yield 1

    async def main():
        with pytest.raises(DeadlockError):
            for _ in rows():
                pass

    syncer.run(main())
    assert not began


def line():
    return inspect.currentframe().f_back.f_lineno


def test_on_another_loop_a_blocking_step_warns_at_the_consumers_line(syncer, loop_factory):
    function = syncer(echo)

    async def main():
        lines = []
        for _ in function():
            break
        lines.append(line() - 2)
        generator = function()
        next(generator)
        lines.append(line() - 1)
        generator.send(1)
        lines.append(line() - 1)
        generator.throw(ValueError())
        lines.append(line() - 1)
        list(generator)
        lines.append(line() - 1)
        generator.close()
        return lines

    with pytest.warns(BlockingCallWarning) as caught, asyncio.Runner(loop_factory=loop_factory) as runner:
        lines = runner.run(main())
    # Of `list` there are two: one item, and the end.
    assert sorted({(warning.filename, warning.lineno) for warning in caught}) == [(__file__, n) for n in lines]
    assert {str(warning.message).split(" blocks ")[0] for warning in caught} == {"echo()"}
    assert "`async for ... in echo.aio(...)`" in str(caught[0].message)


def test_the_call_itself_does_not_block_and_so_does_not_warn(syncer):
    async def main():
        return syncer(count)(2)

    generator = asyncio.run(main())
    assert list(generator) == [0, 1]
    assert list(syncer.run(main())) == [0, 1]


@pytest.mark.parametrize("blocking", ["allow", "error"])
def test_the_policy_of_the_syncer(blocking):
    syncer = Syncify("policy", blocking=blocking)
    began = []

    @syncer
    async def rows():
        began.append(True)
        yield 1

    async def main():
        return list(rows())

    if blocking == "allow":
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert asyncio.run(main()) == [1]
    else:
        with pytest.raises(BlockingCallWarning):
            asyncio.run(main())
        assert not began


# What is left behind.


class Thing:
    pass


@pytest.fixture
def _no_collector():
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def settle(syncer):
    """Let the loop's thread get rid of what it holds of earlier steps."""
    for _ in range(3):
        syncer.run(asyncio.sleep(0))


def exhaust(generator):
    for _ in generator:
        del _


def step_and_close(generator):
    next(generator)
    generator.close()


def step_and_throw(generator):
    next(generator)
    with contextlib.suppress(ValueError):
        generator.throw(ValueError())


def step_and_break(generator):
    for _ in generator:
        break


ENDS = [exhaust, step_and_close, step_and_throw]


@pytest.mark.usefixtures("_no_collector")
@pytest.mark.parametrize("suspends", [False, True])
@pytest.mark.parametrize("raises", [None, ValueError, SystemExit])
@pytest.mark.parametrize("end", ENDS)
def test_a_generator_that_has_ended_keeps_neither_arguments_nor_items(syncer, end, raises, suspends):
    @syncer
    async def rows(thing):
        try:
            if suspends:
                await asyncio.sleep(0)
            yield thing
            if raises:
                raise raises
        finally:
            if suspends:
                await asyncio.sleep(0)

    thing = Thing()
    gone = weakref.ref(thing)
    generator = rows(thing)
    with contextlib.suppress(ValueError, SystemExit):
        end(generator)
    del thing
    settle(syncer)
    assert gone() is None
    assert list(generator) == []


@pytest.mark.usefixtures("_no_collector")
def test_an_item_is_kept_by_nobody_but_the_consumer(syncer):
    @syncer
    async def rows():
        while True:
            yield Thing()

    generator = rows()
    for _ in range(3):
        gone = weakref.ref(next(generator))
        settle(syncer)
        assert gone() is None
    generator.close()


@pytest.mark.usefixtures("_no_collector")
def test_what_is_sent_is_kept_by_nobody_but_the_generator(syncer):
    @syncer
    async def rows():
        while True:
            yield

    generator = rows()
    next(generator)
    thing = Thing()
    gone = weakref.ref(thing)
    generator.send(thing)
    del thing
    settle(syncer)
    assert gone() is None
    generator.close()


@pytest.mark.usefixtures("_no_collector")
def test_a_thrown_exception_is_kept_by_nobody(syncer):
    @syncer
    async def rows():
        while True:
            with contextlib.suppress(ValueError):
                yield

    class Error(ValueError):
        pass

    generator = rows()
    next(generator)
    error = Error()
    gone = weakref.ref(error)
    generator.throw(error)
    del error
    settle(syncer)
    assert gone() is None
    generator.close()


@pytest.mark.usefixtures("_no_collector")
@pytest.mark.parametrize("begun", [False, True])
def test_a_dropped_generator_keeps_nothing(syncer, begun):
    @syncer
    async def rows(thing):
        await asyncio.sleep(0)
        yield thing

    thing = Thing()
    gone = weakref.ref(thing)
    generator = rows(thing)
    if begun:
        next(generator)
    generator = None
    del thing
    for _ in range(100):
        if gone() is None:
            break
        syncer.run(asyncio.sleep(0))
    assert gone() is None


@pytest.mark.usefixtures("_no_collector")
@pytest.mark.parametrize("raises", [None, ValueError, SystemExit])
@pytest.mark.parametrize("how", ["exhaust", "aclose", "athrow"])
def test_an_async_generator_that_has_ended_keeps_nothing(syncer, run_anywhere, how, raises):
    @syncer
    async def rows(thing):
        await asyncio.sleep(0)
        yield thing
        if raises:
            raise raises

    thing = Thing()
    gone = weakref.ref(thing)

    async def main(thing):
        generator = rows.aio(thing)
        if how == "exhaust":
            with contextlib.suppress(BaseException):
                async for _ in generator:
                    del _
        else:
            await anext(generator)
            if how == "aclose":
                await generator.aclose()
            else:
                with contextlib.suppress(ValueError):
                    await generator.athrow(ValueError())
        return generator

    generator = run_anywhere(main(thing))
    del thing
    settle(syncer)
    assert gone() is None
    del generator


def test_no_call_is_in_flight_once_it_has_ended():
    syncer = Syncify("in-flight")
    for end in [*ENDS, step_and_break]:
        end(syncer(count)(3))
    syncer.run(asyncio.sleep(0))
    assert repr(syncer) == "<Syncify 'in-flight', 0 calls in flight>"


def test_begun_on_the_background_loop_it_is_not_iterated_on_another(syncer, loop_factory):
    @syncer
    async def rows():
        yield 1
        yield 2

    generator = rows.aio()

    async def step():
        return await anext(generator)

    assert syncer.run(step()) == 1
    with asyncio.Runner(loop_factory=loop_factory) as runner, pytest.raises(RuntimeError, match="background loop"):
        runner.run(step())


def test_begun_on_another_loop_athrow_on_the_background_loop_reaches_it(syncer, loop_factory):
    tasks = []

    @syncer
    async def rows():
        while True:
            try:
                tasks.append(asyncio.current_task())
                yield "row"
            except ValueError:
                yield "caught"

    generator = rows.aio()

    async def step():
        return await anext(generator)

    async def throw():
        return await generator.athrow(ValueError())

    async def close():
        await generator.aclose()

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        assert runner.run(step()) == "row"
        assert syncer.run(throw()) == "caught"
        assert runner.run(step()) == "row"
        runner.run(close())
    assert tasks[0] is tasks[1]


def test_it_cannot_be_copied(syncer):
    @syncer
    async def rows():
        yield 1
        yield 2

    generator = rows()
    assert next(generator) == 1
    for how in copy.copy, copy.deepcopy:
        with pytest.raises(TypeError, match="cannot be copied"):
            how(generator)
    assert list(generator) == [2]
