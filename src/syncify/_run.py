"""`Syncify.run`: any awaitable, from plain code, from async code, or as a future."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
from collections.abc import Awaitable, Coroutine, Generator
from concurrent.futures import Future
from sys import modules
from typing import Any, TypeVar

from ._callers import BlockingCall, awaited, find_loop, submit
from ._deadlock import check_blocking
from ._loop import BackgroundLoop
from ._running import running_loop
from ._traceback import shorten
from ._views import async_view, view

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
        RuntimeError: The given context has been entered elsewhere, or the interpreter is shutting down, and no other
            thread of it runs any more.
        BlockingCallWarning: Another event loop runs in this thread, and the syncer has `blocking="error"`.
        BaseException: Whatever the awaitable raised, the very object.

    Interrupted by Ctrl-C, or by whatever a signal handler raises, it cancels the awaitable, waits until that has
    cleaned up, and lets the interrupt through. Cancelling the task that awaits `run.aio` does the same.

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
        background = self._background
        with _closed_if_refused(awaitable):
            _check(awaitable, context)
            if running_loop() is not None or "trio" in modules:
                check_blocking(background, "run")
            background.start_for_blocking_call()
        call = BlockingCall(background, _start, (awaitable,), {}, context)
        try:
            call.wait()
        except BaseException:
            if not call.started and inspect.iscoroutine(awaitable):
                awaitable.close()  # it never will be
            raise
        if call.error is not None:
            try:
                raise call.take_error()
            finally:
                call.keep_context()
        return view(background, call.value)  # type: ignore[no-any-return]

    async def aio(self, awaitable: Awaitable[R], *, context: contextvars.Context | None = None) -> R:
        """Take, return and raise what `run` does, for async code.

        Cancelling the task that awaits it cancels the awaitable, and waits until that has ended. On the background
        loop, and without a context, it runs in the caller's own task.
        """
        background = self._background
        with _closed_if_refused(awaitable):
            _check(awaitable, context)
            background.get_loop()
            loop = find_loop("run.aio()")
        if loop is background.loop and context is None:
            try:
                return await awaitable
            except BaseException as error:
                raise shorten(error)  # noqa: B904 - the same exception
        # With a context of its own it needs a task of its own, also on the background loop.
        call = awaited(loop, background, _start, (awaitable,), {}, context)
        try:
            await call
        except BaseException:
            if not call.started and inspect.iscoroutine(awaitable):
                awaitable.close()  # it never will be
            raise
        if call.error is not None:
            try:
                raise call.take_error()
            finally:
                call.keep_context()
        return async_view(background, call.value)  # type: ignore[no-any-return]

    def submit(self, awaitable: Awaitable[R], *, context: contextvars.Context | None = None) -> Future[R]:
        """Take what `run` does, and return a future at once, as `submit` of a decorated function does."""
        with _closed_if_refused(awaitable):
            _check(awaitable, context)
            self._background.get_loop()
        return submit(view, self._background, _start, (awaitable,), {}, context)

    def __repr__(self) -> str:
        return f"<run of {self._background.name!r}>"


def _check(awaitable: object, context: contextvars.Context | None) -> None:
    if not inspect.isawaitable(awaitable):
        hint = "; call it first: run(f(...))" if inspect.iscoroutinefunction(awaitable) else ""
        raise TypeError(f"run() takes an awaitable, got {awaitable!r}{hint}")
    if context is not None:
        if not isinstance(context, contextvars.Context):
            raise TypeError(f"run() takes a contextvars.Context, got {context!r}; write contextvars.copy_context()")
        context.run(lambda: None)  # raises if somebody has entered it, the caller above all


@contextlib.contextmanager
def _closed_if_refused(awaitable: object) -> Generator[None]:
    """Spare a coroutine that is not going to run the warning that nobody has awaited it."""
    try:
        yield
    except BaseException:
        if inspect.iscoroutine(awaitable):
            awaitable.close()
        raise


def _start(awaitable: Awaitable[R]) -> Coroutine[Any, Any, R]:
    """Return the coroutine for the task. Runs on the background loop."""
    return awaitable if asyncio.iscoroutine(awaitable) else _await(awaitable)


_start.__qualname__ = "run"  # the name of its tasks


async def _await(awaitable: Awaitable[R]) -> R:
    return await awaitable
