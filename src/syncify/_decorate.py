"""Decides what may be decorated and what becomes of it, and tells of everything else what would do."""

from __future__ import annotations

import contextlib
import functools
import inspect
import sys
from collections.abc import Callable
from types import FunctionType, MethodType
from typing import Any

from ._call import Raw
from ._context_managers import make_managers
from ._factories import ClassMethodFactory, Factory, StaticMethodFactory
from ._functions import SyncClassMethod, SyncFunction, SyncStaticMethod
from ._generators import make_async_generator
from ._loop import BackgroundLoop
from ._prefetch import make_generator
from ._wrapper import BoundWrapper, ClassMethodWrapper, StaticMethodWrapper, Wrapper

__all__ = ("decorate",)


class Recipe:
    """How something was decorated, to do so again where it is unpickled by value."""

    def __init__(self, background: BackgroundLoop, function: Any, prefetch: int | None, context_manager: bool) -> None:
        self.background = background  # which is pickled by its name
        self.function = function
        self.prefetch = prefetch
        self.context_manager = context_manager

    def restore(self, wrapper: Wrapper, attributes: dict[str, Any]) -> None:
        """Make of a blank one what was pickled."""
        static = isinstance(wrapper, SyncStaticMethod | StaticMethodFactory)
        made = _wrap(self, static)
        for cls in type(made).__mro__:
            for name in getattr(cls, "__slots__", ()):
                if name == "__call__" or name.startswith("_syncify_"):
                    setattr(wrapper, name, getattr(made, name))
        wrapper.__dict__.update(attributes)


def decorate(background: BackgroundLoop, function: Any, *, prefetch: int | None, context_manager: bool) -> Any:
    """Return what calls `function` on the background loop; raise TypeError where it is not async."""
    if isinstance(function, classmethod):
        wrapper = _wrap(Recipe(background, function.__func__, prefetch, context_manager), False)
        return (SyncClassMethod if isinstance(wrapper, SyncFunction) else ClassMethodFactory)(wrapper)
    if isinstance(function, staticmethod):
        return StaticMethodWrapper(_wrap(Recipe(background, function.__func__, prefetch, context_manager), True))
    # As an attribute of a class it is to bind where it would have by itself.
    static = isinstance(function, _UNBOUND) or not hasattr(type(function), "__get__")
    return _wrap(Recipe(background, function, prefetch, context_manager), static)


_UNBOUND = (MethodType, functools.partial) if sys.version_info < (3, 14) else MethodType


def _wrap(recipe: Recipe, static: bool) -> Wrapper:
    wrapper = _make(recipe, static)
    wrapper._syncify_recipe = recipe
    return wrapper


def _make(recipe: Recipe, static: bool) -> Wrapper:
    background, function = recipe.background, recipe.function
    prefetch, context_manager = recipe.prefetch, recipe.context_manager
    inner = _innermost(function)
    if context_manager or _is_context_manager_function(inner):
        if prefetch is not None:
            raise TypeError(f"prefetch is for async generators. Got {_name(function)}, which makes a context manager")
        if context_manager:
            _check_declared(function, inner)
        raw = _named(function)
        # What is not from contextlib may ask for the running loop when it is made, so it is made when it is entered.
        make, make_async = make_managers(background, raw, at_once=not context_manager)
        return (StaticMethodFactory if static else Factory)(background, raw, make, make_async)
    if _is(inspect.isasyncgenfunction, inner):
        raw = _named(function)
        return (StaticMethodFactory if static else Factory)(
            background, raw, make_generator(background, raw, prefetch), make_async_generator(background, raw)
        )
    if prefetch is not None:
        raise TypeError(f"prefetch is for async generators. Got {_name(function)}, which is none")
    if _is(inspect.iscoroutinefunction, inner):
        return (SyncStaticMethod if static else SyncFunction)(background, _coroutine_function(function))
    raise TypeError(
        "Syncify can only be applied to async functions, async generators, async classmethods or staticmethods. "
        f"Got {_describe(function)}"
    )


def _is(kind: Callable[[Any], bool], function: Any) -> bool:
    """Tell whether the function, or the `__call__` of an object, is of a kind of `inspect`."""
    if isinstance(function, type) or not callable(function):
        return False
    try:
        return kind(function) or kind(type(function).__call__)
    except Exception:  # of an object whose attributes are not what they should be
        return False


def _is_context_manager_function(function: Any) -> bool:
    """Tell whether `contextlib.asynccontextmanager` has made it."""
    return type(function) is FunctionType and function.__code__ == _HELPER  # equal, also when it was pickled by value


