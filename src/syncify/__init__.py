"""Write an SDK once, as async functions; call it from plain code and from async code."""

from . import _exit as _exit
from ._deadline import timeout
from ._errors import BlockingCallWarning, ClosedError, DeadlockError
from ._mixin import SyncContextManager
from ._syncify import Syncify

__all__ = (
    "BlockingCallWarning",
    "ClosedError",
    "DeadlockError",
    "SyncContextManager",
    "Syncify",
    "syncify",
    "timeout",
)

__version__ = "0.1.0"

syncify: Syncify = Syncify("syncify")
"""The default syncer: use it as the decorator where one background loop is enough, which is nearly always."""
