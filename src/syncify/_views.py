"""What a caller gets for an async iterator that a coroutine returns, whose steps have to run on the background loop."""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, AsyncIterator
from sys import modules
from types import AsyncGeneratorType
from typing import Any, Generic, TypeVar

from ._callers import BlockingCall, awaited, find_loop
from ._conversation import Conversation, release
from ._deadlock import check_blocking
from ._generators import SyncGenerator, make_async_generator
from ._loop import BackgroundLoop
from ._running import running_loop

__all__ = ("async_view", "view")

T = TypeVar("T")


def view(background: BackgroundLoop, value: Any) -> Any:
    """Return the value, or what plain code is to have for it."""
    if not _needs_view(value):
        return value
    if isinstance(value, AsyncGenerator):
        return SyncGenerator(background, value, _name_of(value), begun=_has_begun(value))
    return AsyncIteratorView(background, value)


def async_view(background: BackgroundLoop, value: Any) -> Any:
    """Return the value, or what async code on other loops is to have for it."""
    if not _needs_view(value):
        return value
    if isinstance(value, AsyncGenerator):

        def rows() -> AsyncGenerator[Any, Any]:
            return value

        rows.__qualname__ = _name_of(value)
        return make_async_generator(background, rows)()
    return AsyncIteratorView(background, value)


def _needs_view(value: object) -> bool:
    kind = type(value)
    # For nearly all values the first of these is all. What plain code can iterate over is left to do that by itself;
    # a mock is such a thing.
    return hasattr(kind, "__anext__") and isinstance(value, AsyncIterator) and not hasattr(kind, "__iter__")


def _has_begun(rows: AsyncGenerator[Any, Any]) -> bool:
    if not isinstance(rows, AsyncGeneratorType):
        return True  # it may have
    if sys.version_info >= (3, 12):
        return rows.ag_suspended
    frame = rows.ag_frame
    return frame is not None and frame.f_lasti > 4  # the instructions that make a generator come before


class _Reading(Conversation):
    """The steps of an async iterator, in one task."""

    __slots__ = ("_own", "begins")

    is_shared = True

    def __init__(self, background: BackgroundLoop, name: str) -> None:
        super().__init__(background, name)
        self.begins = False  # set for a loop that begins: `async for` asks for an iterator first
        self._own: AsyncIterator[Any] | None = None  # what that gave, if it is another

    # The iterator itself is the view's. What it refers to may come to refer to the view, which is to be missed then.

    async def step(self, iterator: AsyncIterator[Any]) -> Any:
        if self.begins:
            self.begins = False
            own = type(iterator).__aiter__(iterator)
            self._own = None if own is iterator else own
        current = iterator if self._own is None else self._own
        return await type(current).__anext__(current)

    async def close(self) -> None:
        self.ended = True
        if isinstance(self._own, AsyncGenerator):
            await self._own.aclose()


class AsyncIteratorView(Generic[T]):
    """An async iterator of the background loop, for plain code and for other loops.

    All its steps run in one task there. All other attributes are those of the iterator itself, but for special methods.
    """

    __slots__ = ("__weakref__", "_syncify_background", "_syncify_conversation", "_syncify_iterator")

    _syncify_background: BackgroundLoop
    _syncify_conversation: _Reading
    _syncify_iterator: AsyncIterator[T]

    def __init__(self, background: BackgroundLoop, iterator: AsyncIterator[T]) -> None:
        object.__setattr__(self, "_syncify_background", background)
        object.__setattr__(self, "_syncify_iterator", iterator)
        object.__setattr__(self, "_syncify_conversation", _Reading(background, _name_of(iterator)))

    def __iter__(self) -> AsyncIteratorView[T]:
        self._syncify_conversation.begins = True
        return self

    def __next__(self) -> T:
        background = self._syncify_background
        if running_loop() is not None or "trio" in modules:
            check_blocking(background, f"{_name_of(self._syncify_iterator)}.__next__", "async for ... in")
        conversation = self._syncify_conversation
        call = BlockingCall(background, conversation.step, (self._syncify_iterator,), {}, None, conversation)
        call.wait()
        if call.error is not None:
            if isinstance(call.error, StopAsyncIteration):
                raise StopIteration
            try:
                raise call.take_error()
            finally:
                call.keep_context()
        return call.value  # type: ignore[no-any-return]

    def __aiter__(self) -> AsyncIteratorView[T]:
        self._syncify_conversation.begins = True
        return self

    async def __anext__(self) -> T:
        background = self._syncify_background
        loop = find_loop("__anext__()")
        conversation = self._syncify_conversation
        call = awaited(loop, background, conversation.step, (self._syncify_iterator,), {}, None, conversation)
        await call
        if call.error is not None:
            try:
                raise call.take_error()
            finally:
                call.keep_context()
        return call.value  # type: ignore[no-any-return]

    def __getattr__(self, name: str) -> Any:
        if name in AsyncIteratorView.__slots__:  # an interrupt has struck while this was made
            raise AttributeError(name)
        return getattr(self._syncify_iterator, name)

    def __setattr__(self, name: str, value: object) -> None:
        setattr(self._syncify_iterator, name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self._syncify_iterator, name)

    def __dir__(self) -> list[str]:
        return dir(self._syncify_iterator)

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise TypeError(f"{self!r} cannot be copied or pickled: its iterator belongs to a running event loop")

    def __repr__(self) -> str:
        return f"<view of {self._syncify_iterator!r}>"

    def __del__(self) -> None:
        conversation: Conversation | None = getattr(self, "_syncify_conversation", None)
        if conversation is not None:
            try:
                release(conversation)
            except BaseException:  # of a signal handler, and Python is going to swallow it
                release(conversation)
                raise


def _name_of(iterator: object) -> str:
    """The name of a generator's function, or else of the class."""
    return str(iterator.__qualname__ if isinstance(iterator, AsyncGeneratorType) else type(iterator).__qualname__)
