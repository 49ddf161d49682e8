"""`Syncify`: the decorator, and what its users ask of one syncer."""

from __future__ import annotations

import asyncio
import threading
import warnings
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Generator
from contextlib import AbstractAsyncContextManager
from functools import partial
from sys import modules
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, Self, TypeVar, get_args, overload

from ._deadlock import check_blocking
from ._decorate import decorate
from ._factories import ClassMethodFactory, Factory, StaticMethodFactory
from ._functions import SyncClassMethod, SyncFunction, SyncStaticMethod
from ._loop import BackgroundLoop, BlockingPolicy, LoopFactory, find_syncer
from ._run import Run
from ._running import running_loop

if TYPE_CHECKING:
    from ._protocols import (
        AsyncContextManager,
        ClassMethod,
        ContextManager,
        DecoratorOfContextManagers,
        DecoratorOfGenerators,
        StaticMethod,
    )

__all__ = ("Syncify",)

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S")
Y = TypeVar("Y")
Z = TypeVar("Z")
C = TypeVar("C", bound=Coroutine[Any, Any, Any])
E = TypeVar("E", bound=bool | None)


CLOSE_TIMEOUT = 5.0  # seconds
CLOSE = "await asyncio.to_thread(syncer.close)"  # what async code is to write, but not on the own loop


class _Missing:
    pass


_MISSING = _Missing()


