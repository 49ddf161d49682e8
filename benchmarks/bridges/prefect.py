"""The bridge inside Prefect, on the loop that it runs in a thread."""

from typing import Any

from prefect.utilities.asyncutils import run_coro_as_sync


class Bridge:
    imports = "prefect.utilities.asyncutils"
    keeps_its_loop = True

    def blocking(self, function: Any) -> Any:
        return lambda *args: run_coro_as_sync(function(*args))


BRIDGES = {"prefect": Bridge}
