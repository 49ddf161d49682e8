"""One run of a background loop, from its first turn to its closing."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import os
import selectors
import sys
import threading
import time
import traceback
from collections.abc import Callable, Generator
from types import FrameType
from typing import Any

from ._executor import DaemonExecutor
from ._running import running_loop
from ._shutdown import InFlight, Verdict, abort, close_coroutine, shut_down
from ._threads import STEP, Done
from ._traceback import came_from_coroutine

__all__ = ("STEP_WITHOUT_THREAD", "Life")

# Where there is no thread that could run the loop, a caller does so himself after this time.
STEP_WITHOUT_THREAD = 0.001


class Life:
    """What the thread of a loop shares with who starts it and who ends it.

    The frames of the thread hold it. So in a forked child, which has the frames but not the thread, it is never
    collected. That matters: to close the loop would change the selector, which the child shares with its parent.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, in_flight: set[InFlight]) -> None:
        self.loop = loop
        self.in_flight = in_flight  # here they keep their syncer alive, even when nobody else does
        self.executor: DaemonExecutor = DaemonExecutor()
        if getattr(loop, "_default_executor", None) is None:  # the user's factory may have set one
            loop.set_default_executor(self.executor)
        self.thread: int | None = None  # which runs it
        self.told: set[asyncio.Task[Any] | None] = set()  # that this is the end, and not to be told again
        self.kept: list[InFlight] = []  # what was given up, and must not be collected while it is pending
        self.ending: asyncio.Task[None] | None = None
        self.fault: BaseException | None = None  # why it cannot run any more
        self._failed = False  # once, which may have been an accident
        self.process: int = os.getpid()
        self.over: Done = Done()

    @property
    def ended(self) -> bool:
        """Whether it was shut down."""
        return self.ending is not None and self.ending.done()

    @property
    def goes_on(self) -> bool:
        return not self.ended and self.fault is None and not self.loop.is_closed()

    def run(self) -> None:
        """Run the loop to its end, in this thread."""
        self.thread = threading.get_ident()
        while self.goes_on:
            try:
                self.loop.run_forever()  # returns when somebody has called `stop`, and goes on
            except BaseException as error:
                try:
                    self._survive(error)
                except BaseException:
                    self.fault = error

    def _survive(self, error: BaseException) -> None:
        """See whether the loop can go on after what has left its `run_forever`."""
        if isinstance(error, SystemExit | KeyboardInterrupt):
            # They would take the loop from all its callers. A task keeps them for who awaits it, and reports them when
            # it is collected; a mere callback does not.
            if not came_from_coroutine(error):
                report = {"message": "a callback of the background loop raised", "exception": error}
                self.loop.call_soon(self.loop.call_exception_handler, report)  # on the loop: it may be the user's
            return
        # No callback has raised this, or the loop would have caught it. If it comes again before the loop has called
        # anything, that was no accident: the selector has been closed, for example.
        if self._failed:
            raise error
        self._failed = True
        self.loop.call_soon(self._recover)

    def _recover(self) -> None:
        self._failed = False

    def run_until(self, done: Callable[[], bool]) -> None:
        """Run the loop for a while in this thread, since it has no other."""
        timer: asyncio.Handle

        def look() -> None:
            nonlocal timer
            if done():
                self.loop.stop()
            else:
                timer = self.loop.call_later(STEP_WITHOUT_THREAD, look)

        if sys.is_finalizing():
            self.loop.set_debug(False)  # which looks into source files, for what Python 3.13 cannot import any more
        timer = self.loop.call_soon(look)
        self.thread = threading.get_ident()
        try:
            with _out_of_running_loop():
                self.loop.run_forever()
        finally:
            self.thread = None
            timer.cancel()

    def end(self, verdict: Verdict, patience: float | None) -> None:
        """Begin to shut it down. Runs on the loop."""
        if self.ending is None:
            calls, cancelled = abort(self.in_flight, verdict)
            # By no task factory, which would be the user's.
            self.ending = asyncio.Task(shut_down(calls, cancelled, self.told, self.executor, patience), loop=self.loop)
            self.ending.add_done_callback(lambda _: self.loop.stop())

    def close(self) -> None:
        """Give back what the loop holds. It does not run any more."""
        self.executor.shutdown()
        if self.ending is not None and not self.ending.done():
            close_coroutine(self.ending, contextvars.Context())
        try:
            self.loop.close()
        except Exception:
            # Its selector has been closed already. Without another one it would leave its sockets open, and complain
            # of that when it is collected.
            with contextlib.suppress(Exception):
                loop: Any = self.loop
                loop._selector = selectors.DefaultSelector()
                loop.close()

    def wait(self, timeout: float | None) -> bool:
        """Wait for its end, for so many seconds at most, and tell whether it has come."""
        deadline = None if timeout is None else time.monotonic() + timeout
        # A signal handler that forks makes this a loop of the parent.
        while not self.over.is_set and self.process == os.getpid():
            left = STEP if deadline is None else min(STEP, deadline - time.monotonic())
            if left <= 0:
                return False
            self.over.wait(left)
        return True

    def stack(self) -> str:
        """What its thread is doing, as in a traceback."""
        frame = self._frame()
        return "  (it does not run)" if frame is None else "".join(traceback.format_stack(frame)).rstrip()

    def place(self) -> str:
        """The same in a few words."""
        frame = self._frame()
        if frame is None:
            return "nowhere"
        return f"in {frame.f_code.co_qualname}(), line {frame.f_lineno} of {frame.f_code.co_filename}"

    def _frame(self) -> FrameType | None:
        return None if self.thread is None else sys._current_frames().get(self.thread)


@contextlib.contextmanager
def _out_of_running_loop() -> Generator[None]:
    """Let another loop run in this thread. asyncio has what is needed for makers of loops and of tasks."""
    loop = running_loop()
    task = None if loop is None else asyncio.current_task(loop)
    if loop is not None and task is not None:
        asyncio.tasks._leave_task(loop, task)
    asyncio._set_running_loop(None)
    try:
        yield
    finally:
        asyncio._set_running_loop(loop)
        if loop is not None and task is not None:
            asyncio.tasks._enter_task(loop, task)
