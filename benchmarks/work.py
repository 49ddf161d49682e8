"""What is called: the same coroutines for every bridge."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any


async def trivial(x: int) -> int:
    return x


async def suspends(x: int) -> int:
    await asyncio.sleep(0)
    return x


async def raises(x: int) -> int:
    raise ValueError(x)


async def count() -> AsyncGenerator[int, None]:
    number = 0
    while True:
        yield number
        number += 1


@asynccontextmanager
async def session() -> AsyncGenerator[int, None]:
    yield 1


# Clients, whose connections belong to the loop that they were made on.


async def connect_grpc(address: str) -> Any:
    import grpc

    return grpc.aio.insecure_channel(address).unary_unary("/echo/Echo")


async def call_grpc(echo: Any) -> bytes:
    return await echo(b"x")  # type: ignore[no-any-return]


async def connect_redis(path: str) -> Any:
    import redis.asyncio

    return redis.asyncio.Redis(unix_socket_path=path)


async def call_redis(client: Any) -> bytes:
    return await client.get("key")  # type: ignore[no-any-return]
