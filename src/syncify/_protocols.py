"""What type checkers need to see of the arguments and results of a decorator. It is never imported to run."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, overload

from ._factories import ClassMethodFactory, Factory, StaticMethodFactory

__all__ = (
    "AsyncContextManager",
    "ClassMethod",
    "ContextManager",
    "DecoratorOfContextManagers",
    "DecoratorOfGenerators",
    "StaticMethod",
)

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S")
Y = TypeVar("Y")
Z = TypeVar("Z")
E = TypeVar("E", bound=bool | None)
F = TypeVar("F", bound=Callable[..., Any])
AF = TypeVar("AF", bound=Callable[..., Awaitable[Any]])
R_co = TypeVar("R_co", covariant=True)
E_co = TypeVar("E_co", bound=bool | None, covariant=True)
S_contra = TypeVar("S_contra", contravariant=True)


class ClassMethod(Protocol[S_contra, P, R_co]):
    """What a type checker needs to see of a classmethod."""

    @property
    def __func__(self) -> Callable[Concatenate[type[S_contra], P], R_co]: ...

    @property
    def __isabstractmethod__(self) -> bool: ...  # which bound methods, that have the other, have not


class StaticMethod(Protocol[P, R_co]):
    """The same of a staticmethod. Nothing else that can be called has these attributes.

    That class itself would do for most; ty loses its type arguments.
    """

    @property
    def __func__(self) -> Callable[..., Any]: ...

    @property
    def __isabstractmethod__(self) -> bool: ...

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R_co: ...


class ContextManager(AbstractContextManager[R_co, E_co], Protocol[R_co, E_co]):
    """What plain code gets of a context manager. Like those of contextlib, it is a decorator as well."""

    # Declared anew, or pyright would not see that one which returns a bool may swallow exceptions.
    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None, /
    ) -> E_co: ...

    def __call__(self, function: F, /) -> F: ...


class AsyncContextManager(AbstractAsyncContextManager[R_co, E_co], Protocol[R_co, E_co]):
    """The same for async code."""

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None, /
    ) -> E_co: ...

    def __call__(self, function: AF, /) -> AF: ...


class DecoratorOfGenerators(Protocol):
    """What `syncify(prefetch=...)` returns. The order is that of `Syncify.__call__`."""

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
        self, function: StaticMethod[P, AsyncGenerator[Y, Z]], /
    ) -> StaticMethodFactory[P, Generator[Y, Z, None], AsyncGenerator[Y, Z]]: ...
    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, function: StaticMethod[P, AsyncIterator[Y]], /
    ) -> StaticMethodFactory[P, Generator[Y, None, None], AsyncGenerator[Y, None]]: ...
    @overload
    def __call__(
        self, function: Callable[P, AsyncGenerator[Y, Z]], /
    ) -> Factory[P, Generator[Y, Z, None], AsyncGenerator[Y, Z]]: ...
    @overload
    def __call__(
        self, function: Callable[P, AsyncIterator[Y]], /
    ) -> Factory[P, Generator[Y, None, None], AsyncGenerator[Y, None]]: ...


class DecoratorOfContextManagers(Protocol):
    """What `syncify(context_manager=True)` returns."""

    @overload
    def __call__(
        self, function: ClassMethod[S, P, AbstractAsyncContextManager[R, E]], /
    ) -> ClassMethodFactory[P, ContextManager[R, E], AsyncContextManager[R, E]]: ...
    @overload
    def __call__(
        self, function: StaticMethod[P, AbstractAsyncContextManager[R, E]], /
    ) -> StaticMethodFactory[P, ContextManager[R, E], AsyncContextManager[R, E]]: ...
    @overload
    def __call__(
        self, function: Callable[P, AbstractAsyncContextManager[R, E]], /
    ) -> Factory[P, ContextManager[R, E], AsyncContextManager[R, E]]: ...
