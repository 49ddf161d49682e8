"""What is not async is refused when it is decorated, with a message that says what would do."""

import asyncio
import functools

import pytest

from syncify import Syncify, syncify

EVERY_MESSAGE = (
    "Syncify can only be applied to async functions, async generators, async classmethods or staticmethods. Got "
)


def plain():
    pass


def gives_an_awaitable():
    return asyncio.sleep(0)


async def rows():
    yield 1


class Thing:
    def __call__(self):
        pass


class AsyncThing:
    async def __call__(self):
        pass

    async def close(self):
        pass


async def fine():
    pass


@pytest.mark.parametrize(
    ("what", "message"),
    [
        (plain, "plain, which is not async; write `async def`"),
        (
            gives_an_awaitable,
            r"gives_an_awaitable, which is not async; .* `syncify\.run\(gives_an_awaitable\(\.\.\.\)\)`",
        ),
        (lambda: None, "<lambda>, which is not async"),
        (lambda: asyncio.sleep(0), "<lambda>, which is not async"),
        (None, "None, which is no function"),
        (3, "3, which is no function"),
        ("name", "'name', which is no function"),
        (Thing, "the class Thing; decorate its async methods"),
        (AsyncThing, "the class AsyncThing; decorate its async methods"),
        (Thing(), "Thing object at .*, which is not async"),
        (len, "len, a builtin"),
        ([].append, "append, a builtin"),
        (print, "print, a builtin"),
        (dict, "the class dict"),
        (classmethod(plain), "plain, which is not async"),
        (staticmethod(plain), "plain, which is not async"),
        (staticmethod(classmethod(fine)), "a classmethod in another"),
        (classmethod(None), "None, which is no function"),
        (property(fine), "a property; write an async method"),
        (functools.partial(plain), "which is not async"),
        (functools.partial(Thing()), "which is not async"),
        (functools.partialmethod(fine), "a partialmethod"),
        (syncify(fine), "fine, which has been syncified already"),
        (syncify, "Syncify 'syncify', .*, which is not async"),
        (asyncio, "module 'asyncio' .*, which is no function"),
        (asyncio.Event, "the class Event"),
    ],
)
def test_it_is_refused(what, message):
    with pytest.raises(TypeError, match=message) as caught:
        syncify(what)
    assert str(caught.value).startswith(EVERY_MESSAGE)


def test_a_coroutine_is_no_function():
    coroutine = fine()
    with pytest.raises(TypeError, match=r"which has been called already; .*syncify\.run"):
        syncify(coroutine)
    coroutine.close()


def test_a_bound_syncified_method_is_refused():
    class C:
        @syncify
        async def f(self):
            pass

        @syncify
        @classmethod
        async def g(cls):
            pass

    for method in C().f, C.f, C.g, C.__dict__["g"]:
        with pytest.raises(TypeError, match=r"C\.[fg], which has been syncified already"):
            syncify(method)


@pytest.mark.parametrize("name", [3, None, fine])
def test_the_name_is_a_string(name):
    with pytest.raises(TypeError, match=r"takes the name of the syncer, a str, got .*write @syncify"):
        Syncify(name)


def test_the_name_is_not_empty():
    with pytest.raises(ValueError, match="cannot be empty"):
        Syncify("")


def test_blocking_is_one_of_three():
    with pytest.raises(ValueError, match="'allow', 'warn' or 'error', got 'never'"):
        Syncify("x", blocking="never")


def test_the_loop_factory_is_callable():
    loop = asyncio.new_event_loop()
    with pytest.raises(TypeError, match="loop_factory has to be callable, got "):
        Syncify("x", loop_factory=loop)
    loop.close()


def test_the_loop_factory_makes_a_loop():
    syncer = Syncify("x", loop_factory=lambda: 3)
    with pytest.raises(TypeError, match="loop_factory of 'x' has to return a new event loop, got 3"):
        syncer.run(fine())


def test_an_error_of_the_loop_factory_reaches_the_caller_and_the_next_call_tries_again():
    makers = [lambda: 1 / 0, asyncio.new_event_loop]
    syncer = Syncify("x", loop_factory=lambda: makers.pop(0)())
    with pytest.raises(ZeroDivisionError):
        syncer(fine)()
    assert syncer(fine)() is None


def test_a_class_is_refused_even_if_making_instances_is_async():
    class Meta(type):
        async def __call__(cls):
            return super().__call__()

    class Made(metaclass=Meta):
        pass

    with pytest.raises(TypeError, match=r"the class .*Made; decorate its async methods"):
        syncify(Made)


def test_a_wrapper_around_an_async_generator_is_named_one():
    async def rows():
        yield 1

    @functools.wraps(rows)
    def wrapper():
        return rows()

    with pytest.raises(TypeError, match="rows, a plain function around an async generator; decorate"):
        syncify(wrapper)
