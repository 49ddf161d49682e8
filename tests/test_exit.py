"""The end of the program: it comes in time, with its own exit code, in silence, and what can clean up does so."""

import os
import textwrap
import time

import pytest

# Where cleanup is to be done, there is plenty of time for it. Where something is to be abandoned, there is little.
PLENTY = 40

# asyncio tells of slow callbacks in the development mode, and on a busy machine every callback may be slow.
PRELUDE = """
import asyncio, atexit, gc, multiprocessing, os, signal, sys, threading, time, warnings
from contextlib import asynccontextmanager
from syncify import ClosedError, SyncContextManager, Syncify, timeout

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import {module} as loops

def make_loop():
    loop = loops.new_event_loop()
    loop.slow_callback_duration = float("inf")
    return loop

def make_syncer(name, exit_timeout={exit_timeout}, **options):
    return Syncify(name, loop_factory=make_loop, exit_timeout=exit_timeout, **options)

def say(*what, write=os.write):  # a line in one piece, from whatever thread, at whatever time
    write(1, (" ".join(map(str, what)) + "\\n").encode())

def in_thread(function, *args, daemon=True):
    thread = threading.Thread(target=function, args=args, daemon=daemon)
    thread.start()
    return thread

begun = threading.Semaphore(0)

def wait_until_begun(times=1):
    for _ in range(times):
        begun.acquire()

async def forever():
    begun.release()
    await asyncio.Event().wait()

def main_has_ended():
    return not threading.main_thread().is_alive()

syncer = make_syncer("s")
"""

DEV = ("-X", "dev", "-W", "error")
KINDS = {"asyncio": ("asyncio",), "asyncio, dev": ("asyncio", *DEV), "uvloop": ("uvloop",)}


def start_on(script, kind):
    module, *options = KINDS[kind]
    if module == "uvloop":
        pytest.importorskip("uvloop")

    def start(code, *more, exit_timeout=PLENTY, first=""):
        prelude = PRELUDE.format(module=module, exit_timeout=exit_timeout)
        return script(textwrap.dedent(first) + prelude + textwrap.dedent(code), *options, *more)

    return start


@pytest.fixture(params=["asyncio, dev", "uvloop"])
def program(request, script):
    """Starts a program, on each kind of loop."""
    return start_on(script, request.param)


@pytest.fixture(params=KINDS)
def any_program(request, script):
    """The same, in and out of the development mode: for what there is most of."""
    return start_on(script, request.param)


@pytest.fixture
def dev_program(script):
    """For what does not depend on the kind of loop."""
    return start_on(script, "asyncio, dev")


posix = pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")


# What is in flight.

IN_FLIGHT = """
    async def job(name):
        try:
            await forever()
        finally:
            question = asyncio.get_running_loop().create_future()
            questions.put_nowait(question)
            answer = await question
            for _ in range(3):
                await asyncio.sleep(0.001)
            say(name, answer)

    async def answer():
        try:
            while True:
                (await questions.get()).set_result("cleaned")
        finally:
            await asyncio.sleep(0.001)
            say("the answering task cleaned")

    @syncer
    async def start_answering():
        global questions, answering
        questions = asyncio.Queue()
        answering = asyncio.create_task(answer())

    @syncer
    async def call(name):
        await job(name)

    @syncer
    async def rows(name):
        yield await job(name)

    @syncer
    @asynccontextmanager
    async def manager(name):
        await job(name)
        yield

    def on_another_loop():
        with asyncio.Runner(loop_factory=make_loop) as runner:
            runner.run(call.aio("awaited"))

    def under_a_time_limit():
        with timeout(1000):
            call("with a time limit")

    start_answering()
    in_thread(call, "blocking")
    in_thread(under_a_time_limit)
    in_thread(next, rows("a step"))
    in_thread(manager("an enter").__enter__)
    in_thread(on_another_loop)
    in_thread(syncer.run, job("run"))
    future = call.submit("submitted")
    future.add_done_callback(lambda future: say("the future has", repr(future.exception())))
    syncer.run.submit(job("run, submitted"))
    wait_until_begun(8)
"""
NAMES = ["blocking", "with a time limit", "a step", "an enter", "awaited", "run", "submitted", "run, submitted"]


def check_in_flight(out):
    lines = out.splitlines()
    assert lines.pop() == "the answering task cleaned"  # the others may need it for their cleanup
    assert sorted(lines) == sorted([f"{name} cleaned" for name in NAMES] + ["the future has SystemExit()"])


def test_what_is_in_flight_is_cancelled_and_cleans_up_before_the_tasks_that_users_have_started(any_program):
    code, out, err = any_program(IN_FLIGHT).end()
    assert (code, err) == (0, "")
    check_in_flight(out)


def test_sys_exit_with_calls_in_flight(dev_program):
    code, out, err = dev_program(IN_FLIGHT + "    sys.exit(3)").end()
    assert (code, err) == (3, "")
    check_in_flight(out)


