"""Tens of thousands of conversations, left in every way there is, and thousands of interrupts: nothing is left over."""

import asyncio
import contextlib
import gc
import os
import queue
import sys
import textwrap
import threading
import types
from pathlib import Path

import pytest
from conftest import LOOP_FACTORIES, new_event_loop
from test_interrupt import PRELUDE, STRUCK

from syncify import SyncContextManager, Syncify

CONVERSATIONS = int(os.environ.get("SYNCIFY_SOAK", "10000"))  # .ci/run makes more of them
THREADS = 16


@pytest.fixture(scope="module", params=LOOP_FACTORIES)
def syncer(request):
    """One that no other test has left anything in."""
    return Syncify(f"alone-{request.param}", loop_factory=LOOP_FACTORIES[request.param])


class Custom(Exception):
    pass


class Things:
    """What there is to open. Each counts how often it was opened and how often it was cleaned up."""

    def __init__(self, syncer):
        self.opened = self.cleaned = 0  # on the loop's thread only

        async def cleanup():
            try:
                await asyncio.sleep(0)
            finally:  # this may be cancelled, too
                self.cleaned += 1

        async def rows(items=2, error=None, limit=100):
            self.opened += 1
            try:
                await asyncio.sleep(0)
                async with asyncio.timeout(limit):
                    for i in range(items):
                        yield i
                    if limit == 0:
                        await asyncio.Event().wait()
                    if error is not None:
                        raise error
            finally:
                await cleanup()

        async def waits():
            self.opened += 1
            try:
                yield 1
                await asyncio.Event().wait()
            finally:
                await cleanup()

        @contextlib.asynccontextmanager
        async def manager(limit=100):
            self.opened += 1
            try:
                async with asyncio.timeout(limit):
                    yield self
                    if limit == 0:
                        await asyncio.Event().wait()
            finally:
                await cleanup()

        class Iterator:
            def __init__(self, items):
                self.items = iter(range(items))

            def __aiter__(self):
                return self

            async def __anext__(self):
                await asyncio.sleep(0)
                for item in self.items:
                    return item
                raise StopAsyncIteration

        class Mixed(SyncContextManager, syncer=syncer):
            async def __aenter__(mixed):  # noqa: N805
                self.opened += 1
                return mixed

            async def __aexit__(mixed, *exc_info):  # noqa: N805
                await cleanup()

        async def returns_iterator(items=2):
            return Iterator(items)

        async def returns_generator(*args):
            return rows(*args)

        self.rows = syncer(rows)
        self.waits = syncer(waits)
        self.ahead = syncer(prefetch=3)(rows)
        self.waits_ahead = syncer(prefetch=3)(waits)
        self.manager = syncer(manager)
        self.mixed = Mixed
        self.iterator = syncer(returns_iterator)
        self.generator = syncer(returns_generator)


# Each of these is one conversation.


def plain_ways(things):
    def exhausted(make):
        assert list(make()) == [0, 1]

    def left(make):
        for _ in make():
            break

    def failed(make):
        with contextlib.suppress(Custom):
            for _ in make():
                raise Custom

    def closed(make):
        rows = make()
        next(rows)
        rows.close()

    def deleted(make):
        rows = make()
        next(rows)
        del rows

    def in_a_cycle(make):
        rows = make()
        next(rows)
        cycle = [rows]
        cycle.append(cycle)

    def never_started(make):
        make()

    def raised(make):
        with contextlib.suppress(Custom):
            list(make(5, Custom()))

    def timed_out(make):
        with contextlib.suppress(TimeoutError):
            list(make(2, None, 0))

    def thrown(make):
        rows = make()
        next(rows)
        with contextlib.suppress(Custom):
            rows.throw(Custom())

    steps = exhausted, left, failed, deleted, in_a_cycle, never_started
    for make in things.rows, things.ahead, things.generator:
        for way in *steps, closed, raised, timed_out:
            yield way, make
    for make in things.rows, things.generator:
        yield thrown, make
    for way in steps:
        yield way, things.iterator
    for make in things.waits, things.waits_ahead:
        for way in left, failed, closed, deleted, in_a_cycle, never_started:
            yield way, make

    def entered(make):
        with make():
            pass

    def body_failed(make):
        with contextlib.suppress(Custom), make():
            raise Custom

    def enter_only(make):  # and never left, as when an interrupt comes before the body
        make().__enter__()

    def body_timed_out(make):
        with contextlib.suppress(TimeoutError), make(0):
            pass

    def as_decorator(make):
        make()(int)()

    for make in things.manager, things.mixed:
        for way in entered, body_failed, never_started:
            yield way, make
    yield enter_only, things.manager
    yield body_timed_out, things.manager
    yield as_decorator, things.manager


