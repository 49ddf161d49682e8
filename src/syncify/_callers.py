"""How each kind of caller waits for its call: a thread, an asyncio task, the holder of a future."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import math
import sys
import threading
import time
from collections.abc import Callable, Generator
from functools import partial
from operator import attrgetter
from threading import Lock
from types import FrameType
from typing import Any, TypeAlias, TypeVar

from ._anyio import is_sent_again, is_shielded
from ._call import Call, Raw, Taker, is_failure
from ._deadline import get_timeout
from ._deadlock import forget, note_awaiting, note_blocking, refuse_deadlock
from ._errors import ClosedError
from ._loop import BackgroundLoop, backgrounds
from ._running import running_loop
from ._threads import STEP, Done
from ._traceback import context_of, keep_context, shorten
from ._trio import TRIO, TrioCall, current_trio_task
from ._watch import Watch

__all__ = ("AwaitedCall", "BlockingCall", "awaited", "find_loop", "lose_calls_of_this_thread", "submit")

R = TypeVar("R")


class BlockingCall(Call):
    """The caller is a thread. It sleeps on a lock, the cheapest thing there is to sleep on."""

    __slots__ = ("_left", "_lock")

    def wait(self, ends: bool = False) -> None:
        """Post the call and return when it is done. Whatever interrupts this is raised once the coroutine has ended.

        A call that ends something is made even if the time for it is over.
        """
        background = self.background
        lock = Lock()
        lock.acquire()
        self._lock = lock  # held by now: from here on `lose` may release it
        if background.loop is None:
            try:
                background.start_for_blocking_call()  # out here: what this raises is no interrupt
            except ClosedError as refusal:
                self.error = refusal
                self.done = True
                return
        timeout = get_timeout()
        until = None if timeout is None else timeout.get_deadline()
        if until is not None and until <= time.monotonic():
            if not ends:
                self.done = True  # nothing is in flight
                raise TimeoutError("the time that timeout() has set was over before the call")
            until = None
        loop = running_loop()
        noted = None if loop is None else note_blocking(loop, self)
        try:
            background.post(self.start)
            if until is not None:
                self._wait_until(until, ends)
            elif not lock.acquire(True, background.step):
                self._wait_for_long()
        except BaseException as interrupt:
            try:
                self._leave()
            except BaseException:  # a second interrupt, and perhaps nothing has been posted
                self._leave()
                raise
            # If it has not been started by now it never is, and there is nothing to wait for. Otherwise it cleans up; a
            # second interrupt leaves the coroutine to itself.
            if self.started and not self.done and not lock.acquire(True, background.step):
                self._wait_for_long()
            if is_failure(self.error) and interrupt.__context__ is None:
                interrupt.__context__ = self.take_error()  # what went wrong in the cleanup
            raise
        finally:
            if noted is not None:
                forget(noted)

    def _leave(self) -> None:
        """Cancel the call, which its caller does not want any more.

        A signal handler may have raised anywhere in `wait`, also when the call is done and the lock, which is released
        just once, has already been acquired. Until it is posted here, it may be that nothing has reached the loop: then
        the call must not be started later, when somebody else wakes the loop.
        """
        if not self.done:
            self.abandoned = True
            self.background.post(self._cancel_once)

    def _cancel_once(self) -> None:
        """Runs on the loop. A caller who is interrupted again posts it again, and the coroutine cleans up by then."""
        if not hasattr(self, "_left"):
            self._left = True
            self.cancel_by_caller()

    def wait_as_it_is(self) -> None:
        """Post the call and return when it is done. Whatever interrupts this leaves at once, and does not cancel it."""
        lock = Lock()
        lock.acquire()
        self._lock = lock
        self.background.post(self.start)
        if not lock.acquire(True, self.background.step):
            self._wait_for_long()

    def _wait_for_long(self) -> None:
        watch = Watch(self)
        watch.look()
        while not self.done and not self._lock.acquire(True, self.background.step):
            watch.look()

    def _wait_until(self, until: float, ends: bool) -> None:
        """Wait until that time, and then for the cleanup."""
        watch = Watch(self)
        while (left := until - time.monotonic()) > 0:
            if self._lock.acquire(True, min(left, self.background.step)):
                return
            watch.look(until)
        if ends and not self.started:
            self._wait_for_long()
            return
        self.abandoned = True
        if not self.started:
            raise TimeoutError("the time that timeout() has set was over before the call could begin")
        self.background.post(self.cancel_by_caller)
        self._wait_for_long()
        if isinstance(self.error, asyncio.CancelledError):
            cancellation, self.error = self.error, TimeoutError()
            self.error.__cause__ = cancellation

    def wake(self) -> None:
        self._lock.release()

    def lose(self) -> None:
        # The thread that was telling the outcome, perhaps, is not here.
        if not self.done:
            self.error = RuntimeError(f"the process was forked during {self.name}(), which goes on in the parent")
            self.done = True
        if self._lock.locked():
            self._lock.release()


def lose_calls_of_this_thread() -> None:
    """End those that this thread waits for, in a child that a signal handler has forked."""
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if frame.f_code in _WAITS:
            call: BlockingCall = frame.f_locals["self"]
            if hasattr(call, "_lock"):  # otherwise it has not begun, and is made in both processes
                call.lose()
        frame = frame.f_back


_WAITS = {BlockingCall.wait.__code__, BlockingCall.wait_as_it_is.__code__}


class AwaitedCall(Call):
    """The caller is an asyncio task, on another loop than the call.

    To that task this is a future (see `asyncio.isfuture`), but one that cannot be cancelled by itself: as when a task
    awaits another task, a cancellation goes through to the coroutine, and the caller waits for what comes of it.
    """

    __slots__ = (
        "_asyncio_future_blocking",
        "_cancelled_before",
        "_cancelled_by",
        "_interrupt",
        "_kept",
        "_loop",
        "_message",
        "_reached",
        "_requested",
        "_together",
        "_wakeup",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        background: BackgroundLoop,
        raw: Raw,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        context: contextvars.Context | None = None,
        taker: Taker | None = None,
    ) -> None:
        super().__init__(background, raw, args, kwargs, context, taker)
        self._loop = loop
        self._wakeup: tuple[Callable[..., object], contextvars.Context] | None = None
        self._together: list[Callable[[], object]] | None = None
        self._interrupt: BaseException | None = None
        self._requested = 0  # cancellations that the caller's task was sent while it waited
        self._cancelled_by: asyncio.Task[Any] | None = None  # the task that sent the last of them
        self._message: object = None
        self._reached = 0  # those of them that came before the coroutine had ended
        self._kept = 0  # those of these that the coroutine did not take back

    def __await__(self) -> Generator[Any, None, None]:
        if not self.has_loop():
            return
        noted = note_awaiting(self._loop, self) if self._loop in backgrounds else None
        self._asyncio_future_blocking = True
        try:
            yield self
        except BaseException:
            # No cancellation comes this way. The coroutine is being closed, since nobody runs its loop any more.
            if not self.done:
                self.background.post(self.cancel_by_caller)
            raise
        finally:
            if noted is not None:
                forget(noted)
        if self._interrupt is not None:
            raise self._interrupt
        if isinstance(self.error, SystemExit) and self._loop in backgrounds and BackgroundLoop.exiting:
            # This is no thread of a user, but a task on a loop that is ended as well.
            self.error = asyncio.CancelledError()
            owner = backgrounds[self._loop]()
            if owner is not None and owner.life is not None:
                owner.life.told.add(asyncio.current_task())
        if self._requested:
            self._settle_cancellations()

    def _settle_cancellations(self) -> None:
        """Make the caller's task look as if the coroutine had run in it."""
        task = asyncio.current_task()
        assert task is not None
        for _ in range(self._reached - self._kept):
            task.uncancel()  # as the coroutine did to its own task
        if self._requested > self._reached and not is_sent_again(self._message):
            # The coroutine had ended when the last cancellation came, but that is not lost.
            if self._cancelled_by is task:
                # Sent by the task itself, before it came here. Since nothing in here had to suspend, it is still due,
                # and strikes at the next place that does.
                task.uncancel()
                task.cancel(self._message)
            else:
                # Sent while the task was suspended here, so here it is raised.
                late = asyncio.CancelledError() if self._message is None else asyncio.CancelledError(self._message)
                late.__context__ = self.error
                self.error = late
        self._cancelled_by = None

    def wake(self) -> None:
        if self._reached and self._task is not None:
            self._kept = self._task.cancelling() - self._cancelled_before
        waiting, self._wakeup = self._wakeup, None  # holds the task, which may come to hold what holds this call
        if waiting is not None:
            wakeup, context = waiting
            try:
                self._loop.call_soon_threadsafe(wakeup, self, context=context)
            except RuntimeError:
                pass  # the caller's loop is closed: nobody is waiting any more

    def cancel_task(self, message: object = None) -> bool:
        if not self.done and self._task is not None and is_shielded(self._task, message):
            return False
        if not self._reached and self._task is not None:
            self._cancelled_before = self._task.cancelling()  # in a conversation, by earlier calls
        reached = super().cancel_task(message)
        self._reached += reached
        return reached

    # What a task asks of the future that it awaits.

    def get_loop(self) -> asyncio.AbstractEventLoop:
        return self._loop

    def add_done_callback(self, wakeup: Callable[..., object], *, context: contextvars.Context) -> None:
        self._wakeup = wakeup, context  # only now can the task be woken, so the call is not posted before
        task = asyncio.current_task(self._loop)
        if task is not None and task.cancelling():
            # Perhaps by itself, and the cancellation is still due. Then `cancel` is called as soon as this returns, and
            # has to come to the loop together with the start, to strike where the coroutine first suspends.
            self._together = [self.start]
            self._loop.call_soon(self._post_together)
        else:
            self._post(self.start)

    def cancel(self, msg: object = None) -> bool:
        # Not refused when the call is done, as a future would: the task is about to be woken, and settles it then.
        self._requested += 1
        self._message = msg
        self._cancelled_by = asyncio.current_task(self._loop)
        cancel_task = partial(self.cancel_by_caller, msg)
        if self._together is not None:
            self._together.append(cancel_task)
        else:
            self._post(cancel_task)
        return True

    def result(self) -> None:
        pass  # the caller takes it from the call

    def _post_together(self) -> None:
        callbacks, self._together = self._together or [], None

        def together() -> None:
            for callback in callbacks:
                callback()

        self._post(together)

    def _post(self, callback: Callable[[], object]) -> None:
        try:
            self.background.post(callback)
        except BaseException as interrupt:
            # A signal handler has raised, or the loop is no more. Raised from here that would leave the task suspended
            # for ever, so it waits, and is raised where it is awaited.
            self._interrupt = interrupt
            try:
                self.background.post(self.cancel_by_caller)
            except BaseException:  # nothing will come back from there
                self.abandoned = True
                self.end()


