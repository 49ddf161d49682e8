"""Blocking calls over several syncers that would wait for each other: one of them raises, and all others go on."""

import asyncio
import contextlib
import gc
import itertools
import random
import re
import sys
import threading
import weakref
from collections.abc import AsyncIterator
from concurrent.futures import Future

import hypothesis.strategies as st
import pytest
from conftest import LOOP_FACTORIES
from hypothesis import HealthCheck, given, settings

from syncify import DeadlockError, SyncContextManager, Syncify, _deadlock, timeout

FACTORIES = [*LOOP_FACTORIES.values()] * 8


def make_syncers(n):
    """Some on asyncio, some on uvloop."""
    return [Syncify(f"s{i}", blocking="allow", loop_factory=FACTORIES[i]) for i in range(n)]


@pytest.fixture
def syncers():
    """Which all work after the test, and have nothing in flight."""
    syncers = make_syncers(5)
    yield syncers
    used = [each for each in syncers if "not started" not in repr(each)]
    try:
        for each in used:
            assert each.run.submit(asyncio.sleep(0, "works")).result(20) == "works"
        wait_until_idle(used)
    finally:
        for each in used:
            each.close(15)


def in_thread(function, *args):
    """A future of what it returns. The thread does not keep a failing test from ending."""

    def run():
        try:
            future.set_result(function(*args))
        except BaseException as error:
            future.set_exception(error)

    future = Future()
    threading.Thread(target=run, daemon=True).start()
    return future


def wait_until_idle(syncers):
    """What was dropped is closed on its loop, and nobody else waits for that."""
    for _ in range(500):
        if all(repr(each).endswith(", 0 calls in flight>") for each in syncers):
            return
        for each in syncers:
            each.run(asyncio.sleep(0.001))
        gc.collect()  # a view is in flight for as long as there is one, and the traceback of an error may hold it
    raise AssertionError(syncers)


# The ways from code that runs on one loop to `body`, an async function, on that of a syncer. Each gives what that does.


def by_function(syncer, body):
    @syncer
    async def function():
        return await body()

    return function()


def by_method(syncer, body):
    class Client:
        @syncer
        async def get(self):
            return await body()

    return Client().get()


def by_run(syncer, body):
    return syncer.run(body())


def by_generator(syncer, body):
    @syncer
    async def rows():
        yield await body()

    [item] = rows()
    return item


def by_the_end_of_a_generator(syncer, body):
    result = []

    @syncer
    async def rows():
        try:
            yield
        finally:
            result.append(await body())

    generator = rows()
    next(generator)
    generator.close()
    return result[0]


def by_prefetched_generator(syncer, body):
    @syncer(prefetch=3)
    async def rows():
        yield await body()

    [item] = rows()
    return item


def by_the_end_of_a_prefetched_generator(syncer, body):
    result = []

    @syncer(prefetch=1)
    async def rows():
        try:
            for i in itertools.count():
                yield i
        finally:
            result.append(await body())

    generator = rows()
    next(generator)
    generator.close()
    return result[0]


def by_enter(syncer, body):
    @syncer
    @contextlib.asynccontextmanager
    async def entered():
        yield await body()

    with entered() as value:
        return value


def by_exit(syncer, body):
    result = []

    @syncer
    @contextlib.asynccontextmanager
    async def left():
        yield
        result.append(await body())

    with left():
        pass
    return result[0]


def make_mixin(syncer, on_enter=None, on_exit=None):
    class Mixed(SyncContextManager, syncer=syncer):
        async def __aenter__(self):
            self.value = await on_enter() if on_enter else None
            return self

        async def __aexit__(self, *exc_info):
            if on_exit:
                self.value = await on_exit()

    return Mixed()


def by_enter_of_a_mixin(syncer, body):
    with make_mixin(syncer, on_enter=body) as mixed:
        return mixed.value


def by_exit_of_a_mixin(syncer, body):
    with make_mixin(syncer, on_exit=body) as mixed:
        pass
    return mixed.value


class Once:
    """An async iterator that is no generator, so callers get a view of it."""

    def __init__(self, body):
        self.bodies = [body]

    def __aiter__(self):
        return self

    async def __anext__(self):
        if not self.bodies:
            raise StopAsyncIteration
        return await self.bodies.pop()()


