"""A call: one coroutine's trip to the background loop and back."""

import asyncio
import contextlib
import contextvars
import sys
from collections.abc import Callable, Coroutine
from typing import Any, TypeAlias

from ._loop import BackgroundLoop
from ._traceback import context_of, keep_context, shorten

__all__ = ("Call", "Raw")

Raw: TypeAlias = Callable[..., Coroutine[Any, Any, Any]]


class Call:
    """What the caller gives, and what comes back. A subclass for each kind of caller knows how to wake it.

    The coroutine is made on the loop, not by the caller: a signal handler that raises in the caller can then never
    leave a coroutine behind that nobody awaits.
    """

    __slots__ = (
        "_args",
        "_begun",
        "_borrowed",
        "_context",
        "_kwargs",
        "_raised",
        "_raw",
        "_task",
        "abandoned",
        "background",
        "done",
        "error",
        "value",
    )

    def __init__(
        self,
        background: BackgroundLoop,
        raw: Raw,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        context: contextvars.Context | None = None,
    ) -> None:
        self.background = background
        self._raw = raw
        self._args = args
        self._kwargs = kwargs
        # A context can be entered once at a time, so every call needs one of its own, or one that nobody else uses.
        self._borrowed = context is not None
        self._context = contextvars.copy_context() if context is None else context
        self._task: asyncio.Task[None] | None = None
        self._begun = False
        self.abandoned = False  # by a caller that could not even post a cancellation
        self.done = False
        self.value: Any = None
        self.error: BaseException | None = None

    def wake(self) -> None:
        """Tell the caller that the call is done."""
        raise NotImplementedError

    def take_error(self) -> BaseException:
        """Return the exception for the caller to raise.

        The call forgets it: the traceback is going to hold the caller's frame, the frame holds this call, and if that
        held the exception, the three would keep the arguments alive until the garbage collector comes.
        """
        error, self.error = self.error, None
        assert error is not None
        self._raised: tuple[BaseException, BaseException | None] | None = (error, context_of(error))
        return shorten(error)

    def keep_context(self) -> None:
        """Undo what raising that exception does to its context. To be called where it was raised."""
        raised, self._raised = self._raised, None
        assert raised is not None
        keep_context(*raised)

    # The rest runs on the background loop, where it is posted in this order: start, then any number of cancels.

    def start(self) -> None:
        loop = self.background.loop
        assert loop is not None
        if self.done:
            return
        if self.abandoned:
            self.discard(asyncio.CancelledError())
            return
        trip = self._trip()
        try:
            if self._borrowed:
                # Entered for a moment: if somebody else has, that is an error here. In the first step of the task it
                # would be one that nobody sees, and the caller would wait for ever.
                self._context.run(lambda: None)
            task = _create_task(trip, loop, self._context, self._raw.__qualname__)
            if not self._begun:
                # It starts at the loop's next turn. Cancelled before that, with all tasks of the loop, it never does.
                task.add_done_callback(self._end_unbegun, context=self.background.context)
        except BaseException as error:
            trip.close()
            self.discard(error)
            return
        if not self.done:
            self._task = task
            self.background.calls.add(self)

    async def _trip(self) -> None:
        """What the task runs: it takes the outcome of the user's coroutine and wakes the caller in the same loop turn.

        Nothing gets past it: neither SystemExit, which would stop the loop, nor the GeneratorExit of a task that is
        destroyed, which would leave the caller waiting.
        """
        self._begun = True
        try:
            self.value = await self._raw(*self._args, **self._kwargs)
        except BaseException as error:
            self.error = error
        self._end()

    def _end(self) -> None:
        if self._task is not None:
            self.background.calls.discard(self)
        self.done = True
        self.wake()

    def _end_unbegun(self, task: asyncio.Task[None]) -> None:
        if not self.done:
            self.discard(asyncio.CancelledError())

    def discard(self, error: BaseException) -> None:
        """End a call whose coroutine is not going to be started."""
        with contextlib.suppress(BaseException):  # wrong arguments, for example: there is no coroutine then
            self._raw(*self._args, **self._kwargs).close()  # one that was handed in would warn "never awaited"
        self.error = error
        self._end()

    def cancel_task(self, message: object = None) -> bool:
        """Cancel the coroutine, and return whether it was there to take notice."""
        if self._task is None:
            if not self.done:
                self.discard(asyncio.CancelledError())  # the caller was interrupted before it could post the start
            return False
        if not self._begun:
            # Awaited natively, it would run up to where it first suspends, and be cancelled there.
            self._task.get_loop().call_soon(self.cancel_task, message)
            return False
        return self._task.cancel(message)


def _create_task(
    coroutine: Coroutine[Any, Any, None], loop: asyncio.AbstractEventLoop, context: contextvars.Context, name: str
) -> asyncio.Task[None]:
    if loop.get_task_factory() is not None:
        return loop.create_task(coroutine, name=name, context=context)
    # Started eagerly, a coroutine that never suspends is done when this returns.
    return asyncio.Task(coroutine, loop=loop, name=name, context=context, **_EAGER)


_EAGER: Any = {"eager_start": True} if sys.version_info >= (3, 12) else {}
