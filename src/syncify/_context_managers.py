"""How an async context manager that lives on the background loop is entered and left from elsewhere."""

from __future__ import annotations

import asyncio
import functools
import threading
import weakref
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager, AsyncContextDecorator, ContextDecorator
from sys import modules
from types import TracebackType
from typing import Any, TypeVar

from ._callers import BlockingCall, awaited, find_loop
from ._conversation import Conversation, Hold, end_cancelled, end_interrupted
from ._deadlock import check_blocking
from ._errors import ClosedError
from ._loop import BackgroundLoop
from ._running import running_loop
from ._traceback import shorten
from ._trio import current_trio_task
from ._views import async_view, view

__all__ = ("AsyncManager", "Stays", "SyncManager", "make_managers")

T = TypeVar("T")


class Stay(Conversation):
    """The time between enter and exit of an async context manager, in one task."""

    __slots__ = ("_manager",)

    def __init__(self, background: BackgroundLoop, name: str, manager: Callable[[], Any]) -> None:
        super().__init__(background, name)
        # Returns it, for what holds the stay must not be held by it, or nobody would notice when it is dropped.
        self._manager = manager

    async def enter(self) -> Any:
        manager = self._manager()
        kind = type(manager)
        if not (hasattr(kind, "__aenter__") and hasattr(kind, "__aexit__")):
            raise TypeError(f"{self.name}() was to give an async context manager, and gave {manager!r}")
        return await kind.__aenter__(manager)

    async def leave(self, *exc_info: Any) -> Any:
        self.ended = True
        manager = self._manager()
        try:
            # One that has a `with` of its own is gone when it is dropped; natively nobody would leave it, either.
            return None if manager is None else await type(manager).__aexit__(manager, *exc_info)
        finally:
            del exc_info  # what is raised here may be that, and its traceback holds this frame

    async def throw(self, error: BaseException) -> None:
        try:
            if not await self.leave(type(error), error, error.__traceback__):
                raise error
        finally:
            del error


class Stays:
    """The stays that have not ended in one context manager, each with who has entered.

    Some are entered several times, by several threads and tasks at once: locks, for example. Who leaves ends a stay of
    his own, the last one; or the last one of all if he has none.
    """

    __slots__ = ("_entries", "owner")

    def __init__(self, owner: object = None) -> None:
        self._entries: list[tuple[object, Hold[Stay]]] = []
        self.owner: Callable[[], object] = _nobody if owner is None else weakref.ref(owner)

    def __reduce__(self) -> tuple[Any, ...]:
        return Stays, ()  # a copy of what has been entered has not been

    def add(self, hold: Hold[Stay]) -> None:
        self._entries.append((_caller(), hold))

    def take(self) -> Hold[Stay]:
        caller = _caller()
        while entries := self._entries.copy():  # other threads add and take at the same time
            entry = next((entry for entry in reversed(entries) if entry[0] == caller), entries[-1])
            try:
                self._entries.remove(entry)
            except ValueError:  # another thread was faster
                continue
            return entry[1]
        raise RuntimeError("the context manager has not been entered, or has been left already")


def _nobody() -> None:
    return None


def _caller() -> object:
    task = current_trio_task()
    if task is not None:
        return task
    loop = running_loop()
    return threading.get_ident() if loop is None else asyncio.current_task(loop)


class _Manager:
    """What the two kinds have in common: the async context manager that the function has returned, or is to return.

    The names are such that a class of a user, which borrows the methods below, has none of them.
    """

    _syncify_form = "async with {}.aio(...)"  # what async code is to write instead of a blocking `with`

    def __init__(self, background: BackgroundLoop, name: str, make: Callable[[], Any], at_once: bool) -> None:
        self._syncify_background = background
        self._syncify_name = name
        self._syncify_stays = Stays()
        self._syncify_manager = functools.cache(make)
        self._make = make
        self._at_once = at_once
        if at_once:
            self._syncify_manager()

    def _recreate_cm(self) -> Any:  # asked for by contextlib for each call of a function that this decorates
        return type(self)(self._syncify_background, self._syncify_name, self._make, self._at_once)


