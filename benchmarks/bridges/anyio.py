"""The blocking portal of AnyIO."""

import atexit
from contextlib import ExitStack
from typing import Any

from anyio.from_thread import start_blocking_portal


class Bridge:
    imports = "anyio.from_thread"
    keeps_its_loop = True

    def __init__(self) -> None:
        stack = ExitStack()
        atexit.register(stack.close)
        self.portal = stack.enter_context(start_blocking_portal())

    def blocking(self, function: Any) -> Any:
        call = self.portal.call
        return lambda *args: call(function, *args)

    def submit(self, function: Any) -> Any:
        start_task_soon = self.portal.start_task_soon
        return lambda *args: start_task_soon(function, *args)

    def context_manager(self, function: Any) -> Any:
        wrap = self.portal.wrap_async_context_manager
        return lambda *args: wrap(function(*args))


BRIDGES = {"anyio": Bridge}
