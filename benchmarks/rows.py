"""What is timed: each row makes, of a bridge, a function that does the work so many times and returns the time."""

import asyncio
import gc
import os
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from time import perf_counter
from typing import Any

import bridges
import work

Measure = Callable[[int], float]


@dataclass(frozen=True)
class Row:
    title: str
    make: Callable[[Any], Measure]
    needs: tuple[str, ...]  # the methods of a bridge that it uses
    loops: int  # how often the work is done for one value
    values: int = 5  # in one process, after one that does not count
    unit: str = "second"


ROWS: dict[str, Row] = {}


def row(name: str, title: str, *needs: str, loops: int = 2000, **options: Any) -> Any:
    def add(make: Callable[[Any], Measure]) -> Callable[[Any], Measure]:
        ROWS[name] = Row(title, make, needs, loops, **options)
        return make

    return add


def rows_of(bridge: Any) -> list[str]:
    """Return the names of the rows that a bridge takes part in."""
    return [
        name
        for name, each in ROWS.items()
        if all(hasattr(bridge, method) for method in each.needs)
        and name in getattr(bridge, "rows", ROWS)
        # Where blocking calls work in one place alone, there are none from other threads, and none that begin it all.
        and not (hasattr(bridge, "run") and (name.endswith("threads") or name == "first"))
        and not (hasattr(bridge, "is_of_one_thread") and name in ("8 threads", "64 threads"))
    ]


# Blocking calls.


def repeat(function: Callable[[Any], object], argument: Any = 1) -> Measure:
    def measure(loops: int) -> float:
        start = perf_counter()
        for _ in range(loops):
            function(argument)
        return perf_counter() - start

    return measure


@row("trivial", "trivial call", "blocking")
def _(bridge: Any) -> Measure:
    return repeat(bridge.blocking(work.trivial))


@row("suspends", "call that suspends once", "blocking")
def _(bridge: Any) -> Measure:
    return repeat(bridge.blocking(work.suspends))


@row("raises", "call that raises", "blocking")
def _(bridge: Any) -> Measure:
    function = bridge.blocking(work.raises)

    def measure(loops: int) -> float:
        start = perf_counter()
        for _ in range(loops):
            try:
                function(1)
            except ValueError:
                pass
        return perf_counter() - start

    return measure


@row("access", "access to a method", "method", loops=10_000)
def _(bridge: Any) -> Measure:
    async def method(self: Any, x: int) -> int:
        return x

    client: Any = type("Client", (), {"method": bridge.method(method)})()

    def measure(loops: int) -> float:
        start = perf_counter()
        for _ in range(loops):  # ten at a time, or it would be the loop that is measured
            client.method, client.method, client.method, client.method, client.method  # noqa: B018
            client.method, client.method, client.method, client.method, client.method  # noqa: B018
        return (perf_counter() - start) / 10

    return measure


# Async callers.


def repeat_await(function: Callable[[int], Awaitable[object]]) -> Callable[[int], Coroutine[Any, Any, float]]:
    async def measure(loops: int) -> float:
        start = perf_counter()
        for _ in range(loops):
            await function(1)
        return perf_counter() - start

    return measure


@row("sequential", "`await` on another loop", "aio")
def _(bridge: Any) -> Measure:
    measure = repeat_await(bridge.aio(work.trivial))
    return lambda loops: asyncio.run(measure(loops))