def by_view(syncer, body):
    @syncer
    async def make() -> AsyncIterator:
        return Once(body)

    [item] = make()
    return item


BLOCKING = [
    by_function,
    by_method,
    by_run,
    by_generator,
    by_the_end_of_a_generator,
    by_prefetched_generator,
    by_the_end_of_a_prefetched_generator,
    by_enter,
    by_exit,
    by_enter_of_a_mixin,
    by_exit_of_a_mixin,
    by_view,
]


async def awaiting_a_function(syncer, body):
    @syncer
    async def function():
        return await body()

    return await function.aio()


async def awaiting_run(syncer, body):
    return await syncer.run.aio(body())


async def awaiting_a_generator(syncer, body):
    @syncer
    async def rows():
        yield await body()

    [item] = [item async for item in rows.aio()]
    return item


async def awaiting_the_end_of_a_generator(syncer, body):
    result = []

    @syncer
    async def rows():
        try:
            yield
        finally:
            result.append(await body())

    generator = rows.aio()
    await anext(generator)
    await generator.aclose()
    return result[0]


async def awaiting_enter(syncer, body):
    @syncer
    @contextlib.asynccontextmanager
    async def entered():
        yield await body()

    async with entered.aio() as value:
        return value


async def awaiting_exit(syncer, body):
    result = []

    @syncer
    @contextlib.asynccontextmanager
    async def left():
        yield
        result.append(await body())

    async with left.aio():
        pass
    return result[0]


async def awaiting_enter_of_a_mixin(syncer, body):
    async with make_mixin(syncer, on_enter=body) as mixed:
        return mixed.value


async def awaiting_exit_of_a_mixin(syncer, body):
    async with make_mixin(syncer, on_exit=body) as mixed:
        pass
    return mixed.value


async def awaiting_a_view(syncer, body):
    @syncer
    async def make() -> AsyncIterator:
        return Once(body)

    [item] = [item async for item in await make.aio()]
    return item


AWAITING = [
    awaiting_a_function,
    awaiting_run,
    awaiting_a_generator,
    awaiting_the_end_of_a_generator,
    awaiting_enter,
    awaiting_exit,
    awaiting_enter_of_a_mixin,
    awaiting_exit_of_a_mixin,
    awaiting_a_view,
]

LINKS = [*BLOCKING, *AWAITING]

blocking_links = pytest.mark.parametrize("first", BLOCKING, ids=lambda link: link.__name__)
all_links = pytest.mark.parametrize("last", LINKS, ids=lambda link: link.__name__)


async def follow(link, syncer, body):
    result = link(syncer, body)
    return await result if link in AWAITING else result


def chain(syncers, links, catch=True):
    """Call from the first syncer by the links to the next ones, and by the last link to the first one again.

    Returns what the caller of the last link gets, which all others return.
    """

    async def go(i):
        await asyncio.sleep(0)
        if i == len(links):
            return "the end"
        try:
            return await follow(links[i], syncers[(i + 1) % len(links)], lambda: go(i + 1))
        except DeadlockError as error:
            if catch and i == len(links) - 1:
                return error
            raise

    return syncers[0].run.submit(go(0)).result(20)


@blocking_links
def test_a_circle_of_two_raises_where_it_would_be_closed(syncers, first):
    for last in LINKS:
        error = chain(syncers[:2], [first, last])
        assert type(error) is DeadlockError
        assert re.match(
            r"Deadlock detected: .*\(\) on 's0' waits for .*\(\) on 's1' waits for .*\(\) on 's0'\.", str(error)
        )


@all_links
def test_uncaught_it_goes_the_way_back_to_the_first_caller(syncers, last):
    for first in BLOCKING:
        with pytest.raises(DeadlockError, match="on 's1'"):
            chain(syncers[:2], [first, last], catch=False)


def test_a_circle_of_three_to_five_raises_where_it_would_be_closed(syncers):
    """One in which links of all kinds follow each other. The first blocks, so the first loop is kept."""
    rng = random.Random(1)
    for _ in range(300):
        n = rng.randint(3, 5)
        links = [rng.choice(BLOCKING), *rng.choices(LINKS, k=n - 1)]
        error = chain(syncers[:n], links)
        assert type(error) is DeadlockError, [link.__name__ for link in links]


