"""A conversation: one task on the background loop that takes calls one after another."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from collections import deque
from collections.abc import Callable, Generator
from typing import Any, ClassVar, Generic, TypeVar

from ._call import Call, create_task, is_failure, why_unbegun
from ._callers import AwaitedCall, BlockingCall, awaited
from ._loop import BackgroundLoop
from ._running import running_loop
from ._shutdown import close_coroutine
from ._trio import TrioCall

__all__ = ("Conversation", "Hold", "end_cancelled", "end_interrupted", "release")

C = TypeVar("C", bound="Conversation")


class Conversation:
    """Runs the calls that it takes in one task and one context: what one of them has entered, the next can leave.

    Between two calls the task is parked: it awaits this object, which to it is a future (see `asyncio.isfuture`). The
    next call resumes it in the very turn of the loop that brings the call; a real future would take one turn more.

    A cancellation may come while the task is parked, from an `asyncio.timeout` or a task group that an earlier call has
    entered. It is passed to `throw` at once. What comes of that is the outcome of the next call.

    The conversation ends with the first call that raises, as a rule, or when `ended` is set in a call.
    """

    # Whether several callers may be at it, who know nothing of each other. Then an error or a cancellation of one of
    # them is no concern of the others, and the conversation goes on.
    is_shared: ClassVar = False

    __slots__ = (
        "_asyncio_future_blocking",
        "_begun",
        "_calls",
        "_context",
        "_finished",
        "_loop",
        "_outcome",
        "_strike",
        "_task",
        "_wakeup",
        "background",
        "ended",
        "name",
        "verdict",
    )

    verdict: BaseException

    def __init__(self, background: BackgroundLoop, name: str) -> None:
        self.background = background
        self.name = name
        self._context = contextvars.copy_context()
        self._calls: deque[Call] = deque()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._begun = False
        self._wakeup: tuple[Callable[..., object], contextvars.Context] | None = None  # while the task is parked
        self._strike: asyncio.CancelledError | None = None
        self._outcome: tuple[Any, BaseException | None] | None = None  # what came of it
        # Set on the loop before the caller is told, who may look at it then. The last call may be under way.
        self.ended = False
        self._finished = False  # and the task has ended

    async def throw(self, error: BaseException) -> Any:
        """Raise the error where the last call left off. To be overridden where there is such a place."""
        raise error

    # What callers ask, in any thread.

    @property
    def open(self) -> bool:
        """Whether it has begun and not ended. Code on the background loop itself does not begin it."""
        return self._loop is not None and not self.ended

    @property
    def belongs_elsewhere(self) -> bool:
        """Whether it is of a loop that this process does not have, since it has been forked."""
        return self._loop not in (None, self.background.loop)

    @property
    def over(self) -> bool:
        """Whether it has ended, and nothing is left to be told."""
        return self.ended and self._outcome is None

    # All that follows runs on the background loop.

    def take(self, call: Call) -> None:
        """Run a call when those before it are done."""
        if not self._finished or hasattr(self, "verdict"):  # it was ended with its loop
            self._check_process()
        if self._finished:
            self._answer(call)
            return
        if not self.is_shared:
            call.taken(self._task, self._begun)  # so its cancellation strikes what it is waiting for
        self._calls.append(call)
        if self._task is None:
            self._start(call)
        elif self._wakeup is not None:
            wakeup, context = self._wakeup
            self._wakeup = None
            context.run(wakeup, self)

    def _check_process(self) -> None:
        # Not that of `background`, which may have been given up: then it still runs here, to its end.
        loop = running_loop()
        if self._loop is None:
            self._loop = loop
        elif self._loop is not loop:
            raise RuntimeError(
                f"{self.name}() was started on an event loop that this process does not have any more, before a fork "
                f"or before its exit, and cannot go on"
            )

    def _start(self, call: Call) -> None:
        assert self._loop is not None
        self.background.calls.add(self)
        try:
            task = create_task(self._converse(), self._loop, self._context, self.name)
        except BaseException:
            self.background.calls.discard(self)
            self.ended = self._finished = True
            self._calls.clear()
            raise
        if not self._begun:
            # It starts at the loop's next turn. Cancelled before that, with all tasks of the loop, it never does.
            self._task = task
            call.taken(task, False)
            task.add_done_callback(self._end_unbegun, context=self.background.context)

    def _end_unbegun(self, task: asyncio.Task[None]) -> None:
        if not self._begun:
            self.background.calls.discard(self)
            self.ended = self._finished = True
            self._outcome = None, why_unbegun(task)
            self._answer_all()

    async def _converse(self) -> None:
        """What the task runs. No exception leaves it but the GeneratorExit of a task that is destroyed."""
        self._task = asyncio.current_task()
        self._begun = True
        call: Call | asyncio.CancelledError | None = None
        try:
            while not self.ended:
                call = await self
                if isinstance(call, asyncio.CancelledError):
                    await self._throw_in(call)
                    continue
                if call.done:  # cancelled before its turn came
                    continue
                if self._outcome is not None and call.raw not in (self.throw, self.close):
                    self._answer(call)
                    continue
                self._outcome = None  # an item, which this caller does not want
                call.taken(self._task, True)
                value = error = None
                try:
                    value = await call.make_awaitable()
                except BaseException as raised:
                    self.ended = not self.is_shared or isinstance(raised, GeneratorExit)
                    error = raised
                call.end(value, error)
                while self.is_shared and self._task is not None and self._task.cancelling():
                    self._task.uncancel()  # that was for this caller
                call = value = error = None  # before the task is parked
        except BaseException as error:  # there is no memory, for example: not to be taken for the end of a generator
            self._outcome = None, error
            if isinstance(call, Call) and not call.done:
                self._calls.appendleft(call)
            if isinstance(error, GeneratorExit):
                raise
        finally:
            self.ended = self._finished = True
            self.background.calls.discard(self)
            self._answer_all()

    async def _throw_in(self, strike: asyncio.CancelledError) -> None:
        try:
            self._outcome = await self.throw(strike), None
        except BaseException as error:
            self.ended = not self.is_shared or isinstance(error, GeneratorExit)
            self._outcome = None, error

    def _answer(self, call: Call) -> None:
        """Give a call the outcome that is there before it."""
        value, error = self._outcome or (None, getattr(call, "verdict", None) or StopAsyncIteration())
        self._outcome = None
        if isinstance(error, StopAsyncIteration) and call.raw == self.throw:
            error = call.args[0]  # thrown into a generator that has ended, an exception just comes back
        call.end(value, error)

    def _answer_all(self) -> None:
        while self._calls:
            call = self._calls.popleft()
            if not call.done:
                self._answer(call)

    def __await__(self) -> Generator[Any, None, Call | asyncio.CancelledError]:
        """Wait for the next call, or for a cancellation."""
        while True:
            # A second strike waits until somebody has asked what came of the first.
            if self._strike is not None and self._outcome is None:
                strike, self._strike = self._strike, None
                assert self._task is not None
                if self._task.cancelling():  # or it was taken back meanwhile, by the end of the scope that had sent it
                    return strike
            if self._calls:
                return self._calls.popleft()
            self._asyncio_future_blocking = True
            yield self

    # What the task asks of the future that it awaits.

    def get_loop(self) -> asyncio.AbstractEventLoop | None:
        return self._loop

    def add_done_callback(self, wakeup: Callable[..., object], *, context: contextvars.Context) -> None:
        self._wakeup = wakeup, context

    def cancel(self, msg: object = None) -> bool:
        self._strike = asyncio.CancelledError() if msg is None else asyncio.CancelledError(msg)
        if self._outcome is None and self._wakeup is not None:
            # Not at once as for a call, since this may be called by a task, and one task runs at a time.
            assert self._loop is not None
            wakeup, context = self._wakeup
            self._wakeup = None
            self._loop.call_soon(wakeup, self, context=context)
        return True

    def result(self) -> None:
        pass  # the task finds out what to do by itself

    def __repr__(self) -> str:
        return f"<conversation of {self.name}>"

    # The end, when nobody is going to call any more.

    async def close(self) -> None:
        """Undo what has been entered. To be taken as a call, the last one."""
        self.ended = True
        await self.throw(GeneratorExit())

    def abort(self, at_once: bool) -> asyncio.Task[None] | None:
        """Close it soon. Its calls have their verdict, each for itself."""
        if self._task is not None and self._wakeup is None and at_once:
            self._task.cancel()  # it is in the middle of a call
        self.drop()
        return self._task

    def give_up(self) -> None:
        pass  # its calls are given up, each for itself

    def bury(self) -> None:
        if self._task is None:
            return
        if self._wakeup is not None:  # it is parked, and so is what it has entered
            closing = self.close()
            with contextlib.suppress(BaseException):  # when it goes no further
                self._context.run(closing.send, None)
            with contextlib.suppress(BaseException):
                closing.close()
        close_coroutine(self._task, self._context)

    def lose(self) -> None:
        pass

    @property
    def task(self) -> asyncio.Task[None] | None:
        return self._task

    def drop(self) -> None:
        """Close it, with nobody waiting for that."""
        if self._task is not None:
            self.take(_Closing(self.background, self.close, (), {}, None, self))


class _Closing(Call):
    __slots__ = ()

    def wake(self) -> None:
        error, self.error = self.error, None
        if is_failure(error):
            self.background.report("what was dropped before its end raised in its cleanup", error)


def release(conversation: Conversation) -> None:
    """Have it closed, by a caller that goes away without having ended it. Nobody waits for that."""
    background = conversation.background
    # In a forked child there is no loop, or another.
    if conversation.over or background.loop is None or conversation.belongs_elsewhere:
        return
    try:
        background.post(conversation.drop)
    except RuntimeError:
        pass  # the loop is closed, and has taken its tasks along


def end_interrupted(conversation: Conversation, call: BlockingCall | None, interrupt: BaseException) -> None:
    """Close it for a caller that does not go on. The call was cancelled and waited for, but may have ignored that."""
    if call is not None and not call.done:
        release(conversation)  # a second interrupt has come, which leaves at once
    elif conversation.open:
        closing = BlockingCall(conversation.background, conversation.close, (), {}, None, conversation)
        try:
            closing.wait_as_it_is()
        except BaseException:
            release(conversation)  # the second interrupt; perhaps nothing has been posted
            raise
        if is_failure(closing.error) and interrupt.__context__ is None:
            interrupt.__context__ = closing.take_error()


async def end_cancelled(conversation: Conversation, call: AwaitedCall | TrioCall) -> None:
    """Close it for a caller that was cancelled when the call was done, and does not go on."""
    if conversation.open:
        closing = awaited(
            call.get_loop(), conversation.background, conversation.close, (), {}, None, conversation, ends=True
        )
        await closing
        if is_failure(closing.error) and call.error is not None:
            call.error.__context__ = closing.take_error()


class Hold(Generic[C]):
    """Releases a conversation when it is collected, for holders that cannot do so themselves."""

    __slots__ = ("conversation",)

    def __init__(self, conversation: C) -> None:
        self.conversation = conversation

    def __del__(self) -> None:
        conversation: C | None = getattr(self, "conversation", None)
        if conversation is None:  # an interrupt has struck while this was made
            return
        try:
            release(conversation)
        except BaseException:  # of a signal handler, and Python is going to swallow it
            release(conversation)
            raise
