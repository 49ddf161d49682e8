"""asyncer: from a worker thread to the loop that has started it."""

from collections.abc import Callable
from typing import Any

import anyio
from asyncer import asyncify, syncify


class Bridge:
    imports = "asyncer"

    def run(self, measure: Callable[[], Any]) -> Any:
        return anyio.run(asyncify(measure))

    def blocking(self, function: Any) -> Any:
        return syncify(function)


BRIDGES = {"asyncer": Bridge}
