"""What a type checker makes of decorated functions. Checked, not run: `make types`."""

# pyright: reportUnnecessaryTypeIgnoreComment=true

import asyncio
import contextvars
import functools
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar, assert_type

from syncify import Syncify, syncify

T = TypeVar("T")

syncer = Syncify("typed", loop_factory=asyncio.new_event_loop, blocking="allow")


@syncer
async def fetch(key: str, *, limit: int = 3) -> list[str]:
    return [key] * limit


assert_type(fetch("x"), list[str])
assert_type(fetch("x", limit=1), list[str])
assert_type(fetch.submit("x"), Future[list[str]])


async def awaits() -> None:
    assert_type(await fetch.aio("x", limit=1), list[str])
    assert_type(await syncer.run.aio(asyncio.sleep(1, "x")), str)


# Wrong arguments are errors in all three forms.
fetch(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
fetch("x", 1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
fetch.submit(limit=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
print(fetch.no_such)  # type: ignore[attr-defined]  # pyright: ignore
fetch.aio("x", limit="1")  # type: ignore[arg-type, unused-coroutine]  # pyright: ignore


@syncer
async def same(x: T) -> T:
    return x


assert_type(same(1), int)
assert_type(same("x"), str)

assert_type(syncify(functools.partial(fetch_raw := fetch.aio, "x"))(), list[str])


class Double:
    async def __call__(self, x: int) -> int:
        return 2 * x


assert_type(syncify(Double())(1), int)
assert_type(syncify(Double()).submit(x=1), Future[int])

assert_type(syncify.run(asyncio.sleep(1, "x")), str)
assert_type(syncify.run(asyncio.sleep(1, 1), context=contextvars.copy_context()), int)
assert_type(syncify.run.submit(asyncio.sleep(1, 1.5)), Future[float])
assert_type(syncify.get_loop(), asyncio.AbstractEventLoop)
assert_type(syncify.name, str)

as_callable: Callable[[str], list[str]] = fetch
as_async: Callable[[str], Coroutine[Any, Any, list[str]]] = fetch.aio


# What is not async is refused.
@syncify  # type: ignore[arg-type]  # pyright: ignore
def plain() -> int:
    return 1


syncify(None)  # type: ignore[call-overload]  # pyright: ignore
syncify(3)  # type: ignore[call-overload]  # pyright: ignore
syncify.run(fetch)  # type: ignore[arg-type]  # pyright: ignore
syncify.run(3)  # type: ignore[arg-type]  # pyright: ignore
Syncify("x", blocking="never")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
Syncify("x", asyncio.new_event_loop)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
