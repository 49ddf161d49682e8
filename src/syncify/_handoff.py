"""How callbacks come from any thread to the loop that is to run them."""

from __future__ import annotations

import asyncio
import contextvars
import weakref
from collections import deque
from collections.abc import Callable

from ._threads import NoThreadError, in_a_thread
from ._wakeup import make_wakeup

__all__ = ("Handoff",)

# Callbacks taken over at a time. Under a flood of calls the timers and connections of the loop are served as well.
_AT_ONCE = 256


class Handoff:
    """A queue, and a loop that is woken to take it over. Whoever owns this brings the loop, and takes it away.

    Each callback is run once. On the loop as a rule; but when there is no loop, or none any more, by whoever notices
    that, in his thread. The callback looks at `loop` and `closing` to know.
    """

    # How often the loop has been woken to take callbacks over. It goes on when this is made anew: notes may be old.
    _drained = 0

    def __init__(self) -> None:
        self.loop: asyncio.AbstractEventLoop | None = None
        self.wakeup: Callable[[], object] = _nothing  # what wakes it, for which it calls `_drain`; set before it is
        # Of our own callbacks; entered by the loop's thread alone.
        self.context: contextvars.Context = contextvars.Context()
        self.incoming: deque[Callable[[], object]] = deque()
        self._drained += 1
        self._woken = -1  # the value of _drained at which the loop was last known to have been woken
        self._more = False  # whether more callbacks have come than are taken in one turn

    def post(self, callback: Callable[[], object]) -> None:
        """Let the loop call `callback`, after all that was posted before it. Any thread may ask.

        Waking a sleeping loop costs a system call, so callers that come while a wake-up is under way rely on it.

        The order of these lines is what makes that safe, also when a signal handler raises between any two of them.
        The note that the loop was woken is left after the wake-up, so that it never claims one that did not happen.
        It names the value of `_drained` from before the wake-up, and `_drain` counts that up before it looks at
        `incoming`: so while the note is valid, a `_drain` is still to come, and it will see what was appended before.

        A loop that ends is taken away first, and then `turn_away` takes what is left. So either that sees what was
        appended here, or this sees, at the end, that the loop is gone.
        """
        loop = self.loop
        self.incoming.append(callback)
        drained = self._drained
        if self._woken != drained and loop is not None:
            try:
                self.wakeup()
                self._woken = drained
            except RuntimeError as error:
                if not loop.is_closed():
                    raise
                self.lost(error)
        if self.loop is None:
            try:
                # There no signal handler strikes in the midst of somebody else's callback; which may take its time.
                in_a_thread(self.turn_away, 0)
            except NoThreadError:
                self.turn_away()

    def wake_loop(self) -> None:
        """Wake the loop, whether or not somebody has. A wake-up may be lost where there is no memory to make it."""
        loop = self.loop
        if loop is not None:
            try:
                self.wakeup()
            except RuntimeError:
                if not loop.is_closed():
                    raise

    def take_soon(self) -> None:
        """For code on the loop, which expects what it has posted to come before what it has the loop call afterwards.

        A wake-up is noticed later in the loop's turn.
        """
        loop = asyncio.get_running_loop()
        loop.call_soon_threadsafe(self._drain, weakref.ref(self), self.incoming, context=self.context)

    def set_wakeup(self, loop: asyncio.AbstractEventLoop) -> None:
        """Prepare to wake this loop, which does not run yet.

        It comes to hold what is in `incoming`, which holds this. Else it does not, so that this goes away when nobody
        has anything to do with it any more.
        """
        self.wakeup = make_wakeup(loop, self.context, Handoff._drain, weakref.ref(self), self.incoming)

    @staticmethod
    def _drain(reference: Callable[[], Handoff | None], held: object, rest: bool = False) -> None:
        self = reference()
        if self is None:
            return
        try:
            self._drained += 1
            if self._more and not rest:
                return  # the rest of them is taken at the loop's next turns, and these with it
            # What comes in meanwhile has seen the new count and wakes the loop again, which gets its turn between.
            waiting = len(self.incoming)
            self._more = waiting > _AT_ONCE
            if self._more:
                waiting = _AT_ONCE
                loop = asyncio.get_running_loop()
                loop.call_soon(self._drain, reference, held, True, context=self.context)
            for _ in range(waiting):
                callback = self.incoming.popleft()
                try:
                    callback()
                except BaseException as error:  # must not keep the others from being called
                    self.failed(callback, error)
        except BaseException as error:
            self.lost(error)  # there is no memory, for example, and nobody knows what has been called

    def turn_away(self) -> None:
        """Call what has been posted to a loop that has ended. Any thread may do so."""
        self._drained += 1  # nobody is to rely on a wake-up any more; in a forked child it may be that of the old loop
        while True:
            try:
                callback = self.incoming.popleft()
            except IndexError:
                return
            try:
                callback()
            except BaseException as error:  # must not keep the others from being called
                self.failed(callback, error)

    def lost(self, error: BaseException) -> None:
        """Take the loop away, which does not work any more."""
        raise NotImplementedError

    def failed(self, callback: Callable[[], object], error: BaseException) -> None:
        """Deal with what a callback has raised. None is meant to."""
        raise NotImplementedError


def _nothing() -> None:
    pass
