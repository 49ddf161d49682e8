"""What a decorated coroutine function becomes: callable from plain code, with `.aio` and `.submit` beside it."""

import functools
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from types import MethodType
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, overload

from ._call import Raw
from ._callers import AwaitedCall, BlockingCall, submit
from ._deadlock import check_blocking
from ._loop import BackgroundLoop, running_loop
from ._traceback import shorten
from ._views import async_view, view
from ._wrapper import BoundWrapper, ClassMethodWrapper, Takes, Wrapper, bound_doc

__all__ = ("SyncClassMethod", "SyncFunction", "SyncMethod", "SyncStaticMethod")

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
S = TypeVar("S")
T = TypeVar("T")


class SyncFunction(Wrapper, Generic[P, R]):
    """A decorated function. As an attribute of a class it binds to instances, as functions do."""

    __slots__ = ()

    def __init__(self, background: BackgroundLoop, raw: Raw) -> None:
        super().__init__(background, raw, _make_aio(background, raw))

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the coroutine on the background loop, and wait for it.

        Interrupted by Ctrl-C, or by whatever a signal handler raises, it cancels the coroutine, waits until that has
        cleaned up, and lets the interrupt through. A second interrupt stops waiting.

        Returns:
            What the coroutine returned, the very object; for an async iterator, something to iterate over it with.

        Raises:
            DeadlockError: The call was made on the background loop itself.
            BlockingCallWarning: Another event loop runs in this thread, and the syncer has `blocking="error"`.
            RuntimeError: The interpreter is shutting down, and no other thread of it runs any more.
            BaseException: Whatever the coroutine raised, the very object.
        """
        # Written out where it is called, here and below: this is the one frame of the library in a traceback.
        background = self._syncify_background
        if running_loop() is not None:
            check_blocking(background, self.__qualname__)
        call = BlockingCall(background, self._syncify_raw, args, kwargs)
        call.wait()
        if call.error is not None:
            try:
                raise call.take_error()
            finally:
                call.keep_context()
        value = call.value
        return view(background, value) if hasattr(type(value), "__anext__") else value  # type: ignore[no-any-return]

    @property
    def aio(self) -> Callable[P, Coroutine[Any, Any, R]]:
        """The same for async code: a coroutine function.

        Nothing runs until its coroutine is awaited, which may be on any asyncio loop. It then runs on the background
        loop; awaited there, in the caller's own task and context. Cancelling the task that awaits it cancels the
        coroutine and waits until that has ended; one that swallows the cancellation returns its value. Wrong arguments
        raise when it is awaited.
        """
        return self._syncify_aio

    def submit(self, /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """Start the coroutine on the background loop, and return at once.

        Returns:
            A future. `result(timeout)`, in seconds, limits the wait and not the coroutine. `cancel()` marks the future
            at once, and cancels the coroutine without waiting for its cleanup. On the background loop `result()` and
            `exception()` raise DeadlockError, unless the future is done or a timeout is given.
        """
        return submit(view, self._syncify_background, self._syncify_raw, args, kwargs)

    # The types of `self` are spelled as callables, which is how a type checker can take the first parameter off. To it
    # a decorated method, class method and static method are this one class, so each has its overload.

    @overload
    def __get__(self: Takes[S], instance: None, owner: type[S]) -> "SyncFunction[P, R]": ...
    @overload
    def __get__(self: Callable[Concatenate[S, Q], T], instance: S, owner: Any = None) -> "SyncMethod[Q, T]": ...
    @overload
    def __get__(  # type: ignore[misc]  # mypy does not see that this, too, may be such a function
        self: Callable[Concatenate[type[S], Q], T], instance: Any, owner: type[S]
    ) -> "SyncMethod[Q, T]": ...
    @overload
    def __get__(self, instance: Any, owner: Any = None) -> "SyncFunction[P, R]": ...
    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else SyncMethod(self, instance)

    @property
    def __wrapped__(self) -> Callable[P, Coroutine[Any, Any, R]]:
        return super().__wrapped__


class SyncStaticMethod(SyncFunction[P, R]):
    """A decorated static method, or what else does not bind: a partial, a bound method, a callable object."""

    __slots__ = ()

    def __get__(self, instance: Any, owner: Any = None) -> "SyncStaticMethod[P, R]":  # type: ignore[override]
        return self


class SyncClassMethod(ClassMethodWrapper, Generic[P, R]):
    """A decorated class method, which is callable once it is bound to a class."""

    __slots__ = ()

    def __get__(self, instance: Any, owner: Any = None) -> "SyncMethod[P, R]":
        return super().__get__(instance, owner)  # type: ignore[no-any-return]

    @property
    def __func__(self) -> SyncFunction[..., R]:
        return self._syncify_function  # type: ignore[no-any-return]


class SyncMethod(BoundWrapper, Generic[P, R]):
    """A decorated method, bound to its instance or class."""

    __doc__ = bound_doc
    __slots__ = ()

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        function: Wrapper = self.__func__
        background = function._syncify_background
        if running_loop() is not None:
            check_blocking(background, function.__qualname__)
        call = BlockingCall(background, function._syncify_raw, (self.__self__, *args), kwargs)
        call.wait()
        if call.error is not None:
            try:
                raise call.take_error()
            finally:
                call.keep_context()
        value = call.value
        return view(background, value) if hasattr(type(value), "__anext__") else value  # type: ignore[no-any-return]

    @property
    def aio(self) -> Callable[P, Coroutine[Any, Any, R]]:
        return MethodType(self.__func__._syncify_aio, self.__self__)

    def submit(self, /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        function: Wrapper = self.__func__
        return submit(view, function._syncify_background, function._syncify_raw, (self.__self__, *args), kwargs)

    @property
    def __wrapped__(self) -> Callable[P, Coroutine[Any, Any, R]]:
        return super().__wrapped__


def _make_aio(background: BackgroundLoop, raw: Raw) -> Callable[..., Coroutine[Any, Any, Any]]:
    async def aio(*args: Any, **kwargs: Any) -> Any:
        loop = running_loop()
        if loop is None:
            raise RuntimeError(f"{aio.__qualname__}.aio() was awaited where no asyncio event loop runs")
        if loop is background.loop:
            try:
                return await raw(*args, **kwargs)
            except BaseException as error:
                raise shorten(error)  # noqa: B904 - the same exception
        call = AwaitedCall(loop, background, raw, args, kwargs)
        await call
        if call.error is not None:
            try:
                raise call.take_error()
            finally:
                call.keep_context()
        value = call.value
        return async_view(background, value) if hasattr(type(value), "__anext__") else value

    functools.update_wrapper(aio, raw)
    return aio
