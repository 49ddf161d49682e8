"""Uses the SDK in all the ways there are, and checks what comes of each.

Each step is a function: printed are its source code and what it returned. The process exits with 1 if any step returned
something else than it should.
"""

import asyncio
import faulthandler
import inspect
import subprocess
import sys
import textwrap
import threading
import time
import traceback
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import aclosing, contextmanager
from pathlib import Path

from sdk import Item, NotFoundError, Store

from syncify import DeadlockError, syncify

Step = Callable[[Store], object]
steps: list[tuple[str, Step, object]] = []


def step(title: str, expected: object) -> Callable[[Step], Step]:
    def add(function: Step) -> Step:
        steps.append((title, function, expected))
        return function

    return add


@step("Plain code. A call blocks until its result is there.", Item("apple", 10))
def plain_code(store: Store) -> object:
    store.put(Item("apple", 10))
    return store.get("apple")


@step("Async code, in asyncio.run. It awaits .aio of the same client.", [Item("apple", 10), Item("pear", 20)])
async def async_code(store: Store) -> object:
    await store.put.aio(Item("pear", 20))
    return await store.items.aio()


@step("Eight threads at once. All calls run in one thread, on one loop, over one connection.", ({"syncify"}, 1))
def eight_threads(store: Store) -> object:
    everybody = asyncio.Barrier(8)  # refuses to serve two loops

    @syncify
    async def visit() -> tuple[str, str]:
        async with asyncio.timeout(10), everybody:
            return threading.current_thread().name, await store.peer.aio()

    with ThreadPoolExecutor(8) as pool:
        visits = list(pool.map(lambda _: visit(), range(8)))
    return {thread for thread, _ in visits}, len({peer for _, peer in visits})


@step("Fan-out. Each call takes the server 0.1 s; all twenty take less than 2 s.", (300, True))
def fan_out(store: Store) -> object:
    start = time.monotonic()
    futures = [store.get.submit(name) for name in ["apple", "pear"] * 10]
    items = [future.result() for future in as_completed(futures, timeout=10)]
    return sum(item.stock for item in items), time.monotonic() - start < 2


@step(
    "An error from the server. Its traceback has the caller's line, one frame of the library, and the SDK's.",
    ["grpc_sdk/an_error", "syncify/__call__", "grpc_sdk/get", "grpc_sdk/_call"],
)
def an_error(store: Store) -> object:
    try:
        return store.get("plum")
    except NotFoundError as error:
        return print_traceback(error)


@step("A future is cancelled. So is its coroutine, and the server cleans up.", (True, "cleaned up"))
def cancelled_future(store: Store) -> object:
    report = store.report.submit("sales")
    store.wait_report("sales", "running")
    report.cancel()
    return report.cancelled(), store.wait_report("sales", "cleaned up")


@step("A task, in asyncio.run, is cancelled while it awaits .aio. It comes to the same.", (True, "cleaned up"))
async def cancelled_task(store: Store) -> object:
    report = asyncio.create_task(store.report.aio("taxes"))
    await store.wait_report.aio("taxes", "running")
    report.cancel()
    await asyncio.wait([report], timeout=10)
    return report.cancelled(), await store.wait_report.aio("taxes", "cleaned up")


@step("One channel outlives two asyncio.run, each with a loop of its own.", True)
def two_loops(store: Store) -> object:
    first = asyncio.run(store.peer.aio())
    second = asyncio.run(store.peer.aio())
    return first == second == store.peer()


@step("A stream, in a for loop that is left early. Its call is cancelled, and the server cleans up.", ([10, 9, 8], 0))
def stream(store: Store) -> object:
    stocks = []
    for apple in store.watch("apple"):
        stocks.append(apple.stock)
        if apple.stock == 8:
            break
        store.put(Item("apple", apple.stock - 1))
    return stocks, store.wait_watchers("apple", 0)


@step("The same stream in async code, in asyncio.run.", ([8, 9, 10], 0))
async def async_stream(store: Store) -> object:
    stocks = []
    async with aclosing(store.watch.aio("apple")) as apples:
        async for apple in apples:
            stocks.append(apple.stock)
            if apple.stock == 10:
                break
            await store.put.aio(Item("apple", apple.stock + 1))
    return stocks, await store.wait_watchers.aio("apple", 0)


@step("A stream made of a stream. Its cleanup asks the server, and has the answer before the next statement.", 0)
def cleanup(store: Store) -> object:
    watchers = None

    @syncify
    async def pears() -> AsyncGenerator[int, None]:
        nonlocal watchers
        try:
            async with aclosing(store.watch.aio("pear")) as changes:
                async for pear in changes:
                    yield pear.stock
        finally:
            watchers = await store.wait_watchers.aio("pear", 0)

    for _ in pears():
        break
    return watchers


