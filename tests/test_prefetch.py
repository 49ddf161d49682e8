"""`@syncify(prefetch=N)`: the producer runs up to N items ahead of plain code, and nothing else changes."""

import asyncio
import contextlib
import contextvars
import gc
import itertools
import signal
import sys
import threading
from collections.abc import Generator

import pytest

from syncify import ClosedError, Syncify

variable = contextvars.ContextVar("variable", default="default")

sizes = pytest.mark.parametrize("n", [1, 2, 3, 64])
each_pace = pytest.mark.parametrize("suspends", [False, True, "now and then"])


class Custom(Exception):
    pass


def settle(syncer):
    """Let the loop do all that it can do without waiting."""
    for _ in range(10):
        syncer.run(asyncio.sleep(0))


class Counted:
    """A generator that knows at each item how far it is ahead of what its consumer has asked for."""

    def __init__(self, syncer, n, total=None, suspends=False, error=None):
        self.requested = self.produced = 0
        self.ahead = []
        self.moved = threading.Condition()
        items = itertools.count() if total is None else range(total)

        @syncer(prefetch=n)
        async def rows():
            for i in items:
                if suspends is True or (suspends and i % 3 == 0):
                    await asyncio.sleep(0)
                with self.moved:
                    self.produced += 1
                    self.ahead.append(self.produced - self.requested)
                    self.moved.notify_all()
                yield i
            if error is not None:
                raise error

        self.rows = rows()

    def next(self):
        self.requested += 1
        return next(self.rows)

    def wait_until_ahead(self, items):
        with self.moved:
            assert self.moved.wait_for(lambda: self.produced - self.requested >= items, 10)


class Leaver:
    """A generator that tells of its state, and of how it has been ended."""

    def __init__(self, syncer, state, fail=None):
        self.log = []
        self.reached = threading.Event()
        self.cleaned = threading.Event()
        self.syncer = syncer
        self.state = state

        @syncer(prefetch=2 if state == "paused" else 10**8)
        async def rows():
            try:
                for i in itertools.count():
                    if state == "waits" and i == 2:
                        self.reached.set()
                        await asyncio.Event().wait()
                    elif i == (2 if state == "paused" else 1000):
                        self.reached.set()
                    yield i
            except BaseException as error:
                self.log.append(type(error))
                raise
            finally:
                for _ in range(3):  # cleanup that has to await
                    await asyncio.sleep(0.001)
                self.log.append("cleaned")
                self.cleaned.set()
                if fail is not None:
                    raise fail

        self.make = rows

    def reach(self):
        """Wait until it is in its state. To be called when one item has been taken."""
        assert self.reached.wait(20)
        if self.state != "runs":
            settle(self.syncer)

    @property
    def expected(self):
        return [asyncio.CancelledError if self.state == "waits" else GeneratorExit, "cleaned"]


each_state = pytest.mark.parametrize("state", ["runs", "waits", "paused"])


# Items, errors and their order.


@sizes
@each_pace
@pytest.mark.parametrize("total", [0, 1, 2, 3, 63, 64, 65, 300])
def test_all_items_in_their_order_and_then_the_end_for_good(syncer, n, suspends, total):
    counted = Counted(syncer, n, total, suspends)
    assert list(counted.rows) == list(range(total))
    for _ in range(3):
        with pytest.raises(StopIteration):
            next(counted.rows)


@sizes
@each_pace
def test_an_error_arrives_after_all_items_before_it(syncer, n, suspends):
    for total in {0, 1, n - 1, n, n + 1, 2 * n, 2 * n + 1}:
        error = Custom("after", total)
        counted = Counted(syncer, n, total, suspends, error)
        for i in range(total):
            assert next(counted.rows) == i
        with pytest.raises(Custom) as caught:
            next(counted.rows)
        assert caught.value is error
        for _ in range(3):
            with pytest.raises(StopIteration):
                next(counted.rows)