def test_an_uncaught_exception_with_calls_in_flight(dev_program):
    code, out, err = dev_program(IN_FLIGHT + "    raise ValueError('of the program')").end()
    assert code == 1
    check_in_flight(out)
    assert err.startswith("Traceback (most recent call last):\n")
    assert err.endswith("\nValueError: of the program\n")
    assert err.count("\nTraceback") == 0


def test_a_call_between_two_loops_ends_on_both(program):
    """And is cancelled once, whichever of the two is ended first: a second time would strike its cleanup."""
    running = program("""
        other = make_syncer("other")

        async def inner(name):
            try:
                await forever()
            finally:
                await asyncio.sleep(0.05)
                say(name, "inner")

        async def outer(there, name):
            try:
                await there.aio(name)
            finally:
                await asyncio.sleep(0.001)
                say(name, "outer")

        for here, there in (syncer, other), (other, syncer):
            in_thread(here(outer), there(inner), "blocking")
            here(outer).submit(there(inner), "submitted")
        wait_until_begun(4)
    """)
    code, out, err = running.end()
    assert (code, err) == (0, "")
    names = ["blocking inner", "blocking outer", "submitted inner", "submitted outer"]
    assert sorted(out.splitlines()) == sorted(names * 2)


def test_a_task_on_one_loop_that_awaits_a_call_on_another_ends_in_silence(program):
    running = program("""
        other = make_syncer("other")

        async def inner():
            try:
                await forever()
            finally:
                say("inner")

        async def outer(there):
            try:
                await there.aio()
            finally:
                await asyncio.sleep(0.001)
                say("outer")

        async def start(there):
            tasks.append(asyncio.create_task(outer(there)))

        tasks = []
        for here, there in (syncer, other), (other, syncer):
            here.run(start(there(inner)))
        wait_until_begun(2)
    """)
    code, out, err = running.end()
    assert (code, err) == (0, "")
    assert sorted(out.splitlines()) == ["inner"] * 2 + ["outer"] * 2


# What is open.

OPEN = """
    async def read(name):
        try:
            for number in range(9):
                yield number
        finally:
            await asyncio.sleep(0.001)
            say(name, "cleaned")

    rows = syncer(read)
    prefetched = syncer(prefetch=3)(read)

    @syncer
    async def returns(name):
        return read(name)

    @syncer
    @asynccontextmanager
    async def manager(name):
        say(name, "entered")
        try:
            yield
        finally:
            await asyncio.sleep(0.001)
            say(name, "left")

    class Connection(SyncContextManager, syncer=syncer):
        def __init__(self, name):
            self.name = name

        async def __aenter__(self):
            say(self.name, "entered")
            return self

        async def __aexit__(self, *exc_info):
            await asyncio.sleep(0.001)
            say(self.name, "left")
"""


def test_generators_left_half_consumed_are_closed(any_program):
    running = any_program(
        OPEN
        + """
    gc.disable()  # or it finds the cycles before

    def begin(rows):
        assert next(rows) == 0
        return rows

    def leave_in_cycle(rows):
        cycle = [begin(rows)]
        cycle.append(cycle)

    plain = begin(rows("plain"))
    ahead = begin(prefetched("prefetched"))
    viewed = begin(returns("viewed"))
    leave_in_cycle(rows("plain in a cycle"))
    leave_in_cycle(prefetched("prefetched in a cycle"))
    leave_in_cycle(returns("viewed in a cycle"))
    with asyncio.Runner(loop_factory=make_loop) as runner:
        async def begin_there(rows):
            hooks = sys.get_asyncgen_hooks()
            sys.set_asyncgen_hooks(lambda _: None, lambda _: None)  # or that loop closes it at its own end
            assert await anext(rows) == 0
            sys.set_asyncgen_hooks(*hooks)

        for_async_code = rows.aio("on another loop")
        runner.run(begin_there(for_async_code))

    def iterate(rows):
        for _ in rows:
            begun.release()
            threading.Event().wait()

    in_thread(iterate, rows("in a thread"))
    wait_until_begun()
    """
    )
    code, out, err = running.end()
    assert (code, err) == (0, "")
    names = ["plain", "prefetched", "viewed"]
    names += [*(f"{name} in a cycle" for name in names), "on another loop", "in a thread"]
    assert sorted(out.splitlines()) == sorted(f"{name} cleaned" for name in names)


def test_context_managers_left_open_are_left(any_program):
    running = any_program(
        OPEN
        + """
    gc.disable()
    one = manager("a manager")
    one.__enter__()
    two = Connection("a connection")
    two.__enter__()
    cycle = [manager("a manager in a cycle"), Connection("a connection in a cycle")]
    for each in cycle:
        each.__enter__()
    cycle.append(cycle)
    del cycle, each

    def enter(context_manager):
        with context_manager:
            begun.release()
            threading.Event().wait()

    in_thread(enter, manager("a manager in a thread"))
    in_thread(enter, Connection("a connection in a thread"))
    wait_until_begun(2)
    """
    )
    code, out, err = running.end()
    assert (code, err) == (0, "")
    places = ["", " in a cycle", " in a thread"]
    names = [f"a {what}{where}" for what in ("manager", "connection") for where in places]
    lines = out.splitlines()
    assert sorted(lines[:6]) == sorted(f"{name} entered" for name in names)
    assert sorted(lines[6:]) == sorted(f"{name} left" for name in names)


