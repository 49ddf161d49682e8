"""What a caller gets for an async iterator that a coroutine returns, whose steps have to run on the background loop."""

from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any, Generic, TypeVar

from ._callers import AwaitedCall, BlockingCall
from ._conversation import Conversation, release
from ._deadlock import check_blocking
from ._generators import SyncGenerator, make_async_generator
from ._loop import BackgroundLoop, running_loop

__all__ = ("async_view", "view")

T = TypeVar("T")


def view(background: BackgroundLoop, value: Any) -> Any:
    """Return the value, or what plain code is to have for it."""
    # For nearly all values the first of these is all.
    if not hasattr(type(value), "__anext__") or not isinstance(value, AsyncIterator):
        return value
    if isinstance(value, AsyncGenerator):
        return SyncGenerator(background, value, _name_of(value))
    return AsyncIteratorView(background, value)


def async_view(background: BackgroundLoop, value: Any) -> Any:
    """Return the value, or what async code on other loops is to have for it."""
    if not hasattr(type(value), "__anext__") or not isinstance(value, AsyncIterator):
        return value
    if isinstance(value, AsyncGenerator):

        def rows() -> AsyncGenerator[Any, Any]:
            return value

        rows.__qualname__ = _name_of(value)
        return make_async_generator(background, rows)()
    return AsyncIteratorView(background, value)


class _Reading(Conversation):
    ends_with_errors = False  # some iterators go on after one


class AsyncIteratorView(Generic[T]):
    """An async iterator of the background loop, for plain code and for other loops.

    All its steps run in one task there. All other attributes are those of the iterator itself.
    """

    __slots__ = ("__weakref__", "_syncify_background", "_syncify_conversation", "_syncify_iterator")

    _syncify_background: BackgroundLoop
    _syncify_conversation: Conversation
    _syncify_iterator: AsyncIterator[T]

    def __init__(self, background: BackgroundLoop, iterator: AsyncIterator[T]) -> None:
        object.__setattr__(self, "_syncify_background", background)
        object.__setattr__(self, "_syncify_iterator", iterator)
        object.__setattr__(self, "_syncify_conversation", _Reading(background, _name_of(iterator)))

    def __iter__(self) -> "AsyncIteratorView[T]":
        return self

    def __next__(self) -> T:
        background = self._syncify_background
        if running_loop() is not None:
            check_blocking(background, f"{_name_of(self._syncify_iterator)}.__next__", "async for ... in")
        call = BlockingCall(background, self._syncify_iterator.__anext__, (), {}, None, self._syncify_conversation)
        call.wait()
        if call.error is not None:
            if isinstance(call.error, StopAsyncIteration):
                raise StopIteration
            try:
                raise call.take_error()
            finally:
                call.keep_context()
        return call.value  # type: ignore[no-any-return]

    def __aiter__(self) -> "AsyncIteratorView[T]":
        return self

    async def __anext__(self) -> T:
        background = self._syncify_background
        loop = running_loop()
        if loop is None:
            raise RuntimeError(f"{self!r} was iterated where no asyncio event loop runs")
        call = AwaitedCall(loop, background, self._syncify_iterator.__anext__, (), {}, None, self._syncify_conversation)
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

    def __repr__(self) -> str:
        return f"<view of {self._syncify_iterator!r}>"

    def __del__(self) -> None:
        conversation: Conversation | None = getattr(self, "_syncify_conversation", None)
        if conversation is not None:
            release(conversation)


def _name_of(iterator: object) -> str:
    """The name of a generator's function, or else of the class."""
    return str(getattr(iterator, "__qualname__", None) or type(iterator).__qualname__)
