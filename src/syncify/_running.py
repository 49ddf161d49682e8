"""Which loop runs in the calling thread."""

from __future__ import annotations

import asyncio

__all__ = ("running_loop",)

try:
    # Exported by asyncio, though with an underscore. Unlike get_running_loop() it answers None instead of raising,
    # which every blocking call would pay for.
    from asyncio import _get_running_loop as running_loop
except ImportError:  # pragma: no cover

    def running_loop() -> asyncio.AbstractEventLoop | None:
        try:
            return asyncio.get_running_loop()
        except RuntimeError:
            return None
