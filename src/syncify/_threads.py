"""How a thread waits for another one, though signal handlers may raise or fork in it."""

from __future__ import annotations

import _thread
import concurrent.futures
import contextlib
import math
import os
import sys
import threading
import time
from collections.abc import Callable
from threading import Lock
from typing import Any

__all__ = ("STEP", "Done", "NoThreadError", "forget_the_main_thread", "in_a_thread", "main_has_ended")

# A signal that comes just before a thread falls asleep on a lock does not wake it (on Windows none ever does), and only
# an awake thread runs signal handlers. So who waits sleeps in steps of so many seconds.
STEP = 0.2


class Done:
    """Set once, by one thread, and waited for by any number of others.

    Unlike `threading.Event` it may be set and waited for where a signal handler raises: that leaves nothing held.
    """

    def __init__(self) -> None:
        self.is_set: bool = False
        self._lock = Lock()
        self._lock.acquire()

    def set(self) -> None:
        self.is_set = True
        self._lock.release()

    def wait(self, seconds: float) -> None:
        """Wait so long at most. Who is interrupted may keep the lock from the others, who look after a step."""
        if not self.is_set and self._lock.acquire(True, seconds):
            self._lock.release()  # for others who wait


class NoThreadError(Exception):
    """No thread can be started, since the interpreter is shutting down or there are too many."""


def in_a_thread(function: Callable[[], object], patience: float = math.inf) -> bool:
    """Do what no signal handler is to interrupt: they run in the main thread, and this is done in another.

    Waits for it, so many seconds at most. Returns False in a child that a signal handler has forked meanwhile: there
    nobody may be doing it.
    """
    if sys.is_finalizing():  # Python 3.11 would start one, which never runs
        raise NoThreadError("no thread can be started at interpreter shutdown")
    process = os.getpid()
    done = Lock()
    done.acquire()

    def do() -> None:
        try:
            function()
        finally:
            done.release()

    start(do)
    until = time.monotonic() + patience
    while not done.acquire(True, STEP):
        if os.getpid() != process:
            return False
        if time.monotonic() >= until:
            break
    return True


def start(function: Callable[[], object]) -> None:
    try:
        _thread.start_new_thread(function, ())
    except RuntimeError as error:
        raise NoThreadError(str(error)) from error


def main_has_ended() -> bool:
    """Tell whether the main thread has ended, and Python waits for the others."""
    main = threading.main_thread()
    # `is_alive` itself makes a thread count as ended when a signal handler raises in it, as they do in the main thread.
    return _main_has_ended or (threading.get_ident() != main.ident and not main.is_alive())


def _note_end() -> None:
    global _main_has_ended
    _main_has_ended = True


def forget_the_main_thread() -> None:
    """In a forked child, that is the thread that has forked."""
    global _main_has_ended
    _main_has_ended = False


_main_has_ended = False
# Python does not call the main thread ended before it has waited for the threads of executors. There is a hook for the
# moment before that, which those use; what is registered later is called earlier. Without it, an executor thread is
# waited for as long as its call takes.
_threading: Any = threading
_ = concurrent.futures.ThreadPoolExecutor  # imports what registers that hook
with contextlib.suppress(AttributeError, RuntimeError):
    _threading._register_atexit(_note_end)