@sizes
def test_an_error_waits_for_a_consumer_that_comes_late(syncer, n):
    """It has been raised long before the items in front of it are taken."""
    raised = threading.Event()

    @syncer(prefetch=n)
    async def rows():
        try:
            for i in range(n):
                yield i
            raise Custom
        finally:
            raised.set()

    generator = rows()
    assert next(generator) == 0
    assert raised.wait(20)
    settle(syncer)
    assert [next(generator) for _ in range(1, n)] == list(range(1, n))
    with pytest.raises(Custom):
        next(generator)


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, asyncio.CancelledError, GeneratorExit, Custom])
def test_every_kind_of_error_is_the_very_object(syncer, kind):
    error = kind("message")

    @syncer(prefetch=3)
    async def rows():
        yield 1
        raise error

    generator = rows()
    assert next(generator) == 1
    with pytest.raises(kind) as caught:
        next(generator)
    assert caught.value is error
    with pytest.raises(StopIteration):
        next(generator)


def test_an_error_shows_the_line_that_raised_it_and_one_frame_of_the_library_at_most(syncer):
    @syncer(prefetch=3)
    async def rows():
        yield 1
        raise Custom

    with pytest.raises(Custom) as caught:
        list(rows())
    names = [entry.name for entry in caught.traceback]
    assert names[0].startswith("test_") and names[-1] == "rows"
    assert len(names) <= 3


def test_falsy_items_are_items(syncer):
    @syncer(prefetch=3)
    async def rows():
        for item in None, 0, "", None, (), None:
            yield item

    assert list(rows()) == [None, 0, "", None, (), None]


def test_items_are_the_very_objects_and_are_not_kept(syncer):
    class Item:
        alive = 0

        def __init__(self):
            Item.alive += 1

        def __del__(self):
            Item.alive -= 1

    @syncer(prefetch=4)
    async def rows():
        for _ in range(20):
            yield Item()

    for item in rows():
        assert isinstance(item, Item)
        assert Item.alive <= 7  # those ahead, the one being made, this one, and the one before it
    del item
    settle(syncer)
    assert Item.alive == 0


def test_nothing_runs_before_the_first_step(syncer):
    counted = Counted(syncer, 3, 5)
    settle(syncer)
    assert counted.produced == 0
    assert counted.next() == 0
    counted.rows.close()  # its code refers to the very object that iterates over it


def test_a_generator_that_is_never_started_is_closed_without_a_trace(syncer):
    leaver = Leaver(syncer, "paused")
    generator = leaver.make()
    generator.close()
    with pytest.raises(StopIteration):
        next(generator)
    leaver.make()
    settle(syncer)
    assert leaver.log == []


def test_wrong_arguments_raise_at_the_call(syncer):
    @syncer(prefetch=3)
    async def rows(count):
        yield count

    with pytest.raises(TypeError, match="count"):
        rows()
    assert list(rows(1)) == [1]


def test_it_is_a_generator(syncer):
    counted = Counted(syncer, 3, 5)
    assert isinstance(counted.rows, Generator)
    assert iter(counted.rows) is counted.rows


def test_methods_of_every_kind(syncer):
    class Table:
        @syncer(prefetch=2)
        async def method(self, *args):
            for item in self, *args:
                yield item

        @syncer(prefetch=2)
        @classmethod
        async def class_method(cls, *args):
            for item in cls, *args:
                yield item

        @syncer(prefetch=2)
        @staticmethod
        async def static_method(*args):
            for item in args:
                yield item

    table = Table()
    assert list(table.method(1, 2, 3)) == [table, 1, 2, 3]
    assert list(Table.method(table, 1)) == [table, 1]
    assert list(Table.class_method(1, 2, 3)) == list(table.class_method(1, 2, 3)) == [Table, 1, 2, 3]
    assert list(Table.static_method(1, 2, 3)) == list(table.static_method(1, 2, 3)) == [1, 2, 3]


# Back-pressure.


@sizes
@each_pace
def test_never_more_than_n_items_ahead_of_a_fast_consumer(syncer, n, suspends):
    counted = Counted(syncer, n, 20 * n + 100, suspends)
    for i in range(20 * n + 100):
        assert counted.next() == i
    assert max(counted.ahead) <= n


