"""What becomes of the background loops when the process forks, and when it exits."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import logging
import os
import select
import selectors
import time
from typing import Any

from ._callers import lose_calls_of_this_thread
from ._deadlock import waiting
from ._loop import BackgroundLoop, let_find, living
from ._threads import forget_the_main_thread

__all__ = ()

logger = logging.getLogger("syncify")


def _after_fork_in_child() -> None:
    waiting.clear()
    forget_the_main_thread()
    let_find()
    for background in living():
        life = background.life
        if life is not None:
            _of_parents.extend([life, background.incoming])
            _detach(life.loop)
            with contextlib.suppress(Exception):
                _of_parents.append(asyncio.all_tasks(life.loop))
            for each in list(life.in_flight):
                each.lose()
            for callback in list(background.incoming):
                call: Any = getattr(callback, "__self__", None)
                if hasattr(call, "lose"):
                    call.lose()
        for each in list(background.losable):
            each.lose()
        background.reset()
    lose_calls_of_this_thread()


# What is of the parent's loops. A child must not even collect it: that would warn of what has not ended.
_of_parents: list[object] = []


def _detach(loop: asyncio.AbstractEventLoop) -> None:
    """Give the child's copy of a loop a selector of its own.

    What the child drops of the parent's connections is taken out of the selector; and on Linux both share that.
    """
    selector: Any = getattr(loop, "_selector", None)
    if not isinstance(selector, getattr(selectors, "EpollSelector", ())):
        return
    shared: Any = selector
    with contextlib.suppress(OSError, ValueError), select.epoll() as own:
        os.dup2(own.fileno(), shared.fileno(), inheritable=False)


def _at_exit() -> None:
    """End all loops at once. Who is still waiting for a call can only be a thread that is not waited for."""
    BackgroundLoop.exiting = True
    begun = time.monotonic()
    running = {background: _limit(background, begun) for background in living() if background.life}
    if not running:
        with contextlib.suppress(Exception):
            # For finalizers that make the first calls of all: this imports what later cannot be imported any more.
            asyncio.new_event_loop().close()
    for background, limit in running.items():
        background.end(SystemExit if background.closing is None else background.closing, limit)
    for background, limit in running.items():
        rest = background.wait_for_end(None if limit is None else max(0, begun + limit - time.monotonic()))
        if rest:
            logger.warning("syncify: the program has ended, and abandoned in %r: %s", background.name, ", ".join(rest))
            background.close(None)  # its thread may still come to run what is posted
        else:
            background.reset()  # handlers that were registered before this one come later, and may make calls


def _limit(background: BackgroundLoop, now: float) -> float | None:
    """How many seconds the end of this loop may take."""
    limit = background.exit_timeout
    if limit is None or now - background.cut_at > limit:
        return limit
    return max(limit / 4, limit / 2 - (now - background.cut_at))  # the rest was given to a thread


atexit.register(_at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
