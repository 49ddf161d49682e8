"""How another thread wakes a loop."""

from __future__ import annotations

import asyncio
import contextvars
import os
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

__all__ = ("make_wakeup",)

_ONE = (1).to_bytes(8, sys.byteorder)


def make_wakeup(
    loop: asyncio.AbstractEventLoop, context: contextvars.Context, callback: Callable[..., object], *args: Any
) -> Callable[[], object]:
    """Return a function for any thread, which has the loop call the callback at its next turn, in a context like that.

    `call_soon_threadsafe` does that. It makes a Handle each time, and asyncio then writes a byte into a socket, which
    its loop reads twice, to find it empty. A counter of the kernel and a Handle that stays take less, with uvloop, too.
    Such a callback is held by the loop until that is closed, and called once for all that came before.
    """
    if hasattr(os, "eventfd") and _is_known(loop):
        counter = _Counter(os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC))
        context.run(loop.add_reader, counter, _take, counter, callback, *args)
        return partial(os.write, counter, _ONE)
    return partial(loop.call_soon_threadsafe, callback, *args, context=context)


def _is_known(loop: asyncio.AbstractEventLoop) -> bool:
    """Tell whether a reader is as good to it. Other loops, and derived ones, may have ideas of their own."""
    kind = type(loop)
    return kind is asyncio.SelectorEventLoop or (kind.__module__, kind.__name__) == ("uvloop", "Loop")


class _Counter(int):
    """The number of a file, which is closed when nobody has it any more.

    Not when the loop is: a thread may be about to write, and by then the number may be that of another file.
    """

    def __del__(self, close: Callable[[int], object] = os.close) -> None:
        close(self)


def _take(counter: int, callback: Callable[..., object], *args: Any) -> None:
    try:
        os.read(counter, 8)  # first: what comes from here on is for the next turn
    except BlockingIOError:
        # What an earlier callback raised was too much for the loop, which has left this one for when it goes on. Then
        # it has looked again, found the same, and calls this twice.
        return
    callback(*args)