@row("gathered", "100 at once, by `gather`, each", "aio")
def _(bridge: Any) -> Measure:
    function = bridge.aio(work.trivial)

    async def measure(loops: int) -> float:
        start = perf_counter()
        for _ in range(loops // 100):
            await asyncio.gather(*[function(1) for _ in range(100)])
        return perf_counter() - start

    return lambda loops: asyncio.run(measure(loops))


@row("own loop", "`await` on its own loop", "aio", "blocking", loops=20_000)
def _(bridge: Any) -> Measure:
    return bridge.blocking(repeat_await(bridge.aio(work.trivial)))  # type: ignore[no-any-return]


# Streams.


def iterate(items: Any) -> Measure:
    def measure(loops: int) -> float:
        start = perf_counter()
        for _ in islice(items, loops):
            pass
        return perf_counter() - start

    return measure


@row("generator", "item of a generator", "generator")
def _(bridge: Any) -> Measure:
    return iterate(bridge.generator(work.count)())


@row("prefetched", "item that was fetched ahead", "prefetched", loops=100_000)
def _(bridge: Any) -> Measure:
    return iterate(bridge.prefetched(work.count)())


@row("async for", "item of an `async for` on another loop", "async_generator")
def _(bridge: Any) -> Measure:
    function = bridge.async_generator(work.count)

    async def measure(loops: int) -> float:
        items = function()
        await anext(items)
        start = perf_counter()
        for _ in range(loops):
            await anext(items)
        end = perf_counter()
        await items.aclose()
        return end - start

    return lambda loops: asyncio.run(measure(loops))


@row("with", "enter and exit of a `with`", "context_manager", loops=1000)
def _(bridge: Any) -> Measure:
    function = bridge.context_manager(work.session)

    def measure(loops: int) -> float:
        start = perf_counter()
        for _ in range(loops):
            with function():
                pass
        return perf_counter() - start

    return measure


# Load.


def from_threads(count: int) -> Callable[[Any], Measure]:
    def make(bridge: Any) -> Measure:
        function = bridge.blocking(work.trivial)

        def measure(loops: int) -> float:
            barrier = threading.Barrier(count + 1)

            def call() -> None:
                barrier.wait()
                for _ in range(loops // count):
                    function(1)

            with ThreadPoolExecutor(count) as threads:
                calling = [threads.submit(call) for _ in range(count)]
                barrier.wait()
                start = perf_counter()
                for each in calling:
                    each.result()
                return perf_counter() - start

        return measure

    return make


for _count in (1, 8, 64):
    row(f"{_count} threads", f"call from one of {_count} threads", "blocking", loops=6400)(from_threads(_count))


@row("in flight", "call, 10,000 in flight", "submit", loops=10_000)
def _(bridge: Any) -> Measure:
    function = bridge.submit(work.suspends)

    def measure(loops: int) -> float:
        start = perf_counter()
        for future in [function(1) for _ in range(loops)]:
            future.result()
        return perf_counter() - start

    return measure


@row("memory", "memory of a call in flight", "submit", "blocking", loops=10_000, values=1, unit="byte")
def _(bridge: Any) -> Measure:
    released: asyncio.Event

    async def prepare() -> None:
        nonlocal released
        released = asyncio.Event()

    async def wait() -> None:
        await released.wait()

    async def release() -> None:
        released.set()

    prepare, release, wait = bridge.blocking(prepare), bridge.blocking(release), bridge.submit(wait)

    def measure(loops: int) -> float:
        prepare()
        gc.collect()
        before = resident()
        futures = [wait() for _ in range(loops)]
        prepare_again = bridge.blocking(work.trivial)
        prepare_again(1)  # so all of them have begun
        taken = resident() - before
        release()
        for future in futures:
            future.result()
        return taken

    return measure


def resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


# The start.


@row("first", "first call of a process", "blocking", loops=1, values=1)
def _(bridge: Any) -> Measure:
    def measure(loops: int) -> float:
        start = perf_counter()
        new = bridges.load(bridge.name)
        new.blocking(work.trivial)(1)
        return perf_counter() - start

    return measure


@row("import", "import, when asyncio is there", "imports", loops=1, values=3)
def _(bridge: Any) -> Measure:
    code = f"import os, asyncio; import {bridge.imports}; os._exit(0)"

    def measure(loops: int) -> float:
        total = 0
        for _ in range(loops):
            lines = subprocess.run(
                [sys.executable, "-X", "importtime", "-c", code], check=True, stderr=subprocess.PIPE, text=True
            ).stderr.splitlines()
            lines = [line.removeprefix("import time:") for line in lines if line.startswith("import time:")]
            names = [line.split("|")[2].strip() for line in lines]
            total += sum(int(line.split("|")[0]) for line in lines[names.index("asyncio") + 1 :])
        return total / 1e6

    return measure


# Clients of real servers.


@row("grpc", "call of a gRPC server", "blocking", "keeps_its_loop", loops=500)
def _(bridge: Any) -> Measure:
    echo = bridge.blocking(work.connect_grpc)(os.environ["BENCHMARK_GRPC"])
    return repeat(bridge.blocking(work.call_grpc), echo)


@row("redis", "GET of a Redis server", "blocking", "keeps_its_loop", loops=1000)
def _(bridge: Any) -> Measure:
    client = bridge.blocking(work.connect_redis)(os.environ["BENCHMARK_REDIS"])
    return repeat(bridge.blocking(work.call_redis), client)