# What does not end.


def test_what_ignores_its_cancellation_is_named_in_one_line_and_the_rest_cleans_up(program):
    running = program(
        """
        async def ignore():
            while True:
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    begun.release()

        @syncer
        async def ignores():
            begun.release()
            await ignore()

        @syncer
        async def ignores_too():
            begun.release()
            await ignore()
            yield

        @syncer
        async def cleans_up():
            try:
                await forever()
            finally:
                await asyncio.sleep(0.001)
                say("cleaned")

        in_thread(ignores)
        in_thread(next, ignores_too())
        cleans_up.submit()
        wait_until_begun(3)
        sys.exit(4)
    """,
        exit_timeout=1,
    )
    assert running.end() == (
        4,
        "cleaned\n",
        "syncify: the program has ended, and abandoned in 's': ignores(), ignores_too()\n",
    )


def test_a_task_of_the_user_that_ignores_its_cancellation_is_named(dev_program):
    running = dev_program(
        """
        async def ignores():
            while True:
                try:
                    await forever()
                except asyncio.CancelledError:
                    pass

        async def cleans_up():
            try:
                await forever()
            finally:
                await asyncio.sleep(0.001)
                say("cleaned")

        async def start():
            global tasks
            tasks = [asyncio.create_task(each()) for each in (ignores, cleans_up)]

        syncer.run(start())
        wait_until_begun(2)
    """,
        exit_timeout=1,
    )
    assert running.end() == (0, "cleaned\n", "syncify: the program has ended, and abandoned in 's': ignores()\n")


def test_a_call_that_ignores_its_cancellation_does_not_keep_other_tasks_from_cleaning_up(dev_program):
    running = dev_program(
        """
        async def cleans_up():
            try:
                await forever()
            finally:
                await asyncio.sleep(0.001)
                say("cleaned")

        @syncer
        async def ignores():
            global task
            task = asyncio.create_task(cleans_up())
            while True:
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    pass

        ignores.submit()
        wait_until_begun()
    """,
        exit_timeout=2,
    )
    assert running.end() == (0, "cleaned\n", "syncify: the program has ended, and abandoned in 's': ignores()\n")


def test_a_blocked_loop_is_named_by_the_call_that_blocks_it(program):
    running = program(
        """
        @syncer
        async def blocks():
            begun.release()
            time.sleep(3600)

        @syncer
        async def waits_for_its_turn():
            pass

        future = blocks.submit()
        wait_until_begun()
        in_thread(waits_for_its_turn)
        future.add_done_callback(lambda future: say("is not called"))  # it could keep the process
    """,
        exit_timeout=0.5,
    )
    assert running.end() == (0, "", "syncify: the program has ended, and abandoned in 's': blocks()\n")


def test_a_loop_blocked_by_a_callback_is_named_by_what_its_thread_does(program):
    running = program(
        """
        def blocks():
            begun.release()
            while True:
                time.sleep(3600)

        syncer.get_loop().call_soon_threadsafe(blocks)
        wait_until_begun()
    """,
        exit_timeout=0.5,
    )
    code, out, err = running.end()
    assert (code, out) == (0, "")
    assert err.startswith("syncify: the program has ended, and abandoned in 's': what its thread does")
    assert "in blocks" in err
    assert err.count("\n") == 1


def test_work_in_threads_is_waited_for(dev_program):
    running = dev_program("""
        def work():
            begun.release()
            while not asked_to_end:
                time.sleep(0.001)
            time.sleep(0.3)  # the rest has ended long before
            say("worked")

        @syncer
        async def works():
            global asked_to_end
            try:
                await asyncio.to_thread(work)
            finally:
                asked_to_end = True
                say("cancelled")

        asked_to_end = False
        works.submit()
        wait_until_begun()
    """)
    assert running.end() == (0, "cancelled\nworked\n", "")


def test_work_in_threads_that_takes_too_long_is_named(program):
    running = program(
        """
        def work():
            begun.release()
            time.sleep(3600)

        @syncer
        async def works():
            try:
                await asyncio.to_thread(work)
            finally:
                await asyncio.sleep(0.001)
                say("cleaned")

        async def start():
            global task
            task = asyncio.create_task(asyncio.to_thread(work))

        in_thread(works)
        syncer.run(start())
        wait_until_begun(2)
    """,
        exit_timeout=1,
    )
    assert running.end() == (
        0,
        "cleaned\n",
        "syncify: the program has ended, and abandoned in 's': work() in a thread\n",
    )