def async_ways(things):
    async def exhausted(make):
        assert [item async for item in await make()] == [0, 1]

    async def left(make):
        async for _ in await make():
            break

    async def failed(make):
        with contextlib.suppress(Custom):
            async for _ in await make():
                raise Custom

    async def closed(make):
        async with contextlib.aclosing(await make()) as rows:
            await anext(rows)

    async def in_a_cycle(make):
        rows = await make()
        await anext(rows)
        cycle = [rows]
        cycle.append(cycle)

    async def never_started(make):
        await make()

    async def raised(make):
        with contextlib.suppress(Custom):
            async for _ in await make(5, Custom()):
                pass

    async def timed_out(make):
        with contextlib.suppress(TimeoutError):
            async for _ in await make(2, None, 0):
                pass

    async def thrown(make):
        rows = await make()
        await anext(rows)
        with contextlib.suppress(Custom):
            await rows.athrow(Custom())

    async def cancelled(make):
        began = asyncio.Event()

        async def consume():
            async for _ in await make():
                began.set()

        task = asyncio.create_task(consume())
        await began.wait()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    async def cancelled_at_once(make):
        async def consume():
            async for _ in await make():
                pass

        task = asyncio.create_task(consume())
        await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    def at_once(function):
        async def make(*args):
            return function.aio(*args)

        return make

    steps = exhausted, left, failed, in_a_cycle, never_started, cancelled_at_once
    for make in at_once(things.rows), things.generator.aio:
        for way in *steps, closed, raised, timed_out, thrown:
            yield way, make
    for way in steps:
        yield way, things.iterator.aio
    for way in left, failed, closed, in_a_cycle, never_started, cancelled, cancelled_at_once:
        yield way, at_once(things.waits)

    async def entered(make):
        async with make():
            pass

    async def body_failed(make):
        with contextlib.suppress(Custom):
            async with make():
                raise Custom

    async def enter_only(make):
        await make().__aenter__()

    async def body_timed_out(make):
        with contextlib.suppress(TimeoutError):
            async with make(0):
                pass

    async def body_cancelled(make):
        async def consume():
            async with make():
                began.set()
                await asyncio.Event().wait()

        began = asyncio.Event()
        task = asyncio.create_task(consume())
        await began.wait()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    for make in things.manager.aio, things.mixed:
        for way in entered, body_failed, body_cancelled:
            yield way, make
    yield body_timed_out, things.manager.aio
    yield enter_only, things.manager.aio


collecting = threading.Lock()


def collect():
    """Collect garbage, all of it when this returns, and not while another thread does."""
    with collecting:
        gc.collect()


def settle(syncer):
    """Wait until nothing is in flight; what cannot end runs into the time limit of the test."""
    while True:
        collect()
        for _ in range(10):
            syncer.run(asyncio.sleep(0))
        if repr(syncer).endswith(" 0 calls in flight>"):
            return


async def running_loop():
    return asyncio.get_running_loop()


def tasks_of(syncer):
    async def tasks():
        return asyncio.all_tasks() - {asyncio.current_task()}

    return syncer.run(tasks())


def new_objects():
    """Those since `gc.freeze()`: of the library, and all that may be suspended somewhere."""
    suspended = types.AsyncGeneratorType, types.CoroutineType, asyncio.Future, threading.Thread
    kinds = [type(thing) for thing in gc.get_objects()]
    return [kind for kind in kinds if str(kind.__module__).startswith("syncify.") or issubclass(kind, suspended)]


def left_on(loop):
    """The new objects when the loop is done with the last call.

    Its caller may be here while the loop has yet to call what waits for the end of the task. That takes a turn.
    """
    seen = queue.SimpleQueue()
    loop.call_soon_threadsafe(loop.call_soon, lambda: seen.put(new_objects()))
    return seen.get()


def count_descriptors():
    fds = Path("/proc/self/fd")
    return len(list(fds.iterdir())) if fds.exists() else None


