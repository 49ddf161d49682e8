"""The background loop of a syncer: one asyncio event loop in one daemon thread."""

import _thread
import asyncio
import atexit
import contextvars
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any, Literal, Protocol, TypeAlias

from ._traceback import came_from_coroutine

__all__ = ("STEP", "BackgroundLoop", "BlockingPolicy", "LoopFactory", "running_loop")

LoopFactory: TypeAlias = Callable[[], asyncio.AbstractEventLoop]
BlockingPolicy: TypeAlias = Literal["allow", "warn", "error"]

try:
    # Exported by asyncio, though with an underscore. Unlike get_running_loop() it answers None instead of raising,
    # which every blocking call would pay for.
    from asyncio import _get_running_loop as running_loop
except ImportError:  # pragma: no cover

    def running_loop() -> asyncio.AbstractEventLoop | None:
        try:
            return asyncio.get_running_loop()
        except RuntimeError:
            return None


# A signal that comes just before a thread falls asleep on a lock does not wake it (on Windows none ever does), and only
# an awake thread runs signal handlers. So a caller sleeps in steps of so many seconds.
STEP = 0.2

# Callbacks taken over at a time. Under a flood of calls the timers and connections of the loop are served as well.
_AT_ONCE = 256


class InFlight(Protocol):
    """What is known of a call, or of a conversation, that has a task on the loop."""

    def abort(self) -> asyncio.Task[Any]:
        """Have it end soon, and return its task. Runs on the loop."""
        ...


