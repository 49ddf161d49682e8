"""What a decorated coroutine function becomes: callable from plain code, with `.aio` and `.submit` beside it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from sys import modules
from types import MethodType
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, Protocol, TypeVar, overload

from ._call import Raw
from ._callers import BlockingCall, awaited, find_loop, submit
from ._deadlock import check_blocking
from ._loop import BackgroundLoop
from ._running import running_loop
from ._traceback import shorten
from ._views import async_view, view
from ._wrapper import BoundWrapper, ClassMethodWrapper, Takes, Wrapper, bound_doc

__all__ = ("SyncClassMethod", "SyncFunction", "SyncMethod", "SyncStaticMethod")

P = ParamSpec("P", contravariant=True)  # type: ignore[misc]  # pyright: ignore[reportGeneralTypeIssues]
Q = ParamSpec("Q")
C = TypeVar("C", bound=Coroutine[Any, Any, Any])
C_co = TypeVar("C_co", bound=Coroutine[Any, Any, Any], covariant=True)
R = TypeVar("R")
S = TypeVar("S")
S_contra = TypeVar("S_contra", contravariant=True)

_new = object.__new__


if TYPE_CHECKING:  # what they need to see

    class _Forms(Generic[P, C_co]):
        """The parameters and the coroutine of a function."""

    class _Method(Protocol[S_contra, Q, C_co]):
        """A method of S, and its parameters once it has been bound."""

        def _syncify_raw(self, first: S_contra, /, *args: Any, **kwargs: Any) -> Any: ...

        def _syncify_forms(self) -> _Forms[Concatenate[Any, Q], C_co]: ...

    class _SameMethod(Protocol[S_contra, Q, C_co]):
        """The same, for those who cannot tell by the above."""

        def _syncify_raw(self, first: S_contra, /, *args: Q.args, **kwargs: Q.kwargs) -> C_co: ...


class SyncFunction(Wrapper, Generic[P, C_co]):
    """A decorated function: called, it runs its coroutine on the background loop, and waits for it.

    Interrupted by Ctrl-C, or by whatever a signal handler raises, the call cancels the coroutine, waits until that has
    cleaned up, and lets the interrupt through. A second interrupt stops waiting.

    As an attribute of a class it binds to instances, as functions do.

    Returns:
        What the coroutine returned, the very object; for an async iterator, something to iterate over it with.

    Raises:
        DeadlockError: The call was made on the background loop itself.
        BlockingCallWarning: Another event loop runs in this thread, and the syncer has `blocking="error"`.
        RuntimeError: The interpreter is shutting down, and no other thread of it runs any more.
        BaseException: Whatever the coroutine raised, the very object.
    """

    __slots__ = ()

    def __init__(self, background: BackgroundLoop, raw: Raw) -> None:
        super().__init__(background, raw, _make_call(background, raw), _make_aio(background, raw))

    if TYPE_CHECKING:

        def _syncify_raw(self, /, *args: P.args, **kwargs: P.kwargs) -> C_co: ...

        def _syncify_forms(self) -> _Forms[P, C_co]: ...

        def __call__(self: SyncFunction[P, Coroutine[Any, Any, R]], /, *args: P.args, **kwargs: P.kwargs) -> R: ...

    @property
    def aio(self) -> Callable[P, C_co]:
        """The same for async code: a coroutine function.

        Nothing runs until its coroutine is awaited, which may be on any asyncio loop. It then runs on the background
        loop; awaited there, in the caller's own task and context. Cancelling the task that awaits it cancels the
        coroutine and waits until that has ended; one that swallows the cancellation returns its value. Wrong arguments
        raise when it is awaited.
        """
        return self._syncify_aio

    def submit(self: SyncFunction[P, Coroutine[Any, Any, R]], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """Start the coroutine on the background loop, and return at once.

        Returns:
            A future. `result(timeout)`, in seconds, limits the wait and not the coroutine. `cancel()` marks the future
            at once, and cancels the coroutine without waiting for its cleanup. On the background loop `result()` and
            `exception()` raise DeadlockError, unless the future is done or a timeout is given.
        """
        return submit(view, self._syncify_background, self._syncify_raw, args, kwargs)

    # To a type checker a decorated method, class method and static method are this one class, so each has its overload;
    # those that bind have two, of which most checkers take the first, and pyrefly the second.

    @overload
    def __get__(self: Takes[S], instance: None, owner: type[S]) -> SyncFunction[P, C_co]: ...
    @overload
    def __get__(self: _Method[S, Q, C], instance: S, owner: Any = None) -> SyncMethod[Q, C]: ...
    @overload
    def __get__(self: _SameMethod[S, Q, C], instance: S, owner: Any = None) -> SyncMethod[Q, C]: ...
    @overload
    def __get__(self: _Method[type[S], Q, C], instance: Any, owner: type[S]) -> SyncMethod[Q, C]: ...
    @overload
    def __get__(self: _SameMethod[type[S], Q, C], instance: Any, owner: type[S]) -> SyncMethod[Q, C]: ...
    @overload
    def __get__(self, instance: Any, owner: Any = None) -> SyncFunction[P, C_co]: ...
    def __get__(self, instance: Any, owner: Any = None) -> Any:
        if instance is None:
            return self
        method: Any = _new(SyncMethod)  # without its `__init__`, which would take as long as all the rest
        method.__func__ = self
        method.__call__ = MethodType(self.__call__, instance)
        return method

    if TYPE_CHECKING:

        @property
        def __wrapped__(self) -> Callable[P, C_co]: ...


class SyncStaticMethod(SyncFunction[P, C_co]):
    """A decorated static method, or what else does not bind: a partial, a bound method, a callable object."""

    __slots__ = ()
    _syncify_binds = False

    def __get__(self, instance: Any, owner: Any = None) -> SyncStaticMethod[P, C_co]:  # type: ignore[override]
        return self


class SyncClassMethod(ClassMethodWrapper, Generic[P, C_co]):
    """A decorated class method, which is callable once it is bound to a class."""

    __slots__ = ()

    def __get__(self, instance: Any, owner: Any = None) -> SyncMethod[P, C_co]:
        return super().__get__(instance, owner)  # type: ignore[no-any-return]

    if TYPE_CHECKING:

        @property
        def __func__(self) -> SyncFunction[..., C_co]: ...


class SyncMethod(BoundWrapper, Generic[P, C_co]):
    """A decorated method, bound to its instance or class."""

    __doc__ = bound_doc
    __slots__ = ()

    if TYPE_CHECKING:

        def __call__(self: SyncMethod[P, Coroutine[Any, Any, R]], /, *args: P.args, **kwargs: P.kwargs) -> R: ...

    @property
    def aio(self) -> Callable[P, C_co]:
        return MethodType(self.__func__._syncify_aio_to_bind, self.__self__)

    def submit(self: SyncMethod[P, Coroutine[Any, Any, R]], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        function: Wrapper = self.__func__
        return submit(view, function._syncify_background, function._syncify_raw, (self.__self__, *args), kwargs)

    if TYPE_CHECKING:

        @property
        def __wrapped__(self) -> Callable[P, C_co]: ...


def _make_call(background: BackgroundLoop, raw: Raw) -> Callable[..., Any]:
    qualname = raw.__qualname__

    def __call__(*args: Any, **kwargs: Any) -> Any:  # noqa: N807 - what it is to its callers
        # Written out where it is called: this is the one frame of the library in a traceback.
        if running_loop() is not None or "trio" in modules:
            check_blocking(background, qualname)
        call = BlockingCall(background, raw, args, kwargs)
        call.wait()
        if call.error is not None:
            try:
                raise call.take_error()
            finally:
                call.keep_context()
        value = call.value
        return view(background, value) if hasattr(type(value), "__anext__") else value

    return __call__


def _make_aio(background: BackgroundLoop, raw: Raw) -> Callable[..., Coroutine[Any, Any, Any]]:
    async def aio(*args: Any, **kwargs: Any) -> Any:
        loop = running_loop()
        if loop is not None and loop is background.loop:
            try:
                return await raw(*args, **kwargs)
            except BaseException as error:
                raise shorten(error)  # noqa: B904 - the same exception
        call = awaited(find_loop(raw), background, raw, args, kwargs)
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