def run_all(syncer, things, conversations):
    """Have every thread go through all the ways, each beginning with another."""
    plain, other = list(plain_ways(things)), list(async_ways(things))
    rounds = max(1, conversations // (THREADS * (len(plain) + len(other))))
    errors = []

    async def go_through(ways):
        for _ in range(rounds // 2 or 1):
            for way, make in ways:
                await way(make)
        collect()  # what is closed when it is collected needs its loop for that

    async def main(ways):
        await go_through(ways)
        await asyncio.sleep(0)
        while len(asyncio.all_tasks()) > 1:
            await asyncio.sleep(0)

    def thread(number):
        try:
            offset = number * len(plain) // THREADS
            for _ in range(rounds):
                for way, make in plain[offset:] + plain[:offset]:
                    way(make)
                collect()
            offset = number * len(other) // THREADS
            ways = other[offset:] + other[:offset]
            with asyncio.Runner(loop_factory=new_event_loop) as runner:
                runner.run(main(ways))
            if rounds > 1:
                syncer.run(go_through(ways))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=thread, args=[number]) for number in range(THREADS)]
    for running in threads:
        running.start()
    for running in threads:
        running.join()
    if errors:
        raise ExceptionGroup("in the threads", errors)
    return rounds * THREADS * (len(plain) + len(other))


