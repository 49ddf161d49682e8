"""The import path of the Flyte documentation. The default syncer here is the one of `syncify`."""

from syncify import Syncify, syncify

__all__ = ("Syncify", "syncify")
