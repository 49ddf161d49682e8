"""What a call costs, as a ratio to what the standard library takes for the same trip.

The other side of a blocking call is `run_coroutine_threadsafe(...).result()`, that of `.aio` from another loop is
`wrap_future(run_coroutine_threadsafe(...))`, and that of `.aio` on its own loop a native await. For each item of a
stream the other side makes such a call of `anext`.

Absolute times differ between machines and between two minutes on one machine; ratios hold. So both sides of each row
are timed in turn, in one process pinned to one core, over several rounds, and the best round of each side counts.

    make bench                  all rows, on asyncio and on uvloop
    make bench ARGS="--rounds 20"
"""

import argparse
import asyncio
import os
import platform
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import aclosing
from itertools import islice
from typing import Any

from syncify import Syncify

CALLS = 2000
PREFETCHED = 50 * CALLS  # an item costs so little


async def trivial(x: int) -> int:
    return x


async def suspends(x: int) -> int:
    await asyncio.sleep(0)
    return x


async def count() -> AsyncGenerator[int, None]:
    number = 0
    while True:
        yield number
        number += 1


class Client:
    """Has one method as it is and one decorated, to compare the access to them."""

    async def native(self, x: int) -> int:
        return x


def best(*sides: Callable[[], float], rounds: int) -> list[float]:
    """Time the sides in turn, and return the best round of each, in microseconds."""
    times: list[list[float]] = [[] for _ in sides]
    for _ in range(rounds):
        for side, measured in zip(sides, times, strict=True):
            measured.append(side())
    return [min(measured) for measured in times]


def repeat(function: Callable[[], object], calls: int = CALLS) -> Callable[[], float]:
    def measure() -> float:
        start = time.perf_counter()
        for _ in range(calls):
            function()
        return (time.perf_counter() - start) / calls * 1e6

    return measure


def repeat_await(function: Callable[[], Awaitable[object]], run: Callable[[Any], float]) -> Callable[[], float]:
    async def measure() -> float:
        start = time.perf_counter()
        for _ in range(CALLS):
            await function()
        return (time.perf_counter() - start) / CALLS * 1e6

    return lambda: run(measure())


def iterate(items: Iterator[object], calls: int = CALLS) -> Callable[[], float]:
    def measure() -> float:
        start = time.perf_counter()
        for _ in islice(items, calls):
            pass
        return (time.perf_counter() - start) / calls * 1e6

    return measure


def iterate_async(make_items: Callable[[], AsyncGenerator[object, None]]) -> Callable[[], float]:
    async def measure() -> float:
        async with aclosing(make_items()) as items:
            start = time.perf_counter()
            async for number in items:
                if number == CALLS:
                    break
            return (time.perf_counter() - start) / CALLS * 1e6

    return lambda: asyncio.run(measure())


def rows(syncer: Syncify, rounds: int) -> Iterator[tuple[str, float, float, float | None]]:
    """Yield the name of a row, our time and that of the other side, and the ratio to be reached."""
    loop = syncer.get_loop()
    threadsafe = asyncio.run_coroutine_threadsafe
    sync_trivial, sync_suspends = syncer(trivial), syncer(suspends)
    Client.decorated = syncer(Client.native)  # type: ignore[attr-defined]
    client: Any = Client()

    def nothing() -> None:
        pass

    ours, theirs = best(
        repeat(lambda: sync_trivial(1)),
        repeat(lambda: threadsafe(trivial(1), loop).result()),
        rounds=rounds,
    )
    yield "a trivial blocking call", ours, theirs, 0.52
    ours, theirs = best(
        repeat(lambda: sync_suspends(1)),
        repeat(lambda: threadsafe(suspends(1), loop).result()),
        rounds=rounds,
    )
    yield "one that suspends once", ours, theirs, 0.70
    ours, theirs = best(
        repeat_await(lambda: sync_trivial.aio(1), asyncio.run),
        repeat_await(lambda: asyncio.wrap_future(threadsafe(trivial(1), loop)), asyncio.run),
        rounds=rounds,
    )
    yield ".aio from another loop", ours, theirs, 0.55
    ours, theirs = best(
        repeat_await(lambda: sync_trivial.aio(1), syncer.run),
        repeat_await(lambda: trivial(1), syncer.run),
        rounds=rounds,
    )
    yield ".aio on its own loop", ours, theirs, None
    native = count()  # iterated over by the other side, all rounds long
    ours, theirs = best(
        iterate(syncer(count)()),
        repeat(lambda: threadsafe(native.__anext__(), loop).result()),
        rounds=rounds,
    )
    yield "an item of a generator", ours, theirs, 0.65
    ours, theirs = best(
        iterate(syncer(prefetch=256)(count)(), PREFETCHED),
        repeat(lambda: threadsafe(native.__anext__(), loop).result()),
        rounds=rounds,
    )
    yield "one that is prefetched", ours, theirs, 0.02
    ours, theirs = best(
        iterate_async(syncer(count).aio),
        repeat_await(lambda: asyncio.wrap_future(threadsafe(native.__anext__(), loop)), asyncio.run),
        rounds=rounds,
    )
    yield "async for on another loop", ours, theirs, 0.55
    ours, loops, theirs = best(
        repeat(lambda: client.decorated, 10 * CALLS),
        repeat(nothing, 10 * CALLS),
        repeat(lambda: client.native, 10 * CALLS),
        rounds=rounds,
    )
    yield "access to a bound method", ours - loops, theirs - loops, None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10, help="of which the best counts; %(default)s by default")
    parser.add_argument("--unpinned", action="store_true", help="let the system choose the cores")
    options = parser.parse_args()
    if not options.unpinned and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else "all"
    print(f"Python {platform.python_version()}, {platform.system()} {platform.machine()}, cores: {cores}")
    factories = {"asyncio": asyncio.new_event_loop}
    try:
        import uvloop
    except ImportError:
        pass
    else:
        factories["uvloop"] = uvloop.new_event_loop
    for name, factory in factories.items():
        print(f"\n{f'background loop of {name}':28} {'µs':>8} {'the other':>10} {'ratio':>7}  to reach")
        for row, ours, theirs, reach in rows(Syncify(name, loop_factory=factory), options.rounds):
            # The two short ones are a matter of what they add, not of a ratio.
            difference = f"{ours - theirs:+.2f} µs" if reach is None else f"{ours / theirs:.3f}"
            limit = {".aio on its own loop": "+0.30 µs", "access to a bound method": "0.35 µs in all"}.get(row, reach)
            print(f"{row:28} {ours:8.2f} {theirs:10.2f} {difference:>8}  {limit}")


if __name__ == "__main__":
    main()
