"""asgiref, the bridge of Django. Outside async code it runs each call on a new loop."""

from typing import Any

from asgiref.sync import async_to_sync


class Bridge:
    imports = "asgiref.sync"

    def blocking(self, function: Any) -> Any:
        return async_to_sync(function)

    method = blocking


BRIDGES = {"asgiref": Bridge}
