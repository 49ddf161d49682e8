"""A generator whose producer, an async generator on the background loop, runs ahead of its consumer."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable
from sys import modules
from threading import get_ident
from typing import Any, NoReturn, TypeVar

from ._call import Call
from ._deadline import get_timeout
from ._deadlock import check_blocking
from ._generators import FORM, Iteration, SyncGenerator
from ._loop import BackgroundLoop
from ._running import running_loop
from ._traceback import shorten

__all__ = ("make_generator",)

Y = TypeVar("Y")
S = TypeVar("S")

# Items produced at a time by an async generator that never suspends, so that the loop comes to its other work.
_AT_ONCE = 256


class PrefetchedGenerator(SyncGenerator[Y, S]):
    """Takes items that are there without asking the loop. `send` and `throw` have no place in it, `close` has."""

    __slots__ = ("_ahead", "_half", "_items", "_producer")

    def __init__(self, background: BackgroundLoop, rows: AsyncGenerator[Y, S], name: str, ahead: int) -> None:
        super().__init__(background, rows, name)
        self._ahead = ahead
        self._half: int = ahead // 2
        self._items: deque[Y] = deque()
        self._producer: _Ahead | None = None

    def _start(self) -> _Ahead:
        self._producer = _Ahead(self._background, self._name, self._rows, self._items, self._ahead)
        return self._producer

    def __next__(self) -> Y:  # type: ignore[override]
        if running_loop() is not None or "trio" in modules:
            check_blocking(self._background, self._name, FORM)
        if self._finished:
            raise StopIteration
        items = self._items
        try:
            item = items.popleft()
        except IndexError:
            pass
        else:
            self._thread = get_ident()
            # Resumed for many items at a time, as that is what costs.
            producer = self._producer
            if len(items) > self._half or producer is None or not producer.paused:
                return item
            # The same goes for a look at the time that `timeout` has set.
            timeout = get_timeout()
            if timeout is None or (until := timeout.get_deadline()) is None or time.monotonic() < until:
                producer.paused = False
                self._background.post(producer.fill)
                return item
            items.clear()
        try:
            return self._resume(_next_item, None)
        except BaseException as error:
            raise shorten(error)  # noqa: B904 - the same exception

    def send(self, value: Any, /) -> Y:  # type: ignore[override]
        """Refuse a value: the yield that it would answer has been left behind."""
        if value is not None:
            self._refuse("send()")
        return next(self)

    def throw(self, *error: Any) -> NoReturn:
        """Refuse: the yield that it would strike has been left behind."""
        self._refuse("throw()")

    def _refuse(self, method: str) -> NoReturn:
        raise RuntimeError(
            f"{self._name}() is prefetched: it runs ahead of its consumer, so {method} comes too late. "
            f"Decorate it without prefetch, or use close()"
        )


_WHEN_DONE = (StopAsyncIteration, type(None))
_WHEN_STOPPED = (asyncio.CancelledError, GeneratorExit, *_WHEN_DONE)


async def _next_item(argument: None) -> NoReturn:
    """Marks the call of a consumer that has found no item. It is answered when there is one, not run."""
    raise NotImplementedError


class _Ahead(Iteration):
    """Fills a queue of items, up to so many, and pauses until the consumer has taken half of them.

    A run of the producer, until the queue is full, is a call that nobody waits for. At most one is under way.
    """

    __slots__ = ("__weakref__", "_ahead", "_consumer", "_filling", "_items", "_stopping", "paused")

    def __init__(
        self, background: BackgroundLoop, name: str, rows: AsyncGenerator[Any, Any], items: deque[Any], ahead: int
    ) -> None:
        super().__init__(background, name, rows)
        self._items = items  # appended to on the loop, taken from by the consumer's thread
        self._ahead = ahead
        self._consumer: Call | None = None  # which waits for an item
        self._filling = False
        self._stopping = False
        self.paused = False  # told to the consumer, who answers by posting `fill`
        background.losable.add(self)  # even when the producer has come to its end

    def take(self, call: Call) -> None:
        if not self._finished or hasattr(self, "verdict"):
            self._check_process()
        if call.raw is _next_item:
            self._consumer = call
            self.fill()
            self._answer_consumer()
            self.fill()  # there is room again
            if not call.done:
                call.taken(self._task, self._begun)  # so that its cancellation reaches the producer
            return
        # The end. All that is ahead is dropped, and the producer may be on its way to another item.
        self._stopping = True
        self._items.clear()
        self._outcome = None
        if self._filling:
            assert self._task is not None
            self._task.cancel()
        super().take(call)

    def lose(self) -> None:
        if self._loop is not None:  # it has begun
            self._items.clear()  # the parent takes them
            self._outcome = None, RuntimeError(f"{self.name}() was begun before a fork, and goes on in the parent")

    def fill(self) -> None:
        """Let the producer run until the queue is full."""
        if not (self._filling or self._stopping or self.ended or self._is_full() or self.belongs_elsewhere):
            filling = _Filling(self)
            self._filling = True
            self.paused = False
            try:
                super().take(filling)
            except BaseException:  # there is no memory, for example
                self._filling = False
                raise

    def _is_full(self) -> bool:
        return len(self._items) >= self._ahead

    async def produce(self) -> None:
        if self._consumer is not None:
            self._consumer.taken(self._task, True)
        produce, items, room = self.rows.asend, self._items, self._ahead
        for _ in range(_AT_ONCE):
            items.append(await produce(None))
            if self._consumer is not None:
                self._answer_consumer()
            if len(items) >= room or self._stopping:
                break

    def filled(self, error: BaseException | None) -> None:
        """Go on after a run of the producer."""
        self._filling = False
        expected = _WHEN_STOPPED if self._stopping else _WHEN_DONE
        if not isinstance(error, expected):
            self._outcome = None, error  # for the consumer, after the items; or for who is closing it
        self._answer_consumer()
        self.paused = True  # before looking for room, since the consumer makes room before it looks at this
        if not self._is_full():
            assert self._loop is not None
            self._loop.call_soon(self.fill, context=self.background.context)

    def _answer_consumer(self) -> None:
        consumer = self._consumer
        if consumer is None or not (consumer.done or self._items or self.ended):
            return
        if not consumer.done:  # it was not cancelled
            try:
                item = self._items.popleft()
            except IndexError:
                if not self.ended:
                    return  # another thread has just taken the last; there will be more
                if self._stopping:  # by somebody else, at the end of the program for example
                    consumer.end(error=asyncio.CancelledError())
                else:
                    super()._answer(consumer)
            else:
                consumer.end(item)
        self._consumer = None

    def _answer(self, call: Call) -> None:
        if isinstance(call, _Filling) and self._outcome is not None and self._outcome[1] is None:
            # The producer has answered a strike with an item.
            self._items.append(self._outcome[0])
            self._outcome = None
            call.end()
        else:
            super()._answer(call)

    def _answer_all(self) -> None:
        super()._answer_all()
        self._answer_consumer()


class _Filling(Call):
    """A run of the producer."""

    __slots__ = ("_conversation",)

    def __init__(self, conversation: _Ahead) -> None:
        super().__init__(conversation.background, conversation.produce, (), {}, None, conversation)
        self._conversation = conversation

    def wake(self) -> None:
        error, self.error = self.error, None
        self._conversation.filled(error)


def make_generator(
    background: BackgroundLoop, raw: Callable[..., AsyncGenerator[Y, S]], prefetch: int | None
) -> Callable[..., SyncGenerator[Y, S]]:
    """Return what makes the generators for plain code."""

    def make(*args: Any, **kwargs: Any) -> SyncGenerator[Y, S]:
        rows = raw(*args, **kwargs)
        if prefetch is None:
            return SyncGenerator(background, rows, raw.__qualname__)
        return PrefetchedGenerator(background, rows, raw.__qualname__, prefetch)

    return make
