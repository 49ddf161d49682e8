"""The Store service: a grpc.aio server with JSON messages, in a process of its own.

Prints its port as the first line, and ends when its stdin closes, so that it never outlives who started it.
"""

import asyncio
import json
import sys
from collections import defaultdict
from typing import Any, TypeAlias

import grpc.aio

Message: TypeAlias = dict[str, Any]
Context: TypeAlias = grpc.aio.ServicerContext


class StoreService:
    """An inventory, and reports on it that nobody has ever seen finished."""

    def __init__(self) -> None:
        self._stock: dict[str, int] = {}
        self._reports: defaultdict[tuple[str, str], asyncio.Event] = defaultdict(asyncio.Event)

    async def get(self, request: Message, context: Context) -> Message:
        await asyncio.sleep(0.1)  # the database is slow today
        name = request["name"]
        if name not in self._stock:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"the store has no {name}")
        return {"name": name, "stock": self._stock[name]}

    async def put(self, request: Message, context: Context) -> Message:
        self._stock[request["name"]] = request["stock"]
        return {}

    async def items(self, request: Message, context: Context) -> Message:
        return {"items": [{"name": name, "stock": stock} for name, stock in sorted(self._stock.items())]}

    async def peer(self, request: Message, context: Context) -> Message:
        return {"peer": context.peer()}

    async def report(self, request: Message, context: Context) -> Message:
        title = request["title"]
        self._reports[title, "running"].set()
        try:
            await asyncio.Event().wait()  # which nobody sets
            return {}
        finally:
            # The client has cancelled the call, or is gone.
            self._reports[title, "cleaned up"].set()

    async def wait_report(self, request: Message, context: Context) -> Message:
        """Answer when the report has come to that state."""
        await self._reports[request["title"], request["state"]].wait()
        return {"state": request["state"]}


def encode(message: Message) -> bytes:
    return json.dumps(message).encode()


async def main() -> None:
    service = StoreService()
    methods = {
        "Get": service.get,
        "Put": service.put,
        "List": service.items,
        "Peer": service.peer,
        "Report": service.report,
        "WaitReport": service.wait_report,
    }
    handlers = {
        name: grpc.unary_unary_rpc_method_handler(method, json.loads, encode) for name, method in methods.items()
    }
    server = grpc.aio.server()
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("store.Store", handlers)])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await server.stop(grace=None)


if __name__ == "__main__":
    asyncio.run(main())