class SyncManager(_Manager, AbstractContextManager[T], ContextDecorator):
    """An async context manager as a context manager, for plain code."""

    def __enter__(self) -> T:
        background = self._syncify_background
        if running_loop() is not None or "trio" in modules:
            check_blocking(background, self._syncify_name, self._syncify_form)
        hold = Hold(Stay(background, self._syncify_name, self._syncify_manager))
        stay = hold.conversation
        call = None
        try:
            call = BlockingCall(background, stay.enter, (), {}, None, stay)
            call.wait()
            if call.error is None:
                self._syncify_stays.add(hold)
                value: Any = self if call.value is self else view(background, call.value)
                return value  # type: ignore[no-any-return]
        except BaseException as interrupt:
            end_interrupted(stay, call, interrupt)
            raise
        try:
            raise call.take_error()
        finally:
            call.keep_context()

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        if running_loop() is not None or "trio" in modules:
            check_blocking(self._syncify_background, self._syncify_name, self._syncify_form)
        hold = self._syncify_stays.take()
        stay = hold.conversation
        call = None
        try:
            call = BlockingCall(self._syncify_background, stay.leave, (exc_type, exc, traceback), {}, None, stay)
            call.wait(ends=True)
        except BaseException as interrupt:
            end_interrupted(stay, call, interrupt)
            raise
        finally:
            del exc, traceback  # may be what is raised here, and its traceback holds this frame
        if exc_type is not None and isinstance(call.error, ClosedError):
            return None  # it was left with its loop; what the body has raised, an interrupt perhaps, is to be seen
        if call.error is not None:
            try:
                raise call.take_error()
            finally:
                call.keep_context()
        return call.value  # type: ignore[no-any-return]


class AsyncManager(_Manager, AbstractAsyncContextManager[T], AsyncContextDecorator):
    """An async context manager for async code on any loop."""

    async def __aenter__(self) -> T:
        background = self._syncify_background
        loop = find_loop(self._syncify_name)
        hold = Hold(Stay(background, self._syncify_name, self._syncify_manager))
        stay = hold.conversation
        if loop is background.loop:
            # In the caller's own task.
            try:
                value: T = await stay.enter()
            except BaseException as error:
                raise shorten(error)  # noqa: B904 - the same exception
            self._syncify_stays.add(hold)
            return value
        call = awaited(loop, background, stay.enter, (), {}, None, stay)
        await call
        if call.error is None:
            self._syncify_stays.add(hold)
            entered: Any = self if call.value is self else async_view(background, call.value)
            return entered  # type: ignore[no-any-return]
        await end_cancelled(stay, call)  # when it had been entered
        try:
            raise call.take_error()
        finally:
            call.keep_context()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> bool | None:
        loop = find_loop(self._syncify_name)
        hold = self._syncify_stays.take()
        stay = hold.conversation
        if loop is self._syncify_background.loop and not stay.open:
            try:
                suppress: bool | None = await stay.leave(exc_type, exc, traceback)
                return suppress
            except BaseException as error:
                raise shorten(error)  # noqa: B904 - the same exception
            finally:
                del exc, traceback
        call = awaited(
            loop, self._syncify_background, stay.leave, (exc_type, exc, traceback), {}, None, stay, ends=True
        )
        try:
            await call
        finally:
            del exc, traceback
        if exc_type is not None and isinstance(call.error, ClosedError):
            return None  # as in `__exit__` above
        if call.error is not None:
            try:
                raise call.take_error()
            finally:
                call.keep_context()
        return call.value  # type: ignore[no-any-return]


def make_managers(
    background: BackgroundLoop, raw: Callable[..., Any], at_once: bool
) -> tuple[Callable[..., SyncManager[Any]], Callable[..., AsyncManager[Any]]]:
    """Return what makes the context managers for plain code and for async code.

    `at_once` is whether the function is called when these are made, and not when they are entered.
    """

    def make(*args: Any, **kwargs: Any) -> SyncManager[Any]:
        return SyncManager(background, raw.__qualname__, functools.partial(raw, *args, **kwargs), at_once)

    def aio(*args: Any, **kwargs: Any) -> AsyncManager[Any]:
        return AsyncManager(background, raw.__qualname__, functools.partial(raw, *args, **kwargs), at_once)

    functools.update_wrapper(aio, raw)
    return make, aio
