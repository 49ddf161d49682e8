"""universalasync, on a loop in the calling thread, which runs while that waits."""

from typing import Any

from universalasync import async_to_sync_wraps


class Bridge:
    imports = "universalasync"
    keeps_its_loop = True

    def blocking(self, function: Any) -> Any:
        return async_to_sync_wraps(function)

    method = generator = blocking


BRIDGES = {"universalasync": Bridge}
