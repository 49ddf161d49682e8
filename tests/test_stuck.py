"""Who waits for a loop that something keeps is told what keeps it, after a while, in the log."""

import asyncio
import contextlib
import inspect
import logging
import math
import queue
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

import pytest
from conftest import WITHOUT_DEBUG

from syncify import Syncify, timeout

SOON = 0.3  # what `stuck_after` is here, in seconds


class Log(logging.Handler):
    """What is logged, and when."""

    def __init__(self):
        super().__init__()
        self.messages = []
        self._new = queue.SimpleQueue()

    def emit(self, record):
        self.messages.append(record.getMessage())
        self._new.put((time.monotonic(), record))

    def next(self):
        """Wait for the next record, and return when it has come, and the record."""
        return self._new.get(timeout=40)


@pytest.fixture
def log(caplog):  # which says that something is to be logged
    handler = Log()
    logger = logging.getLogger("syncify")
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)


@contextlib.contextmanager
def kept(syncer):
    """Keep the loop busy with a coroutine that blocks, until the block ends or `go` is set."""

    @syncer
    async def keep():
        held.set()
        go.wait(50)  # the line that keeps the loop

    held, go = threading.Event(), threading.Event()
    with ThreadPoolExecutor(1) as pool:
        # A blocking caller as well: it waits the longest of all, but its call has begun.
        keeper = pool.submit(keep)
        assert held.wait(10)
        try:
            yield go
        finally:
            go.set()
        keeper.result(10)


@contextlib.contextmanager
def waiting(*calls):
    """Make the calls, each in a thread, and see at the end that they have returned."""
    with ThreadPoolExecutor(len(calls)) as pool:
        futures = [pool.submit(call) for call in calls]
        yield futures
        for future in futures:
            future.result(20)


async def late():
    return 1


def test_a_caller_whose_call_does_not_begin_logs_what_the_loop_is_doing(loop_factory, log):
    with (
        Syncify("held", loop_factory=loop_factory, stuck_after=SOON) as syncer,
        kept(syncer) as go,
        waiting(syncer(late)) as (future,),
    ):
        _, record = log.next()
        assert not future.done()
        go.set()
        assert future.result(10) == 1
    assert (record.name, record.levelname) == ("syncify", "WARNING")
    message = record.getMessage()
    assert message.startswith("late() has waited ")
    assert "'held'" in message
    assert "go.wait(50)  # the line that keeps the loop" in message
    assert message.count("\n    ") > 3  # the whole stack
    assert len(log.messages) == 1


def test_the_stack_shows_what_the_loop_is_doing_at_that_moment(log):
    with Syncify("moves", stuck_after=SOON) as syncer:

        def first_place():
            first.wait(50)

        def second_place():
            second.wait(50)

        @syncer
        async def keep():
            held.set()
            first_place()
            second_place()

        first, second, held = threading.Event(), threading.Event(), threading.Event()
        keeper = keep.submit()
        assert held.wait(10)
        with waiting(syncer(late)):
            assert "in first_place" in log.next()[1].getMessage()
            first.set()
            while "in first_place" in (message := log.next()[1].getMessage()):
                pass
            second.set()
        keeper.result(10)
    assert "in second_place" in message


def test_a_callback_that_keeps_the_loop_is_shown_as_well(log):
    def callback():
        held.set()
        go.wait(50)

    held, go = threading.Event(), threading.Event()
    with Syncify("callback", stuck_after=SOON) as syncer:
        syncer.get_loop().call_soon_threadsafe(callback)
        assert held.wait(10)
        with waiting(syncer(late)):
            _, record = log.next()
            go.set()
    assert "in callback" in record.getMessage()


