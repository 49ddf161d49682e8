"""Which cancellations of anyio a coroutine is shielded from."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

__all__ = ("is_sent_again", "is_shielded")


def is_sent_again(message: object) -> bool:
    """Tell whether this comes from a cancel scope, which cancels its tasks again on every turn of the loop."""
    return isinstance(message, str) and message.startswith("Cancelled ") and "cancel scope" in message


def is_shielded(task: asyncio.Task[Any], message: object) -> bool:
    """Tell whether anyio has sent this to a task that is in a shielded cancel scope.

    It leaves out tasks that are shielded; but the task that it knows is that of the caller. What is left out here it
    sends again.

    Where a task is, anyio does not tell but in that task itself. So this looks at what it keeps for that; should it
    keep something else one day, nothing is shielded.
    """
    if not is_sent_again(message):
        return False
    try:
        scope: Any = sys.modules["anyio._backends._asyncio"]._task_states[task].cancel_scope
        while scope is not None:
            if scope.shield:
                return True
            scope = scope._parent_scope
    except (AttributeError, KeyError):
        pass
    return False