def test_the_line_goes_where_the_program_logs(dev_program):
    running = dev_program(
        """
        import logging

        class Handler(logging.Handler):
            def emit(self, record):
                say(record.name, record.levelname, record.getMessage())

        logging.getLogger().addHandler(Handler())

        @syncer
        async def blocks():
            begun.release()
            time.sleep(3600)

        blocks.submit()
        wait_until_begun()
    """,
        exit_timeout=0,
    )
    line = "syncify WARNING syncify: the program has ended, and abandoned in 's': blocks()\n"
    assert running.end() == (0, line, "")


def test_several_syncers_share_the_time(dev_program):
    begun = time.monotonic()
    running = dev_program(
        """
        def block():
            begun.release()
            time.sleep(3600)

        async def blocks():
            block()

        async def cleans_up():
            try:
                await forever()
            finally:
                await asyncio.sleep(0.001)
                say("cleaned")

        syncers = [make_syncer(f"s{number}") for number in range(20)]
        for each in syncers[::2]:
            each.run.submit(cleans_up())
        for each in syncers[1::2]:
            each(blocks).submit()
        wait_until_begun(20)
    """,
        exit_timeout=2,
    )
    code, out, err = running.end()
    assert (code, out) == (0, "cleaned\n" * 10)
    assert sorted(err.splitlines()) == [
        f"syncify: the program has ended, and abandoned in 's{number}': blocks()"
        for number in sorted(range(1, 20, 2), key=str)
    ]
    assert time.monotonic() - begun < 15  # and not 20


def test_without_a_limit_it_waits(dev_program):
    running = dev_program(
        """
        @syncer
        async def works():
            try:
                await forever()
            finally:
                say("begins to clean up")
                for _ in range(10):
                    await asyncio.sleep(0.05)
                say("cleaned")

        @syncer
        async def ends():
            begun.release()
            while not main_has_ended():
                await asyncio.sleep(0.01)
            for _ in range(10):
                await asyncio.sleep(0.05)
            return "its result"

        works.submit()
        in_thread(lambda: say(ends()), daemon=False)
        wait_until_begun(2)
    """,
        exit_timeout=None,
    )
    assert running.end() == (0, "its result\nbegins to clean up\ncleaned\n", "")


# Threads that Python waits for.


