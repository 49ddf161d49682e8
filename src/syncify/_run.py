"""`Syncify.run`: any awaitable, from plain code, from async code, or as a future."""

import asyncio
import contextvars
import inspect
from collections.abc import Awaitable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

from ._callers import AwaitedCall, BlockingCall, submit
from ._deadlock import check_blocking
from ._loop import BackgroundLoop, running_loop
from ._traceback import shorten

__all__ = ("Run",)

R = TypeVar("R")


class Run:
    """Run any awaitable on the background loop, wait for it, and return its result or raise its exception.

    `run(...)` blocks; `await run.aio(...)` and `run.submit(...)` do what they do for a decorated function. A coroutine
    starts on the background loop, wherever it was made. A future or task has to belong to that loop.

    Args:
        awaitable: A coroutine, a future, or any other object with `__await__`.
        context: The `contextvars.Context` to run it in, as for `asyncio.Runner.run`: what the awaitable sets is found
            there afterwards. Nobody else may have entered it meanwhile. A copy of the caller's context by default.

    Returns:
        What the awaitable returned, the very object.

    Raises:
        TypeError: The argument is not awaitable, an async function that has not been called for example.
        DeadlockError: The call was made on the background loop itself, where it would wait for itself.
        RuntimeError: The given context has been entered elsewhere.
        BaseException: Whatever the awaitable raised, the very object.

    Interrupted (by Ctrl-C, or a signal handler that raises) it cancels the awaitable, waits until that has cleaned up,
    and lets the interrupt through. Cancelling `run.aio` does the same to a task.

    ```python
    >>> import asyncio
    >>> from syncify import syncify
    >>> syncify.run(asyncio.sleep(0.01, "done"))
    'done'

    ```
    """

    __slots__ = ("_background",)

    def __init__(self, background: BackgroundLoop) -> None:
        self._background = background

    def __call__(self, awaitable: Awaitable[R], *, context: contextvars.Context | None = None) -> R:
        _check(awaitable)
        background = self._background
        try:
            if running_loop() is not None:
                check_blocking(background, "run")
            background.get_loop()
        except BaseException:
            _close(awaitable)
            raise
        call = BlockingCall(background, _start, (awaitable, context), {}, context)
        call.wait()
        if call.error is not None:
            raise call.take_error()
        value: R = call.value
        return value

    async def aio(self, awaitable: Awaitable[R], *, context: contextvars.Context | None = None) -> R:
        """Run any awaitable on the background loop, and return its result or raise its exception."""
        _check(awaitable)
        loop = asyncio.get_running_loop()
        if loop is self._background.loop and context is None:
            try:
                return await awaitable
            except BaseException as error:
                raise shorten(error)
        # With a context of its own it needs a task of its own, also on the background loop.
        call = AwaitedCall(loop, self._background, _start, (awaitable, context), {}, context)
        await call
        if call.error is not None:
            raise call.take_error()
        value: R = call.value
        return value

    def submit(self, awaitable: Awaitable[R], *, context: contextvars.Context | None = None) -> Future[R]:
        """Run any awaitable on the background loop, and return a future at once."""
        _check(awaitable)
        try:
            self._background.get_loop()
        except BaseException:
            _close(awaitable)
            raise
        return submit(self._background, _start, (awaitable, context), {}, context)

    def __repr__(self) -> str:
        return f"<run of Syncify {self._background.name!r}>"


def _check(awaitable: object) -> None:
    if not inspect.isawaitable(awaitable):
        hint = "; call it: run(f(...))" if inspect.iscoroutinefunction(awaitable) else ""
        raise TypeError(f"run() takes an awaitable, got {awaitable!r}{hint}")


def _start(awaitable: Awaitable[R], context: contextvars.Context | None) -> Coroutine[Any, Any, R]:
    """Return the coroutine for the task. Runs on the background loop."""
    if context is not None:
        try:
            # Where somebody has entered it, the task's first step would fail in a place that nobody looks at.
            context.run(_nothing)
        except RuntimeError:
            _close(awaitable)
            raise
    return awaitable if asyncio.iscoroutine(awaitable) else _await(awaitable)


_start.__qualname__ = "run"  # the name of its tasks


async def _await(awaitable: Awaitable[R]) -> R:
    return await awaitable


def _close(awaitable: object) -> None:
    """Spare the coroutine that is not going to run the warning that nobody has awaited it."""
    if inspect.iscoroutine(awaitable):
        awaitable.close()


def _nothing() -> None:
    pass
