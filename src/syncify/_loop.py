"""The background loop of a syncer: how it is started, and how it is ended."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import itertools
import math
import sys
import threading
import time
import weakref
from collections.abc import Callable
from functools import partial
from operator import attrgetter
from typing import Any, ClassVar, Literal, TypeAlias

from ._errors import ClosedError
from ._handoff import Handoff
from ._life import STEP_WITHOUT_THREAD, Life
from ._running import running_loop
from ._shutdown import InFlight, Verdict, close_coroutine, name_rest, quiet
from ._threads import STEP, NoThreadError, in_a_thread, main_has_ended

__all__ = (
    "STEP",
    "BackgroundLoop",
    "BlockingPolicy",
    "LoopFactory",
    "backgrounds",
    "find_syncer",
    "let_find",
    "living",
    "running_loop",
)

LoopFactory: TypeAlias = Callable[[], asyncio.AbstractEventLoop]
BlockingPolicy: TypeAlias = Literal["allow", "warn", "error"]


class BackgroundLoop(Handoff):
    """Starts its loop and thread with the first call, and hands callbacks over to that loop.

    `loop` is None until then, again in a forked child, and when the loop has come to its end.
    """

    # Whether the exit ends all loops, or has done so. The thread of a later one could not be ended any more.
    exiting: ClassVar[bool] = False

    def __init__(
        self,
        name: str,
        loop_factory: LoopFactory | None = None,
        blocking: BlockingPolicy = "warn",
        stuck_after: float | None = 5.0,
        exit_timeout: float | None = 5.0,
    ) -> None:
        self.name = name
        self.blocking = blocking
        self.stuck_after = stuck_after
        self.exit_timeout = exit_timeout
        self._loop_factory = loop_factory or asyncio.new_event_loop
        self.closed: bool = False  # by its user, and for good
        self._say_closed = partial(ClosedError, f"The syncer {name!r} is closed.")
        self.syncer: Callable[[], Any] = _nobody  # the one that users see, or None if nobody has kept it
        self._number = next(_numbers)
        self.reset()
        _all.add(self)

    def __reduce__(self) -> tuple[Any, ...]:
        return find_or_make, (self.name, self._loop_factory, self.blocking, self.stuck_after, self.exit_timeout)

    def reset(self) -> None:
        """Be as if no loop had ever been started."""
        super().__init__()
        # What runs on the loop and is not finished. asyncio itself holds tasks by weak references only.
        self.calls: set[InFlight] = set()
        # What else a forked child loses: futures of submitted calls and items that were fetched ahead.
        self.losable: weakref.WeakSet[Any] = weakref.WeakSet()
        # What callers are told from the moment the loop comes to its end.
        self.closing: Verdict | None = self._say_closed if self.closed else None
        self.life: Life | None = None
        self.has_no_thread: bool = False  # since the interpreter shuts down; blocking callers run the loop
        self.step: float = STEP  # in which callers wait, in seconds; where they run the loop themselves they do not
        self.cut_at: float = -math.inf  # when the end of the main thread has made a caller give up
        self.named: tuple[object, float] = (None, -math.inf)  # for whom it was last named what keeps the loop, and when
        self._driving = threading.RLock()  # a signal handler may raise in a thread when it has just acquired it
        self._start_lock = threading.Lock()
        self._starter: int | None = None  # the thread that holds it

    # The start.

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """Return the running loop; the first caller starts it."""
        if self.exiting and self.closing is SystemExit:
            raise self._say_closed()  # a task is told so; what ends a thread in silence would be noise there
        loop = self.loop or self._start()
        if self.has_no_thread:
            raise ClosedError(
                f"The loop of the syncer {self.name!r} does not run: the interpreter is shutting down, where no thread "
                f"can be started any more. Only blocking calls work now."
            )
        return loop

    def start_for_blocking_call(self) -> None:
        """Have a loop, be it one that the caller has to run himself."""
        if self.loop is None:
            self._start()

    def _start(self) -> asyncio.AbstractEventLoop:
        """Start the loop in a thread of its own, by means of another, and wait for both.

        Signal handlers run in the main thread. There `Thread.start` breaks when one raises in it, and one that makes a
        call itself would wait for the lock that the thread holds. In a thread that lives just for this neither happens.
        """
        if self.closing is not None:
            # What ends the threads of others at exit in silence would be noise in a function that is called there.
            main = threading.get_ident() == threading.main_thread().ident
            raise self._say_closed() if main and self.closing is SystemExit else self.closing()
        if self._starter == threading.get_ident():  # a finalizer that was run in here
            raise RuntimeError(f"the background loop {self.name!r} is being started by this very thread")
        failures: list[BaseException] = []

        def start() -> None:
            try:
                self._start_once(self._start_thread)
            except BaseException as error:
                failures.append(error)

        if not self.exiting:
            try:
                if not in_a_thread(start):
                    return self._start()
            except NoThreadError as error:
                failures.append(RuntimeError(str(error)))
        if self.exiting or (failures and _is_shutdown(failures[0])):
            self._start_once(self._start_without_thread)
        elif failures:
            raise failures.pop()
        return self.loop or self._start()  # it may have been closed meanwhile; or a signal handler has forked

    def _start_once(self, start: Callable[[], Life]) -> None:
        with self._start_lock:
            self._starter = threading.get_ident()
            try:
                if self.life is None and self.closing is None:
                    life = start()
                    self.loop = life.loop
                    self.life = life  # not before: by the life others end it, and take the loop away
                    if self.closing is not None:  # `close` has come in between, and found nothing to close
                        self.end(self.closing, None)
            finally:
                self._starter = None

    def _start_thread(self) -> Life:
        life = self._make_life()
        try:
            running = threading.Lock()
            running.acquire()
            life.loop.call_soon(running.release)
            # Of `threading`, and not as low as the thread that starts it: tracers and coverage tools ask for that.
            threading.Thread(target=_run, args=(life, weakref.ref(self)), name=self.name, daemon=True).start()
            while not running.acquire(True, STEP):
                if not life.goes_on:
                    raise _say_lost(self.name, life.fault or RuntimeError("it does not run"))
        except BaseException:
            self._close(life)
            raise
        return life

    def _start_without_thread(self) -> Life:
        life = self._make_life()
        self.has_no_thread = True
        self.step = 0
        return life

    def _make_life(self) -> Life:
        loop = self._loop_factory()
        if not isinstance(loop, asyncio.AbstractEventLoop) or loop.is_running():
            raise TypeError(f"the loop_factory of {self.name!r} has to return a new event loop, got {loop!r}")
        backgrounds[loop] = weakref.ref(self)
        life = Life(loop, self.calls)
        try:
            self.set_wakeup(loop)
        except BaseException:
            self._close(life)
            raise
        return life

    def drive(self, until: Callable[[], bool]) -> bool:
        """Run the loop in this thread, since it has no other. One thread at a time does so; return whether this did."""
        life = self.life
        if life is None or not self._driving.acquire(False):
            return False
        try:
            if life.thread == threading.get_ident() or self.life is not life:
                return False  # this is below itself, or another thread has brought it to its end meanwhile
            if life.goes_on:
                life.run_until(lambda: until() or not life.goes_on)
            if not life.goes_on:
                self.ended(life)
        finally:
            self._driving.release()
        if self.life is life and sys.is_finalizing() and not self.calls:
            self._end_without_thread()  # no finalizer of ours is going to
        elif self.exiting:
            for task in asyncio.all_tasks(life.loop):
                quiet(task)  # perhaps nobody is going to run it any more
        return True

    # The end.

    def end(self, verdict: Verdict, timeout: float | None) -> None:
        """Begin to shut the loop down, and tell all callers the verdict. Does not wait, but is told for how long."""
        self.closing = verdict
        life = self.life
        if life is not None:
            try:
                life.loop.call_soon_threadsafe(life.end, verdict, None if timeout is None else timeout / 4)
            except RuntimeError as error:
                if not life.loop.is_closed():
                    raise
                self.lost(error)

    def wait_for_end(self, timeout: float | None) -> list[str]:
        """Wait so many seconds for the end of the loop. Return the names of what has to be abandoned then.

        Who waits for that gets the verdict. The coroutines stay with the loop; if it comes to its end later, it does so
        by itself.
        """
        life = self.life
        if life is None:
            return []
        if self.has_no_thread:
            deadline = math.inf if timeout is None else time.monotonic() + timeout
            while not life.wait(0) and time.monotonic() < deadline:
                if not self.drive(lambda: time.monotonic() >= deadline):
                    time.sleep(STEP_WITHOUT_THREAD)
            timeout = 0
        if life.wait(timeout):
            return []
        rest = name_rest(life.loop, life.executor) or [f"what its thread does {life.place()}"]
        try:
            in_a_thread(lambda: self.give_up(life), 0)  # callbacks of futures that are told may take their time
        except NoThreadError:
            self.give_up(life)
        return rest

    def give_up(self, life: Life) -> None:
        """Let the loop go, and tell all that wait for it. Any thread may do so, at any moment."""
        if self.life is life:
            self.loop = self.life = None
        for each in list(life.in_flight):
            life.kept.append(each)
            each.verdict = self.refusal()
            each.give_up()
        self.turn_away()

    def ended(self, life: Life) -> None:
        """Note that the loop does not run any more, and close it. For the thread that has run it."""
        if not life.ended:
            self.lost(life.fault or RuntimeError("it was closed by other code"))
        given_up = self.life is not life
        if not given_up:
            self.loop = None  # first: see `post`
        rest = list(life.in_flight)  # nothing, if the loop was shut down
        for each in rest:
            each.verdict = self.refusal()
        for each in rest:
            each.bury()
        if not life.ended:
            for task in asyncio.all_tasks(life.loop):  # those of users
                close_coroutine(task, contextvars.Context())
        self._close(life)
        if not given_up:
            self.life = None
            self.turn_away()
        life.over.set()

    @staticmethod
    def _close(life: Life) -> None:
        backgrounds.pop(life.loop, None)
        life.close()

    def lost(self, error: BaseException) -> None:
        life = self.life
        if life is None:
            return
        life.fault = error
        if self.closing is None:
            self.closing = partial(_say_lost, self.name, error)
        self.loop = None
        with contextlib.suppress(RuntimeError):
            life.loop.stop()  # if it still runs; its thread then calls `ended`

    def failed(self, callback: Callable[[], object], error: BaseException) -> None:
        caller: Any = getattr(callback, "__self__", None)
        if hasattr(caller, "give_up"):
            caller.verdict = error
            caller.give_up()
        self.report("a call could not be handled", error)

    def refusal(self) -> BaseException:
        """What callers are told when the loop is no more."""
        return self._say_closed() if self.closing is None else self.closing()

    def close(self, timeout: float | None) -> None:
        """Begin to shut the loop down for good."""
        self.closed = True
        self.end(self.closing or self._say_closed, timeout)  # again, too: an earlier one may have been interrupted

    def report(self, message: str, error: BaseException) -> None:
        """Tell the exception handler of the loop. Runs on it."""
        loop = running_loop() or self.loop
        if loop is not None:
            with contextlib.suppress(BaseException):  # of a handler of the user
                loop.call_exception_handler({"message": message, "exception": error})

    def __del__(self) -> None:
        # Nothing is in flight, since that would hold this.
        life: Life | None = getattr(self, "life", None)
        if life is None:
            return
        if self.has_no_thread:
            try:
                self._end_without_thread()
            except Exception:  # of modules that are no more; contextlib, for one
                pass
        elif not sys.is_finalizing():  # when that thread does not run any more
            try:
                life.loop.call_soon_threadsafe(life.end, self._say_closed, None)
            except RuntimeError:
                pass  # it is closed already
            except BaseException:  # of a signal handler, and Python is going to swallow it
                life.loop.call_soon_threadsafe(life.end, self._say_closed, None)
                raise

    def _end_without_thread(self) -> None:
        self.end(SystemExit, self.exit_timeout)
        self.wait_for_end(self.exit_timeout)
        self.reset()  # since other finalizers may come later and make calls


def _run(life: Life, reference: weakref.ref[BackgroundLoop]) -> None:
    """What the loop's thread does. It does not hold the owner of the loop, whose last user may go away meanwhile."""
    life.run()
    background = reference()
    if background is not None:
        background.ended(life)
    else:
        BackgroundLoop._close(life)
        life.over.set()


