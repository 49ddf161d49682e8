"""synchronicity, which makes a blocking twin of each function and class."""

import functools
from typing import Any

from synchronicity import Synchronizer
from synchronicity.async_wrap import asynccontextmanager


class Bridge:
    imports = "synchronicity"
    keeps_its_loop = True

    def __init__(self) -> None:
        self.synchronizer = Synchronizer()

    def blocking(self, function: Any) -> Any:
        return self.synchronizer.wrap(function)

    def aio(self, function: Any) -> Any:
        return self.synchronizer.wrap(function).aio

    def submit(self, function: Any) -> Any:
        return functools.partial(self.synchronizer.wrap(function), _future=True)

    def context_manager(self, function: Any) -> Any:
        # It has a decorator of its own, in place of contextlib's.
        return self.synchronizer.wrap(asynccontextmanager(function.__wrapped__))

    def method(self, function: Any) -> Any:
        twin = self.synchronizer.wrap(type("Client", (), {"method": function}))
        return vars(twin)["method"]

    generator = blocking
    async_generator = aio


BRIDGES = {"synchronicity": Bridge}