def find_loop(raw: Raw | str) -> asyncio.AbstractEventLoop:
    """Return the loop of the task that awaits a call of it; for a Trio task, TRIO in its place."""
    if "trio" in sys.modules and current_trio_task() is not None:
        return TRIO  # type: ignore[no-any-return]
    loop = running_loop()
    if loop is None:
        name = raw if isinstance(raw, str) else f"{raw.__qualname__}.aio()"
        raise RuntimeError(f"{name} was awaited where neither an asyncio event loop nor Trio runs")
    return loop


def awaited(
    loop: asyncio.AbstractEventLoop,
    background: BackgroundLoop,
    raw: Raw,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    context: contextvars.Context | None = None,
    taker: Taker | None = None,
    ends: bool = False,
) -> AwaitedCall | TrioCall:
    """Return a call for the task that awaits it, on that loop. It may be one that ends something."""
    if loop is TRIO:
        return TrioCall(background, raw, args, kwargs, context, taker, ends)
    return AwaitedCall(loop, background, raw, args, kwargs, context, taker)


class _SubmittedCall(Call):
    """The caller holds a `concurrent.futures.Future`."""

    __slots__ = ("_adapt", "_future")

    def __init__(self, future: _Future[Any], adapt: Adapt, *call: Any) -> None:
        super().__init__(*call)
        self._future: _Future[Any] | None = future
        self._adapt = adapt

    def start(self) -> None:
        if self._future is not None and self._future.cancelled():
            self.discard(asyncio.CancelledError())
        else:
            super().start()

    def wake(self) -> None:
        future, self._future = self._future, None
        assert future is not None
        value, self.value = self.value, None
        # The future holds this call by its callback, and may be kept for long; arguments are not to be kept with it.
        self._kwargs = {}
        error, self.error = self.error, None
        if error is None:
            try:
                value = self._adapt(self.background, value)
            except BaseException as raised:
                error = raised
        try:
            if future.lost or not future.set_running_or_notify_cancel():
                pass
            elif error is None:
                future.set_result(value)
            else:
                future.set_exception(error)
        except BaseException as raised:  # SystemExit, by a callback of the future; the future itself has its outcome
            self.background.report("a callback of a submitted call raised", raised)

    def give_up(self) -> None:
        # At exit nobody can be waiting for it but threads that end with the process; and callbacks take their time.
        if not self.background.exiting:
            super().give_up()

    def follow(self, future: Any) -> None:
        """Called when the future is done, of which being cancelled is one way."""
        future.release()
        if future.cancelled():
            self.background.post(self.cancel_by_caller)


