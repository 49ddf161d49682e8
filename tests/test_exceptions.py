"""The exception that the coroutine raised is the one that the caller catches."""

import asyncio
import traceback

import pytest


class Custom(Exception):
    def __init__(self, *, keyword):
        super().__init__(keyword)


@pytest.mark.parametrize(
    "error",
    [
        ValueError("message"),
        Custom(keyword="no way to copy this"),
        KeyError("key"),
        StopAsyncIteration("stop"),
        asyncio.CancelledError("by hand"),
        asyncio.CancelledError(),
        TimeoutError("late"),
        asyncio.InvalidStateError(),
        RuntimeError("Event loop is closed"),
        BaseException("base"),
        GeneratorExit("exit"),
        ExceptionGroup("several", [ValueError(1), ExceptionGroup("inner", [KeyError(2)])]),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("suspends", [False, True])
def test_the_same_object(syncer, call, error, suspends):
    @syncer
    async def f():
        if suspends:
            await asyncio.sleep(0)
        raise error

    error.__traceback__ = None
    with pytest.raises(type(error)) as caught:
        call(f)
    assert caught.value is error


def test_cause_context_and_notes(syncer, call):
    cause, context = ValueError("cause"), KeyError("context")

    @syncer
    async def f():
        try:
            raise context
        except KeyError:
            error = RuntimeError("error")
            error.add_note("a note")
            raise error from cause

    with pytest.raises(RuntimeError) as caught:
        call(f)
    assert caught.value.__cause__ is cause
    assert caught.value.__context__ is context
    assert caught.value.__notes__ == ["a note"]


def test_stop_iteration_becomes_what_it_becomes_natively(syncer, call):
    @syncer
    async def f():
        raise StopIteration(3)

    with pytest.raises(RuntimeError, match="coroutine raised StopIteration") as caught:
        call(f)
    assert caught.value.__cause__.value == 3


def test_an_exception_returned_is_a_result(syncer, call):
    error = ValueError()

    @syncer
    async def f():
        return error

    assert call(f) is error


def test_an_error_in_the_callers_except_block_has_it_as_its_context(syncer):
    @syncer
    async def f():
        raise ValueError

    try:
        raise KeyError
    except KeyError as outer:
        with pytest.raises(ValueError) as caught:  # noqa: PT011
            f()
        assert caught.value.__context__ is outer


def test_an_error_raised_by_a_cancel_of_the_coroutines_own_task(syncer, call):
    @syncer
    async def f():
        asyncio.current_task().cancel("own")
        await asyncio.sleep(0)

    with pytest.raises(asyncio.CancelledError, match="own") as caught:
        call(f)
    assert type(caught.value) is asyncio.CancelledError


def test_the_same_exception_object_raised_again_and_again_does_not_grow(syncer, call):
    error = ValueError()

    @syncer
    async def f():
        raise error

    depths = set()
    for _ in range(5):
        error.__traceback__ = None
        with pytest.raises(ValueError):  # noqa: PT011
            call(f)
        depths.add(len(traceback.extract_tb(error.__traceback__)))
    assert len(depths) == 1


def chain_in_except_block(function, *args):
    try:
        raise KeyError
    except KeyError:
        try:
            function(*args)
        except ValueError as error:
            chain = []
            while error is not None:
                chain.append(type(error))
                error = error.__context__
            return chain


async def fails_in_except_block(self=None):
    try:
        raise ZeroDivisionError
    except ZeroDivisionError:
        raise ValueError  # noqa: B904


def test_a_call_in_an_except_block_adds_what_is_handled_there_at_the_end_of_the_chain(syncer, call):
    expected = [ValueError, ZeroDivisionError, KeyError]
    assert chain_in_except_block(call, syncer(fails_in_except_block)) == expected
    assert chain_in_except_block(syncer.run, fails_in_except_block()) == expected


class Falsy(Exception):
    def __bool__(self):
        return False


class NoTraceback(Exception):
    def with_traceback(self, traceback):
        raise TypeError


class OtherTraceback(Exception):
    def with_traceback(self, traceback):
        return ValueError("somebody else")


class ReadOnly(Exception):
    def __setattr__(self, name, value):
        raise AttributeError


class Equal(Exception):
    def __eq__(self, other):
        raise TypeError

    __hash__ = None


@pytest.mark.parametrize("kind", [Falsy, NoTraceback, OtherTraceback, ReadOnly, Equal])
@pytest.mark.parametrize("suspends", [False, True])
def test_exceptions_with_ideas_of_their_own(syncer, call, kind, suspends):
    error = kind()

    @syncer
    async def f():
        if suspends:
            await asyncio.sleep(0)
        raise error

    with pytest.raises(kind) as caught:
        call(f)
    assert caught.value is error


def test_a_method_and_run_in_an_except_block_keep_the_chain_too(syncer, call):
    class C:
        method = syncer(fails_in_except_block)

    expected = [ValueError, ZeroDivisionError, KeyError]
    assert chain_in_except_block(call, C().method) == expected
    assert chain_in_except_block(lambda: call(syncer.run, fails_in_except_block())) == expected


def links_of(error):
    links = []
    while error is not None:
        assert not any(error is link for link in links), "a circle"
        links.append(error)
        error = error.__context__
    return links


class Unequal(Exception):
    def __eq__(self, other):
        raise TypeError

    __hash__ = None


@pytest.mark.parametrize("kind", [ValueError, Unequal])
@pytest.mark.parametrize("which", ["what is handled", "its context"])
def test_a_chain_that_meets_that_of_the_caller_makes_no_circle(syncer, call, kind, which):
    known = kind("raised before, and again inside")

    @syncer
    async def f():
        try:
            try:
                raise known
            except kind:
                raise RuntimeError  # noqa: B904
        except RuntimeError:
            raise KeyError  # noqa: B904

    try:
        try:
            raise known
        except kind:
            if which == "what is handled":
                raise
            raise LookupError  # noqa: B904
    except (kind, LookupError):
        with pytest.raises(KeyError) as caught:
            call(f)
    assert any(link is known for link in links_of(caught.value))


def test_a_circle_of_the_users_own_is_no_hang(syncer, call):
    one, two = ValueError("one"), ValueError("two")
    one.__context__, two.__context__ = two, one

    @syncer
    async def f():
        raise KeyError from None

    error = KeyError("mine")
    error.__context__ = one

    @syncer
    async def g():
        raise error

    try:
        raise LookupError
    except LookupError:
        with pytest.raises(KeyError) as caught:
            call(g)
    assert caught.value is error


class NoLook(Exception):
    @property
    def __traceback__(self):
        raise TypeError

    @property
    def __context__(self):
        raise TypeError


@pytest.mark.parametrize("suspends", [False, True])
def test_exceptions_that_do_not_let_themselves_be_looked_at(syncer, suspends):
    error = NoLook()

    @syncer
    async def f():
        if suspends:
            await asyncio.sleep(0)
        raise error

    for function in f, lambda: f.submit().result(10), lambda: asyncio.run(f.aio()):
        try:
            raise KeyError
        except KeyError:
            try:
                function()
            except NoLook as caught:
                assert caught is error
            else:
                raise AssertionError("not raised")