def converse(kind):
    """Have all the conversations on a loop of that kind, and find nothing left of them."""
    gc.disable()  # it would run in any thread at any time, also when the loop that a cleanup needs is just being closed
    syncer = Syncify("alone", loop_factory=LOOP_FACTORIES[kind], stuck_after=None)
    things = Things(syncer)
    run_all(syncer, things, 1)  # so that what is made once is there
    settle(syncer)
    before = count_descriptors(), set(threading.enumerate())
    gc.freeze()  # and out of the way, which makes a collection cheap
    run_all(syncer, things, CONVERSATIONS // 2)  # on each kind of loop
    settle(syncer)
    assert things.opened == things.cleaned, (things.opened, things.cleaned)
    assert tasks_of(syncer) == set(), tasks_of(syncer)
    left = left_on(syncer.run(running_loop()))
    assert left == [], left
    after = count_descriptors(), set(threading.enumerate())
    assert after == before, (before, after)


@pytest.mark.timeout(300)  # .ci/run has ten times as many of them
@pytest.mark.parametrize("kind", LOOP_FACTORIES)
def test_nothing_is_left_of_so_many_conversations(script, kind):
    """In a process of its own, where no other test has left anything."""
    tests = {"PYTHONPATH": str(Path(__file__).parent)}
    program = script(f"import test_soak; test_soak.converse({kind!r})", env=os.environ | tests)
    assert program.end(280) == (0, "", "")


def test_a_generator_that_is_collected_on_the_own_loop_is_closed_once_and_nothing_is_reported(syncer, caplog):
    """The garbage collector finds two generators, ours and the user's."""
    log = []

    @syncer
    async def rows():
        try:
            yield 1
        finally:
            await asyncio.sleep(0)
            log.append("cleaned")

    async def drop():
        generator = rows.aio()
        await anext(generator)
        cycle = [generator]
        cycle.append(cycle)

    syncer.run(drop())
    while not log:
        settle(syncer)
    settle(syncer)
    assert log == ["cleaned"]
    assert caplog.records == []


# Interrupts.

INTERRUPTS = """
import contextlib, traceback
LATER = ("__del__", "_do_nothing", "_remove", "note")  # finalizers: Python cannot raise anything out of these

raised = 0
unraisable = []

def note(args):
    unraisable.append(traceback.format_exception(args.exc_value))

sys.unraisablehook = note

def handler(_, frame):
    global left, raised
    names = []
    while frame is not None:
        names.append(frame.f_code.co_name)
        frame = frame.f_back
    if not left:
        return
    if any(name in LATER for name in names):
        signal.setitimer(signal.ITIMER_REAL, 3e-5)
        return
    left -= 1
    if left:
        signal.setitimer(signal.ITIMER_REAL, 3e-5)
    if "target" in names:
        raised += 1
        raise Alarm

signal.signal(signal.SIGALRM, handler)

def spin():
    while left:
        # Takes the GIL anew. If another thread gets the signal while this one clears its flag that something is to be
        # done, Python 3.12 forgets it until then, and the timer does not strike again before it has been handled.
        time.sleep(0)

def strike(target, times, within):
    global left
    before, caught = raised, False
    try:
        left = times
        signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-6, within))
        target()
    except Alarm:
        caught = True
    spin()
    signal.setitimer(signal.ITIMER_REAL, 0)
    assert not unraisable, ("".join(unraisable[0]), seed)
    assert caught == (raised > before), (raised - before, seed)

begun = ended = 0

async def cleanup():
    global ended
    try:
        await asyncio.sleep(0)
    finally:  # this may be cancelled, too
        ended += 1

async def rows(suspends=1):
    global begun
    begun += 1
    try:
        for i in range(4):
            for _ in range(suspends):
                await asyncio.sleep(0)
            yield i
    finally:
        await cleanup()

@syncer
@contextlib.asynccontextmanager
async def session():
    global begun
    begun += 1
    try:
        await asyncio.sleep(0)
        yield "session"
    finally:
        await cleanup()

ahead = [syncer(prefetch=n)(rows) for n in (1, 3)]
rows = syncer(rows)

def all_of(generator):
    expected = 0
    for item in generator:
        assert item == expected, (item, expected, seed)
        expected += 1
    assert expected == 4, (expected, seed)

class Iterator:
    def __init__(self):
        self.items = iter(range(4))

    def __aiter__(self):
        return self

    async def __anext__(self):
        await asyncio.sleep(0)
        for item in self.items:
            return item
        raise StopAsyncIteration

@syncer
async def view():
    return Iterator()

@syncer
async def returned():
    return rows.__wrapped__()

def entered():
    with session() as value:
        assert value == "session"

def entered_around_a_call():
    with session():
        works()

def closed():
    generator = rows()
    assert next(generator) == 0
    generator.close()
    assert list(generator) == []

def left_early():
    for item in rows():
        assert item == 0
        break

def thrown():
    generator = rows()
    assert next(generator) == 0
    try:
        generator.throw(KeyError())
    except KeyError:
        pass
    else:
        assert False

WAYS = {
    "a generator": [lambda: all_of(rows()), lambda: all_of(rows(0)), closed, left_early, thrown],
    "a prefetched generator": [lambda n=n, s=s: all_of(ahead[n](s)) for n in (0, 1) for s in (0, 1)],
    "a returned iterator": [lambda: all_of(view()), lambda: all_of(returned())],
    "a context manager": [entered, entered_around_a_call],
}

def struck_in(ways, times, rounds):
    def target():
        try:
            while left:
                for way in ways:
                    way()
        finally:
            spin()  # a loop right here makes Python 3.13.0 forget that the exception has been handled

    works()
    for number in range(rounds):
        strike(target, times, 6e-4)
        assert works() == "works", seed
        if number % 10 == 0:
            for way in ways:
                way()
    for _ in range(1000):
        works()
        if repr(syncer) == "<Syncify 's', 0 calls in flight>":
            break

    async def tasks():
        return asyncio.all_tasks() - {asyncio.current_task()}

    assert repr(syncer) == "<Syncify 's', 0 calls in flight>", (syncer._background.calls, seed)
    assert begun == ended, (begun, ended, seed)
    assert syncer.run(tasks()) == set(), seed
    assert raised > rounds // 2, (raised, seed)
    assert not unraisable, ("".join(unraisable[0]), seed)
    print("done")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="sends POSIX signals")
@pytest.mark.parametrize("times", [1, 2, 3])
@pytest.mark.parametrize("way", ["a generator", "a prefetched generator", "a returned iterator", "a context manager"])
@pytest.mark.parametrize("kind", ["asyncio", "uvloop"])
def test_a_signal_handler_that_raises_at_any_microsecond(script, kind, way, times):
    """Nothing hangs, every exception arrives, nothing is left behind, and the next call works."""
    if kind == "uvloop":
        pytest.importorskip("uvloop")
    prelude = PRELUDE.format(short_steps=times == 2, uvloop=kind == "uvloop") + textwrap.dedent(STRUCK) + INTERRUPTS
    running = script(prelude + f"\nstruck_in(WAYS[{way!r}], {times}, 500)\n")
    assert running.end() == (0, "done\n", "")
