"""greenback: plain code below async code awaits on the loop of that, by a greenlet, and in the same thread."""

import asyncio
from collections.abc import Callable
from typing import Any

from greenback import await_, with_portal_run_sync


class Bridge:
    imports = "greenback"

    def run(self, measure: Callable[[], Any]) -> Any:
        return asyncio.run(with_portal_run_sync(measure))

    def blocking(self, function: Any) -> Any:
        return lambda *args: await_(function(*args))


BRIDGES = {"greenback": Bridge}
