"""What a decorated function has of the one it wraps: its names, its signature, its place in a class."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar

from ._call import Raw
from ._loop import BackgroundLoop
from ._pickling import Recipe, reduce
from ._signatures import SignatureOf, make_plain, signature

__all__ = ("BoundWrapper", "ClassMethodWrapper", "StaticMethodWrapper", "Takes", "Wrapper", "bound_doc")

S_contra = TypeVar("S_contra", contravariant=True)

# Of the attributes of a function, those that tell of a decorator below, or claim that what bears them is async; and the
# name of a method here.
_NOT_COPIED = {"__annotations__", "__wrapped__", "_is_coroutine", "_is_coroutine_marker", "submit"}

# Attributes of the function that are asked for where annotations, or `super()`, are looked into. Python 3.14 evaluates
# annotations at the first look.
_OF_RAW = {"__annotate__", "__annotations__", "__closure__", "__type_params__"}


class Takes(Protocol[S_contra]):
    """What a type checker needs to see of a method, to tell of what class: the type of its first argument."""

    def __call__(self, first: S_contra, /, *args: Any, **kwargs: Any) -> Any: ...


class _Annotations(dict[str, Any]):
    """Of a class there are none, and of its instances those of the function.

    For a Python before 3.14. There a class that has none of its own makes some when it is asked, where they then hide
    those of its instances.
    """

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        if instance is None:
            return self
        if isinstance(instance, BoundWrapper):
            return instance.__func__.__annotations__
        set_by_user = vars(instance).get("__annotations__")
        return instance._syncify_raw.__annotations__ if set_by_user is None else set_by_user

    def __set__(self, instance: Any, value: Any) -> None:
        if isinstance(instance, BoundWrapper):
            raise AttributeError("the annotations of a bound method are those of its function; set them there")
        vars(instance)["__annotations__"] = value


class _Module(str):
    """Of a class its own module, and of its instances that of the function."""

    __slots__ = ()

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else instance.__func__.__module__


class Wrapper:
    """A decorated function, of any kind."""

    # `__call__` is a function of each wrapper's own, which bears the signature: `unittest.mock` looks for it there.
    # All other attributes are the user's, so these have names that nobody else would choose.
    __slots__ = (
        "__call__",
        "__dict__",
        "__objclass__",  # where `inspect` begins to look for a docstring that is inherited
        "__weakref__",
        "_syncify_aio",
        "_syncify_aio_to_bind",
        "_syncify_background",
        "_syncify_raw",
        "_syncify_recipe",
    )
    _syncify_binds = True  # to instances, as an attribute of a class

    if TYPE_CHECKING:

        def __call__(self, /, *args: Any, **kwargs: Any) -> Any: ...

    def __init__(self, background: BackgroundLoop, raw: Raw, call: Any, aio: Callable[..., Any]) -> None:
        call.__signature__ = SignatureOf(functools.partial(signature, raw))
        self.__call__ = call  # type: ignore[method-assign]
        self._syncify_background = background
        self._syncify_raw: Any = raw
        self._syncify_aio = self._syncify_aio_to_bind = aio
        self._syncify_recipe: Recipe | None = None  # set by who has made this
        self.__dict__.update({k: v for k, v in raw.__dict__.items() if k not in _NOT_COPIED})
        self.__module__ = raw.__module__
        self.__name__: str = raw.__name__
        self.__qualname__: str = raw.__qualname__
        self.__doc__ = raw.__doc__

    if TYPE_CHECKING:

        @property
        def __wrapped__(self) -> Callable[..., Any]: ...

        # There is no __getattr__, or every attribute would exist for type checkers.
    else:

        @property
        def __wrapped__(self) -> Callable[..., Any]:
            """Makes what `.aio` makes, for no loop yet. It also bears the signature, which `inspect` looks for here."""
            # Made when somebody asks: a signature takes longer than all the rest of a decoration, and may name types
            # that are not defined yet.
            return make_plain(vars(self).get("__wrapped__", self._syncify_raw))

        @__wrapped__.setter
        def __wrapped__(self, function: Callable[..., Any]) -> None:  # by `functools.wraps` above
            vars(self)["__wrapped__"] = function

        def __getattr__(self, name: str) -> Any:
            if name in _OF_RAW:
                return getattr(self._syncify_raw, name)
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}", name=name, obj=self)

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if sys.version_info < (3, 14):
            setattr(cls, "__annotations__", _Annotations())  # noqa: B010 - of which type checkers know already

    def __set_name__(self, owner: type, name: str) -> None:
        self.__objclass__: type = owner
        if self._syncify_binds:
            made = SignatureOf(functools.partial(signature, self._syncify_raw), in_class=True)
            call: Any = self.__call__
            aio = _copy(self._syncify_aio_to_bind)  # bound, it has a signature of its own
            call.__signature__ = aio.__signature__ = made
            self._syncify_aio = aio

    def __reduce__(self) -> str | tuple[Any, ...]:
        return reduce(self, self._syncify_recipe)

    def __copy__(self) -> Self:
        return self  # like a function

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __repr__(self) -> str:
        return f"<syncified function {self.__qualname__} at {id(self):#x}>"


class BoundWrapper:
    """A decorated method, bound to its instance or class. It is made for every access, so there is little to it."""

    __slots__ = ("__call__", "__func__", "__weakref__")

    def __init__(self, function: Any, instance: Any) -> None:
        self.__func__: Any = function
        self.__call__: Any = MethodType(function.__call__, instance)

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if sys.version_info < (3, 14):
            setattr(cls, "__annotations__", _Annotations())  # noqa: B010 - of which type checkers know already
        cls.__module__ = _Module(cls.__module__)

    if TYPE_CHECKING:

        @property
        def __name__(self) -> str: ...

        @property
        def __qualname__(self) -> str: ...

    @property
    def __self__(self) -> Any:
        return self.__call__.__self__

    @property
    def __wrapped__(self) -> Callable[..., Any]:
        return MethodType(self.__func__.__wrapped__, self.__self__)

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            return getattr(self.__func__, name)

    def __get__(self, instance: Any, owner: Any = None) -> Self:
        return self  # as methods do; `inspect.isroutine` looks for this

    def __reduce__(self) -> tuple[Any, ...]:
        name = self.__func__.__name__
        if getattr(self.__self__, name, None) == self:
            return getattr, (self.__self__, name)
        return _bind, (self.__func__, self.__self__)  # it is an attribute of another name

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        import copy  # who asks for this has it

        return type(self)(self.__func__, copy.deepcopy(self.__self__, memo))

    def __eq__(self, other: object) -> bool:
        if isinstance(other, BoundWrapper):
            return self.__func__ is other.__func__ and self.__self__ is other.__self__
        return NotImplemented

    def __hash__(self) -> int:
        return hash((self.__func__, id(self.__self__)))

    def __repr__(self) -> str:
        return f"<bound syncified method {self.__func__.__qualname__} of {self.__self__!r}>"


def _bind(function: Any, instance: Any) -> Any:
    return function.__get__(instance)


def _doc(self: BoundWrapper) -> str | None:
    return self.__func__.__doc__  # type: ignore[no-any-return]


bound_doc: Any = property(_doc)
"""To be the `__doc__` of the subclasses, each of which would have one of its own."""


if TYPE_CHECKING:  # or they would have the types of these, which know nothing of `.aio`

    class _ClassMethod: ...

    class _StaticMethod: ...

else:
    _ClassMethod, _StaticMethod = classmethod, staticmethod


class _Declared:
    """What has been decorated below `@syncify`, as it stands in the body of a class: with all that it has."""

    __slots__ = ()

    if TYPE_CHECKING:

        @property
        def __func__(self) -> Any: ...
    else:

        def __getattr__(self, name: str) -> Any:
            return getattr(self.__func__, name)

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *dir(self.__func__)]

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.__func__,)

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self


class ClassMethodWrapper(_Declared, _ClassMethod):
    """A decorated class method, which is callable once it is bound to a class."""

    __slots__ = ("__weakref__",)

    if TYPE_CHECKING:

        def __init__(self, function: Any) -> None: ...

    def __set_name__(self, owner: type, name: str) -> None:
        self.__func__.__set_name__(owner, name)

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self.__func__.__get__(type(instance) if owner is None else owner)

    def __repr__(self) -> str:
        return f"<syncified class method {self.__func__.__qualname__} at {id(self):#x}>"


class StaticMethodWrapper(_Declared, _StaticMethod):
    """A decorated static method, in the body of its class."""

    __slots__ = ("__weakref__",)

    if TYPE_CHECKING:

        def __init__(self, function: Any) -> None: ...

    def __repr__(self) -> str:
        return f"<syncified static method {self.__func__.__qualname__} at {id(self):#x}>"


def _copy(function: Any) -> Any:
    copy = FunctionType(function.__code__, function.__globals__, closure=function.__closure__)
    functools.update_wrapper(copy, function)
    copy.__dict__.update(function.__dict__)
    return copy
