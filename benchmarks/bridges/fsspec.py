"""The bridge inside fsspec."""

from typing import Any

from fsspec.asyn import get_loop, sync


class Bridge:
    imports = "fsspec.asyn"
    keeps_its_loop = True

    def blocking(self, function: Any) -> Any:
        loop = get_loop()
        return lambda *args: sync(loop, function, *args)


BRIDGES = {"fsspec": Bridge}
