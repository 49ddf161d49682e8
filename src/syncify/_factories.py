"""What decorated async generator and context manager functions become: makers of generators and context managers."""

from __future__ import annotations

from collections.abc import Callable
from types import MethodType
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar, overload

from ._call import Raw
from ._loop import BackgroundLoop
from ._traceback import shorten
from ._wrapper import BoundWrapper, ClassMethodWrapper, Takes, Wrapper, bound_doc

__all__ = ("ClassMethodFactory", "Factory", "MethodFactory", "StaticMethodFactory")

P = ParamSpec("P", contravariant=True)  # type: ignore[misc]  # pyright: ignore[reportGeneralTypeIssues]
Q = ParamSpec("Q")
R = TypeVar("R", covariant=True)
A = TypeVar("A", covariant=True)
S = TypeVar("S")


class Factory(Wrapper, Generic[P, R, A]):
    """A decorated function that returns at once: called, it gives a generator or a context manager, for plain code.

    Nothing runs before its first step, or `with`. All that follows runs in one task on the background loop, with one
    context: the steps of the generator, or enter and exit of the context manager. Each of them blocks, and raises what
    the async function raises.

    Left early, by `break`, an exception or `close()`, a generator has run its `finally` before the next statement.
    Deleted or garbage collected, it does so soon, and nobody waits.

    Interrupted by Ctrl-C, or by whatever a signal handler raises, a step is cancelled; when the cleanup is done,
    the generator or context manager is closed, and the interrupt raised. A second one stops waiting.

    Returns:
        A generator, with `send`, `throw` and `close`. With `prefetch`, `send` and `throw` raise RuntimeError.
        Or a context manager, which is a decorator of functions, too.

    Raises:
        TypeError: The arguments are wrong.
        DeadlockError: By a step on the background loop itself.
        BlockingCallWarning: By a step in a thread where another event loop runs, if the syncer has
            `blocking="error"`.
        ValueError: By a step of a generator that another thread is in.
        RuntimeError: By a step after a fork, or when the interpreter is shutting down and no other thread of it
            runs any more; and by leaving what has not been entered.
        BaseException: Whatever the function raised, the very object.

    ```python
    >>> from contextlib import asynccontextmanager
    >>> from syncify import syncify
    >>> @syncify
    ... async def letters():
    ...     yield "a"
    ...     yield "b"
    >>> list(letters())
    ['a', 'b']
    >>> @syncify
    ... @asynccontextmanager
    ... async def opened(name):
    ...     yield f"{name}, open"
    >>> with opened("book") as book:
    ...     print(book)
    book, open

    ```
    """

    __slots__ = ()

    def __init__(
        self, background: BackgroundLoop, raw: Raw, make: Callable[..., R], make_async: Callable[..., A]
    ) -> None:
        super().__init__(background, raw, _make_call(make), make_async)

    if TYPE_CHECKING:

        def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R: ...

    @property
    def aio(self) -> Callable[P, A]:
        """The same for async code: it returns an async generator, or an async context manager.

        Each step runs on the background loop, whichever asyncio loop asks; on that loop itself in the caller's own task
        and context. Cancelling a task in a step, in enter or in exit cancels that and waits until it has ended.
        For generators this is an async generator function, so wrong arguments raise at the first step.
        """
        return self._syncify_aio

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            if name == "submit":
                message = f"{self.__qualname__}() returns at once, so there is nothing to submit"
                raise AttributeError(message, name=name, obj=self)
            return super().__getattr__(name)

    @overload
    def __get__(self: Takes[S], instance: None, owner: type[S]) -> Factory[P, R, A]: ...
    @overload
    def __get__(self: Callable[Concatenate[S, Q], Any], instance: S, owner: Any = None) -> MethodFactory[Q, R, A]: ...
    @overload
    def __get__(  # type: ignore[misc]
        self: Callable[Concatenate[type[S], Q], Any], instance: Any, owner: type[S]
    ) -> MethodFactory[Q, R, A]: ...
    @overload
    def __get__(self, instance: Any, owner: Any = None) -> Factory[P, R, A]: ...
    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else MethodFactory(self, instance)

    if TYPE_CHECKING:

        @property
        def __wrapped__(self) -> Callable[P, A]: ...


class StaticMethodFactory(Factory[P, R, A]):
    """A decorated static method, or what else does not bind."""

    __slots__ = ()
    _syncify_binds = False

    def __get__(self, instance: Any, owner: Any = None) -> StaticMethodFactory[P, R, A]:  # type: ignore[override]
        return self


class ClassMethodFactory(ClassMethodWrapper, Generic[P, R, A]):
    """A decorated class method, which is callable once it is bound to a class."""

    __slots__ = ()

    def __get__(self, instance: Any, owner: Any = None) -> MethodFactory[P, R, A]:
        return super().__get__(instance, owner)  # type: ignore[no-any-return]

    if TYPE_CHECKING:

        @property
        def __func__(self) -> Factory[..., R, A]: ...


class MethodFactory(BoundWrapper, Generic[P, R, A]):
    """A decorated method, bound to its instance or class."""

    __doc__ = bound_doc
    __slots__ = ()

    if TYPE_CHECKING:

        def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R: ...

    @property
    def aio(self) -> Callable[P, A]:
        return MethodType(self.__func__._syncify_aio_to_bind, self.__self__)

    if TYPE_CHECKING:

        @property
        def __wrapped__(self) -> Callable[P, A]: ...


def _make_call(make: Callable[..., Any]) -> Callable[..., Any]:
    def __call__(*args: Any, **kwargs: Any) -> Any:  # noqa: N807 - what it is to its callers
        try:
            return make(*args, **kwargs)
        except BaseException as error:
            raise shorten(error)  # noqa: B904 - the same exception

    return __call__