def test_a_call_that_ends_soon_after_the_main_thread_has_its_result(program):
    running = program("""
        @syncer
        async def ends(what):
            begun.release()
            while not main_has_ended():
                await asyncio.sleep(0.001)
            await asyncio.sleep(0.3)  # until the caller has noticed it as well
            return what

        @syncer
        async def rows():
            yield await ends.aio("row")

        @syncer
        @asynccontextmanager
        async def manager():
            yield await ends.aio("entered")
            await ends.aio(None)
            say("left")

        def enter():
            with manager() as entered:
                say(entered)

        calls = [lambda: say(ends("called")), lambda: say(*rows()), lambda: say(syncer.run(ends.aio("run"))), enter]
        for call in calls:
            in_thread(call, daemon=False)
        wait_until_begun(4)
    """)
    code, out, err = running.end()
    assert (code, err) == (0, "")
    assert sorted(out.splitlines()) == ["called", "entered", "left", "row", "run"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_child_that_is_forked_after_the_main_thread_has_ended_has_its_own(dev_program):
    """In the child it is the thread that has forked, and no exit is near."""
    running = dev_program(
        """
        import warnings
        warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)

        @syncer
        async def takes_longer():
            await asyncio.sleep(0.6)
            return "its result"

        def fork():
            while not main_has_ended():
                time.sleep(0.001)
            try:
                child = os.fork()
            except RuntimeError as error:
                say(error)
                return
            if child:
                say(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
                return
            in_thread(lambda: say(takes_longer()), daemon=False).join()
            os._exit(7)

        in_thread(fork, daemon=False)
    """,
        exit_timeout=0.4,
    )
    code, out, err = running.end()
    assert (code, err) == (0, "")
    # Some versions of Python let nobody fork any more.
    assert out in ("its result\n7\n", "can't fork at interpreter shutdown\n")


def test_only_threads_that_python_waits_for_have_a_limit(dev_program):
    """A daemon thread keeps nobody waiting while another thread goes on, and the main thread runs what is at exit."""
    running = dev_program(
        """
        @syncer
        async def takes_longer(what):
            while not main_has_ended():
                await asyncio.sleep(0.001)
            await asyncio.sleep(0.6)
            return what

        in_daemon = in_thread(lambda: say(takes_longer("a daemon")))
        in_thread(in_daemon.join, daemon=False)
        atexit.register(lambda: say(takes_longer("at exit")))
    """,
        exit_timeout=0.4,
        first="""
        import atexit
        atexit.register(lambda: say(takes_longer("at exit, later")))
    """,
    )
    assert running.end() == (0, "a daemon\nat exit\nat exit, later\n", "")


CALLS = """
    async def one(number):
        await asyncio.sleep(0.001)
        return number

    async def read(number):
        for each in range(number):
            await asyncio.sleep(0.0001)
            yield each

    @asynccontextmanager
    async def open_it(number):
        await asyncio.sleep(0.001)
        try:
            yield number
        finally:
            await asyncio.sleep(0.001)
            left.append(number)

    left = []

    async def work(number):
        return await asyncio.to_thread(lambda: number)

    async def with_task(number):
        return await asyncio.create_task(one(number))

    def check(syncer, number):
        '''All kinds of blocking calls work.'''
        class Connection(SyncContextManager, syncer=syncer):
            async def __aenter__(self):
                await asyncio.sleep(0.001)
                return number

            async def __aexit__(self, *exc_info):
                await asyncio.sleep(0.001)
                left.append(-number)

        assert syncer(one)(number) == number
        assert syncer.run(one(number)) == number
        assert list(syncer(read)(5)) == list(syncer(prefetch=2)(read)(5)) == [0, 1, 2, 3, 4]
        with syncer(open_it)(number) as entered:
            assert entered == number
        assert left.pop() == number
        with Connection() as entered:
            assert entered == number
        assert left.pop() == -number
        assert syncer(work)(number) == syncer(with_task)(number) == number
        try:
            syncer(open_it)(number, "too much").__enter__()
        except TypeError:
            pass
        else:
            assert False
        return "works"
"""


def test_calls_of_a_thread_that_goes_on_after_the_main_thread_all_work(program):
    """For longer than the exit may take, as none of them keeps the program from ending."""
    running = program(
        CALLS
        + """
    def go_on():
        check(syncer, 0)
        threading.main_thread().join()
        ends = time.monotonic() + 2.5
        number = 1
        while time.monotonic() < ends:
            check(syncer, number)
            number += 1
            time.sleep(0.05)
        say("all of them")
        sys.exit(7)  # of a thread, which does not count

    in_thread(go_on, daemon=False)
    """,
        exit_timeout=2,
    )
    assert running.end() == (0, "all of them\n", "")


def test_the_first_call_of_all_may_come_after_the_end_of_the_main_thread(program):
    running = program(
        CALLS
        + """
    def begin():
        threading.main_thread().join()
        for number in range(1, 4):
            check(syncer, number)
        say("all of them")

    in_thread(begin, daemon=False)
    """
    )
    assert running.end() == (0, "all of them\n", "")


def test_first_calls_of_many_threads_after_the_end_of_the_main_thread_share_the_loop(program):
    running = program("""
        @syncer
        async def one(number):
            await asyncio.sleep(0.001)
            return number

        @syncer
        async def read():
            for number in range(20):
                await asyncio.sleep(0.0001)
                yield number

        def begin():
            threading.main_thread().join()
            assert [one(number) for number in range(20)] == list(read()) == list(range(20))
            say("all of them")

        for _ in range(5):
            in_thread(begin, daemon=False)
    """)
    assert running.end() == (0, "all of them\n" * 5, "")


BLOCKED = """
    async def wait():
        try:
            await forever()
        finally:
            await asyncio.sleep(0.001)
            say("coroutine")

    async def read():
        yield await wait()

    @asynccontextmanager
    async def open_it():
        yield await wait()

    call, rows, manager = map(syncer, (wait, read, open_it))

    def target(block):
        try:
            block()
            say("this is not to be reached")
        finally:
            say("thread")

    BLOCKS = [call, lambda: next(rows()), lambda: manager().__enter__(), lambda: syncer.run(wait())]
"""


def test_a_thread_that_is_blocked_for_ever_is_ended_and_runs_its_finally(program):
    running = program(
        BLOCKED
        + """
    for block in BLOCKS:
        in_thread(target, block, daemon=False)
    wait_until_begun(4)
    sys.exit(3)
    """,
        exit_timeout=4,
    )
    code, out, err = running.end()
    assert (code, err) == (3, "")
    assert sorted(out.splitlines()) == ["coroutine"] * 4 + ["thread"] * 4


def test_so_is_a_thread_of_a_pool(dev_program):
    running = dev_program(
        "    from concurrent.futures import ThreadPoolExecutor\n"
        + BLOCKED
        + """
    pool = ThreadPoolExecutor(4)
    for block in BLOCKS:
        pool.submit(target, block)
    wait_until_begun(4)
    """,
        exit_timeout=4,
    )
    code, out, err = running.end()
    assert (code, err) == (0, "")
    assert sorted(out.splitlines()) == ["coroutine"] * 4 + ["thread"] * 4


def test_so_is_a_thread_whose_first_call_comes_after_the_end_of_the_main_thread(program):
    running = program(
        BLOCKED
        + """
    def late(block):
        threading.main_thread().join()
        target(block)

    for block in BLOCKS:
        in_thread(late, block, daemon=False)
    """,
        exit_timeout=4,
    )
    code, out, err = running.end()
    assert (code, err) == (0, "")
    assert sorted(out.splitlines()) == ["coroutine"] * 4 + ["thread"] * 4


def test_so_is_a_thread_on_a_blocked_loop_and_one_whose_call_ignores_its_cancellation(dev_program):
    running = dev_program(
        """
        other = make_syncer("other", stuck_after=None)

        @syncer
        async def ignores():
            begun.release()
            while True:
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    pass

        @other
        async def blocks():
            begun.release()
            time.sleep(3600)

        @other
        async def waits_for_its_turn():
            pass

        def target(call):
            try:
                call()
            finally:
                gc.collect()  # nobody but the loop refers to the coroutine now
                say("thread")

        in_thread(target, ignores, daemon=False)
        in_thread(target, blocks, daemon=False)
        wait_until_begun(2)
        in_thread(target, waits_for_its_turn, daemon=False)
    """,
        exit_timeout=1,
    )
    code, out, err = running.end()
    assert (code, out) == (0, "thread\n" * 3)
    # Who is blocked is not waited for, but the loops are.
    assert sorted(err.splitlines()) == [
        "syncify: the program has ended, and abandoned in 'other': blocks()",
        "syncify: the program has ended, and abandoned in 's': ignores()",
    ]


# Calls of atexit functions, and later.

AT_EXIT = """
import atexit

def before():
    say("before", check(used, 1), check(fresh[0], 2), check(fresh[1], 3))

atexit.register(before)
"""


def test_functions_registered_at_exit_may_call_whenever_they_were_registered(any_program):
    """Before or after the first import, on a loop that has run before or has not."""
    running = any_program(
        CALLS
        + """
    used = make_syncer("used")
    fresh = [make_syncer("fresh"), make_syncer("fresh, too")]

    @atexit.register
    def after():
        say("after", check(used, 4), check(fresh[0], 5))

    check(used, 6)
    """,
        first=AT_EXIT,
    )
    assert running.end() == (0, "after works works\nbefore works works works\n", "")


def test_an_exception_comes_out_of_a_call_at_exit_as_of_any_other(dev_program):
    running = dev_program(
        """
        @syncer
        async def fails():
            await asyncio.sleep(0.001)
            raise ValueError("its own")

        @syncer
        async def slow():
            try:
                await asyncio.sleep(1000)
            finally:
                await asyncio.sleep(0.001)
                say("cleaned")

        @atexit.register
        def after():
            try:
                fails()
            except ValueError as error:
                say(error)
            try:
                with timeout(0.01):
                    slow()
            except TimeoutError:
                say("too slow")
    """,
        first="""
        import atexit
        atexit.register(lambda: after())
    """,
    )
    assert running.end() == (0, "its own\ncleaned\ntoo slow\n" * 2, "")


LEAVES = (
    OPEN
    + """
    def leave(name, with_task=True):
        global left
        left = [rows(name), prefetched(name), returns(name)]
        for each in left:
            next(each)
        left += [manager(name), Connection(name)]
        for each in left[3:]:
            each.__enter__()
        left.append(left)

        async def task():
            try:
                await forever()
            finally:
                await asyncio.sleep(0.001)
                say(name, "task")

        async def start():
            left.append(asyncio.create_task(task()))
            await asyncio.sleep(0)

        if with_task:
            syncer.run(start())
"""
)
LEFT = ["cleaned"] * 3 + ["entered"] * 2 + ["left"] * 2 + ["task"]


@pytest.mark.parametrize("has_run", [True, False])
def test_what_a_function_at_exit_leaves_open_is_closed(dev_program, has_run):
    running = dev_program(
        LEAVES
        + f"""
    if {has_run}:
        syncer.run(asyncio.sleep(0))
    atexit.register(leave, "open")
    """
    )
    code, out, err = running.end()
    assert (code, err) == (0, "")
    assert sorted(out.splitlines()) == [f"open {what}" for what in LEFT]


@pytest.mark.parametrize("has_run", [True, False])
def test_what_is_left_open_after_the_last_moment_ends_in_silence(program, has_run):
    """By a function that was registered before the first import, and so is called when all loops have ended."""
    running = program(
        LEAVES
        + f"""
    if {has_run}:
        syncer.run(asyncio.sleep(0))
    """,
        first="""
        import atexit
        atexit.register(lambda: leave("open", with_task=False))  # nobody runs its cleanup
    """,
    )
    code, out, err = running.end()
    assert (code, err) == (0, "")
    assert set(out.splitlines()) <= {f"open {what}" for what in LEFT}


@pytest.mark.parametrize("has_run", [True, False])
def test_finalizers_of_what_modules_hold_may_call(program, tmp_path, has_run):
    (tmp_path / "sdk.py").write_text(
        textwrap.dedent("""
            import asyncio, os
            from syncify import syncify

            class Client:
                @syncify
                async def close(self):
                    await asyncio.sleep(0.001)
                    return "closed"

                def __del__(self, write=os.write):
                    write(1, self.close().encode() + b"\\n")

            client = Client()
        """)
    )
    running = program(
        CALLS
        + f"""
    sys.path.insert(0, {str(tmp_path)!r})
    import sdk

    class Final:
        def __del__(self, say=say, check=check, syncer=syncer):
            say("final", check(syncer, 1))

    final, _final = Final(), Final()
    in_cycle = [Final()]
    in_cycle.append(in_cycle)
    if {has_run}:
        check(syncer, 2)
        sdk.client.close()
    """
    )
    code, out, err = running.end()
    assert (code, err) == (0, "")
    assert sorted(out.splitlines()) == ["closed", *["final works"] * 3]


# When there is nothing to do.


def test_what_was_never_started_is_not_started_at_the_end(dev_program):
    running = dev_program("""
        def make():
            say("made")
            return make_loop()

        unused = Syncify("unused", loop_factory=make)

        @unused
        async def f():
            pass

        @unused
        async def rows():
            yield

        generator = rows()
        with unused:
            pass
        unused = Syncify("unused, too", loop_factory=make)
        say(unused, threading.active_count())
    """)
    assert running.end() == (0, "<Syncify 'unused, too', not started> 1\n", "")


def test_a_closed_syncer_ends_in_silence(program):
    running = program(
        OPEN
        + """
    @syncer
    async def call():
        try:
            await forever()
        finally:
            await asyncio.sleep(0.001)
            say("call cleaned")

    generator = rows("plain")
    next(generator)
    ahead = prefetched("prefetched")
    next(ahead)
    connection = Connection("connection")
    connection.__enter__()

    def blocked():
        try:
            call()
        except ClosedError:
            begun.release()

    in_thread(blocked)
    future = call.submit()
    wait_until_begun(2)
    syncer.close()
    wait_until_begun()

    @atexit.register
    def later():
        for f in call, call.submit, lambda: next(rows("late")):
            try:
                f()
            except ClosedError as error:
                say(error)

    say("end")
    """
    )
    code, out, err = running.end()
    assert (code, err) == (0, "")
    before, after = out.split("end\n")
    assert sorted(before.splitlines()) == [
        "call cleaned",
        "call cleaned",
        "connection entered",
        "connection left",
        "plain cleaned",
        "prefetched cleaned",
    ]
    assert after == "The syncer 's' is closed.\n" * 3


def test_what_a_closed_syncer_has_abandoned_ends_in_silence(dev_program):
    running = dev_program(
        """
        async def ignores():
            while True:
                try:
                    await forever()
                except asyncio.CancelledError:
                    pass

        f = syncer(ignores)
        futures = [f.submit()]
        wait_until_begun()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            syncer.close(0)  # abandons it, and says so now
        try:
            futures[0].result()
        except ClosedError:
            say("closed")
        gc.collect()  # nobody but the loop refers to it now
    """
    )
    assert running.end() == (0, "closed\n", "")


# Children.

FORK = (
    OPEN
    + """
    async def wait(name):
        try:
            await forever()
        finally:
            await asyncio.sleep(0.001)
            say(name, "call")

    call = syncer(wait)

    @syncer
    async def one():
        await asyncio.sleep(0)
        return 1

    async def task(name):
        try:
            await forever()
        finally:
            say(name, "task")

    tasks = []

    async def start(name):
        tasks.append(asyncio.create_task(task(name)))

    opened = []

    def leave_open(name):
        opened[:0] = rows(name), prefetched(name)
        for each in opened[:2]:
            next(each)
        in_thread(call, name)
        call.submit(name)
        syncer.run(start(name))
        wait_until_begun(3)

    # A child that hangs would keep the pipes open, and then the test would hang as well.
    os.register_at_fork(after_in_child=lambda: signal.alarm(40))

    def wait_for(pid):
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
"""
)
FORK_OPTIONS = ("-W", "ignore::DeprecationWarning")  # Python's own, of forks beside threads
LEFT_IN_PROCESS = ["call"] * 2 + ["cleaned"] * 2 + ["task"]


@posix
def test_a_child_exits_cleanly_with_something_pending_and_leaves_alone_what_the_parent_has(any_program):
    running = any_program(
        FORK
        + """
    leave_open("parent")
    pid = os.fork()
    if not pid:
        assert one() == 1
        leave_open("child")
        sys.exit(4)
    say("child has ended with", wait_for(pid))
    say(*map(next, opened), one())
    """,
        *FORK_OPTIONS,
    )
    code, out, err = running.end()
    assert (code, err) == (0, "")
    in_child, in_parent = out.split("child has ended with 4\n")
    assert sorted(in_child.splitlines()) == [f"child {what}" for what in LEFT_IN_PROCESS]
    first, *rest = in_parent.splitlines()
    assert first == "1 1 1"
    assert sorted(rest) == [f"parent {what}" for what in LEFT_IN_PROCESS]


@posix
def test_a_child_that_makes_no_call_exits_cleanly(dev_program):
    running = dev_program(
        FORK
        + """
    leave_open("parent")
    for end in lambda: None, lambda: sys.exit(0), lambda: sys.exit(5):
        pid = os.fork()
        if not pid:
            end()
            sys.exit(6)
        say("child has ended with", wait_for(pid))
    """,
        *FORK_OPTIONS,
    )
    code, out, err = running.end()
    assert (code, err) == (0, "")
    *ends, rest = out.split("\n", 3)
    assert ends == ["child has ended with 6", "child has ended with 0", "child has ended with 5"]
    assert sorted(rest.splitlines()) == [f"parent {what}" for what in LEFT_IN_PROCESS]


@posix
def test_a_child_may_drop_what_the_parent_has(dev_program):
    """Which does not run there: not even the cleanup, which would close what the parent uses."""
    running = dev_program(
        FORK
        + """
    leave_open("parent")
    pid = os.fork()
    if not pid:
        opened.clear()
        tasks.clear()
        gc.collect()
        sys.exit(4)
    say("child has ended with", wait_for(pid))
    """,
        *FORK_OPTIONS,
    )
    code, out, err = running.end()
    assert (code, err) == (0, "")
    first, *rest = out.splitlines()
    assert first == "child has ended with 4"
    assert sorted(rest) == [f"parent {what}" for what in LEFT_IN_PROCESS]


@posix
def test_a_child_names_what_it_abandons_and_not_what_the_parent_has(dev_program):
    running = dev_program(
        FORK
        + """
    leave_open("parent")
    pid = os.fork()
    if not pid:
        @syncer
        async def blocks():
            begun.release()
            time.sleep(3600)

        blocks.submit()
        wait_until_begun()
        syncer._background.exit_timeout = 0.5
        sys.exit(4)
    say("child has ended with", wait_for(pid))
    """,
        *FORK_OPTIONS,
    )
    code, out, err = running.end()
    assert (code, err) == (0, "syncify: the program has ended, and abandoned in 's': blocks()\n")
    first, *rest = out.splitlines()
    assert first == "child has ended with 4"
    assert sorted(rest) == [f"parent {what}" for what in LEFT_IN_PROCESS]


@posix
def test_a_child_of_multiprocessing_exits_cleanly(dev_program):
    running = dev_program(
        FORK
        + """
    def child(code):
        assert one() == 1
        leave_open("child")
        sys.exit(code)

    leave_open("parent")
    context = multiprocessing.get_context("fork")
    for code in 0, 5:
        process = context.Process(target=child, args=(code,))
        process.start()
        process.join()
        say("child has ended with", process.exitcode)
    process.close()
    with context.Pool(2) as pool:
        say(pool.apply(one))
        pool.close()
        pool.join()
    """,
        *FORK_OPTIONS,
    )
    code, out, err = running.end()
    assert (code, err) == (0, "")
    # Its functions registered at exit are called by some versions of Python only.
    lines = [line for line in out.splitlines() if line not in {f"child {what}" for what in LEFT_IN_PROCESS}]
    assert lines[:3] == ["child has ended with 0", "child has ended with 5", "1"]
    assert sorted(lines[3:]) == [f"parent {what}" for what in LEFT_IN_PROCESS]


def test_a_spawned_child_exits_cleanly(dev_program, tmp_path):
    (tmp_path / "spawned.py").write_text(
        textwrap.dedent("""
            import asyncio, sys, threading
            from syncify import syncify

            begun = threading.Event()

            @syncify
            async def forever():
                begun.set()
                await asyncio.Event().wait()

            @syncify
            async def rows():
                yield 1
                yield 2

            def child():
                global generator
                generator = rows()
                next(generator)
                threading.Thread(target=forever, daemon=True).start()
                begun.wait()
                sys.exit(5)
        """)
    )
    running = dev_program(f"""
        sys.path.insert(0, {str(tmp_path)!r})
        import spawned

        process = multiprocessing.get_context("spawn").Process(target=spawned.child)
        process.start()
        process.join()
        say(process.exitcode)
    """)
    assert running.end() == (0, "5\n", "")


def test_callbacks_of_submitted_calls_that_take_their_time_do_not_keep_the_process(program):
    running = program(
        """
        futures = [syncer(forever).submit() for _ in range(3)]
        wait_until_begun(3)
        for future in futures:
            future.add_done_callback(lambda future: time.sleep(3600))
        """,
        exit_timeout=0.5,
    )
    code, out, err = running.end()
    assert (code, out) == (0, "")
    assert err.startswith("syncify: the program has ended, and abandoned in 's': ") and err.count("\n") == 1


def test_a_call_after_its_loop_was_abandoned_is_told_that_it_is_closed(program):
    running = program(
        """
        @syncer
        async def ignores():
            begun.release()
            while True:
                try:
                    await asyncio.sleep(3600)
                except asyncio.CancelledError:
                    pass

        ignores.submit()
        wait_until_begun()
        """,
        first="""
        import atexit

        def call():
            try:
                syncer.run(forever())
            except ClosedError:
                say("told")

        atexit.register(call)
        """,
        exit_timeout=0.5,
    )
    code, out, err = running.end()
    assert (code, out) == (0, "told\n")
    assert "abandoned in 's': " in err and err.count("\n") == 1