@step("A prefetched stream, which runs ahead of its reader. All of it arrives, in order.", (True, True))
def prefetched_stream(store: Store) -> object:
    one_by_one = syncify(store.catalog.aio)  # the same, not prefetched
    start = time.monotonic()
    ahead = [item.stock for item in store.catalog(20_000)]
    middle = time.monotonic()
    waited = [item.stock for item in one_by_one(20_000)]
    print(f"    20,000 items in {middle - start:.2f} s; not prefetched, in {time.monotonic() - middle:.2f} s")
    return ahead == list(range(20_000)), waited == ahead


@step("A session. At the end of the block its connection is closed, and what runs over it cancelled.", "cleaned up")
def session(store: Store) -> object:
    with Store(store.address) as other:
        other.report.submit("wages")
        other.wait_report("wages", "running")
    return store.wait_report("wages", "cleaned up")


@step("The same session in async code, in asyncio.run.", "cleaned up")
async def async_session(store: Store) -> object:
    async with Store(store.address) as other:
        other.report.submit("rents")
        await other.wait_report.aio("rents", "running")
    return await store.wait_report.aio("rents", "cleaned up")


@step(
    "A transaction. What is put in it comes into effect at the end of the block.",
    ([Item("apple", 10), Item("pear", 20)], [Item("apple", 11), Item("pear", 19)]),
)
def commit(store: Store) -> object:
    with store.transaction() as transaction:
        store.put(Item("apple", 11), transaction)
        store.put(Item("pear", 19), transaction)
        inside = store.items()
    return inside, store.items()


@step(
    "The block raises. The transaction is rolled back before the next statement.",
    ("no more apples", Item("apple", 11), "transaction 2 has ended"),
)
def rollback(store: Store) -> object:
    try:
        with store.transaction() as transaction:
            store.put(Item("apple", 0), transaction)
            raise ValueError("no more apples")
    except ValueError as error:
        reason = str(error)
    try:
        store.put(Item("apple", 0), transaction)
        return "it has not ended"
    except NotFoundError as error:
        return reason, store.get("apple"), str(error)


@step("A task, in asyncio.run, is cancelled in such a block. It comes to the same.", (True, "transaction 3 has ended"))
async def cancelled_transaction(store: Store) -> object:
    begun: asyncio.Future[str] = asyncio.Future()

    async def sell_all() -> None:
        async with store.transaction.aio() as transaction:
            await store.put.aio(Item("pear", 0), transaction)
            begun.set_result(transaction)
            await asyncio.Event().wait()  # which nobody sets

    sale = asyncio.create_task(sell_all())
    transaction = await begun
    sale.cancel()
    await asyncio.wait([sale], timeout=10)
    try:
        await store.put.aio(Item("pear", 0), transaction)
        return "it has not ended"
    except NotFoundError as error:
        return sale.cancelled(), str(error)


@step(
    "A blocking call on the background loop would wait for itself. It is refused.",
    "Deadlock detected: Store.put() was called on the background loop 'syncify', which would have to run it while it "
    "waits for it. Write `await Store.put.aio(...)` instead.",
)
def deadlock(store: Store) -> object:
    @syncify
    async def restock() -> None:
        store.put(Item("apple", 100))

    try:
        return restock()
    except DeadlockError as error:
        return str(error)


def print_traceback(error: Exception) -> list[str]:
    """Print it as Python would, and return the folder and function of each frame."""
    print(textwrap.indent("".join(traceback.format_exception(error)), "    "), end="")
    frames = traceback.extract_tb(error.__traceback__)
    return [f"{Path(frame.filename).parent.name}/{frame.name}" for frame in frames]


def run(function: Step, store: Store) -> object:
    try:
        result = function(store)
        return asyncio.run(result) if inspect.iscoroutine(result) else result
    except Exception as error:
        print_traceback(error)
        return error


def run_all(store: Store) -> int:
    """Return how many steps failed."""
    failures = 0
    for number, (title, function, expected) in enumerate(steps, 1):
        _, _, body = inspect.getsource(function).partition(" -> object:\n")
        print(f"{number}. {title}")
        print("\n".join(line for line in body.splitlines() if line), flush=True)
        result = run(function, store)
        print(textwrap.fill(f"=> {result!r}", 120, initial_indent="    ", subsequent_indent="       "))
        if result != expected:
            failures += 1
            print(f"    FAILED, expected: {expected!r}")
    print(f"{len(steps) - failures} of {len(steps)} steps returned what they should.")
    return failures


@contextmanager
def start_server() -> Iterator[str]:
    """Yield its address."""
    command = [sys.executable, str(Path(__file__).with_name("server.py"))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            yield f"127.0.0.1:{int(server.stdout.readline())}"
        finally:
            server.kill()


if __name__ == "__main__":
    faulthandler.dump_traceback_later(60, exit=True)  # if anything hangs
    with start_server() as address, Store(address) as store:
        failures = run_all(store)
    sys.exit(1 if failures else 0)