class BackgroundLoop:
    """Starts its loop and thread with the first call, and hands callbacks over to that loop.

    `loop` is None until then, and again in a forked child.
    """

    def __init__(self, name: str, loop_factory: LoopFactory | None, blocking: BlockingPolicy) -> None:
        self.name = name
        self.blocking = blocking
        self._loop_factory = loop_factory or asyncio.new_event_loop
        self._reset()
        _all.add(self)

    def forget(self) -> None:
        """Start anew, in a forked child.

        It has the loop's objects, but not its thread. They must not even be collected: closing the loop would change
        the selector, which the child shares with its parent.
        """
        _parents.append((self.loop, self.calls, self._incoming))
        self._reset()

    def _reset(self) -> None:
        self.loop: asyncio.AbstractEventLoop | None = None
        # What runs on the loop and is not finished. asyncio itself holds tasks by weak references only.
        self.calls: set[InFlight] = set()
        self.context = contextvars.Context()  # of our own callbacks; entered by the loop's thread alone
        self._start_lock = threading.Lock()
        self._starter: int | None = None  # the thread that holds it
        self._incoming: deque[Callable[[], object]] = deque()
        self._drained = 0  # how often the loop has been woken to take callbacks over
        self._woken = -1  # the value of _drained at which the loop was last known to have been woken
        self._more = False  # whether more callbacks have come than are taken in one turn

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """Return the running loop; the first caller starts it."""
        return self.loop or self._start()

    def _start(self) -> asyncio.AbstractEventLoop:
        """Start the loop in a thread of its own, by means of another, and wait for both.

        Signal handlers run in the main thread. There `Thread.start` breaks when one raises in it, and one that makes a
        call itself would wait for the lock that the thread holds. In a thread that lives just for this neither happens.
        """
        if self._starter == threading.get_ident():  # a finalizer that was run in here
            raise RuntimeError(f"the background loop {self.name!r} is being started by this very thread")
        failures: list[BaseException] = []
        done = threading.Lock()
        done.acquire()

        def start() -> None:
            try:
                with self._start_lock:
                    self._starter = threading.get_ident()
                    try:
                        self.loop = self.loop or self._start_thread()
                    finally:
                        self._starter = None
            except BaseException as error:
                failures.append(error)
            finally:
                done.release()

        _thread.start_new_thread(start, ())
        while not done.acquire(True, STEP):
            pass
        if failures:
            raise failures.pop()
        assert self.loop is not None
        return self.loop

    def _start_thread(self) -> asyncio.AbstractEventLoop:
        loop = self._loop_factory()
        if not isinstance(loop, asyncio.AbstractEventLoop) or loop.is_running():
            raise TypeError(f"the loop_factory of {self.name!r} has to return a new event loop, got {loop!r}")
        try:
            running = threading.Lock()
            running.acquire()
            loop.call_soon(running.release)
            # Of `threading`, and not as low as the thread that starts it: tracers and coverage tools ask for that.
            threading.Thread(target=_run, args=(loop,), name=self.name, daemon=True).start()
            running.acquire()
        except BaseException:
            loop.close()
            raise
        return loop

    def post(self, callback: Callable[[], object]) -> None:
        """Let the loop call `callback`, after all that was posted before it. Any thread may ask.

        Waking a sleeping loop costs a system call, so callers that come while a wake-up is under way rely on it.

        The order of these lines is what makes that safe, also when a signal handler raises between any two of them.
        The note that the loop was woken is left after the wake-up, so that it never claims one that did not happen.
        It names the value of `_drained` from before the wake-up, and `_drain` counts that up before it looks at
        `_incoming`: so while the note is valid, a `_drain` is still to come, and it will see what was appended before.
        """
        loop = self.loop or self._start()
        self._incoming.append(callback)
        drained = self._drained
        if self._woken != drained:
            loop.call_soon_threadsafe(self._drain, context=self.context)
            self._woken = drained

    def _drain(self, rest: bool = False) -> None:
        self._drained += 1
        if self._more and not rest:
            return  # the rest of them is taken at the loop's next turns, and these with it
        loop, incoming = self.loop, self._incoming
        assert loop is not None
        # What comes in meanwhile has seen the new count and wakes the loop again, so the loop gets its turn between.
        waiting = len(incoming)
        self._more = waiting > _AT_ONCE
        if self._more:
            waiting = _AT_ONCE
            loop.call_soon(self._drain, True, context=self.context)
        for _ in range(waiting):
            try:
                incoming.popleft()()
            except BaseException as error:  # must not keep the others from being started
                self.report("a call could not be handled", error)

    def abort_calls(self, timeout: float) -> None:
        """End all that is in flight, and wait for its cleanup, for so many seconds at most."""
        loop = self.loop
        if loop is None or loop.is_closed():
            return
        done = threading.Lock()
        done.acquire()

        def abort() -> None:
            waiting = asyncio.gather(*[call.abort() for call in list(self.calls)], return_exceptions=True)
            waiting.add_done_callback(lambda _: done.release(), context=self.context)

        self.post(abort)
        deadline = time.monotonic() + timeout
        while not done.acquire(True, STEP) and time.monotonic() < deadline:
            pass

    def report(self, message: str, error: BaseException) -> None:
        """Tell the exception handler of the loop. Runs on it."""
        assert self.loop is not None
        self.loop.call_exception_handler({"message": message, "exception": error})


def _run(loop: asyncio.AbstractEventLoop) -> None:
    """The life of the loop's thread."""
    while not loop.is_closed():
        try:
            loop.run_forever()
        except (SystemExit, KeyboardInterrupt) as error:
            # They leave run_forever(), and would take the loop from all its callers. A task keeps them for who awaits
            # it, and reports them when it is collected; a mere callback does not.
            if not came_from_coroutine(error):
                report = {"message": "a callback of the background loop raised", "exception": error}
                loop.call_soon(loop.call_exception_handler, report)  # on the loop: the handler may be the user's


_all: weakref.WeakSet[BackgroundLoop] = weakref.WeakSet()
_parents: list[object] = []


def _after_fork_in_child() -> None:
    for background in list(_all):
        background.forget()


@atexit.register
def _abort_calls() -> None:
    for background in list(_all):
        background.abort_calls(5)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