class _Condition(threading.Condition):
    """Entered and left in C: a signal handler that strikes on the way would leave the lock held, for ever.

    The thread of the loop would wait for it, and with it all other calls.
    """

    __enter__: Any = property(attrgetter("_lock.__enter__"))
    __exit__: Any = property(attrgetter("_lock.__exit__"))


class _Future(concurrent.futures.Future[R]):
    def __init__(self, background: BackgroundLoop) -> None:
        super().__init__()
        self._condition = _Condition()
        self._done = Done()  # unlike `done()` it takes no lock
        self._background = background
        self.lost = False  # and so done, though the call may be posted afterwards

    def lose(self) -> None:
        """Be done, in a forked child."""
        self.lost = self._done.is_set = True
        state: str = self._state
        condition: Any = self._condition
        if not condition._is_owned():
            # Another thread may have held its lock. If this one waits, below a signal handler that has forked, it goes
            # on with the same lock.
            condition._lock._at_fork_reinit()
        if state == "FINISHED":
            return
        super().__init__()
        self._condition = condition
        if state.startswith("CANCELLED"):
            self.cancel()
            self.set_running_or_notify_cancel()
        else:
            self.set_exception(
                RuntimeError("the process was forked since the call was submitted, which goes on in the parent")
            )

    def result(self, timeout: float | None = None) -> R:
        self._check_deadlock("result", timeout)
        error = self._wait(timeout)
        if error is None:
            result: Any = self._result
            return result  # type: ignore[no-any-return]
        context = context_of(error)
        try:
            raise shorten(error)
        finally:
            keep_context(error, context)
            del self, error  # the exception's traceback holds this frame

    def exception(self, timeout: float | None = None) -> BaseException | None:
        self._check_deadlock("exception", timeout)
        return self._wait(timeout)

    def _wait(self, timeout: float | None) -> BaseException | None:
        """Wait in steps, as a blocking call does, and take no lock.

        Another thread may hold that of the future. In a child that a signal handler forks here, it would for ever.
        """
        until = math.inf if timeout is None else time.monotonic() + timeout
        while not self._done.is_set and (left := until - time.monotonic()) > 0:
            self._done.wait(min(STEP, left))
            if self._state == "FINISHED":
                break  # also when there was no memory to tell of it
            self._background.wake_loop()
        state: str = self._state  # written after the outcome
        if state == "FINISHED":
            return self._exception
        raise concurrent.futures.CancelledError if state.startswith("CANCELLED") else TimeoutError

    def release(self) -> None:
        """Let those go on who wait for it, since it is done."""
        self._done.set()

    def _check_deadlock(self, method: str, timeout: float | None) -> None:
        if timeout is None and not self._done.is_set:
            refuse_deadlock(self._background, f"{method}() of a submitted call", "await asyncio.wrap_future(future)")


Adapt: TypeAlias = Callable[[BackgroundLoop, Any], Any]


def submit(
    adapt: Adapt,
    background: BackgroundLoop,
    raw: Raw,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    context: contextvars.Context | None = None,
) -> concurrent.futures.Future[Any]:
    """Start the call and return its future. Its result is what `adapt` makes of what the coroutine returns."""
    background.get_loop()
    future: _Future[Any] = _Future(background)
    background.losable.add(future)
    call = _SubmittedCall(future, adapt, background, raw, args, kwargs, context)
    future.add_done_callback(call.follow)
    background.post(call.start)
    if running_loop() is background.loop is not None:
        background.take_soon()
    return future