@pytest.mark.parametrize("last", ["by_function", "awaiting_a_function"])
@pytest.mark.parametrize("middle", ["by_function", "awaiting_a_function"])
def test_the_error_names_each_function_and_syncer_of_the_circle(syncers, middle, last):
    """In the order in which they wait, from the one that closes it back to that one."""
    a, b, c, *_ = syncers

    @a
    async def back():
        pass

    @c
    async def third():
        return back() if last == "by_function" else await back.aio()

    @b
    async def second():
        return third() if middle == "by_function" else await third.aio()

    @a
    async def first():
        return second()

    @syncers[3]
    async def not_in_it():
        return first()

    with pytest.raises(DeadlockError) as caught:
        not_in_it()
    named = re.findall(r"(\w+)\(\) on '(\w+)'", str(caught.value))
    assert named == [("back", "s0"), ("second", "s1"), ("third", "s2"), ("back", "s0")]
    assert "first()" not in str(caught.value)  # it keeps the loop of the first syncer, but no call waits for it
    assert str(caught.value).count(" waits for ") == 3


def test_the_names_are_as_they_can_be_written(syncers):
    """As in the error of a call on the own loop: without the function that a local function is of."""
    a, b, *_ = syncers

    class Client:
        @a
        async def back(self):
            pass

        @b
        async def there(self):
            self.back()

        @a
        async def start(self):
            self.there()

    with pytest.raises(DeadlockError) as caught:
        Client().start()
    assert "<locals>" not in str(caught.value)
    assert "Client.back() on 's0' waits for Client.there() on 's1' waits for Client.back() on 's0'" in str(caught.value)


@all_links
def test_nothing_of_the_refused_call_has_started(syncers, last):
    a, b, *_ = syncers
    started = []

    async def refused():
        started.append(True)

    @b
    async def there():
        with pytest.raises(DeadlockError):
            await follow(last, a, refused)

    @a
    async def start():
        there()

    start()
    wait_until_idle(syncers)
    assert not started


@blocking_links
def test_a_first_link_that_is_awaited_keeps_no_loop(syncers, first):
    for awaiting in AWAITING:
        assert chain(syncers[:2], [awaiting, first]) == "the end"
        assert chain(syncers[:2], [awaiting, awaiting]) == "the end"


calls = st.lists(st.tuples(st.integers(0, 3), st.integers(0, len(LINKS) - 1)), min_size=1, max_size=9)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(start=st.integers(0, 3), calls=calls)
def test_exactly_the_calls_to_a_loop_that_is_kept_raise(syncers, start, calls):
    """Of random chains. A loop is kept by a call that blocks it, and by nothing else. Refused, the way goes on."""
    expected, seen = [], []
    current, kept = start, set()
    for target, number in calls:
        blocks = LINKS[number] in BLOCKING
        refused = target in kept or (blocks and target == current)
        expected.append(refused)
        if not refused:
            if blocks:
                kept.add(current)
            current = target

    async def go(i):
        while i < len(calls):
            target, number = calls[i]
            at = len(seen)
            seen.append(False)

            def body(i=i):
                return go(i + 1)

            try:
                return await follow(LINKS[number], syncers[target], body)
            except DeadlockError:
                seen[at] = True
                i += 1
        return "the end"

    assert syncers[start].run.submit(go(0)).result(20) == "the end"
    assert seen == expected


def begun(syncer, log):
    """Things on a loop that were begun before, each with how it goes on."""

    async def note():
        log.append("cleaned")

    async def rows():
        try:
            yield 0
            yield 1
        finally:
            await note()

    plain, prefetched = syncer(rows), syncer(prefetch=1)(rows)

    @syncer
    @contextlib.asynccontextmanager
    async def manager():
        try:
            yield
        finally:
            await note()

    @syncer
    async def make() -> AsyncIterator:
        return Once(note)

    for generator in plain(), prefetched():
        assert next(generator) == 0
        if generator.__class__.__name__ == "PrefetchedGenerator":
            assert next(generator) == 1  # so that nothing is ahead
        yield lambda generator=generator: next(generator)
    for generator in plain(), prefetched():
        assert next(generator) == 0
        yield generator.close
    for context_manager in manager(), make_mixin(syncer, on_exit=note):
        context_manager.__enter__()
        yield lambda context_manager=context_manager: context_manager.__exit__(None, None, None)
    view = make()
    yield lambda: next(view)
    assert next(view) is None


