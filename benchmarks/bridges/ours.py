"""This library, on the loop of asyncio and on that of uvloop."""

import asyncio
from collections.abc import Callable
from typing import Any

from syncify import Syncify


class Bridge:
    imports = "syncify"
    keeps_its_loop = True

    def __init__(self, loop_factory: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop) -> None:
        self.syncer = Syncify("benchmark", loop_factory=loop_factory)

    def blocking(self, function: Any) -> Any:
        return self.syncer(function)

    def aio(self, function: Any) -> Any:
        return self.syncer(function).aio

    def submit(self, function: Any) -> Any:
        return self.syncer(function).submit

    def prefetched(self, function: Any) -> Any:
        return self.syncer(prefetch=256)(function)

    generator = context_manager = method = blocking
    async_generator = aio


def on_uvloop() -> Bridge:
    import uvloop

    return Bridge(uvloop.new_event_loop)


BRIDGES = {"syncify": Bridge, "syncify on uvloop": on_uvloop}
