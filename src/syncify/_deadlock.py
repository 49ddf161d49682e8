"""Refuses the blocking call that would wait for itself, and warns of the one that stalls somebody else's loop."""

from __future__ import annotations

import asyncio
import sys
import warnings
from typing import Any, TypeAlias

from ._call import Call
from ._errors import BlockingCallWarning, DeadlockError
from ._loop import BackgroundLoop, backgrounds
from ._running import running_loop
from ._trio import in_async_code

__all__ = (
    "check_blocking",
    "forget",
    "in_ipython",
    "note_awaiting",
    "note_blocking",
    "refuse_deadlock",
    "waiting",
)


def check_blocking(background: BackgroundLoop, name: str, form: str = "await {}.aio(...)") -> None:
    """Raise or warn where a loop runs in this thread, of asyncio or of Trio. `form` is how async code writes the call.

    To be called by what the user has called, since the warning counts frames.
    """
    if not in_async_code():
        return  # Trio has been imported, and does not run here
    name = _writable(name)
    instead = form.format(name)
    refuse_deadlock(background, f"{name}()", instead)
    if background.blocking == "allow" or (background.blocking == "warn" and in_ipython()):
        return
    message = (
        f"{name}() blocks the event loop that runs in this thread: nothing else on it moves until the call returns. "
        f"Write `{instead}`, or allow it with Syncify(blocking='allow')."
    )
    if background.blocking == "error":
        raise BlockingCallWarning(message)
    warnings.warn(message, BlockingCallWarning, stacklevel=3)


def _writable(name: str) -> str:
    return name.rpartition("<locals>.")[2]


def refuse_deadlock(background: BackgroundLoop, call: str, instead: str) -> None:
    """Raise DeadlockError on the background loop itself."""
    if background.loop is not None and running_loop() is background.loop:
        raise DeadlockError(
            f"Deadlock detected: {call} was called on the background loop {background.name!r}, which would have to run "
            f"it while it waits for it. Write `{instead}` instead."
        )


def in_ipython() -> bool:
    # There a loop always runs, and who types into a cell wants its result before the next.
    ipython = sys.modules.get("IPython")
    return ipython is not None and ipython.get_ipython() is not None


# Circles over several loops. A call cannot end while the loop that it runs on is kept by a blocking call, nor while its
# own task awaits a call on another loop. Who is about to wait follows these from call to call. If he comes back to his
# own, none of them can ever end. Nothing here is locked: what others wait for does not change while they wait.

# What background loops, kept by a blocking call, and tasks of such loops wait for; in the order in which they began to.
waiting: dict[BackgroundLoop | asyncio.Task[Any] | None, Call] = {}

Noted: TypeAlias = tuple[BackgroundLoop | asyncio.Task[Any], Call | None]


def note_blocking(loop: asyncio.AbstractEventLoop, call: Call) -> Noted | None:
    """Note that the thread of a loop is about to wait for the call; raise DeadlockError if that closes a circle.

    Returns what to `forget` when it does not wait any more.
    """
    reference = backgrounds.get(loop)
    owner = None if reference is None else reference()
    return None if owner is None else _note(owner, call)


def note_awaiting(loop: asyncio.AbstractEventLoop, call: Call) -> Noted | None:
    """The same for a task of a background loop, which is about to await the call."""
    task = asyncio.current_task(loop)
    if task is None:
        return None
    Call.note_task(task)
    return _note(task, call)


def _note(who: BackgroundLoop | asyncio.Task[Any], call: Call) -> Noted:
    # A thread that waits may come here again, by a finalizer.
    noted = who, waiting.pop(who, None)
    waiting[who] = call
    try:
        _check_circle(call)
    except BaseException:
        forget(noted)
        raise
    return noted


def forget(noted: Noted) -> None:
    """Undo a note."""
    who, before = noted
    waiting.pop(who, None)
    if before is not None:
        waiting[who] = before


def _check_circle(call: Call) -> None:
    """Raise DeadlockError if the call waits for itself, and was the last to be noted.

    Several may be noted at the same moment, and see the same circle. The last of them sees all of it, since each looks
    when it has been noted; and that it is the last. The others, if they see it all, see that as well, and wait.
    """
    circle = _find_circle(call, [call])
    if circle is None:
        return
    order = list(waiting.values())
    if not set(circle) <= set(order) or max(circle, key=order.index) is not call:
        return  # one has been refused meanwhile, or is going to be
    names = [f"{_writable(each.name)}() on {each.background.name!r}" for each in [*circle, call]]
    raise DeadlockError(
        f"Deadlock detected: {' waits for '.join(names)}. None of these could ever end. Let one of them be awaited "
        f"where it does not keep the loop, as `await f.aio(...)`, from the first to the last."
    )


def _find_circle(call: Call, path: list[Call]) -> list[Call] | None:
    last = path[-1]
    for following in waiting.get(last.background), waiting.get(last.task):
        if following is None or following.done:
            continue
        if following is call:
            return path
        if following not in path and (circle := _find_circle(call, [*path, following])) is not None:
            return circle
    return None
