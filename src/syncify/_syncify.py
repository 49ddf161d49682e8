"""`Syncify`: the decorator, and what its users ask of one syncer."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, get_args, overload

from ._decorate import decorate
from ._functions import SyncClassMethod, SyncFunction, SyncStaticMethod
from ._loop import BackgroundLoop, BlockingPolicy, LoopFactory
from ._run import Run

__all__ = ("Syncify",)

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S")
R_co = TypeVar("R_co", covariant=True)
S_contra = TypeVar("S_contra", contravariant=True)


class _ClassMethod(Protocol[S_contra, P, R_co]):
    """What a type checker needs to see of a classmethod."""

    @property
    def __func__(self) -> Callable[Concatenate[type[S_contra], P], Coroutine[Any, Any, R_co]]: ...


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

    Raises:
        TypeError: The name is not a string, or the loop factory not callable.
        ValueError: The name is empty, or `blocking` is none of the three.

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
        self._background = BackgroundLoop(name, loop_factory, blocking)
        self.run = Run(self._background)

    # Static methods come first, since to a type checker they are callable, and have a `__func__`, too.

    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, function: "staticmethod[P, Coroutine[Any, Any, R]]", /
    ) -> SyncStaticMethod[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> SyncFunction[P, R]: ...
    @overload
    def __call__(self, function: _ClassMethod[S, P, R], /) -> SyncClassMethod[P, R]: ...
    def __call__(self, function: Any, /) -> Any:
        """Decorate an async function, so that a call of it blocks until its result is there.

        Args:
            function: A coroutine function or method, a classmethod, staticmethod, bound method or `functools.partial`
                of one, or an object whose `__call__` is one.

        Returns:
            A function with the same name, signature and result, and beside it
            `.aio`, the coroutine function for async code, and
            `.submit`, which returns a `concurrent.futures.Future` at once.

        Raises:
            TypeError: What was decorated is not async. The message says what would do.

        ```python
        >>> from syncify import syncify
        >>> class Account:
        ...     @syncify
        ...     async def balance(self):
        ...         return 100
        >>> Account().balance()
        100

        ```
        """
        return decorate(self._background, function)

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """Return the background loop, and start it if no call has done so yet. Any thread may ask.

        Returns:
            The running loop. Other threads may schedule on it with `call_soon_threadsafe`, and nothing else.

        Raises:
            TypeError: The loop factory did not return a new event loop.
            RuntimeError: No thread can be started, since the interpreter is shutting down.
            BaseException: Whatever the loop factory raised. The next call tries again.

        ```python
        >>> from syncify import syncify
        >>> syncify.get_loop().is_running()
        True

        ```
        """
        return self._background.get_loop()

    @property
    def name(self) -> str:
        """The name of this syncer and of its thread."""
        return self._background.name

    def __repr__(self) -> str:
        background = self._background
        state = "not started" if background.loop is None else f"{len(background.calls)} calls in flight"
        return f"<Syncify {self.name!r}, {state}>"
