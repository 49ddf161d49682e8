"""The Store service: a grpc.aio server with JSON messages, in a process of its own.

Prints its port as the first line, and ends when its stdin closes, so that it never outlives who started it.
"""

import asyncio
import json
import sys
from collections import Counter, defaultdict
from itertools import count
from typing import Any, TypeAlias

import grpc.aio

Message: TypeAlias = dict[str, Any]
Context: TypeAlias = grpc.aio.ServicerContext

PAGE = 100


class StoreService:
    """An inventory, and reports on it that nobody has ever seen finished."""

    def __init__(self) -> None:
        self._stock: dict[str, int] = {}
        self._changed = asyncio.Event()  # set by the next change, which replaces it
        self._watchers: Counter[str] = Counter()
        self._transactions: dict[str, dict[str, int]] = {}
        self._numbers = count(1)
        self._reports: defaultdict[tuple[str, str], asyncio.Event] = defaultdict(asyncio.Event)

    async def get(self, request: Message, context: Context) -> Message:
        await asyncio.sleep(0.1)  # the database is slow today
        name = request["name"]
        if name not in self._stock:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"the store has no {name}")
        return {"name": name, "stock": self._stock[name]}

    async def put(self, request: Message, context: Context) -> Message:
        change = {request["name"]: request["stock"]}
        transaction = request["transaction"]
        if transaction is None:
            self._change(change)
        elif transaction in self._transactions:
            self._transactions[transaction] |= change
        else:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"{transaction} has ended")
        return {}

    async def items(self, request: Message, context: Context) -> Message:
        return {"items": [{"name": name, "stock": stock} for name, stock in sorted(self._stock.items())]}

    async def catalog(self, request: Message, context: Context) -> None:
        size = request["size"]
        for start in range(0, size, PAGE):
            numbers = range(start, min(start + PAGE, size))
            await context.write({"items": [{"name": f"thing {number}", "stock": number} for number in numbers]})

    async def watch(self, request: Message, context: Context) -> None:
        name = request["name"]
        self._watchers[name] += 1
        self._tell()
        try:
            seen = None
            while True:
                changed, stock = self._changed, self._stock.get(name)
                if stock != seen:
                    await context.write({"name": name, "stock": stock})
                    seen = stock
                await changed.wait()
        finally:
            # The client has cancelled the call, or is gone.
            self._watchers[name] -= 1
            self._tell()

    async def wait_watchers(self, request: Message, context: Context) -> Message:
        """Answer when there are just so many calls that watch the item."""
        while self._watchers[request["name"]] != request["watchers"]:
            await self._changed.wait()
        return {"watchers": request["watchers"]}

    async def begin(self, request: Message, context: Context) -> Message:
        transaction = f"transaction {next(self._numbers)}"
        self._transactions[transaction] = {}
        return {"transaction": transaction}

    async def commit(self, request: Message, context: Context) -> Message:
        self._change(self._transactions.pop(request["transaction"]))
        return {}

    async def rollback(self, request: Message, context: Context) -> Message:
        del self._transactions[request["transaction"]]
        return {}

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

    def _change(self, changes: dict[str, int]) -> None:
        self._stock |= changes
        self._tell()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


def encode(message: Message) -> bytes:
    return json.dumps(message).encode()


async def main() -> None:
    service = StoreService()
    methods = {
        "Get": service.get,
        "Put": service.put,
        "List": service.items,
        "WaitWatchers": service.wait_watchers,
        "Begin": service.begin,
        "Commit": service.commit,
        "Rollback": service.rollback,
        "Peer": service.peer,
        "Report": service.report,
        "WaitReport": service.wait_report,
    }
    streams = {"Catalog": service.catalog, "Watch": service.watch}
    handlers = {
        name: grpc.unary_unary_rpc_method_handler(method, json.loads, encode) for name, method in methods.items()
    } | {name: grpc.unary_stream_rpc_method_handler(method, json.loads, encode) for name, method in streams.items()}
    server = grpc.aio.server()
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("store.Store", handlers)])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await server.stop(grace=None)


if __name__ == "__main__":
    asyncio.run(main())
