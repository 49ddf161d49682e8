"""Refuses the blocking call that would wait for itself, and warns of the one that stalls somebody else's loop."""

import sys
import warnings

from ._errors import BlockingCallWarning, DeadlockError
from ._loop import BackgroundLoop, running_loop

__all__ = ("check_blocking", "refuse_deadlock")


def check_blocking(background: BackgroundLoop, name: str, form: str = "await {}.aio(...)") -> None:
    """Raise or warn where a loop runs in this thread. `form` is how async code is to write the call.

    To be called by what the user has called, since the warning counts frames.
    """
    name = name.rpartition("<locals>.")[2]  # what can be written
    instead = form.format(name)
    refuse_deadlock(background, f"{name}()", instead)
    if background.blocking == "allow" or (background.blocking == "warn" and _in_ipython()):
        return
    message = (
        f"{name}() blocks the event loop that runs in this thread: nothing else on it moves until the call returns. "
        f"Write `{instead}`, or allow it with Syncify(blocking='allow')."
    )
    if background.blocking == "error":
        raise BlockingCallWarning(message)
    warnings.warn(message, BlockingCallWarning, stacklevel=3)


def refuse_deadlock(background: BackgroundLoop, call: str, instead: str) -> None:
    """Raise DeadlockError on the background loop itself."""
    if background.loop is not None and running_loop() is background.loop:
        raise DeadlockError(
            f"Deadlock detected: {call} was called on the background loop {background.name!r}, which would have to run "
            f"it while it waits for it. Write `{instead}` instead."
        )


def _in_ipython() -> bool:
    # There a loop always runs, and who types into a cell wants its result before the next.
    ipython = sys.modules.get("IPython")
    return ipython is not None and ipython.get_ipython() is not None
