"""How each kind of caller waits for its call: a thread, an asyncio task, the holder of a future."""

import asyncio
import concurrent.futures
import contextvars
import sys
import threading
from collections.abc import Callable, Generator
from functools import partial
from typing import Any, TypeAlias, TypeVar

from ._call import Call, Raw, Taker
from ._deadlock import refuse_deadlock
from ._loop import STEP, BackgroundLoop
from ._traceback import context_of, keep_context, shorten

__all__ = ("AwaitedCall", "BlockingCall", "submit")

R = TypeVar("R")


# What a coroutine may answer to a cancellation: an async generator may return, too.
_NO_FAILURE = (asyncio.CancelledError, StopAsyncIteration, type(None))


class BlockingCall(Call):
    """The caller is a thread. It sleeps on a lock, the cheapest thing there is to sleep on."""

    __slots__ = ("_lock",)

    def wait(self) -> None:
        """Post the call and return when it is done. Whatever interrupts this is raised once the coroutine has ended."""
        background = self.background
        if background.loop is None:
            background.get_loop()  # out here, since what it raises when it cannot start one is no interrupt
        self._lock = lock = threading.Lock()
        lock.acquire()
        try:
            background.post(self.start)
            while not lock.acquire(True, STEP):
                _check_threads_run()
        except BaseException as interrupt:
            # A signal handler may raise anywhere in here, also when the call is done and the lock, which is released
            # just once, has already been acquired.
            if not self.done:
                # Until the next line but one has returned, it may be that nothing has reached the loop: then the call
                # must not be started later, when somebody else wakes the loop.
                self.abandoned = True
                background.post(self.cancel_task)
                while not lock.acquire(True, STEP):  # a second interrupt leaves the coroutine to itself
                    _check_threads_run()
            if not isinstance(self.error, _NO_FAILURE) and interrupt.__context__ is None:
                interrupt.__context__ = self.take_error()  # what went wrong in the cleanup
            raise

    def wait_as_it_is(self) -> None:
        """Post the call and return when it is done. Whatever interrupts this leaves at once, and does not cancel it."""
        self._lock = lock = threading.Lock()
        lock.acquire()
        self.background.post(self.start)
        while not lock.acquire(True, STEP):
            _check_threads_run()

    def wake(self) -> None:
        self._lock.release()


def _check_threads_run() -> None:
    if sys.is_finalizing():
        raise RuntimeError("the interpreter is shutting down, and no other thread of it runs any more")


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
        if self.background.loop is None:
            self.background.get_loop()
        self._asyncio_future_blocking = True
        try:
            yield self
        except BaseException:
            # No cancellation comes this way. The coroutine is being closed, since nobody runs its loop any more.
            if not self.done:
                self.background.post(self.cancel_task)
            raise
        if self._interrupt is not None:
            raise self._interrupt
        if self._requested:
            self._settle_cancellations()

    def _settle_cancellations(self) -> None:
        """Make the caller's task look as if the coroutine had run in it."""
        task = asyncio.current_task()
        assert task is not None
        for _ in range(self._reached - self._kept):
            task.uncancel()  # as the coroutine did to its own task
        if self._requested > self._reached:
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
        cancel_task = partial(self.cancel_task, msg)
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
                self.background.post(self.cancel_task)
            except BaseException:  # nothing will come back from there
                self.abandoned = True
                self.end()


class _SubmittedCall(Call):
    """The caller holds a `concurrent.futures.Future`."""

    __slots__ = ("_adapt", "_future")

    def __init__(self, future: "_Future[Any]", adapt: "Adapt", *call: Any) -> None:
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
        try:
            if not future.set_running_or_notify_cancel():
                pass
            elif error is None:
                future.set_result(self._adapt(self.background, value))
            else:
                future.set_exception(error)
        except BaseException as raised:  # SystemExit, by a callback of the future; the future itself has its outcome
            self.background.report("a callback of a submitted call raised", raised)

    def follow(self, future: concurrent.futures.Future[Any]) -> None:
        """Called when the future is done, of which being cancelled is one way."""
        if future.cancelled():
            self.background.post(self.cancel_task)


class _Future(concurrent.futures.Future[R]):
    def __init__(self, background: BackgroundLoop) -> None:
        super().__init__()
        self._background = background

    def result(self, timeout: float | None = None) -> R:
        self._check_deadlock("result", timeout)
        error = super().exception(timeout)
        if error is None:
            return super().result()
        context = context_of(error)
        try:
            raise shorten(error)
        finally:
            keep_context(error, context)
            del self, error  # the exception's traceback holds this frame

    def exception(self, timeout: float | None = None) -> BaseException | None:
        self._check_deadlock("exception", timeout)
        return super().exception(timeout)

    def _check_deadlock(self, method: str, timeout: float | None) -> None:
        if timeout is None and not self.done():
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
    future: _Future[Any] = _Future(background)
    call = _SubmittedCall(future, adapt, background, raw, args, kwargs, context)
    future.add_done_callback(call.follow)
    background.post(call.start)
    return future
