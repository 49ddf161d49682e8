"""How a Trio task waits for its call."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import math
import sys
from collections.abc import Callable, Generator
from typing import Any, NoReturn

from ._call import Call, Raw, Taker
from ._loop import BackgroundLoop
from ._running import running_loop

__all__ = ("TRIO", "TrioCall", "current_trio_task", "in_async_code")

# Stands where the loop of a caller does.
TRIO: Any = "trio"


def current_trio_task() -> object | None:
    """Return the Trio task that this runs in. Trio is not imported for that: where it runs, it has been."""
    trio: Any = sys.modules.get("trio")
    if trio is None:
        return None
    try:
        return trio.lowlevel.current_task()  # type: ignore[no-any-return]
    except (RuntimeError, AttributeError):  # it does not run; or it is just being imported
        return None


def in_async_code() -> bool:
    """Tell whether a loop of asyncio or of Trio runs in this thread, which a blocking call would stall."""
    return running_loop() is not None or current_trio_task() is not None


class TrioCall(Call):
    """The caller is a Trio task.

    A cancellation of Trio, or a Ctrl-C, is sent to the coroutine once, as one of asyncio is; then the task waits until
    that has ended. What the coroutine returns or raises instead of ending, the task gets. Trio raises again at the next
    checkpoint.

    A call that ends something, `__aexit__` for example, is not cancelled by what has cancelled the task before. In Trio
    it would be, wherever it awaits; but the coroutine is written for asyncio, where each cancellation strikes once.
    """

    __slots__ = ("_ends", "_raise_cancel", "_token", "_waiting")

    def __init__(
        self,
        background: BackgroundLoop,
        raw: Raw,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        context: contextvars.Context | None = None,
        taker: Taker | None = None,
        ends: bool = False,
    ) -> None:
        super().__init__(background, raw, args, kwargs, context, taker)
        self._ends = ends
        self._raise_cancel: Callable[[], NoReturn] | None = None
        self._waiting: object = None
        self._token: Any = None

    def __await__(self) -> Generator[Any, None, None]:
        if not self.has_loop():
            return
        try:
            yield from _protected()(self)
        except BaseException:
            # No cancellation comes this way. The coroutine is being closed, since nobody runs the task any more.
            if not self.done:
                self.background.post(self.cancel_by_caller)
            raise
        if self._raise_cancel is not None and isinstance(self.error, asyncio.CancelledError):
            self._raise_cancel()

    def wake(self) -> None:
        if self._token is not None:  # or Ctrl-C has come before it was waited for
            with contextlib.suppress(RuntimeError):  # Trio has ended: nobody is waiting any more
                self._token.run_sync_soon(sys.modules["trio"].lowlevel.reschedule, self._waiting)

    def get_loop(self) -> Any:
        return TRIO

    def suspend(self) -> Generator[Any, None, None]:
        """Post the call, and return when it is done. No coroutine, which would complain of not being awaited."""
        trio: Any = sys.modules["trio"]
        self._waiting = trio.lowlevel.current_task()
        self._token = trio.lowlevel.current_trio_token()
        is_cancelled = trio.current_effective_deadline() == -math.inf

        def abort(raise_cancel: Callable[[], NoReturn]) -> Any:
            self._raise_cancel = raise_cancel
            self.background.post(self.cancel_by_caller)
            return trio.lowlevel.Abort.FAILED  # not before the coroutine has ended

        self.background.post(self.start)
        # Trio asks once for an abort. That is not to be for the cancellation of before, but for a Ctrl-C to come.
        with trio.CancelScope(shield=self._ends and is_cancelled):
            yield from trio.lowlevel.wait_task_rescheduled(abort).__await__()


@functools.cache
def _protected() -> Callable[[TrioCall], Generator[Any, None, None]]:
    """Have Trio keep Ctrl-C out of there, where it could come between post and wait. It comes to `abort`."""
    return sys.modules["trio"].lowlevel.enable_ki_protection(TrioCall.suspend)  # type: ignore[no-any-return]
