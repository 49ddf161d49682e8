"""What a blocking caller looks after while it has to wait for long."""

from __future__ import annotations

import logging
import math
import os
import sys
import threading
import time
from typing import TYPE_CHECKING

from ._life import STEP_WITHOUT_THREAD
from ._threads import STEP, main_has_ended

if TYPE_CHECKING:
    from ._callers import BlockingCall

__all__ = ("Watch",)

logger = logging.getLogger("syncify")


class Watch:
    """Looked at by a caller between the steps in which it sleeps."""

    def __init__(self, call: BlockingCall) -> None:
        self._call = call
        self._since = time.monotonic() - STEP
        stuck_after = call.background.stuck_after  # seconds until the next warning
        self._stuck_after = None if stuck_after is None else max(stuck_after, STEP)
        self._main_ended: float | None = None
        self._cancelled = False
        self._token = object()

    def look(self, until: float = math.inf) -> None:
        """See to it that the wait comes to an end. A caller that runs the loop itself does so until that time."""
        call = self._call
        if call.background.has_no_thread:
            until = min(until, time.monotonic() + STEP)
            if not call.background.drive(lambda: call.done or time.monotonic() >= until):
                time.sleep(STEP_WITHOUT_THREAD)  # another thread does
        elif sys.is_finalizing():
            raise RuntimeError("the interpreter is shutting down, and no other thread of it runs any more")
        life = call.background.life
        if life is not None and life.process != os.getpid():
            raise RuntimeError("a function that is called after a fork, and was registered earlier, cannot make calls")
        now = time.monotonic()
        if not call.started:
            call.background.wake_loop()
            self._name_what_keeps_the_loop(now)
        if main_has_ended():
            self._end_with_the_main_thread(now)

    def _name_what_keeps_the_loop(self, now: float) -> None:
        call, background = self._call, self._call.background
        waited = now - self._since
        if self._stuck_after is None or waited < self._stuck_after:
            return
        interval, self._stuck_after = self._stuck_after, 2 * self._stuck_after
        who, when = background.named
        if who is not self._token and now - when < interval:
            return  # another caller has done so
        background.named = self._token, now  # and not this, which holds the call
        life = background.life
        logger.warning(
            "%s() has waited %.0f seconds to begin: something keeps the background loop %r. Its thread is here:\n%s",
            call.name,
            waited,
            background.name,
            "  (it has ended)" if life is None else life.stack(),
        )

    def _end_with_the_main_thread(self, now: float) -> None:
        """End the call when the program ends otherwise.

        The main thread has ended, and Python waits for this one. A call that never ends would keep the process for
        ever. So of the time for the exit it has one half to end by itself, and a quarter to clean up.
        """
        call, background = self._call, self._call.background
        limit, thread = background.exit_timeout, threading.current_thread()
        if limit is None or thread.daemon or thread is threading.main_thread():
            return  # nobody waits for this thread, or it calls as the program exits
        if self._main_ended is None:
            self._main_ended = now
        waited = now - self._main_ended
        if waited >= limit / 2 and not self._cancelled:
            self._cancelled = True
            background.cut_at = now
            call.verdict = SystemExit()  # ends the thread in silence
            background.post(call.cancel_task)
        if waited >= limit * 3 / 4:
            if background.life is not None:
                background.life.kept.append(call)
            call.give_up()