def _wraps_context_manager_function(function: Any) -> bool:
    while isinstance(function, FunctionType):
        function = vars(function).get("__wrapped__")
        if _is_context_manager_function(function):
            return True
    return False


# Should contextlib come to make something else, @syncify would refuse that, and context_manager=True would do.
_HELPER = contextlib.asynccontextmanager(decorate).__code__  # all that it makes have this code


def _check_declared(function: Any, inner: Any) -> None:
    if not callable(inner) or isinstance(inner, Wrapper | BoundWrapper):
        raise TypeError(f"context_manager=True is for functions. Got {_describe(function)}")
    for kind in inspect.iscoroutinefunction, inspect.isasyncgenfunction:
        if _is(kind, inner):
            raise TypeError(
                "context_manager=True is for plain functions that return an async context manager. "
                f"Got {_name(function)}, which is async; write @asynccontextmanager below, over an async generator"
            )


def _coroutine_function(function: Any) -> Raw:
    """Return the function if a call of it just makes a coroutine, and else a coroutine function around it."""
    called = function.__func__ if type(function) is MethodType else function
    if type(called) is FunctionType and called.__code__.co_flags & inspect.CO_COROUTINE:
        return function  # type: ignore[no-any-return]

    async def call(*args: Any, **kwargs: Any) -> Any:
        return await function(*args, **kwargs)

    return _name_after(call, function)


def _named(function: Any) -> Raw:
    """Return the function if it has a name and all else that functions have, and else a function around it."""
    if type(function.__func__ if type(function) is MethodType else function) is FunctionType:
        return function  # type: ignore[no-any-return]

    def call(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return _name_after(call, function)


def _name_after(call: Raw, function: Any) -> Raw:
    inner = _innermost(function)
    call.__name__ = call.__qualname__ = str(type(inner).__name__)
    for name in "__module__", "__name__", "__qualname__", "__doc__":
        value = getattr(inner, name, None)
        if isinstance(value, str):
            setattr(call, name, value)
    setattr(call, "__wrapped__", function)  # noqa: B010 - its signature may be shorter than that of what it calls
    try:
        annotations = inner.__annotations__
    except Exception:  # they may name what is not defined yet
        annotations = None
    call.__annotations__ = annotations if isinstance(annotations, dict) else {}
    return call


def _innermost(function: Any) -> Any:
    """What is called in the end, behind partials and bound methods."""
    while True:
        if isinstance(function, functools.partial):
            function = function.func
        elif isinstance(function, MethodType):
            function = function.__func__
        else:
            return function


def _name(function: Any) -> str:
    return getattr(function, "__qualname__", None) or repr(function)


def _describe(function: Any) -> str:
    """Tell what was decorated, and what to write instead."""
    try:
        return _advise(function, _name(function))
    except Exception:  # of an object that does not even tell what it is
        return f"an object of type {type(function).__name__}, which is not async; decorate an `async def`"


def _advise(function: Any, name: str) -> str:
    if isinstance(function, Wrapper | BoundWrapper | ClassMethodWrapper | StaticMethodWrapper):
        return f"{name}, which has been syncified already; use it as it is"
    if _wraps_context_manager_function(function):
        return f"{name}, a wrapper around an async context manager; write @syncify(context_manager=True) above it"
    if hasattr(type(function), "__aenter__"):
        return f"{name}, an async context manager that has been made already; decorate the function that makes it"
    if isinstance(function, FunctionType) and inspect.isasyncgenfunction(inspect.unwrap(function)):
        return f"{name}, a plain function around an async generator; decorate the async generator, below that wrapper"
    if isinstance(function, type):
        return f"the class {name}; decorate its async methods, one by one{_if_context_manager(function)}"
    if inspect.isawaitable(function):
        return (
            f"{name}, which has been called already; decorate the function, or write `syncify.run(...)` around the call"
        )
    if isinstance(function, property):
        return "a property; write an async method, and decorate that"
    if isinstance(function, functools.partialmethod):
        return "a partialmethod; decorate the method, and make the partialmethod of that"
    if isinstance(function, classmethod | staticmethod):
        return f"a {type(function).__name__} in another; one of them is enough"
    if inspect.isbuiltin(function):
        return f"{name}, a builtin, which is not async; write an `async def` that calls it"
    if callable(function):
        return (
            f"{name}, which is not async; write `async def` before its name, or, if it returns an awaitable, "
            f"`syncify.run({name}(...))`, or, if it returns an async context manager, `@syncify(context_manager=True)`"
        )
    return f"{name}, which is no function; decorate an `async def`"


def _if_context_manager(cls: type) -> str:
    if not hasattr(cls, "__aenter__"):
        return ""
    return ". For a `with` of its own, let it inherit from SyncContextManager"