def find_or_make(name: str, *options: Any) -> BackgroundLoop:
    """Return the one of this name, the oldest if there are several, or make one: for those that are unpickled."""
    with _finding:
        found = [each for each in living() if each.name == name and not each.closed]
        return min(found, key=attrgetter("_number")) if found else BackgroundLoop(name, *options)


def find_syncer(background: BackgroundLoop, make: Callable[[], Any]) -> Any:
    """Return what users see of it, or make that: for those that are unpickled."""
    with _finding:
        syncer = background.syncer()
        if syncer is None:
            syncer = make()
            background.syncer = weakref.ref(syncer)
        return syncer


def living() -> list[BackgroundLoop]:
    while True:
        try:
            return list(_all)
        except RuntimeError:  # another thread has just made one, or dropped it
            pass


def _nobody() -> None:
    return None


def let_find() -> None:
    """In a forked child: the thread that was finding one is not there."""
    global _finding
    _finding = threading.RLock()


_finding = threading.RLock()  # a signal handler may unpickle, too
_numbers = itertools.count()
_all: weakref.WeakSet[BackgroundLoop] = weakref.WeakSet()
backgrounds: dict[asyncio.AbstractEventLoop, weakref.ref[BackgroundLoop]] = {}  # by their loops


def _is_shutdown(error: BaseException) -> bool:
    """Tell whether a thread could not be started since, from Python 3.12 on, none can when the main one has ended."""
    return isinstance(error, RuntimeError) and (main_has_ended() or "interpreter shutdown" in str(error))


def _say_lost(name: str, cause: BaseException) -> ClosedError:
    error = ClosedError(f"The event loop of the syncer {name!r} has come to an end by itself: {cause!r}")
    error.__cause__ = cause
    return error
