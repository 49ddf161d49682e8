"""A client for the Store service, written once: it serves plain code and async code."""

import json
from dataclasses import asdict, dataclass
from typing import Any

import grpc.aio

from syncify import syncify


class NotFoundError(LookupError):
    """The store has no item of that name."""


@dataclass
class Item:
    """What the store has of one thing."""

    name: str
    stock: int


class Store:
    """A client that all threads and event loops of a program can share.

    `store.get(...)` blocks, `await store.get.aio(...)` does not, `store.get.submit(...)` returns a future.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        self._channel: grpc.aio.Channel | None = None

    @syncify
    async def get(self, name: str) -> Item:
        """Return the item of that name."""
        return Item(**await self._call("Get", name=name))

    @syncify
    async def put(self, item: Item) -> None:
        """Add an item, or replace the one of that name."""
        await self._call("Put", **asdict(item))

    @syncify
    async def items(self) -> list[Item]:
        """Return all items, sorted by name."""
        return [Item(**item) for item in (await self._call("List"))["items"]]

    @syncify
    async def peer(self) -> str:
        """Return the address of this client, as the server sees it."""
        return str((await self._call("Peer"))["peer"])

    @syncify
    async def report(self, title: str) -> None:
        """Make a report, which takes longer than anybody waits."""
        await self._call("Report", timeout=30, title=title)

    @syncify
    async def wait_report(self, title: str, state: str) -> str:
        """Wait until the server has a report "running", or, after it was cancelled, "cleaned up"."""
        return str((await self._call("WaitReport", title=title, state=state))["state"])

    @syncify
    async def close(self) -> None:
        """Close the connection. The next call opens another."""
        channel, self._channel = self._channel, None
        if channel is not None:
            await channel.close()

    async def _call(self, method: str, timeout: float = 10, **request: object) -> Any:
        if self._channel is None:  # made here, it belongs to the one loop that every call runs on
            self._channel = grpc.aio.insecure_channel(self._address)
        rpc = self._channel.unary_unary(f"/store.Store/{method}", _encode, json.loads)
        try:
            return await rpc(request, timeout=timeout)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.NOT_FOUND:
                raise NotFoundError(error.details()) from None
            raise


def _encode(message: object) -> bytes:
    return json.dumps(message).encode()
