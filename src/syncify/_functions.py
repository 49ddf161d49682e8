"""What a decorated function becomes: callable from plain code, with `.aio` and `.submit` beside it."""

import functools
import inspect
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar, overload

from ._call import Raw
from ._callers import AwaitedCall, BlockingCall, submit
from ._deadlock import check_blocking
from ._loop import BackgroundLoop, running_loop
from ._traceback import shorten

__all__ = ("SyncClassMethod", "SyncFunction", "SyncMethod", "SyncStaticMethod")

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
S = TypeVar("S")
T = TypeVar("T")


# Of the attributes of a function, those that tell of a decorator below, or claim that what bears them is async; and the
# name of a method here.
_NOT_COPIED = {"__wrapped__", "_is_coroutine", "_is_coroutine_marker", "submit"}


class SyncFunction(Generic[P, R]):
    """A decorated function. As an attribute of a class it binds to instances, as functions do."""

    # All other attributes are the user's, so these have names that nobody else would choose.
    __slots__ = ("__dict__", "__weakref__", "_syncify_aio", "_syncify_background", "_syncify_raw")

    def __init__(self, background: BackgroundLoop, raw: Raw) -> None:
        self._syncify_background = background
        self._syncify_raw = raw
        self._syncify_aio = _make_aio(background, raw)
        self.__dict__.update({k: v for k, v in raw.__dict__.items() if k not in _NOT_COPIED})
        self.__module__ = raw.__module__
        self.__name__: str = raw.__name__
        self.__qualname__: str = raw.__qualname__
        self.__doc__ = raw.__doc__

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the coroutine on the background loop, and wait for it.

        Interrupted by Ctrl-C, or by whatever a signal handler raises, it cancels the coroutine, waits until that has
        cleaned up, and lets the interrupt through. A second interrupt stops waiting.

        Returns:
            What the coroutine returned, the very object.

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
        return call.value  # type: ignore[no-any-return]

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
        return submit(self._syncify_background, self._syncify_raw, args, kwargs)

    # The types of `self` are spelled as callables, which is how a type checker can take the first parameter off. To it
    # a decorated method, class method and static method are this one class, so each has its overload.

    @overload
    def __get__(self: Callable[Concatenate[S, Q], T], instance: S, owner: Any = None) -> "SyncMethod[Q, T]": ...
    @overload
    def __get__(
        self: Callable[Concatenate[S, Q], T], instance: None, owner: type[S]
    ) -> "SyncFunction[Concatenate[S, Q], T]": ...
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
        """Makes the coroutine itself, for no loop yet. It also bears the signature, which `inspect` looks for here."""
        # Made when somebody asks: a signature takes longer than all the rest of a decoration, and may name types that
        # are not defined yet.
        return _plain(self._syncify_raw)

    if not TYPE_CHECKING:  # or every attribute would exist for type checkers

        def __getattr__(self, name: str) -> Any:
            if name == "__annotations__":  # not copied, since Python 3.14 evaluates them at the first look
                return self._syncify_raw.__annotations__
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}", name=name, obj=self)

    def __reduce__(self) -> str:
        return self.__qualname__  # pickled by reference, and copied as itself, like a function

    def __repr__(self) -> str:
        return f"<syncified function {self.__qualname__} at {id(self):#x}>"


class SyncStaticMethod(SyncFunction[P, R]):
    """A decorated static method, or what else does not bind: a partial, a bound method, a callable object."""

    __slots__ = ()

    def __get__(self, instance: Any, owner: Any = None) -> "SyncStaticMethod[P, R]":  # type: ignore[override]
        return self


class SyncClassMethod(Generic[P, R]):
    """A decorated class method, which is callable once it is bound to a class."""

    __slots__ = ("__dict__", "__weakref__", "_syncify_function")

    def __init__(self, background: BackgroundLoop, raw: Raw) -> None:
        self._syncify_function: SyncFunction[..., R] = SyncFunction(background, raw)
        self.__doc__ = raw.__doc__

    def __get__(self, instance: Any, owner: Any = None) -> "SyncMethod[P, R]":
        return SyncMethod(self._syncify_function, type(instance) if owner is None else owner)

    @property
    def __func__(self) -> SyncFunction[..., R]:
        return self._syncify_function

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            return getattr(self._syncify_function, name)

    def __reduce__(self) -> str:
        return self._syncify_function.__qualname__

    def __repr__(self) -> str:
        return f"<syncified class method {self._syncify_function.__qualname__} at {id(self):#x}>"


class SyncMethod(Generic[P, R]):
    """A decorated method, bound to its instance or class. It is made for every access, so there is little to it."""

    __slots__ = ("__func__", "__self__", "__weakref__")

    def __init__(self, function: SyncFunction[..., R], instance: Any) -> None:
        self.__func__ = function
        self.__self__ = instance

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        function = self.__func__
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
        return call.value  # type: ignore[no-any-return]

    @property
    def aio(self) -> Callable[P, Coroutine[Any, Any, R]]:
        return MethodType(self.__func__._syncify_aio, self.__self__)

    def submit(self, /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        function = self.__func__
        return submit(function._syncify_background, function._syncify_raw, (self.__self__, *args), kwargs)

    @property
    def __wrapped__(self) -> Callable[P, Coroutine[Any, Any, R]]:
        return MethodType(self.__func__.__wrapped__, self.__self__)

    @property
    def __doc__(self) -> str | None:  # type: ignore[override]  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.__func__.__doc__

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            return getattr(self.__func__, name)

    def __reduce__(self) -> tuple[Any, ...]:
        return getattr, (self.__self__, self.__func__.__name__)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, SyncMethod):
            return self.__func__ is other.__func__ and self.__self__ is other.__self__
        return NotImplemented

    def __hash__(self) -> int:
        return hash((self.__func__, id(self.__self__)))

    def __repr__(self) -> str:
        return f"<bound syncified method {self.__func__.__qualname__} of {self.__self__!r}>"


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
        return call.value

    functools.update_wrapper(aio, raw)
    return aio


def _plain(raw: Raw) -> Callable[..., Coroutine[Any, Any, Any]]:
    """The raw function behind one that is not a coroutine function.

    Frameworks look through wrappers to learn whether to await what they call; a wrapper of this library is not to be.
    """

    def unbridged(*args: Any, **kwargs: Any) -> Coroutine[Any, Any, Any]:
        return raw(*args, **kwargs)

    # With the globals of the raw function, where the names in its annotations are looked up.
    plain = FunctionType(unbridged.__code__, raw.__globals__, closure=unbridged.__closure__)
    functools.update_wrapper(plain, raw)
    plain.__dict__["__signature__"] = inspect.signature(raw)
    del plain.__dict__["__wrapped__"]
    return plain
