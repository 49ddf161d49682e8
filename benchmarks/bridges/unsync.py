"""unsync, whose decorated functions return futures."""

from typing import Any

from unsync import unsync


class Bridge:
    imports = "unsync"
    keeps_its_loop = True

    def blocking(self, function: Any) -> Any:
        decorated = unsync(function)
        return lambda *args: decorated(*args).result()

    def submit(self, function: Any) -> Any:
        return unsync(function)


BRIDGES = {"unsync": Bridge}