def test_what_was_begun_before_raises_where_it_would_go_on_in_a_circle(syncers):
    """And is cleaned up when the loop is free."""
    a, b, *_ = syncers

    @b
    async def there(go_on):
        with pytest.raises(DeadlockError, match=r"on 's0' waits for .*there\(\) on 's1' waits for"):
            go_on()

    @a
    async def start(go_on):
        there(go_on)
        return "goes on"

    count, log = 0, []
    for go_on in begun(a, log):
        assert start(go_on) == "goes on"
        count += 1
    assert count == 7
    del go_on  # a view is in flight for as long as there is one
    wait_until_idle(syncers)
    assert log == ["cleaned"] * 7


@pytest.mark.parametrize("what", ["next", "close", "close with items ahead"])
def test_a_prefetched_generator_that_awaits_before_its_consumer_does(syncers, what):
    """The producer waits for the consumer's loop already. The consumer, who comes then, closes the circle."""
    a, b, *_ = syncers
    awaits = threading.Event()

    @a
    async def back():
        return "back"

    @b(prefetch=3)
    async def rows():
        yield 0
        if "ahead" in what:
            yield 1
        awaits.set()
        yield await back.aio()

    @a
    async def start():
        generator = rows()
        assert next(generator) == 0
        assert awaits.wait(20)
        b.run(asyncio.sleep(0))
        with pytest.raises(DeadlockError, match="on 's0'"):
            next(generator) if what == "next" else generator.close()
        return "goes on"

    assert start.submit().result(20) == "goes on"


def test_a_reader_of_a_view_that_waits_for_another_reader(syncers):
    """The other one's step, which comes first, waits for the loop that this one keeps."""
    a, b, *_ = syncers
    awaits = threading.Event()

    @a
    async def back():
        return "back"

    async def step():
        awaits.set()
        return await back.aio()

    @b
    async def make() -> AsyncIterator:
        return Once(step)

    @a
    async def start():
        view = make()
        other = in_thread(next, view)
        assert awaits.wait(20)
        b.run(asyncio.sleep(0))
        with pytest.raises(DeadlockError, match="on 's0'"):
            next(view)
        return other

    assert start.submit().result(20).result(20) == "back"


def test_under_a_time_limit_it_is_a_circle_all_the_same(syncers):
    with timeout(1000):
        assert type(chain(syncers[:2], [by_function, by_function])) is DeadlockError
        assert type(chain(syncers[:2], [by_function, awaiting_a_function])) is DeadlockError


def test_the_refused_call_may_be_repeated_when_the_loop_is_free(syncers):
    a, b, *_ = syncers

    @a
    async def back():
        return "back"

    @b
    async def there():
        try:
            return back()
        except DeadlockError:
            return back.submit()

    @a
    async def start():
        future = there()
        return await asyncio.wrap_future(future)

    assert start() == "back"


def test_what_was_waited_for_is_not_remembered(syncers):
    class Value:
        pass

    a, b, *_ = syncers
    values = []

    async def body():
        value = Value()
        values.append(weakref.ref(value))
        return value

    @a
    async def start(link):
        await follow(link, b, body)
        for _ in range(10):
            await asyncio.sleep(0)

    for link in LINKS:
        start(link)
        b.run(asyncio.sleep(0))
        gc.collect()
        assert values.pop()() is None, link.__name__


# Two or more that close one circle at the same moment.


