"""`SyncContextManager`: gives the classes that inherit from it a `with`, and brings their `async with` to the loop."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar

from ._callers import find_loop
from ._context_managers import AsyncManager, Stays, SyncManager
from ._loop import BackgroundLoop
from ._pickling import is_unpickled_by_value
from ._syncify import Syncify
from ._traceback import shorten
from ._wrapper import Wrapper

__all__ = ("SyncContextManager",)

if TYPE_CHECKING:
    T_co = TypeVar("T_co", covariant=True)

    class _Enters(Protocol[T_co]):
        async def __aenter__(self) -> T_co: ...

    class _Leaves(Protocol[T_co]):
        async def __aexit__(
            self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None, /
        ) -> T_co: ...


class SyncContextManager:
    """Gives a class that has `__aenter__` and `__aexit__` its `with`, for plain code.

    Its `async with` is brought to the background loop as well. From enter to exit it is one task that runs there, with
    one context; code on that loop itself needs none, and runs them in its own. One object may be entered by several
    threads and tasks at once, if the class allows that.

    A body that plain code runs cannot be interrupted from the loop. A time limit or a failing task group that
    `__aenter__` has left open makes `__aexit__` run at once, and what comes of that is raised when the body ends.

    Interrupted by Ctrl-C while it enters, `with` cancels `__aenter__`, waits, undoes what was entered all the same, and
    lets the interrupt through; while it leaves, it cancels `__aexit__` and waits for that. Cancelling a task in an
    `async with` does so, too.

    Args:
        syncer: As an argument of the class statement, the syncer on whose loop this is to happen. Classes that inherit
            from such a class have its syncer.

    Raises:
        TypeError: No syncer was given, or one that is none.
        DeadlockError: A `with` was entered or left on the background loop itself, where `async with` is to be used.
        BlockingCallWarning: Another event loop runs in this thread, and the syncer has `blocking="error"`.
        BaseException: Whatever `__aenter__` and `__aexit__` raise, the very object.

    ```python
    >>> import asyncio
    >>> from syncify import SyncContextManager, syncify
    >>> class Connection(SyncContextManager, syncer=syncify):
    ...     async def __aenter__(self):
    ...         await asyncio.sleep(0.01)
    ...         return self
    ...     async def __aexit__(self, *exc_info):
    ...         await asyncio.sleep(0.01)
    ...         print("closed")
    ...     @syncify
    ...     async def ask(self):
    ...         return 42
    >>> with Connection() as connection:
    ...     connection.ask()
    42
    closed

    ```
    """

    _syncify_background: ClassVar[BackgroundLoop]
    _syncify_name: ClassVar[str]
    _syncify_form: ClassVar[str] = "async with {}(...)"

    def __init_subclass__(cls, *, syncer: Syncify | None = None, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if syncer is not None:
            if not isinstance(syncer, Syncify):
                raise TypeError(f"the syncer of {cls.__qualname__} has to be an instance of Syncify, got {syncer!r}")
            cls._syncify_background = syncer._background
        elif not (hasattr(cls, "_syncify_background") or is_unpickled_by_value()):
            raise TypeError(f"write `class {cls.__name__}(SyncContextManager, syncer=syncify)`, or with another syncer")
        cls._syncify_name = cls.__qualname__
        for name, bridge in ("__aenter__", _bridge_enter), ("__aexit__", _bridge_exit):
            found: Any = getattr(cls, name, None)
            if isinstance(found, Wrapper):
                found = found._syncify_aio
            if found is not None and not _is_bridge(found):
                setattr(cls, name, bridge(found if name in vars(cls) else _look_up(name, found)))

    if TYPE_CHECKING:

        def __enter__(self: _Enters[T_co]) -> T_co:
            """Run `__aenter__` on the background loop, wait for it, and return what it returned."""
            ...

        def __exit__(
            self: _Leaves[T_co],
            exc_type: type[BaseException] | None,
            exc: BaseException | None,
            traceback: TracebackType | None,
            /,
        ) -> T_co:
            """Run `__aexit__` in the same task, wait for it, and return what it returned."""
            ...
    else:
        __enter__ = SyncManager.__enter__
        __exit__ = SyncManager.__exit__

        @property
        def _syncify_stays(self) -> Stays:
            stays = self.__dict__.setdefault("_syncify_entered", Stays(self))  # two threads may come here at once
            if stays.owner() is not self:  # this is a copy of what has been entered
                stays = self.__dict__["_syncify_entered"] = Stays(self)
            return stays

        @property
        def _syncify_manager(self) -> Any:
            return weakref.ref(self)


def _is_bridge(function: Any) -> bool:
    # Not just marked as one: a wrapper around a bridge has its mark as well.
    return getattr(function, "__dict__", {}).get("_syncify_bridge") is function


def _look_up(name: str, found: Callable[..., Any]) -> Callable[..., Any]:
    """Return what calls an inherited method: the one that comes next for the object's class, as `super()` does."""

    @functools.wraps(found)
    def call(self: Any, *exc_info: Any) -> Any:
        for cls in type(self).__mro__:
            bridge = vars(cls).get(name)
            if getattr(bridge, "__wrapped__", None) is call:
                return getattr(super(cls, self), name)(*exc_info)
        raise AttributeError(name)

    return call


def _bridge_enter(raw: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(raw)
    async def enter(self: Any) -> Any:
        if find_loop("__aenter__()") is self._syncify_background.loop:
            return await raw(self)
        try:
            return await AsyncManager.__aenter__(self)
        except BaseException as error:
            raise shorten(error)  # noqa: B904 - the same exception

    enter.__dict__["_syncify_bridge"] = enter
    return enter


def _bridge_exit(raw: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(raw)
    async def leave(self: Any, *exc_info: Any, **named: Any) -> Any:
        if find_loop("__aexit__()") is self._syncify_background.loop:
            return await raw(self, *exc_info, **named)
        try:
            return await AsyncManager.__aexit__(self, *exc_info, **named)
        except BaseException as error:
            raise shorten(error)  # noqa: B904 - the same exception
        finally:
            del exc_info, named  # may hold what is raised here, whose traceback holds this frame

    leave.__dict__["_syncify_bridge"] = leave
    return leave
