"""Decides what may be decorated and what becomes of it, and tells of everything else what would do."""

import functools
import inspect
import sys
from types import FunctionType, MethodType
from typing import Any

from ._call import Raw
from ._functions import SyncClassMethod, SyncFunction, SyncMethod, SyncStaticMethod
from ._loop import BackgroundLoop

__all__ = ("decorate",)

Decorated = SyncFunction[..., Any] | SyncClassMethod[..., Any]


def decorate(background: BackgroundLoop, function: Any) -> Decorated:
    """Return what calls `function` on the background loop; raise TypeError where it is not async."""
    if isinstance(function, classmethod):
        return SyncClassMethod(background, _coroutine_function(function.__func__))
    if isinstance(function, staticmethod):
        return SyncStaticMethod(background, _coroutine_function(function.__func__))
    raw = _coroutine_function(function)
    # As an attribute of a class it is to bind where it would have by itself.
    binds = hasattr(type(function), "__get__") and not isinstance(function, _UNBOUND)
    return (SyncFunction if binds else SyncStaticMethod)(background, raw)


_UNBOUND = (MethodType, functools.partial) if sys.version_info < (3, 14) else MethodType


def _coroutine_function(function: Any) -> Raw:
    """Return the function if a call of it just makes a coroutine, and else a coroutine function around it."""
    if not _is_async(function):
        raise TypeError(
            "Syncify can only be applied to async functions, async generators, async classmethods or staticmethods. "
            f"Got {_describe(function)}"
        )
    called = function.__func__ if type(function) is MethodType else function
    if type(called) is FunctionType and called.__code__.co_flags & inspect.CO_COROUTINE:
        return function  # type: ignore[no-any-return]

    async def call(*args: Any, **kwargs: Any) -> Any:
        return await function(*args, **kwargs)

    inner = _innermost(function)
    call.__name__ = call.__qualname__ = str(type(inner).__name__)
    for name in "__module__", "__name__", "__qualname__", "__doc__":
        value = getattr(inner, name, None)
        if isinstance(value, str):
            setattr(call, name, value)
    setattr(call, "__wrapped__", function)  # noqa: B010 - its signature may be shorter than that of what it calls
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


def _is_async(function: Any) -> bool:
    """A coroutine function, something marked as one, or an object whose `__call__` is one."""
    function = _innermost(function)
    if isinstance(function, type) or not callable(function):
        return False
    try:
        return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)
    except Exception:  # of an object whose attributes are not what they should be
        return False


def _describe(function: Any) -> str:
    """Tell what was decorated, and what to write instead."""
    try:
        return _advise(function, getattr(function, "__qualname__", None) or repr(function))
    except Exception:  # of an object that does not even tell what it is
        return f"an object of type {type(function).__name__}, which is not async; decorate an `async def`"


def _advise(function: Any, name: str) -> str:
    if isinstance(function, SyncFunction | SyncMethod | SyncClassMethod):
        return f"{name}, which has been syncified already; use it as it is"
    if inspect.isasyncgenfunction(inspect.unwrap(function) if isinstance(function, FunctionType) else function):
        return f"{name}, an async generator; this release takes coroutine functions only"
    if isinstance(function, type):
        return f"the class {name}; decorate its async methods, one by one"
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
            f"`syncify.run({name}(...))`"
        )
    return f"{name}, which is no function; decorate an `async def`"
