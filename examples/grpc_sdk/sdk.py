"""A client for the Store service, written once: it serves plain code and async code."""

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from typing import Any, Self

import grpc.aio

from syncify import SyncContextManager, syncify


class NotFoundError(LookupError):
    """The store has nothing of that name."""


@dataclass
class Item:
    """What the store has of one thing."""

    name: str
    stock: int


class Store(SyncContextManager, syncer=syncify):
    """A client that all threads and event loops of a program can share.

    `store.get(...)` blocks, `await store.get.aio(...)` does not, `store.get.submit(...)` returns a future. What is
    iterated over or entered has two forms: `for item in store.watch(...)` and `async for item in store.watch.aio(...)`,
    `with store.transaction()` and `async with store.transaction.aio()`.

    `with Store(...) as store` and `async with Store(...) as store` close the connection at the end of the block.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self._channel: grpc.aio.Channel | None = None

    async def __aenter__(self) -> Self:
        self._open()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close.aio()

    @syncify
    async def close(self) -> None:
        """Close the connection, and cancel what runs over it. The next call opens another."""
        channel, self._channel = self._channel, None
        if channel is not None:
            await channel.close()

    @syncify
    async def get(self, name: str) -> Item:
        """Return the item of that name."""
        return Item(**await self._call("Get", name=name))

    @syncify
    async def put(self, item: Item, transaction: str | None = None) -> None:
        """Add an item, or replace the one of that name; in a transaction, or at once."""
        await self._call("Put", **asdict(item), transaction=transaction)

    @syncify
    async def items(self) -> list[Item]:
        """Return all items, sorted by name."""
        return [Item(**item) for item in (await self._call("List"))["items"]]

    @syncify(prefetch=1000)
    async def catalog(self, size: int) -> AsyncGenerator[Item, None]:
        """Yield so many of the things that can be ordered. They come in pages, the next while the caller reads one."""
        async with self._stream("Catalog", size=size) as pages:
            async for page in pages:
                for item in page["items"]:
                    yield Item(**item)

    @syncify
    async def watch(self, name: str) -> AsyncGenerator[Item, None]:
        """Yield the item of that name as it is, and then whenever it has changed."""
        async with self._stream("Watch", name=name) as changes:
            async for item in changes:
                yield Item(**item)

    @syncify
    async def wait_watchers(self, name: str, watchers: int) -> int:
        """Wait until the server has just so many calls that watch this item, and return their number."""
        return int((await self._call("WaitWatchers", name=name, watchers=watchers))["watchers"])

    @syncify
    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[str, None]:
        """What is put in the transaction comes into effect at the end of the block, or never if the block raises."""
        transaction = (await self._call("Begin"))["transaction"]
        try:
            yield transaction
        except BaseException:  # a cancellation, too
            await self._call("Rollback", transaction=transaction)
            raise
        await self._call("Commit", transaction=transaction)

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

    def _open(self) -> grpc.aio.Channel:
        if self._channel is None:  # made by a coroutine, it belongs to the one loop that all of them run on
            self._channel = grpc.aio.insecure_channel(self.address)
        return self._channel

    async def _call(self, method: str, timeout: float = 10, **request: object) -> Any:
        rpc = self._open().unary_unary(f"/store.Store/{method}", _encode, json.loads)
        try:
            return await rpc(request, timeout=timeout)
        except grpc.aio.AioRpcError as error:
            raise _translate(error) from None

    @asynccontextmanager
    async def _stream(self, method: str, **request: object) -> AsyncGenerator[Any, None]:
        rpc = self._open().unary_stream(f"/store.Store/{method}", _encode, json.loads)
        answers = rpc(request)
        try:
            yield answers
        except grpc.aio.AioRpcError as error:
            raise _translate(error) from None
        finally:
            answers.cancel()  # whoever stops reading; after the last answer there is nothing left to cancel


def _encode(message: object) -> bytes:
    return json.dumps(message).encode()


def _translate(error: grpc.aio.AioRpcError) -> Exception:
    return NotFoundError(error.details()) if error.code() is grpc.StatusCode.NOT_FOUND else error