@pytest.fixture
def _many_switches():
    """Between threads, in the middle of whatever they do."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


def close_at_once(starts, rounds):
    """Let all of these block at the same moment, and check that one gets the error and the others their results."""
    barrier = threading.Barrier(len(starts))
    for _ in range(rounds):
        futures = [start.submit(barrier) for start in starts]
        results = [future.result(20) for future in futures]
        assert sorted(results) == ["deadlock"] + ["the end"] * (len(starts) - 1)


def closers(syncers, through=None, awaited=()):
    """For each of the syncers, a function that keeps its loop, and makes the call of a function on the next one's.

    That call is made in a function on a loop of `through`, if that is given. There it may be awaited.
    """

    def make(i):
        @syncers[(i + 1) % len(syncers)]
        async def leaf():
            return "the end"

        async def close(barrier, trace=None):
            barrier.wait(20)
            before = sys.gettrace()
            try:
                sys.settrace(trace)
                return await leaf.aio() if awaited and awaited[i] else leaf()
            except DeadlockError:
                return "deadlock"
            finally:
                sys.settrace(before)

        if through is None:
            return syncers[i](close)
        closer = through[i](close)

        @syncers[i]
        async def start(*args):
            return closer(*args)

        return start

    return [make(i) for i in range(len(syncers))]


@pytest.mark.usefixtures("_many_switches")
@pytest.mark.parametrize("n", [2, 3])
def test_of_those_that_close_a_circle_at_the_same_moment_one_gets_the_error(syncers, n):
    close_at_once(closers(syncers[:n]), 150)


@pytest.mark.usefixtures("_many_switches")
@pytest.mark.parametrize("awaited", [(False, False), (True, False), (False, True), (True, True)])
def test_also_when_they_are_on_other_loops_than_those_that_are_kept(syncers, awaited):
    close_at_once(closers(syncers[:2], syncers[2:4], awaited), 150)


class Turns:
    """Lets two threads take turns in the instructions that note who waits: some for the one, some for the other."""

    def __init__(self, first, *steps):
        self.whose = first
        self.turns = [*steps]  # at the end of the last they go on as they like
        self.left = [False, False]
        self.changed = threading.Condition()

    def may_go_on(self, who):
        return self.whose == who or self.left[not who] or not self.turns

    def take(self, who):
        if not self.changed.wait_for(lambda: self.may_go_on(who), 0.01):
            self.turns.clear()  # the other one cannot go on, since it waits for this one
        if self.turns:
            self.turns[0] -= 1
            if not self.turns[0]:
                self.turns.pop(0)
                self.whose = not who

    def trace(self, who):
        notes = _deadlock._note.__code__

        def on_call(frame, event, arg):
            if frame.f_code.co_filename != notes.co_filename or self.left[who]:
                return None
            frame.f_trace_opcodes = frame.f_code is notes  # what it calls goes line by line
            frame.f_trace_lines = not frame.f_trace_opcodes
            return on_step

        def on_step(frame, event, arg):
            with self.changed:
                if event == "return" and frame.f_code is notes:
                    self.left[who] = True
                elif event in ("opcode", "line") and not self.left[who]:
                    self.take(who)
                self.changed.notify_all()
            return on_step

        return on_call


OF_TWO = {
    "both block": (False, ()),
    "both block other loops": (True, (False, False)),
    "one awaits": (True, (False, True)),
    "both await": (True, (True, True)),
}


@pytest.mark.parametrize("way", OF_TWO)
def test_wherever_the_one_is_when_the_other_one_comes(syncers, way):
    through, awaited = OF_TWO[way]
    starts = closers(syncers[:2], syncers[2:4] if through else None, awaited)
    rng = random.Random(2)
    turns = [(first, steps, 1000) for first in (0, 1) for steps in range(1, 100)]
    turns += [(rng.randrange(2), *(rng.randint(1, 60) for _ in range(4))) for _ in range(600)]
    for each in turns:
        barrier, turn = threading.Barrier(2), Turns(*each)
        futures = [start.submit(barrier, turn.trace(who)) for who, start in enumerate(starts)]
        assert sorted(future.result(20) for future in futures) == ["deadlock", "the end"], each
        assert turn.left == [True, True]


# No false alarms.

edges = st.lists(st.tuples(st.integers(1, 6), st.integers(0, len(LINKS) - 1)), max_size=3)
nodes = st.lists(st.tuples(st.integers(0, 4), st.booleans(), edges), min_size=2, max_size=7)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(nodes=nodes, roots=st.lists(st.integers(0, 6), min_size=1, max_size=4))
def test_calls_without_a_circle_never_raise(syncers, nodes, roots):
    """Several roots at once, in threads of their own, whose ways meet on the same loops.

    Loops are kept in their order only: code on one of them blocks for a later one. Under a blocking call also what is
    awaited is on the same loop or a later one. So the last loop that anybody waits for is always free.
    """

    def calls_of(i, at, under_blocking):
        for step, number in nodes[i][2]:
            to, link = i + step, LINKS[number]
            if to < len(nodes):
                target = nodes[to][0]
                blocks = link in BLOCKING
                if target > at or (not blocks and (target == at or not under_blocking)):
                    yield to, target, link, under_blocking or blocks

    def expected(i, under_blocking):
        rest = calls_of(i, nodes[i][0], under_blocking)
        return 1 + i + sum(expected(to, under) for to, _, _, under in rest)

    async def visit(i, under_blocking):
        await asyncio.sleep(0)
        rest = [
            (link, syncers[target], lambda to=to, under=under: visit(to, under))
            for to, target, link, under in calls_of(i, nodes[i][0], under_blocking)
        ]
        if nodes[i][1]:  # in tasks of their own
            values = await asyncio.gather(*(follow(*each) for each in rest))
        else:
            values = [await follow(*each) for each in rest]
        return 1 + i + sum(values)

    roots = [root for root in roots if root < len(nodes)]
    futures = [in_thread(lambda root=root: syncers[nodes[root][0]].run(visit(root, False))) for root in roots]
    assert [future.result(20) for future in futures] == [expected(root, False) for root in roots]


def background_tasks(awaits, back):
    """A task that nobody waits for, started in a call of each kind, and awaiting `back` by the time that is over."""
    tasks = []

    async def detached():
        awaits.append(True)
        return await back.aio()

    async def body():
        tasks.append(asyncio.ensure_future(detached()))
        for _ in range(5):
            await asyncio.sleep(0)
        assert awaits
        return "done"

    return tasks, body


@blocking_links
def test_a_background_task_may_wait_for_a_loop_that_its_starter_keeps(syncers, first):
    a, b, *_ = syncers

    @a
    async def back():
        return "back"

    tasks, body = background_tasks([], back)

    @a
    async def start():
        return first(b, body)

    assert start() == "done"

    async def result():
        return await tasks[0]

    assert b.run(result()) == "back"


@pytest.mark.skipif(sys.version_info < (3, 12), reason="has no eager tasks")
@blocking_links
def test_a_background_task_that_starts_eagerly_may_do_so_too(first):
    def eager():
        loop = asyncio.new_event_loop()
        loop.set_task_factory(asyncio.eager_task_factory)
        return loop

    with Syncify("a", blocking="allow") as a, Syncify("b", blocking="allow", loop_factory=eager) as b:

        @a
        async def back():
            return "back"

        tasks, body = background_tasks([], back)

        @a
        async def start():
            return first(b, body)

        assert start.submit().result(20) == "done"

        async def result():
            return await tasks[0]

        assert b.run(result()) == "back"


def test_a_task_of_a_call_on_the_way_may_wait_for_a_loop_that_will_be_free(syncers):
    """The blocked loop waits for one call; another one, on the same loop as that, waits for the blocked loop."""
    a, b, *_ = syncers
    arrived = threading.Event()
    released = threading.Event()

    @a
    async def back():
        return "back"

    @b
    async def other():
        arrived.set()
        return await back.aio()

    @b
    async def there():
        await asyncio.to_thread(released.wait)
        return "there"

    @a
    async def start():
        future = other.submit()
        assert arrived.wait(20)
        b.run(asyncio.sleep(0))
        threading.Timer(0.01, released.set).start()
        return there(), future

    for _ in range(5):
        arrived.clear()
        released.clear()
        result, future = start.submit().result(20)
        assert (result, future.result(20)) == ("there", "back")


def test_many_circles_leave_nothing_behind(syncers):
    """With all that can be refused, in threads at once. Warnings of what was never awaited are errors here."""

    def links(seed):
        rng = random.Random(seed)
        own = make_syncers(3)
        for _ in range(100):
            assert type(chain(own, [rng.choice(BLOCKING), *rng.choices(LINKS, k=2)])) is DeadlockError
        wait_until_idle(own)
        for each in own:
            each.close(15)

    for future in [in_thread(links, seed) for seed in range(4)]:
        future.result(40)
    gc.collect()
