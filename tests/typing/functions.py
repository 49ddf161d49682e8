"""What a type checker makes of decorated functions. Checked, not run: `make types`."""

import asyncio
import contextvars
import functools
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, ParamSpec, TypeVar, assert_type, overload

from syncify import Syncify, syncify

P = ParamSpec("P")
T = TypeVar("T")
U = TypeVar("U")

number, text = int("1"), str(1)  # no literals, whose types some checkers would keep

syncer = Syncify("typed", loop_factory=asyncio.new_event_loop, blocking="allow")


@syncer
async def fetch(key: str, *, limit: int = 3) -> list[str]:
    return [key] * limit


assert_type(fetch("x"), list[str])
assert_type(fetch("x", limit=1), list[str])
assert_type(fetch.submit("x"), Future[list[str]])


async def awaits() -> None:
    assert_type(await fetch.aio("x", limit=1), list[str])
    assert_type(await syncer.run.aio(asyncio.sleep(1, text)), str)
    assert_type(await same.aio(number), int)  # error: pyrefly


# Wrong arguments are errors in all three forms.
fetch(1)  # error
fetch("x", 1)  # error
fetch.submit(limit=1)  # error
print(fetch.no_such)  # error
fetch.aio("x", limit="1")  # error


@syncer
async def same(x: T) -> T:
    return x


# Pyrefly loses the type variables of a function below the decorator; not those of one that is given to it.
assert_type(same(number), int)  # error: pyrefly
assert_type(same(text), str)  # error: pyrefly

assert_type(same.submit(text), Future[str])  # error: pyrefly
assert_type(syncify(same.__wrapped__)(text), str)  # error: pyrefly


@syncer
async def pair(x: T, y: U) -> dict[T, U]:
    return {x: y}


assert_type(pair(number, text), dict[int, str])  # error: pyrefly
assert_type(pair(x=text, y=number), dict[str, int])  # error: pyrefly


# Of overloads, mypy and pyright know the first, ty their union. No class can have what each of them has.
@overload
async def same_kind(x: int) -> int: ...
@overload
async def same_kind(x: str) -> str: ...
async def same_kind(x: int | str) -> int | str:
    return x


assert_type(syncify(same_kind)(number), int)  # error: ty
assert_type(syncify(same_kind)(text), str)  # error: mypy, pyright, ty


def doubled(function: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, Coroutine[Any, Any, list[T]]]:
    """A decorator of async functions, to be below."""

    async def call(*args: P.args, **kwargs: P.kwargs) -> list[T]:
        return [await function(*args, **kwargs)] * 2

    return call


def noted(function: Callable[P, T]) -> Callable[P, T]:
    """A decorator of plain functions, to be above."""
    return function


@noted
@syncify
@doubled
async def stacked(x: int) -> int:
    return x


assert_type(stacked(1), list[int])  # error: ty
stacked("x")  # error

assert_type(syncify(functools.partial(fetch_raw := fetch.aio, "x"))(), list[str])


class Double:
    async def __call__(self, x: int) -> int:
        return 2 * x


assert_type(syncify(Double())(1), int)
assert_type(syncify(Double()).submit(x=1), Future[int])

assert_type(syncify.run(asyncio.sleep(1, text)), str)
assert_type(syncify.run(asyncio.sleep(1, number), context=contextvars.copy_context()), int)
assert_type(syncify.run.submit(asyncio.sleep(1, 1.5)), Future[float])
assert_type(syncify.get_loop(), asyncio.AbstractEventLoop)
assert_type(syncify.name, str)

as_callable: Callable[[str], list[str]] = fetch
as_async: Callable[[str], Coroutine[Any, Any, list[str]]] = fetch.aio


# What is not async is refused.
@syncify  # error
def plain() -> int:
    return 1


syncify(None)  # error
syncify(3)  # error
syncify.run(fetch)  # error
syncify.run(3)  # error
Syncify("x", blocking="never")  # error
Syncify("x", asyncio.new_event_loop)  # error