class Syncify:
    """A decorator that makes async functions callable from plain code, and the background loop that they run on.

    The loop and its thread start with the first call, not before. Two syncers have two loops, also if they have one
    name. One syncer for a whole package is the usual thing: `from syncify import syncify` is such a syncer.

    Args:
        name: The name of the thread, also found in errors and in `repr`.
        loop_factory: Makes the event loop, a new one, without arguments. `asyncio.new_event_loop` by default;
            `uvloop.new_event_loop` makes a faster one.
        blocking: What a blocking call does in a thread that runs another event loop, which it stalls: `"warn"` with
            a `BlockingCallWarning` at the caller's line (not in IPython, where a loop always runs), `"allow"` it
            silently, or raise that warning as an `"error"`.
        stuck_after: After how many seconds a blocking caller whose call has not begun, since something keeps the loop,
            logs a warning with the stack of the loop's thread, to the logger `syncify`; again after twice that time,
            and so on. None for never.
        exit_timeout: How many seconds the end of the program may take this syncer. What is in flight is cancelled then,
            and cleans up; what has not ended in time is abandoned, and named in one line that is logged. A thread that
            Python waits for, since it is no daemon, may go on with its calls for half of that time after the main
            thread has ended. None for no limit.

    Used as a context manager, it is closed at the end of the block.

    Raises:
        TypeError: The name is not a string, the loop factory not callable, or a time no number.
        ValueError: The name is empty, `blocking` is none of the three, or a time is negative or NaN.

    ```python
    >>> import asyncio
    >>> from syncify import Syncify
    >>> syncer = Syncify("weather")
    >>> @syncer
    ... async def temperature(city: str) -> float:
    ...     await asyncio.sleep(0.01)
    ...     return 21.5
    >>> temperature("Oslo")  # blocks
    21.5
    >>> async def main():
    ...     return await temperature.aio("Oslo")
    >>> asyncio.run(main())
    21.5
    >>> temperature.submit("Oslo").result(timeout=5)
    21.5

    ```
    """

    run: Run

    def __init__(
        self,
        name: str = "syncify",
        *,
        loop_factory: LoopFactory | None = None,
        blocking: BlockingPolicy = "warn",
        stuck_after: float | None = 5.0,
        exit_timeout: float | None = 5.0,
    ) -> None:
        if not isinstance(name, str):
            raise TypeError(
                f"Syncify takes the name of the syncer, a str, got {name!r}. To decorate, write @syncify, lower case"
            )
        if not name:
            raise ValueError("Syncify takes the name of the syncer, which cannot be empty")
        if loop_factory is not None and not callable(loop_factory):
            raise TypeError(
                f"loop_factory has to be callable, got {loop_factory!r}; write asyncio.new_event_loop, for example"
            )
        if blocking not in get_args(BlockingPolicy):
            raise ValueError(f"blocking has to be 'allow', 'warn' or 'error', got {blocking!r}")
        self._show(
            BackgroundLoop(
                name,
                loop_factory,
                blocking,
                _seconds("stuck_after", stuck_after),
                _seconds("exit_timeout", exit_timeout),
            )
        )

    def _show(self, background: BackgroundLoop) -> Self:
        """Be what users see of it."""
        self._background = background
        self.run = Run(background)
        background.syncer = weakref.ref(self)
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickle, (type(self), self._background)  # which is pickled by its name

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    # Class methods and static methods come first, since some type checkers take them for callables, too.

    @overload
    def __call__(self, function: ClassMethod[S, P, C], /) -> SyncClassMethod[P, C]: ...
    @overload
    def __call__(
        self, function: ClassMethod[S, P, AsyncGenerator[Y, Z]], /
    ) -> ClassMethodFactory[P, Generator[Y, Z, None], AsyncGenerator[Y, Z]]: ...
    @overload
    def __call__(
        self, function: ClassMethod[S, P, AsyncIterator[Y]], /
    ) -> ClassMethodFactory[P, Generator[Y, None, None], AsyncGenerator[Y, None]]: ...
    @overload
    def __call__(
        self, function: ClassMethod[S, P, AbstractAsyncContextManager[R, E]], /
    ) -> ClassMethodFactory[P, ContextManager[R, E], AsyncContextManager[R, E]]: ...
    @overload
    def __call__(self, function: StaticMethod[P, C], /) -> SyncStaticMethod[P, C]: ...
    @overload
    def __call__(
        self, function: StaticMethod[P, AsyncGenerator[Y, Z]], /
    ) -> StaticMethodFactory[P, Generator[Y, Z, None], AsyncGenerator[Y, Z]]: ...
    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, function: StaticMethod[P, AsyncIterator[Y]], /
    ) -> StaticMethodFactory[P, Generator[Y, None, None], AsyncGenerator[Y, None]]: ...
    @overload
    def __call__(
        self, function: StaticMethod[P, AbstractAsyncContextManager[R, E]], /
    ) -> StaticMethodFactory[P, ContextManager[R, E], AsyncContextManager[R, E]]: ...
    @overload
    def __call__(self, function: Callable[P, C], /) -> SyncFunction[P, C]: ...
    @overload
    def __call__(
        self, function: Callable[P, AsyncGenerator[Y, Z]], /
    ) -> Factory[P, Generator[Y, Z, None], AsyncGenerator[Y, Z]]: ...
    @overload
    def __call__(
        self, function: Callable[P, AsyncIterator[Y]], /
    ) -> Factory[P, Generator[Y, None, None], AsyncGenerator[Y, None]]: ...
    @overload
    def __call__(
        self, function: Callable[P, AbstractAsyncContextManager[R, E]], /
    ) -> Factory[P, ContextManager[R, E], AsyncContextManager[R, E]]: ...
    @overload
    def __call__(self, /, *, prefetch: int) -> DecoratorOfGenerators: ...
    @overload
    def __call__(self, /, *, context_manager: Literal[True]) -> DecoratorOfContextManagers: ...
    def __call__(
        self, function: Any = _MISSING, /, *, prefetch: int | None = None, context_manager: bool = False
    ) -> Any:
        """Decorate an async function, so that a call of it blocks until its result is there.

        Args:
            function: A coroutine function, an async generator function, or what `contextlib.asynccontextmanager` has
                made; such a method, a classmethod, staticmethod, bound method or `functools.partial` of one, or an
                object whose `__call__` is one.
            prefetch: For async generators: how many items, 1 or more, the loop may run ahead of plain code that
                iterates. That code then gets its items in batches, at a fraction of the cost; it cannot `send` or
                `throw`. Closed early, the generator gets a CancelledError where it awaits, or GeneratorExit at a yield.
                Written as `@syncify(prefetch=64)`.
            context_manager: Declares that the function, or class, returns an async context manager, of whatever class.
                It is called on the background loop, when its result is entered. Written as
                `@syncify(context_manager=True)`.

        Returns:
            A function with the same name and signature.

            For a coroutine function, it returns the same result; beside it are `.aio`, the coroutine function for async
            code, and `.submit`, which returns a `concurrent.futures.Future` at once.

            For an async generator function, it returns a generator, and `.aio` an async generator.

            For a context manager function, it returns a context manager, and `.aio` an async context manager.

        Raises:
            TypeError: What was decorated is not async, or `prefetch` was given for anything but an async generator. The
                message says what would do.
            ValueError: `prefetch` is less than 1.

        ```python
        >>> from syncify import syncify
        >>> class Account:
        ...     @syncify
        ...     async def balance(self):
        ...         return 100
        ...     @syncify
        ...     async def transfers(self):
        ...         yield 60
        ...         yield 40
        >>> Account().balance()
        100
        >>> list(Account().transfers())
        [60, 40]

        ```
        """
        if prefetch is not None:
            if not isinstance(prefetch, int) or isinstance(prefetch, bool):
                raise TypeError(f"prefetch is a number of items, an int, got {prefetch!r}")
            if prefetch < 1:
                raise ValueError(f"prefetch has to be 1 item or more, got {prefetch}; leave it out for none")
        if not isinstance(function, _Missing):
            return decorate(self._background, function, prefetch=prefetch, context_manager=context_manager)
        if prefetch is None and not context_manager:
            raise TypeError("to decorate, write @syncify without parentheses, or with prefetch= or context_manager=")
        return partial(decorate, self._background, prefetch=prefetch, context_manager=context_manager)

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """Return the background loop, and start it if no call has done so yet. Any thread may ask.

        Returns:
            The running loop. Other threads may schedule on it with `call_soon_threadsafe`, and nothing else.

        Raises:
            TypeError: The loop factory did not return a new event loop.
            ClosedError: This syncer is closed. Or no thread can be started, since the interpreter is shutting down.
            BaseException: Whatever the loop factory raised. The next call tries again.

        ```python
        >>> from syncify import syncify
        >>> syncify.get_loop().is_running()
        True

        ```
        """
        background = self._background
        if background.closing is not None and running_loop() is not background.loop:
            raise background.refusal()
        return background.get_loop()

    def close(self, timeout: float | None = CLOSE_TIMEOUT) -> None:
        """End the background loop and its thread, for good. Any thread may ask, also when it is closed already.

        All that is in flight is cancelled, and its callers get ClosedError when it has cleaned up: calls, generators
        and context managers that are not at their end, and whatever tasks are left on the loop. Async generators are
        closed, and functions that run in `asyncio.to_thread` are waited for. Then the loop is closed. Who calls later
        gets ClosedError at once. Nothing happens if there was no call yet, but that there will be none.

        Interrupted, by Ctrl-C for example, this stops waiting; the end goes on without it.

        Args:
            timeout: How many seconds to wait. What has not ended by then is abandoned, and named in a RuntimeWarning:
                a coroutine that ignores its cancellation, or something that keeps the loop. Who waits for it gets
                ClosedError now. None waits without a limit.

        Raises:
            DeadlockError: This was called on the background loop itself, which cannot wait for its own end.
            BlockingCallWarning: Another event loop runs in this thread, and the syncer has `blocking="error"`.
            TypeError: The timeout is no number.
            ValueError: The timeout is negative, or NaN.

        ```python
        >>> from syncify import Syncify
        >>> syncer = Syncify("temporary")
        >>> syncer.get_loop().is_running()
        True
        >>> syncer.close()
        >>> syncer
        <Syncify 'temporary', closed>

        ```
        """
        timeout = _seconds("timeout", timeout)
        if running_loop() is not None or "trio" in modules:
            check_blocking(self._background, "close", CLOSE)
        self._close(timeout)

    def _close(self, timeout: float | None) -> None:
        background = self._background
        life = background.life
        if life is not None:
            life.executor.excuse()
        background.close(timeout)
        rest = background.wait_for_end(timeout)
        if rest:
            message = f"close() of the syncer {self.name!r} has abandoned {', '.join(rest)}: not ended in {timeout} s"
            warnings.warn(message, RuntimeWarning, stacklevel=3)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None, /
    ) -> None:
        if running_loop() is not None or "trio" in modules:
            check_blocking(self._background, "close", CLOSE)
        self._close(CLOSE_TIMEOUT)

    @property
    def name(self) -> str:
        """The name of this syncer and of its thread."""
        return self._background.name

    def __repr__(self) -> str:
        background = self._background
        if background.closing is not None:
            state = "closed"
        elif background.loop is None:
            state = "not started"
        else:
            state = f"{len(background.calls)} calls in flight"
        return f"<Syncify {self.name!r}, {state}>"


def _unpickle(cls: type[Syncify], background: BackgroundLoop) -> Syncify:
    return find_syncer(background, lambda: cls.__new__(cls)._show(background))  # type: ignore[no-any-return]


def _seconds(name: str, seconds: Any) -> float | None:
    """Check a time, of which None and what no clock can measure mean no limit."""
    if seconds is None:
        return None
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise TypeError(f"{name} takes a number of seconds, or None for no limit, got {seconds!r}")
    if not seconds >= 0:
        raise ValueError(f"{name} takes a number of seconds, 0 or more, got {seconds!r}")
    return seconds if seconds < threading.TIMEOUT_MAX else None