def test_who_still_waits_logs_again_after_twice_that_time_and_so_on(log):
    # Not a multiple of the step in which a caller sleeps, so the first warning comes a little late.
    seconds = 0.7
    for attempt in range(3):
        with Syncify(f"growing-{attempt}", stuck_after=seconds) as syncer, kept(syncer) as go:
            begun = time.monotonic()
            with waiting(syncer(late)):
                times = [log.next()[0] - begun for _ in range(2)]
                go.set()
        assert times[0] > seconds * 0.9
        assert times[1] > seconds * 2 * 0.9
        if times[1] < seconds * 4:
            break  # otherwise the machine may have been busy, but not three times
    else:
        pytest.fail(f"the second warning came after {times[1]} seconds, and the third was due then")


def test_the_times_between_two_warnings_grow(log):
    with Syncify("grows", stuck_after=SOON) as syncer, kept(syncer) as go:
        begun = time.monotonic()
        with waiting(syncer(late)):
            times = [log.next()[0] - begun for _ in range(3)]
            go.set()
    for number, seconds in enumerate(times):
        assert seconds > SOON * 2**number * 0.9


def test_many_callers_that_wait_at_once_do_not_each_log(log):
    with Syncify("crowd", stuck_after=SOON) as syncer, kept(syncer) as go:
        f = syncer(late)
        with waiting(*[f] * 16):
            times = [log.next()[0] for _ in range(3)]
            go.set()
    # If they did, these would be three of sixteen that came at once.
    assert times[2] - times[0] > SOON * 0.4


def test_a_call_that_has_begun_is_not_named_however_long_it_takes(log):
    with Syncify("long", stuck_after=SOON) as syncer:

        @syncer
        async def takes_long():
            begun.set()
            await ended.wait()

        begun, ended = threading.Event(), asyncio.Event()
        with waiting(takes_long):
            assert begun.wait(10)
            # Another caller is the clock: it comes later, and has to wait, so whoever is to be named is named by now.
            with kept(syncer) as go, waiting(syncer(late)):
                log.next()
                log.next()
                go.set()
            syncer.get_loop().call_soon_threadsafe(ended.set)
    assert {message.partition(" ")[0] for message in log.messages} == {"late()"}


def generator_steps(syncer):
    @syncer
    async def rows():
        yield 1
        yield 2

    iterator = rows()
    return lambda: None, lambda: next(iterator)


def a_later_step(syncer):
    @syncer
    async def rows():
        yield 1
        yield 2

    iterator = rows()
    return lambda: next(iterator), lambda: next(iterator)


def a_prefetched_step(syncer):
    @syncer(prefetch=2)
    async def rows():
        yield 1

    iterator = rows()
    return lambda: None, lambda: next(iterator)


def closing_a_generator(syncer):
    @syncer
    async def rows():
        yield 1

    iterator = rows()
    return lambda: next(iterator), lambda: iterator.close()


def make_manager(syncer):
    @syncer
    @asynccontextmanager
    async def rows():
        yield 1

    return rows()


def entering(syncer):
    manager = make_manager(syncer)
    return lambda: None, lambda: manager.__enter__()


def leaving(syncer):
    manager = make_manager(syncer)
    return lambda: manager.__enter__(), lambda: manager.__exit__(None, None, None)


def a_method(syncer):
    class Table:
        @syncer
        async def rows(self):
            return 1

    return lambda: None, Table().rows


def within_a_time_limit(syncer):
    @syncer
    async def rows():
        return 1

    def limited():
        with timeout(50):
            rows()

    return lambda: None, limited


CALLERS = (
    generator_steps,
    a_later_step,
    a_prefetched_step,
    closing_a_generator,
    entering,
    leaving,
    a_method,
    within_a_time_limit,
)


@pytest.mark.parametrize("make", CALLERS)
def test_every_blocking_caller_is_one(make, log):
    with Syncify("callers", stuck_after=SOON) as syncer:
        before, call = make(syncer)
        before()
        with kept(syncer) as go, waiting(call):
            _, record = log.next()
            go.set()
    assert "rows() has waited " in record.getMessage()
    assert "# the line that keeps the loop" in record.getMessage()


