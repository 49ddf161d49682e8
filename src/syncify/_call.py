"""A call: one coroutine's trip to the background loop and back."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import sys
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Protocol, TypeAlias, TypeGuard

from ._errors import ClosedError
from ._loop import BackgroundLoop
from ._shutdown import close_coroutine
from ._traceback import context_of, keep_context, shorten

__all__ = ("Call", "Raw", "Taker", "create_task", "is_failure", "why_unbegun")

Raw: TypeAlias = Callable[..., Any]  # which returns an awaitable


class Taker(Protocol):
    """Something that takes calls into a task of its own, one after another."""

    name: str

    @property
    def task(self) -> asyncio.Task[None] | None: ...

    def take(self, call: Call) -> None: ...


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
        "_unbegun",
        "abandoned",
        "args",
        "background",
        "done",
        "error",
        "raw",
        "started",
        "value",
        "verdict",
    )

    verdict: BaseException  # set when others end it: what its caller gets if the coroutine is cancelled

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
        self._unbegun = True  # until it begins or is given up: there may be two, and one of them can delete it
        self._begun = False
        self.abandoned = False  # by a caller that does not wait any longer, if it has not been started
        self.started = False
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

    def has_loop(self) -> bool:
        """Start the loop, if there is none, for a caller in async code. False if that is refused: it is the outcome."""
        if self.background.loop is None or self.background.has_no_thread:
            try:
                self.background.get_loop()
            except ClosedError as refusal:
                self.error = refusal
                self.done = True
                return False
        return True

    # The rest runs on the background loop, where it is posted in this order: start, then any number of cancels.

    def start(self) -> None:
        if self.done:
            return
        self.started = True  # before this looks at `abandoned`; who sets that looks at this afterwards
        if self.abandoned:
            self.discard(asyncio.CancelledError())
            return
        background = self.background
        background.calls.add(self)  # before this looks at the loop; who takes that away looks at these afterwards
        loop = background.loop
        if loop is None or background.closing is not None:
            self.discard(background.refusal())
            return
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
                task.add_done_callback(self._end_unbegun, context=background.context)
            self._task = task
        except BaseException as error:
            if self.done:  # a task factory has raised after it had run the task
                background.report("a call could not be handled", error)
            self.discard(error)

    async def _trip(self) -> None:
        """What the task runs: it takes the outcome of the user's coroutine and wakes the caller in the same loop turn.

        Nothing gets past it: neither SystemExit, which would stop the loop, nor the GeneratorExit of a task that is
        destroyed, which would leave the caller waiting.
        """
        try:
            del self._unbegun
        except AttributeError:
            return  # it was given up just now
        self._begun = True
        value = error = None
        try:
            value = await self.raw(*self.args, **self._kwargs)
        except BaseException as raised:
            error = raised
        try:
            if self._borrowed:
                # The caller may enter the context again as soon as it is told, and this has yet to leave it.
                asyncio.get_running_loop().call_soon(self.end, value, error, context=self.background.context)
            else:
                self.end(value, error)
        except BaseException as failure:  # there is no memory, for example
            self.background.failed(self.start, failure)
        del value, error  # the exception's traceback holds this frame

    def _end_unbegun(self, task: asyncio.Task[None]) -> None:
        if not self.done:
            self.discard(why_unbegun(task))

    def end(self, value: Any = None, error: BaseException | None = None) -> None:
        """Tell the caller the outcome. The first one counts, which may be the verdict of somebody who gives it up."""
        try:
            # They may hold the frame of the caller, who holds this: what is thrown into a generator does. And they can
            # be deleted once: that decides which outcome is the first.
            del self.args
        except AttributeError:
            return
        self.background.calls.discard(self)
        if error is not None and isinstance(error, _ENDED):
            error = getattr(self, "verdict", error)
        self.value = value
        self.error = error
        self.done = True
        self.wake()

    def give_up(self) -> None:
        """Tell the caller the verdict, whatever comes of the coroutine. Any thread may do so."""
        try:
            del self._unbegun  # in one thread: this one, or that of the loop, which may be about to begin it
        except AttributeError:
            self.end(error=self.verdict)
        else:
            self.discard(self.verdict)

    def bury(self) -> None:
        """Give up, and close the coroutine: its loop does not run any more. In the thread of that."""
        task = self._task
        self.give_up()
        if task is not None and self._taker is None:
            close_coroutine(task, self._context)

    def lose(self) -> None:
        """Tell the caller, if it is in this process, that it has been forked and the call goes on in the other."""

    def discard(self, error: BaseException) -> None:
        """End a call whose coroutine is not going to be started."""
        if self._taker is None:
            with contextlib.suppress(BaseException):  # wrong arguments, for example: there is no coroutine then
                coroutine: Any = self.make_awaitable()
                coroutine.close()  # one that was handed in would warn "never awaited"
        self.end(error=error)

    def cancel_by_caller(self, message: object = None) -> None:
        """Cancel the coroutine for its caller."""
        if not hasattr(self, "verdict"):  # or it has been cancelled already, and cleans up
            self.cancel_task(message)

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

    def abort(self, at_once: bool) -> asyncio.Task[None] | None:
        """End it soon, with the verdict. A conversation does that with its own calls."""
        if self._taker is not None:
            return None
        if at_once:
            self.cancel_task()
        return self._task

    @property
    def name(self) -> str:
        return self.raw.__qualname__ if self._taker is None else self._taker.name

    @property
    def task(self) -> asyncio.Task[None] | None:
        """What it waits for: its own task, or that of the conversation, perhaps still in an earlier call."""
        return self._task if self._taker is None else self._taker.task

    @classmethod
    def note_task(cls, task: asyncio.Task[Any]) -> None:
        """Let a call know the task that runs it, in its first step already, when `start` does not know it yet."""
        coroutine: Any = task.get_coro()
        if getattr(coroutine, "cr_code", None) is cls._trip.__code__:
            coroutine.cr_frame.f_locals["self"]._task = task

    # What the task of a conversation needs of the calls that it takes.

    def taken(self, task: asyncio.Task[None] | None, begun: bool) -> None:
        """Note the task that this runs in, and whether that has begun."""
        self._task = task
        self._begun = begun

    def make_awaitable(self) -> Awaitable[Any]:
        """Call what is to be called."""
        return self.raw(*self.args, **self._kwargs)  # type: ignore[no-any-return]


def is_failure(error: BaseException | None) -> TypeGuard[BaseException]:
    """Tell whether something has gone wrong, or a coroutine has just ended since it was told to."""
    if isinstance(error, BaseExceptionGroup):  # a task group makes one of a GeneratorExit
        return error.split(_NO_FAILURE)[1] is not None
    return not isinstance(error, (*_NO_FAILURE, type(None)))


_ENDED = (asyncio.CancelledError, GeneratorExit)  # what a coroutine raises when it is told to end, and does
_NO_FAILURE = (*_ENDED, StopAsyncIteration)  # an async generator may return, too


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


def why_unbegun(task: asyncio.Task[None]) -> BaseException:
    """Return why a task has ended before its first step."""
    error = None if task.cancelled() else task.exception()  # that there was no memory for it, for example
    return error or asyncio.CancelledError()


_EAGER: Any = {"eager_start": True} if sys.version_info >= (3, 12) else {}
