"""The `syncify` module of the Flyte SDK."""

from typing import Any

from flyte.syncify import syncify


class Bridge:
    imports = "flyte.syncify"
    keeps_its_loop = True

    def blocking(self, function: Any) -> Any:
        return syncify(function)

    def aio(self, function: Any) -> Any:
        return syncify(function).aio

    method = generator = blocking
    async_generator = aio


BRIDGES = {"flyte": Bridge}
