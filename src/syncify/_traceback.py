"""Cuts the machinery out of tracebacks, so that they show the user's own code.

A caller should see the line that made the call, one frame of this library, and then the frames of the coroutine, as if
there were no second thread between them. `SYNCIFY_TRACEBACK=full` in the environment keeps every frame.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import inspect
import os
from collections.abc import Callable
from types import TracebackType

__all__ = ("came_from_coroutine", "context_of", "keep_context", "shorten")

_FULL = os.environ.get("SYNCIFY_TRACEBACK") == "full"
_LIBRARY = os.path.dirname(__file__) + os.sep
_MACHINERY = (
    _LIBRARY,
    os.path.dirname(asyncio.__file__) + os.sep,
    os.path.dirname(concurrent.futures.__file__) + os.sep,
    "uvloop/",  # what its compiled frames call their files
)


# A user's exception class may have other ideas of these.
_traceback_of: Callable[[BaseException], TracebackType | None] = vars(BaseException)["__traceback__"].__get__
context_of: Callable[[BaseException], BaseException | None] = vars(BaseException)["__context__"].__get__
_set_context: Callable[[BaseException, BaseException | None], None] = vars(BaseException)["__context__"].__set__


def shorten(error: BaseException) -> BaseException:
    """Return the same exception with only the frames that tell its user something.

    Cut are this library's frames wherever they stand, and those of asyncio, concurrent.futures and uvloop before the
    last frame of the user. Those after it stay: they show what the user's last line has called.

    The frames of the caller are added by Python when the exception is raised again.
    """
    if _FULL:
        return error
    frames: list[TracebackType] = []
    last = -1  # index of the last frame that is the user's own
    entry = _traceback_of(error)
    while entry is not None:
        if not entry.tb_frame.f_code.co_filename.startswith(_MACHINERY):
            last = len(frames)
        frames.append(entry)
        entry = entry.tb_next
    kept: TracebackType | None = None
    for index in range(len(frames) - 1, -1, -1):
        entry = frames[index]
        if entry.tb_frame.f_code.co_filename.startswith(_LIBRARY if index > last else _MACHINERY):
            continue
        # A traceback that somebody else may hold is never changed: where a frame was cut behind this one, copy it.
        if entry.tb_next is not kept:
            entry = TracebackType(kept, entry.tb_frame, entry.tb_lasti, entry.tb_lineno)
        kept = entry
    BaseException.with_traceback(error, kept)
    return error


def keep_context(error: BaseException, context: BaseException | None) -> None:
    """Give an exception that has just been raised again the context back that it had.

    Raised in an `except` block of the caller, it has got the exception that is handled there instead. As if the
    coroutine had run in that block, that one comes at the far end of the chain.
    """
    handled = context_of(error)
    if context is None or context is handled:
        return
    _set_context(error, context)
    chain = [error, *_chain(context)]
    if not any(link is other for link in chain for other in _chain(handled)):
        _set_context(chain[-1], handled)


def _chain(error: BaseException | None) -> list[BaseException]:
    chain: list[BaseException] = []
    while error is not None and not any(error is link for link in chain):
        chain.append(error)
        error = context_of(error)
    return chain


def came_from_coroutine(error: BaseException) -> bool:
    """Tell whether the exception has passed through a coroutine, and so through a task that keeps it."""
    entry = _traceback_of(error)
    while entry is not None:
        if entry.tb_frame.f_code.co_flags & (inspect.CO_COROUTINE | inspect.CO_ITERABLE_COROUTINE):
            return True
        entry = entry.tb_next
    return False
