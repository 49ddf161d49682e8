"""A call: one coroutine's trip to the background loop and back."""

import asyncio
import contextlib
import contextvars
import sys
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Protocol, TypeAlias

from ._loop import BackgroundLoop
from ._traceback import context_of, keep_context, shorten

__all__ = ("Call", "Raw", "Taker", "create_task")

Raw: TypeAlias = Callable[..., Any]  # which returns an awaitable


class Taker(Protocol):
    """Something that takes calls into a task of its own, one after another."""

    def take(self, call: "Call") -> None: ...


class Call:
    """What the caller gives, and what comes back. A subclass for each kind of caller knows how to wake it.

    The coroutine is made on the loop, not by the caller: a signal handler that raises in the caller can then never
    leave a coroutine behind that nobody awaits.
    """

    __slots__ = (
        "_begun",
        "_borrowed",
        "_context",
        "_kwargs",
        "_raised",
        "_taker",
        "_task",
        "abandoned",
        "args",
        "background",
        "done",
        "error",
        "raw",
        "value",
    )

    def __init__(
        self,
        background: BackgroundLoop,
        raw: Raw,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        context: contextvars.Context | None = None,
        taker: Taker | None = None,
    ) -> None:
        self.background = background
        self.raw = raw
        self.args: tuple[Any, ...] = args
        self._kwargs = kwargs
        self._taker = taker
        if taker is None:
            # A context can be entered once at a time, so every call needs one of its own, or one nobody else uses.
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
        raised: Any = getattr(self, "_raised", None)
        if raised is not None:  # which it is if a signal handler has raised instead
            self._raised = None
            keep_context(*raised)

    # The rest runs on the background loop, where it is posted in this order: start, then any number of cancels.

    def start(self) -> None:
        if self.done:
            return
        if self.abandoned:
            self.discard(asyncio.CancelledError())
            return
        loop = self.background.loop
        assert loop is not None
        try:
            if self._taker is not None:
                self._taker.take(self)
                return
            if self._borrowed:
                # Entered for a moment: if somebody else has, that is an error here. In the first step of the task it
                # would be one that nobody sees, and the caller would wait for ever.
                self._context.run(lambda: None)
            task = create_task(self._trip(), loop, self._context, self.raw.__qualname__)
            if not self._begun:
                # It starts at the loop's next turn. Cancelled before that, with all tasks of the loop, it never does.
                task.add_done_callback(self._end_unbegun, context=self.background.context)
        except BaseException as error:
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
            self.value = await self.raw(*self.args, **self._kwargs)
        except BaseException as error:
            self.error = error
        self.end()

    def _end_unbegun(self, task: asyncio.Task[None]) -> None:
        if not self.done:
            self.discard(asyncio.CancelledError())

    def end(self) -> None:
        """Tell the caller that the outcome is there."""
        if self._task is not None:
            self.background.calls.discard(self)
        self.args = ()  # they may hold the frame of the caller, who holds this: what is thrown into a generator does
        self.done = True
        self.wake()

    def discard(self, error: BaseException) -> None:
        """End a call whose coroutine is not going to be started."""
        if self._taker is None:
            with contextlib.suppress(BaseException):  # wrong arguments, for example: there is no coroutine then
                coroutine: Any = self.make_awaitable()
                coroutine.close()  # one that was handed in would warn "never awaited"
        self.error = error
        self.end()

    def cancel_task(self, message: object = None) -> bool:
        """Cancel the coroutine, and return whether it was there to take notice."""
        if self.done:
            return False
        if self._task is None:
            self.discard(asyncio.CancelledError())  # the caller was interrupted before it could post the start
            return False
        if not self._begun:
            # Awaited natively, it would run up to where it first suspends, and be cancelled there.
            self._task.get_loop().call_soon(self.cancel_task, message)
            return False
        return self._task.cancel(message)

    def abort(self) -> asyncio.Task[None]:
        assert self._task is not None
        self.cancel_task()
        return self._task

    # What the task of a conversation needs of the calls that it takes.

    def taken(self, task: "asyncio.Task[None] | None", begun: bool) -> None:
        """Note the task that this runs in, and whether that has begun."""
        self._task = task
        self._begun = begun

    def make_awaitable(self) -> Awaitable[Any]:
        """Call what is to be called."""
        return self.raw(*self.args, **self._kwargs)  # type: ignore[no-any-return]


def create_task(
    coroutine: Coroutine[Any, Any, None], loop: asyncio.AbstractEventLoop, context: contextvars.Context, name: str
) -> asyncio.Task[None]:
    """Start the coroutine in a task, and close it if that fails."""
    try:
        if loop.get_task_factory() is not None:
            task = loop.create_task(coroutine, name=name, context=context)
            if not asyncio.isfuture(task):
                raise TypeError(f"the task factory of the loop has to return a task, got {task!r}")
            return task
        # Started eagerly, a coroutine that never suspends is done when this returns.
        return asyncio.Task(coroutine, loop=loop, name=name, context=context, **_EAGER)
    except BaseException:
        coroutine.close()
        raise


_EAGER: Any = {"eager_start": True} if sys.version_info >= (3, 12) else {}
