"""Write an SDK once, as async functions; call it from plain code and from async code."""

from ._errors import BlockingCallWarning, DeadlockError
from ._mixin import SyncContextManager
from ._syncify import Syncify

__all__ = ("BlockingCallWarning", "DeadlockError", "SyncContextManager", "Syncify", "syncify")

__version__ = "0.1.0"

syncify = Syncify("syncify")
"""The default syncer: use it as the decorator where one background loop is enough, which is nearly always."""