def test_run_is_one(log):
    with Syncify("run", stuck_after=SOON) as syncer, kept(syncer) as go, waiting(lambda: syncer.run(late())):
        _, record = log.next()
        go.set()
    assert record.getMessage().startswith("run() has waited ")


def test_a_caller_that_runs_another_loop_is_one(log):
    async def main():
        return f()

    with Syncify("loops", stuck_after=SOON, blocking="allow") as syncer:
        f = syncer(late)
        with kept(syncer) as go, waiting(lambda: asyncio.run(main())):
            _, record = log.next()
            go.set()
    assert record.getMessage().startswith("late() has waited ")


def test_none_is_for_never(log):
    with (
        Syncify("silent", stuck_after=None) as silent,
        Syncify("clock", stuck_after=SOON) as clock,
        kept(silent) as go,
        kept(clock) as go_on,
        waiting(silent(late)),
        waiting(clock(late)),
    ):
        log.next()
        log.next()
        go.set()
        go_on.set()
    assert all("'clock'" in message for message in log.messages)


def test_each_syncer_has_its_own_time(log):
    with (
        Syncify("later", stuck_after=1000) as later,
        Syncify("sooner", stuck_after=SOON) as sooner,
        kept(later) as go,
        kept(sooner) as go_on,
        waiting(later(late)),
        waiting(sooner(late)),
    ):
        log.next()
        log.next()
        go.set()
        go_on.set()
    assert all("'sooner'" in message for message in log.messages)


def test_without_a_word_it_is_five_seconds():
    assert inspect.signature(Syncify).parameters["stuck_after"].default == 5


def test_a_caller_that_is_interrupted_meanwhile_leaves_without_its_call(script):
    """The warning comes from the waiting thread, and must not keep it from its signals."""
    program = script(
        """
        import logging, os, signal, threading
        from syncify import Syncify

        class Interrupt(logging.Handler):
            def emit(self, record):
                os.kill(os.getpid(), signal.SIGINT)

        logging.getLogger("syncify").addHandler(Interrupt())
        syncer = Syncify("struck", stuck_after=0.1)
        held, go = threading.Event(), threading.Event()

        @syncer
        async def keep():
            held.set()
            go.wait()

        @syncer
        async def f():
            print("called")

        future = keep.submit()
        held.wait()
        try:
            f()
        except KeyboardInterrupt:
            print("interrupted")
        go.set()
        future.result()
        syncer.close()
    """,
        env=WITHOUT_DEBUG,
    )
    assert program.end() == (0, "interrupted\n", "")


@pytest.mark.parametrize("wrong", ["5", True, False, object(), 5j, [5]])
def test_it_is_a_number_of_seconds_or_none(wrong):
    with pytest.raises(TypeError, match="stuck_after"):
        Syncify("wrong", stuck_after=wrong)


@pytest.mark.parametrize("wrong", [-1, -0.001, math.nan, -math.inf])
def test_it_is_not_negative_nor_nan(wrong):
    with pytest.raises(ValueError, match="stuck_after"):
        Syncify("wrong", stuck_after=wrong)


@pytest.mark.parametrize("seconds", [0, 1, 0.5, 10**400, math.inf, None])
def test_these_are_accepted(seconds):
    with Syncify("right", stuck_after=seconds) as syncer:
        assert syncer(late)() == 1


def test_what_was_waited_for_is_not_kept(log):
    class Argument:
        pass

    async def takes(argument):
        pass

    with Syncify("forgets", stuck_after=SOON) as syncer:
        f = syncer(takes)
        with kept(syncer) as go:
            argument = Argument()
            reference = weakref.ref(argument)
            thread = threading.Thread(target=f, args=[argument])
            del argument
            thread.start()
            log.next()
            go.set()
            thread.join()
        del thread
        assert reference() is None
