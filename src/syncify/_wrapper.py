"""What a decorated function has of the one it wraps: its names, its signature, its place in a class."""

import functools
import inspect
from collections.abc import Callable
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from ._call import Raw
from ._loop import BackgroundLoop

__all__ = ("BoundWrapper", "ClassMethodWrapper", "Takes", "Wrapper", "bound_doc")

S_contra = TypeVar("S_contra", contravariant=True)

# Of the attributes of a function, those that tell of a decorator below, or claim that what bears them is async; and the
# name of a method here.
_NOT_COPIED = {"__wrapped__", "_is_coroutine", "_is_coroutine_marker", "submit"}


class Takes(Protocol[S_contra]):
    """What a type checker needs to see of a method, to tell of what class: the type of its first argument."""

    def __call__(self, first: S_contra, /, *args: Any, **kwargs: Any) -> Any: ...


class Wrapper:
    """A decorated function, of any kind."""

    # All other attributes are the user's, so these have names that nobody else would choose.
    __slots__ = ("__dict__", "__weakref__", "_syncify_aio", "_syncify_background", "_syncify_raw")

    def __init__(self, background: BackgroundLoop, raw: Raw, aio: Callable[..., Any]) -> None:
        self._syncify_background = background
        self._syncify_raw = raw
        self._syncify_aio = aio
        self.__dict__.update({k: v for k, v in raw.__dict__.items() if k not in _NOT_COPIED})
        self.__module__ = raw.__module__
        self.__name__: str = raw.__name__
        self.__qualname__: str = raw.__qualname__
        self.__doc__ = raw.__doc__

    @property
    def __wrapped__(self) -> Callable[..., Any]:
        """Makes what `.aio` makes, for no loop yet. It also bears the signature, which `inspect` looks for here."""
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


class BoundWrapper:
    """A decorated method, bound to its instance or class. It is made for every access, so there is little to it."""

    __slots__ = ("__func__", "__self__", "__weakref__")

    def __init__(self, function: Any, instance: Any) -> None:
        self.__func__: Any = function
        self.__self__ = instance

    @property
    def __wrapped__(self) -> Callable[..., Any]:
        return MethodType(self.__func__.__wrapped__, self.__self__)

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            return getattr(self.__func__, name)

    def __reduce__(self) -> tuple[Any, ...]:
        return getattr, (self.__self__, self.__func__.__name__)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, BoundWrapper):
            return self.__func__ is other.__func__ and self.__self__ is other.__self__
        return NotImplemented

    def __hash__(self) -> int:
        return hash((self.__func__, id(self.__self__)))

    def __repr__(self) -> str:
        return f"<bound syncified method {self.__func__.__qualname__} of {self.__self__!r}>"


def _doc(self: BoundWrapper) -> str | None:
    return self.__func__.__doc__  # type: ignore[no-any-return]


bound_doc: Any = property(_doc)
"""To be the `__doc__` of the subclasses, each of which would have one of its own."""


class ClassMethodWrapper:
    """A decorated class method, which is callable once it is bound to a class."""

    __slots__ = ("__dict__", "__weakref__", "_syncify_function")

    def __init__(self, function: Any) -> None:
        self._syncify_function = function
        self.__doc__ = function.__doc__

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self._syncify_function.__get__(type(instance) if owner is None else owner)

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            return getattr(self._syncify_function, name)

    def __reduce__(self) -> str:
        return self._syncify_function.__qualname__  # type: ignore[no-any-return]

    def __repr__(self) -> str:
        return f"<syncified class method {self._syncify_function.__qualname__} at {id(self):#x}>"


def _plain(raw: Raw) -> Callable[..., Any]:
    """The raw function behind one that is not async.

    Frameworks look through wrappers to learn whether to await what they call; a wrapper of this library is not to be.
    """

    def unbridged(*args: Any, **kwargs: Any) -> Any:
        return raw(*args, **kwargs)

    # With the globals of the raw function, where the names in its annotations are looked up.
    plain = FunctionType(unbridged.__code__, raw.__globals__, closure=unbridged.__closure__)
    functools.update_wrapper(plain, raw)
    plain.__dict__["__signature__"] = inspect.signature(raw)
    del plain.__dict__["__wrapped__"]
    return plain
