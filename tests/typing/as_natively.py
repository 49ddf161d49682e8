"""Bound methods that are decorated, overrides, protocols, and what takes callables. Checked, not run: `make types`."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator
from concurrent.futures import Executor, Future
from contextlib import asynccontextmanager
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, assert_type

from syncify import syncify

P = ParamSpec("P")
S = TypeVar("S")
T = TypeVar("T")


class Animal: ...


class Dog(Animal): ...


# What is bound is decorated.


class Native:
    async def get(self, x: int) -> str:
        return str(x)

    async def rows(self, x: int) -> AsyncIterator[int]:
        yield x

    @classmethod
    async def make(cls, x: int) -> str:
        return str(x)

    def plain(self, x: int) -> str:
        return str(x)


native = Native()
get, rows, make = syncify(native.get), syncify(native.rows), syncify(Native.make)
assert_type(get(1), str)
assert_type(get.submit(1), Future[str])
assert_type(rows(1), Generator[int, None, None])
assert_type(make(1), str)
get("x")  # error
rows("x")  # error
make("x")  # error
syncify(native.plain)  # error
syncify([].append)  # error
syncify("".join)  # error


# Overrides may do what those of plain methods may. Pyright compares the types of the two `self`, too.


class Base:
    @syncify
    async def narrow(self) -> Animal:
        return Dog()

    @syncify
    async def wide(self, x: Dog) -> None: ...

    @syncify
    async def more(self, key: str) -> bytes:
        return key.encode()

    @syncify
    async def rows(self) -> AsyncIterator[Animal]:
        yield Dog()

    @syncify
    @asynccontextmanager
    async def opened(self) -> AsyncGenerator[Animal, None]:
        yield Dog()


class Derived(Base):
    @syncify
    async def narrow(self) -> Dog:  # error: pyright
        return Dog()

    @syncify
    async def wide(self, x: Animal) -> None: ...  # error: pyright, pyrefly

    @syncify
    async def more(self, key: str, times: int = 1) -> bytes:  # error: pyright, pyrefly
        return key.encode() * times

    @syncify
    async def rows(self) -> AsyncIterator[Dog]:  # error: pyright
        yield Dog()

    @syncify
    @asynccontextmanager
    async def opened(self) -> AsyncGenerator[Dog, None]:  # error: pyright
        yield Dog()


class Wrong(Base):
    @syncify
    async def more(self, key: int) -> bytes:  # error
        return bytes(key)


# Protocols of plain code. Pyright does not bind for them.


class HasMore(Protocol):
    def more(self, key: str) -> bytes: ...


def takes_more(has: HasMore) -> None: ...


takes_more(Base())  # error: pyright


# What takes callables. Ty does not find out what these return, and pyrefly does not bind where the first is a variable.


def call(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    return function(*args, **kwargs)


def bind(function: Callable[Concatenate[S, P], T]) -> Callable[Concatenate[S, P], T]:
    return function


async def of_async_code(executor: Executor) -> None:
    assert_type(await asyncio.to_thread(get, 1), str)  # error: ty
    assert_type(executor.submit(get, 1), Future[str])  # error: ty
    await asyncio.to_thread(get, "x")  # error


assert_type(call(get, 1), str)  # error: ty
assert_type(list(map(get, [1, 2])), list[str])
call(get, "x")  # error
as_callable: Callable[[int], str] = get
as_wrong: Callable[[str], str] = get  # error
syncify(get)  # error: mypy, pyright, pyrefly


class Bound:
    @bind  # error: pyrefly
    @syncify
    async def get(self, x: int) -> str:
        return str(x)


assert_type(Bound().get(1), str)  # error: pyrefly, ty
Bound().get("x")  # error: mypy, pyright, ty


class AnyArguments:
    @syncify
    async def take(*args: Any) -> int:
        return len(args)


assert_type(AnyArguments().take(1, 2), int)  # error: mypy, pyrefly, ty
assert_type(get.__name__, str)
assert_type(Base().more.__name__, str)
