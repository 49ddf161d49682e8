"""What there is without a library, and what nothing can be faster than."""

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import Any


class Threadsafe:
    """A loop in a thread, and `run_coroutine_threadsafe`."""

    keeps_its_loop = True

    def __init__(self, loop_factory: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop) -> None:
        self.loop = loop_factory()
        threading.Thread(target=self.loop.run_forever, daemon=True).start()

    def blocking(self, function: Any) -> Any:
        loop = self.loop
        return lambda *args: asyncio.run_coroutine_threadsafe(function(*args), loop).result()

    def aio(self, function: Any) -> Any:
        loop = self.loop

        async def aio(*args: Any) -> Any:
            return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(function(*args), loop))

        return aio

    def submit(self, function: Any) -> Any:
        loop = self.loop
        return lambda *args: asyncio.run_coroutine_threadsafe(function(*args), loop)

    def generator(self, function: Any) -> Any:
        step = self.blocking(_step)

        def generator(*args: Any) -> Generator[Any, None, None]:
            rows = function(*args)
            while True:
                try:
                    item = step(rows)
                except StopAsyncIteration:
                    return
                yield item

        return generator

    def async_generator(self, function: Any) -> Any:
        step = self.aio(_step)

        async def async_generator(*args: Any) -> AsyncGenerator[Any, None]:
            rows = function(*args)
            while True:
                try:
                    item = await step(rows)
                except StopAsyncIteration:
                    return
                yield item

        return async_generator

    def context_manager(self, function: Any) -> Any:
        enter, leave = self.blocking(_enter), self.blocking(_leave)

        @contextmanager
        def context_manager(*args: Any) -> Generator[Any, None, None]:
            manager = function(*args)
            value = enter(manager)
            try:
                yield value
            finally:
                leave(manager)

        return context_manager


async def _step(rows: AsyncGenerator[Any, None]) -> Any:
    return await anext(rows)


async def _enter(manager: AbstractAsyncContextManager[Any]) -> Any:
    return await manager.__aenter__()


async def _leave(manager: AbstractAsyncContextManager[Any]) -> None:
    await manager.__aexit__(None, None, None)


class Run:
    """A new loop for every call."""

    def blocking(self, function: Any) -> Any:
        return lambda *args: asyncio.run(function(*args))


class Runner:
    """A loop in the calling thread, which runs while that waits."""

    keeps_its_loop = True
    is_of_one_thread = True

    def __init__(self) -> None:
        self.runner = asyncio.Runner()

    def blocking(self, function: Any) -> Any:
        run = self.runner.run
        return lambda *args: run(function(*args))


class Locks:
    """Two threads that wake each other by a lock each: nothing that changes threads can be faster."""

    rows = ("trivial",)

    def blocking(self, function: Any) -> Any:
        there, back = threading.Lock(), threading.Lock()
        there.acquire()
        back.acquire()

        def answer() -> None:
            while True:
                there.acquire()
                back.release()

        threading.Thread(target=answer, daemon=True).start()

        def call(x: int) -> None:
            there.release()
            back.acquire()

        return call


class Floor:
    """Waking a loop, and being woken by a lock: nothing that uses this loop can be faster."""

    rows = ("trivial",)

    def __init__(self, loop_factory: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop) -> None:
        self.loop = loop_factory()
        threading.Thread(target=self.loop.run_forever, daemon=True).start()

    def blocking(self, function: Any) -> Any:
        wake = self.loop.call_soon_threadsafe
        lock = threading.Lock()
        lock.acquire()

        def call(x: int) -> None:
            wake(lock.release)
            lock.acquire()

        return call


class Native:
    """Async code that awaits the coroutine itself. There is nothing to be bridged."""

    rows = ("own loop", "async for", "access", "gathered", "sequential")

    def blocking(self, function: Any) -> Any:
        return lambda *args: asyncio.run(function(*args))

    def aio(self, function: Any) -> Any:
        return function

    method = async_generator = aio


class SyncClient:
    """The plain version that the makers of a client have written beside the async one."""

    rows = ("grpc", "redis")
    keeps_its_loop = True

    def blocking(self, function: Any) -> Any:
        return getattr(self, function.__name__)

    def connect_grpc(self, address: str) -> Any:
        import grpc

        return grpc.insecure_channel(address).unary_unary("/echo/Echo")

    def call_grpc(self, echo: Any) -> bytes:
        return echo(b"x")  # type: ignore[no-any-return]

    def connect_redis(self, path: str) -> Any:
        import redis

        return redis.Redis(unix_socket_path=path)

    def call_redis(self, client: Any) -> bytes:
        return client.get("key")  # type: ignore[no-any-return]


def _on_uvloop(bridge: Any) -> Any:
    def make() -> Any:
        import uvloop

        return bridge(uvloop.new_event_loop)

    return make


BRIDGES = {
    "run_coroutine_threadsafe": Threadsafe,
    "run_coroutine_threadsafe on uvloop": _on_uvloop(Threadsafe),
    "asyncio.run": Run,
    "asyncio.Runner.run": Runner,
    "two locks": Locks,
    "call_soon_threadsafe and a lock": Floor,
    "call_soon_threadsafe and a lock on uvloop": _on_uvloop(Floor),
    "native": Native,
    "the client's own": SyncClient,
}