@sizes
@each_pace
def test_never_more_than_n_items_ahead_of_a_slow_consumer(syncer, n, suspends):
    """At every item it gets the time to run further ahead."""
    counted = Counted(syncer, n, None, suspends)
    for i in range(2 * n + 10):
        assert counted.next() == i
        settle(syncer)
        assert counted.produced - counted.requested <= n
        if i == 0:
            counted.wait_until_ahead(n)  # the first stop is when it is as far ahead as it may be
            settle(syncer)
            assert counted.produced == 1 + n
    assert max(counted.ahead) == n
    counted.rows.close()


@sizes
def test_never_more_than_n_items_ahead_of_a_consumer_that_comes_and_goes(syncer, n):
    counted = Counted(syncer, n, None, "now and then")
    for taken in 1, n, n + 1, 1, 2, 3 * n, n // 2 + 1:
        for _ in range(taken):
            counted.next()
        settle(syncer)
        assert counted.produced - counted.requested <= n
    assert max(counted.ahead) == n
    counted.rows.close()


@sizes
@each_pace
def test_it_runs_ahead_while_the_consumer_is_busy(syncer, n, suspends):
    """Nobody asks for the items meanwhile. It may wait until half of those that are there have been taken."""
    counted = Counted(syncer, n, None, suspends)
    for taken in range(1, 60):
        for _ in range(taken % 7 + 1):
            counted.next()
        counted.wait_until_ahead(n // 2 + 1)
    counted.rows.close()


def test_code_behind_the_yield_of_the_last_item_does_not_run_before_there_is_room(syncer):
    behind = []

    @syncer(prefetch=2)
    async def rows():
        for i in range(10):
            yield i
            behind.append(i)

    generator = rows()
    next(generator)
    settle(syncer)
    assert behind == [0, 1]  # of 0, 1 and 2
    generator.close()


def test_producers_that_never_suspend_and_never_end_do_not_starve_the_loop(syncer):
    generators = [Counted(syncer, 10**8) for _ in range(2)]
    for counted in generators:
        counted.next()

    async def others():
        for _ in range(5):
            await asyncio.sleep(0)
            await asyncio.sleep(0.001)
        return await asyncio.to_thread(lambda: "thread")

    # In one call, since a loop that polls all the time hardly leaves the interpreter to another thread.
    assert syncer.run(others()) == "thread"
    for counted in generators:
        counted.rows.close()
    produced = [counted.produced for counted in generators]
    settle(syncer)
    assert [counted.produced for counted in generators] == produced


def test_a_consumer_that_never_lets_the_producer_pause_does_not_starve_the_loop(syncer):
    counted = Counted(syncer, 3)
    stop = threading.Event()

    def consume():
        while not stop.is_set():
            counted.next()

    consumer = threading.Thread(target=consume)
    consumer.start()
    for _ in range(20):
        settle(syncer)
    stop.set()
    consumer.join()
    assert max(counted.ahead) <= 3
    counted.rows.close()


def test_many_at_once_from_many_threads(syncer):
    def consume(n):
        with contextlib.suppress(Custom):
            for _ in range(3):
                counted = Counted(syncer, n, 500, "now and then")
                assert [counted.next() for _ in range(500)] == list(range(500))
                assert max(counted.ahead) <= n
                done.append(n)

    done = []
    threads = [threading.Thread(target=consume, args=[n]) for n in (1, 2, 3, 64) * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(done) == sorted([1, 2, 3, 64] * 6)


# Leaving early.


@each_state
def test_close_stops_it_and_waits_for_the_cleanup(syncer, state):
    leaver = Leaver(syncer, state)
    generator = leaver.make()
    assert next(generator) == 0
    leaver.reach()
    assert generator.close() is None
    assert leaver.log == leaver.expected
    assert generator.close() is None
    with pytest.raises(StopIteration):  # what was ahead is gone
        next(generator)


@each_state
def test_break_stops_it_and_waits_for_the_cleanup(syncer, state):
    leaver = Leaver(syncer, state)
    for _ in leaver.make():
        leaver.reach()
        break
    assert leaver.log == leaver.expected


@each_state
def test_an_error_in_the_body_stops_it_and_waits_for_the_cleanup(syncer, state):
    leaver = Leaver(syncer, state)
    with pytest.raises(Custom, match="body"):
        for _ in leaver.make():
            leaver.reach()
            raise Custom("body")
    assert leaver.log == leaver.expected


@each_state
def test_del_stops_it(syncer, state):
    leaver = Leaver(syncer, state)
    generator = leaver.make()
    next(generator)
    leaver.reach()
    del generator
    assert leaver.cleaned.wait(20)
    assert leaver.log == leaver.expected


@each_state
def test_the_garbage_collector_stops_it(syncer, state):
    leaver = Leaver(syncer, state)
    generator = leaver.make()
    next(generator)
    leaver.reach()
    cycle = [generator]
    cycle.append(cycle)
    del generator, cycle
    gc.collect()
    assert leaver.cleaned.wait(20)
    assert leaver.log == leaver.expected


def test_break_waits_also_in_another_thread_than_the_one_that_has_started_it(syncer):
    """Which has only taken items that were there."""
    leaver = Leaver(syncer, "paused")
    generators = [leaver.make()]
    next(generators[0])
    leaver.reach()
    logs = []

    def consume():
        for _ in generators.pop():
            break
        logs.append(leaver.log.copy())

    consumer = threading.Thread(target=consume)
    consumer.start()
    consumer.join()
    assert logs == [leaver.expected]


@each_state
def test_an_error_in_the_cleanup_is_raised_to_who_closes(syncer, state):
    error = Custom("cleanup")
    leaver = Leaver(syncer, state, error)
    generator = leaver.make()
    next(generator)
    leaver.reach()
    with pytest.raises(Custom) as caught:
        generator.close()
    assert caught.value is error
    with pytest.raises(StopIteration):
        next(generator)


def test_an_error_that_lies_ahead_is_not_raised_to_who_closes_before_it(syncer):
    """Without prefetch it would not have come to that."""
    raised = threading.Event()

    @syncer(prefetch=5)
    async def rows():
        yield 1
        yield 2
        raised.set()
        raise Custom

    generator = rows()
    next(generator)
    assert raised.wait(20)
    settle(syncer)
    assert generator.close() is None
    with pytest.raises(StopIteration):
        next(generator)


def test_close_of_one_that_goes_on_yielding(syncer):
    @syncer(prefetch=2)
    async def rows():
        while True:
            try:
                yield 1
            except GeneratorExit:
                if stubborn:
                    stubborn.pop()
                else:
                    raise

    stubborn = [True]
    generator = rows()
    next(generator)
    settle(syncer)
    with pytest.raises(RuntimeError, match="ignored GeneratorExit"):
        generator.close()


def test_close_of_one_that_swallows_the_cancellation_and_goes_on_to_yield(syncer):
    """It gets GeneratorExit where it yields then."""
    waits = threading.Event()
    log = []

    @syncer(prefetch=2)
    async def rows():
        yield 1
        try:
            waits.set()
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            log.append("cancelled")
        try:
            yield 2
        except GeneratorExit:
            log.append("closed")
            raise

    generator = rows()
    next(generator)
    assert waits.wait(20)
    generator.close()
    assert log == ["cancelled", "closed"]


@each_state
def test_nothing_is_in_flight_once_it_is_closed(syncer, state):
    before = repr(syncer)
    leaver = Leaver(syncer, state)
    generator = leaver.make()
    next(generator)
    leaver.reach()
    generator.close()
    settle(syncer)
    assert repr(syncer) == before


def test_close_while_another_thread_waits_in_a_step_is_refused(syncer):
    """As for every generator; and the step goes on."""
    waits = threading.Event()
    event = asyncio.Event()
    results = []

    @syncer(prefetch=3)
    async def rows():
        waits.set()
        await event.wait()
        yield "item"

    @syncer
    async def go_on():
        event.set()

    generator = rows()
    consumer = threading.Thread(target=lambda: results.append(next(generator)))
    consumer.start()
    assert waits.wait(20)
    for method in generator.close, generator.__next__:
        with pytest.raises(ValueError, match="already executing"):
            method()
    go_on()
    consumer.join()
    assert results == ["item"]
    assert list(generator) == []


@pytest.mark.skipif(sys.platform == "win32", reason="sends POSIX signals")
class TestInterrupt:
    PRELUDE = """
import asyncio, os, sys, threading
from syncify import Syncify
syncer = Syncify("s")
taken = None
watched = False  # whether it says that it is ready only once its consumer waits for an item

def say(text):
    os.write(1, f"{text}\\n".encode())  # two threads do, and print() writes the end of a line by itself

@syncer
async def works():
    await asyncio.sleep(0)
    return "works"

def rows(prefetch, items):
    @syncer(prefetch=prefetch)
    async def rows():
        try:
            for i in range(items):
                yield i
                if i == 1000:
                    say("ready")
            if watched:
                main = threading.main_thread().ident
                while taken != i or sys._current_frames()[main].f_code.co_name != "wait":
                    await asyncio.sleep(0.001)
            say("ready")
            await asyncio.Event().wait()
        except BaseException as error:
            say(type(error).__name__)
            raise
        finally:
            await asyncio.sleep(0.01)
            say("cleaned")
    return rows()
"""

    def test_ctrl_c_while_the_consumer_waits_for_an_item(self, script):
        running = script(
            self.PRELUDE
            + """
watched = True
generator = rows(3, 2)
try:
    for item in generator:
        say(item)
        taken = item
except KeyboardInterrupt:
    print("raised")
print(list(generator), works(), syncer)
"""
        )
        # The producer is ahead of its consumer, so nobody knows in which order these are printed.
        assert sorted(running.line() for _ in range(3)) == ["0", "1", "ready"]
        running.process.send_signal(signal.SIGINT)
        code, out, err = running.end()
        assert (code, err) == (0, "")
        assert out == "CancelledError\ncleaned\nraised\n[] works <Syncify 's', 0 calls in flight>\n"

    @pytest.mark.parametrize(
        ("arguments", "error"),
        [("3, 2", "CancelledError"), ("2, 9", "GeneratorExit"), ("10 ** 8, 10 ** 8", "GeneratorExit")],
        ids=["it waits", "it is paused", "it runs"],
    )
    def test_ctrl_c_in_the_body_of_the_loop(self, script, arguments, error):
        running = script(
            self.PRELUDE
            + f"""
import time
try:
    for item in rows({arguments}):
        for _ in range(10):
            works()  # lets it run ahead
        say("body")
        while True:
            time.sleep(0.001)  # a signal that comes just before a long sleep would not end it
except KeyboardInterrupt:
    print("raised")
print(works(), syncer)
"""
        )
        for _ in range(1 if arguments == "2, 9" else 2):
            assert running.line() in ("body", "ready")
        running.process.send_signal(signal.SIGINT)
        code, out, err = running.end()
        assert (code, err) == (0, "")
        assert out == f"{error}\ncleaned\nraised\nworks <Syncify 's', 0 calls in flight>\n"


# What is held across a yield.


@sizes
def test_a_timeout_that_strikes_while_it_is_paused_comes_after_the_items(syncer, n):
    struck = threading.Event()
    log = []

    @syncer(prefetch=n)
    async def rows():
        try:
            async with asyncio.timeout(None) as scope:
                for i in itertools.count():
                    if i == n:
                        scope.reschedule(asyncio.get_running_loop().time())
                    yield i
        except TimeoutError:
            log.append("struck")
            raise
        finally:
            await asyncio.sleep(0.001)
            log.append("cleaned")
            struck.set()

    generator = rows()
    assert next(generator) == 0
    assert struck.wait(20)  # though nobody asks for anything
    settle(syncer)
    assert log == ["struck", "cleaned"]
    assert [next(generator) for _ in range(n)] == list(range(1, n + 1))
    with pytest.raises(TimeoutError):
        next(generator)
    with pytest.raises(StopIteration):
        next(generator)


@sizes
def test_one_that_outlives_a_timeout_goes_on_in_order(syncer, n):
    struck = threading.Event()

    @syncer(prefetch=n)
    async def rows():
        try:
            async with asyncio.timeout(None) as scope:
                for i in itertools.count():
                    if i == n:
                        scope.reschedule(asyncio.get_running_loop().time())
                    yield i
        except TimeoutError:
            struck.set()
            yield "late"
        for i in range(2 * n + 2):
            yield f"after {i}"

    generator = rows()
    assert next(generator) == 0
    assert struck.wait(20)
    settle(syncer)
    assert list(generator) == [*range(1, n + 1), "late", *(f"after {i}" for i in range(2 * n + 2))]


def test_a_timeout_that_strikes_while_it_waits(syncer):
    @syncer(prefetch=5)
    async def rows():
        async with asyncio.timeout(0.001):
            yield 1
            await asyncio.Event().wait()

    generator = rows()
    assert next(generator) == 1
    with pytest.raises(TimeoutError):
        next(generator)


def test_a_failing_child_of_a_task_group_interrupts_it_while_it_is_paused(syncer):
    struck = threading.Event()

    @syncer(prefetch=2)
    async def rows():
        async def child():
            raise Custom

        try:
            async with asyncio.TaskGroup() as group:
                for i in itertools.count():
                    if i == 2:
                        group.create_task(child())
                    yield i
        finally:
            struck.set()

    generator = rows()
    assert next(generator) == 0
    assert struck.wait(20)
    assert [next(generator), next(generator)] == [1, 2]
    with pytest.raises(ExceptionGroup) as caught:
        next(generator)
    assert [type(error) for error in caught.value.exceptions] == [Custom]


def test_close_after_a_timeout_has_struck(syncer):
    """The error was ahead of the consumer, who has left before it."""
    struck = threading.Event()

    @syncer(prefetch=1)
    async def rows():
        try:
            async with asyncio.timeout(None) as scope:
                yield 1
                scope.reschedule(asyncio.get_running_loop().time())
                yield 2
        finally:
            struck.set()

    generator = rows()
    next(generator)
    assert struck.wait(20)
    settle(syncer)
    assert generator.close() is None
    with pytest.raises(StopIteration):
        next(generator)


def test_one_task_from_the_first_item_to_the_cleanup(syncer):
    tasks = set()

    @syncer(prefetch=2)
    async def rows():
        try:
            for i in range(10):
                tasks.add(asyncio.current_task())
                yield i
                await asyncio.sleep(0)
        finally:
            tasks.add(asyncio.current_task())

    for item in rows():
        if item == 6:
            break
    assert len(tasks) == 1
    assert None not in tasks


def test_context_variables_persist_and_can_be_reset(syncer):
    seen = []

    @syncer(prefetch=2)
    async def rows():
        seen.append(variable.get())
        token = variable.set("producer's")
        try:
            for i in range(10):
                yield i
                seen.append(variable.get())
        finally:
            await asyncio.sleep(0)
            variable.reset(token)
            seen.append(variable.get())

    token = variable.set("consumer's")
    try:
        generator = rows()
        for item in generator:
            assert variable.get() == "consumer's"
            if item == 5:
                break
        generator.close()
    finally:
        variable.reset(token)
    assert seen[0] == seen[-1] == "consumer's"
    assert set(seen[1:-1]) == {"producer's"}


# What it refuses.


@sizes
@pytest.mark.parametrize("steps", [0, 1, 5])
def test_send_and_throw_are_refused_and_it_goes_on(syncer, n, steps):
    received = []

    @syncer(prefetch=n)
    async def my_rows():
        for i in range(10):
            received.append((yield i))

    generator = my_rows()
    assert [next(generator) for _ in range(steps)] == list(range(steps))
    for _ in range(2):
        with pytest.raises(RuntimeError, match=r"my_rows\(\) is prefetched.*send\(\).*close\(\)"):
            generator.send(1)
        with pytest.raises(RuntimeError, match=r"my_rows\(\) is prefetched.*throw\(\).*close\(\)"):
            generator.throw(Custom("thrown"))
        with pytest.raises(RuntimeError, match="prefetched"):
            generator.throw(Custom)
    assert list(generator) == list(range(steps, 10))
    assert set(received) == {None}


@pytest.mark.parametrize("number", [0, -1, -64])
def test_less_than_one_item_is_refused_at_decoration(syncer, number):
    async def rows():
        yield 1

    with pytest.raises(ValueError, match=f"1 item or more, got {number}"):
        syncer(prefetch=number)
    with pytest.raises(ValueError, match=f"1 item or more, got {number}"):
        syncer(rows, prefetch=number)


@pytest.mark.parametrize("number", [True, False, 1.0, "1", [1]])
def test_what_is_no_number_of_items_is_refused_at_decoration(syncer, number):
    with pytest.raises(TypeError, match="number of items"):
        syncer(prefetch=number)


def _refused():
    async def coroutine_function():
        pass

    def function():
        pass

    @contextlib.asynccontextmanager
    async def manager():
        yield

    class Class:
        pass

    return [
        coroutine_function,
        function,
        manager,
        Class,
        len,
        None,
        3,
        classmethod(coroutine_function),
        staticmethod(function),
    ]


@pytest.mark.parametrize("function", _refused(), ids=lambda function: getattr(function, "__name__", repr(function)))
def test_anything_but_an_async_generator_is_refused_at_decoration(syncer, function):
    with pytest.raises(TypeError, match="prefetch is for async generators"):
        syncer(prefetch=1)(function)
    with pytest.raises(TypeError, match="prefetch is for async generators"):
        syncer(prefetch=1, context_manager=True)(function)


def test_next_on_the_background_loop_itself_is_refused_and_it_goes_on(syncer):
    from syncify import DeadlockError

    counted = Counted(syncer, 3, 10)
    assert counted.next() == 0
    settle(syncer)

    async def step():
        with pytest.raises(DeadlockError):
            next(counted.rows)
        with pytest.raises(DeadlockError):
            counted.rows.close()

    syncer.run(step())
    assert list(counted.rows) == list(range(1, 10))


# For async code nothing is prefetched.


@pytest.mark.parametrize("where", ["another loop", "the own loop"])
def test_for_async_code_nothing_runs_ahead_and_send_and_throw_work(syncer, where):
    produced = []

    @syncer(prefetch=3)
    async def rows():
        received = None
        while True:
            produced.append(received)
            try:
                received = yield received
            except Custom as error:
                received = repr(error)

    async def main():
        generator = rows.aio()
        for sent in [None, 1, 2]:
            assert await generator.asend(sent) == sent
            await asyncio.sleep(0)
            await syncer.run.aio(asyncio.sleep(0))
            assert produced[-1] == sent
        assert await generator.athrow(Custom("thrown")) == "Custom('thrown')"
        assert produced == [None, 1, 2, "Custom('thrown')"]
        await generator.aclose()

    if where == "another loop":
        asyncio.run(main())
    else:
        syncer.run(main())


def test_a_consumer_that_waits_while_somebody_else_ends_it_is_not_told_that_it_is_complete():
    syncer = Syncify("aborted")
    waits, results = threading.Event(), []

    @syncer(prefetch=3)
    async def rows():
        waits.set()
        await asyncio.Event().wait()
        yield 1

    def consume():
        try:
            results.append(list(rows()))
        except BaseException as error:
            results.append(type(error))

    thread = threading.Thread(target=consume)
    thread.start()
    assert waits.wait(20)
    syncer.close()
    thread.join(20)
    assert results == [ClosedError]
