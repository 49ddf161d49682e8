"""What becomes of a forked child, and of its parent: real forks, in programs of their own."""

import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor

import pytest
from conftest import WITHOUT_DEBUG

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")

PRELUDE = """
import asyncio, concurrent.futures, faulthandler, gc, multiprocessing, os, signal, sys, threading, time, traceback
from contextlib import asynccontextmanager
from syncify import ClosedError, Syncify, timeout

if {uvloop}:
    import uvloop
    new_event_loop = uvloop.new_event_loop
else:
    new_event_loop = asyncio.new_event_loop
syncer = Syncify("s", loop_factory=new_event_loop)
parent = os.getpid()
faulthandler.register(signal.SIGALRM, all_threads=True, chain=True)  # tells where a child hangs, and ends it

@syncer
async def pid():
    await asyncio.sleep(0)
    return os.getpid()

@syncer
async def double(x):
    await asyncio.sleep(0)
    return 2 * x

def works():
    return pid() == os.getpid()

def fork(work=works):
    # Do the work in a child that ends with 0 if that was fine, and return the child's id.
    child = os.fork()
    if not child:
        signal.alarm(20)  # rather than hang
        try:
            os._exit(0 if work() else 1)
        except BaseException:
            traceback.print_exc()
        os._exit(2)
    return child

def exit_code(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

def raises(function, *args, error=RuntimeError):
    try:
        print("gave", repr(function(*args)))
    except error as raised:
        return type(raised) is error
    return False
"""

# Python's own warning about forking with threads.
QUIET = "-Wignore::DeprecationWarning"


@pytest.fixture(params=["asyncio", "uvloop"])
def program(request, script):
    """Starts a program whose background loop is of either kind."""
    if request.param == "uvloop":
        pytest.importorskip("uvloop")
    prelude = PRELUDE.format(uvloop=request.param == "uvloop")
    return lambda code, **kwargs: script(prelude + textwrap.dedent(code), QUIET, **kwargs)


@pytest.fixture
def asyncio_program(script):
    """The same where the kind of loop makes no difference."""
    return lambda code, **kwargs: script(PRELUDE.format(uvloop=False) + textwrap.dedent(code), QUIET, **kwargs)


# The first call in the child, wherever the fork happens.


def test_each_worker_of_a_forked_pool_has_a_loop_of_its_own_and_the_parent_goes_on(program):
    running = program("""
    context = multiprocessing.get_context("fork")
    go = threading.Event()

    @syncer
    async def held():
        await asyncio.to_thread(go.wait)
        return os.getpid()

    def call(x):
        return pid(), id(syncer.get_loop()) != parents, double(x), double.submit(x).result()

    pending = [held.submit(), held.submit()]
    caller = threading.Thread(target=lambda: print("blocked", held() == parent))
    caller.start()
    parents = id(syncer.get_loop())
    for _ in range(2):  # the second time workers are forked from a parent that has had a pool
        with context.Pool(3) as pool:
            pooled = pool.map(call, range(30), chunksize=1)
            pool.close()
            pool.join()
        with concurrent.futures.ProcessPoolExecutor(3, context) as executor:
            executed = list(executor.map(call, range(30)))
        for results in pooled, executed:
            assert [result[1:] for result in results] == [(True, 2 * x, 2 * x) for x in range(30)]
            assert parent not in [result[0] for result in results]
    assert not any(future.done() for future in pending) and works()
    go.set()
    caller.join()
    print([future.result() == parent for future in pending])
    """)
    assert running.end() == (0, "blocked True\n[True, True]\n", "")


PLACES = """
@syncer
async def coroutine():
    await asyncio.sleep(0)
    report(fork())

@syncer
async def eager_coroutine():
    report(fork())

@syncer
async def generator():
    report(fork())
    yield

@syncer
@asynccontextmanager
async def context_manager():
    report(fork())
    yield

@syncer
async def executor():
    report(await asyncio.to_thread(fork))

@syncer
async def process():
    made = multiprocessing.get_context("fork").Process(target=lambda: sys.exit(0 if works() else 1))
    made.start()
    made.join()
    codes.put(made.exitcode)

async def on_another_loop():
    awaited = asyncio.ensure_future(pid.aio())
    await asyncio.sleep(0)
    report(fork())
    assert await awaited == parent

def loop_factory():
    report(fork())
    return new_event_loop()

def thread():
    started = threading.Thread(target=lambda: report(fork()))
    started.start()

def callback_of_the_loop():
    syncer.get_loop().call_soon_threadsafe(lambda: report(fork()))

def callback_of_a_future():
    double.submit(1).add_done_callback(lambda future: report(fork()))

def finalizer():
    class Finalized:
        def __del__(self):
            report(fork())
    Finalized()

places = [
    coroutine, eager_coroutine, lambda: next(generator()), lambda: context_manager().__enter__(), executor, process,
    lambda: asyncio.run(on_another_loop()), Syncify("another", loop_factory=loop_factory).get_loop, thread,
    callback_of_the_loop, callback_of_a_future, finalizer,
]
"""


def test_the_first_call_of_a_child_works_wherever_it_was_forked(asyncio_program):
    running = asyncio_program(f"""
    import queue

    codes = queue.SimpleQueue()

    def report(child):
        codes.put(exit_code(child))

    {textwrap.indent(PLACES, " " * 4).strip()}

    assert works()
    pending = syncer(asyncio.sleep).submit(1000)
    for place in places:
        place()
        assert codes.get() == 0, place
        assert works() and not pending.done()
    print("done")
    """)
    assert running.end() == (0, "done\n", "")


def test_a_child_forks_again(program):
    running = program("""
    def generation(number):
        mine = double.submit(number)
        loop = syncer.get_loop()
        rows = numbers()
        assert next(rows) == 0 and works() and loop not in loops
        loops.append(loop)
        if number < 5:
            child = fork(lambda: raises(next, rows) and generation(number + 1))
            assert works() and syncer.get_loop() is loop and next(rows) == 1
            return exit_code(child) == 0 and mine.result() == 2 * number
        return True

    @syncer
    async def numbers():
        for number in range(100):
            yield number

    loops = []
    print(generation(0))
    """)
    assert running.end() == (0, "True\n", "")


# What the parent has begun.


def test_submitted_calls_of_the_parent_raise_in_the_child_and_go_on_in_the_parent(program):
    running = program("""
    from concurrent.futures import FIRST_COMPLETED, FIRST_EXCEPTION, as_completed, wait

    go, begun, called = threading.Event(), threading.Semaphore(0), []

    @syncer
    async def held():
        begun.release()
        await asyncio.to_thread(go.wait)
        return "held"

    def lost(future):
        return future.done() and not future.running() and not future.cancelled() and not future.cancel()

    def work():
        seen = []
        pending[0].add_done_callback(seen.append)
        assert seen == pending[:1]
        assert called == []  # what was to happen in the parent
        for future in pending:
            assert lost(future)
            assert raises(future.result) and raises(future.result, 0) and raises(future.result, 10)
            assert "forked" in str(future.exception()) and type(future.exception(10)) is RuntimeError
        for when in FIRST_COMPLETED, FIRST_EXCEPTION, "ALL_COMPLETED":
            done, rest = wait([*pending, double.submit(1)], return_when=when)
            assert done.issuperset(pending)
        assert {*as_completed(pending)} == {*pending}
        mine = double.submit(3)
        assert {*as_completed([*pending, mine])} == {*pending, mine} and mine.result() == 6
        async def main():
            results = await asyncio.gather(*map(asyncio.wrap_future, pending), return_exceptions=True)
            return [type(result) for result in results]
        assert asyncio.run(main()) == [RuntimeError] * 3
        return works()

    pending = [held.submit(), syncer.run.submit(held.aio()), held.submit()]
    for _ in pending:
        begun.acquire()
    for future in pending:
        future.add_done_callback(called.append)
    def wait_for_all():
        print(sorted(future.result() for future in as_completed(pending)))
    waiters = [threading.Thread(target=target) for target in
               [wait_for_all, pending[0].result, pending[1].exception, lambda: wait(pending)]]
    for waiter in waiters:
        waiter.start()
    print([exit_code(child) for child in [fork(work) for _ in range(3)]])
    assert not any(future.done() for future in pending)
    go.set()
    for waiter in waiters:
        waiter.join()
    while len(called) < 3:
        time.sleep(0.001)
    assert {*called} == {*pending}
    """)
    assert running.end() == (0, "[0, 0, 0]\n['held', 'held', 'held']\n", "")


def test_submitted_calls_that_were_done_keep_their_outcome_in_the_child(asyncio_program):
    running = asyncio_program("""
    @syncer
    async def fails():
        raise error

    def work():
        assert value.result() is outcome and value.exception() is None
        assert failed.exception() is error and raises(failed.result, error=ValueError)
        assert cancelled.cancelled() and raises(cancelled.result, error=concurrent.futures.CancelledError)
        assert len(concurrent.futures.wait([value, failed, cancelled]).done) == 3
        return works()

    outcome, error = object(), ValueError()
    value, failed = syncer.run.submit(asyncio.sleep(0, outcome)), fails.submit()
    concurrent.futures.wait([value, failed])
    cancelled = syncer.run.submit(asyncio.sleep(1000))
    cancelled.cancel()
    print(exit_code(fork(work)), exit_code(fork(work)))
    """)
    assert running.end() == (0, "0 0\n", "")


def test_a_coroutine_that_has_not_begun_is_left_in_silence_in_the_child(asyncio_program):
    running = asyncio_program("""
    @syncer
    async def keep_the_loop():
        kept.set()
        go.wait()

    def work():
        assert all(raises(future.result) for future in pending)
        gc.collect()
        return works()

    kept, go = threading.Event(), threading.Event()
    keeping = keep_the_loop.submit()
    kept.wait()
    pending = [syncer.run.submit(double.aio(3)), syncer.run.submit(asyncio.sleep(0, 6)), double.submit(3)]
    print(exit_code(fork(work)))
    go.set()
    print([future.result() for future in pending])
    """)
    assert running.end() == (0, "0\n[6, 6, 6]\n", "")


BEGUN = """
class Rows:
    def __aiter__(self):
        return self
    async def __anext__(self):
        return 1

@syncer
async def rows():
    begun_in = os.getpid()
    try:
        while True:
            yield 1
    finally:
        if os.getpid() != begun_in:
            print("ended elsewhere")

@syncer(prefetch=4)
async def ahead():
    while True:
        yield 1

@syncer
async def view():
    return Rows()

@syncer
async def view_of_generator():
    return raw_rows()

async def raw_rows():
    while True:
        yield 1

@syncer
@asynccontextmanager
async def session():
    yield 1

@syncer(context_manager=True)
def lock():
    return asyncio.Lock()
"""


def test_an_iteration_of_the_parent_raises_in_the_child_and_goes_on_in_the_parent(program):
    running = program(f"""
    {textwrap.indent(BEGUN, " " * 4).strip()}

    def raise_in_child():
        for begun, loops_over, sends, throws, closes in groups:
            assert raises(next, begun) and raises(list, loops_over)
            if hasattr(closes, "close"):
                assert raises(sends.send, None) and raises(closes.close)
            if hasattr(closes, "close") and begun is not groups[1][0]:
                assert raises(throws.throw, ValueError)
        # What has not begun belongs to no process.
        assert all(next(each) == 1 for each in fresh)
        assert all(next(kind()) == 1 for kind in kinds)
        return works()

    kinds = [rows, ahead, view, view_of_generator]
    groups = [[kind() for _ in range(5)] for kind in kinds]
    assert all(next(each) == 1 for group in groups for each in group)
    fresh = [rows(), ahead()]
    print(exit_code(fork(raise_in_child)), exit_code(fork(raise_in_child)))
    assert all(next(each) == 1 for group in groups for each in group)
    assert all(next(each) == 1 for each in fresh)
    """)
    assert running.end() == (0, "0 0\n", "")


def test_a_prefetched_item_of_the_parent_is_not_taken_by_the_child_as_well(asyncio_program):
    running = asyncio_program("""
    @syncer(prefetch=5)
    async def jobs():
        for number in range(10):
            if number == 7:
                some_are_ahead.set()
            yield number

    some_are_ahead = threading.Event()
    ahead = jobs()
    taken = [next(ahead) for _ in range(5)]
    some_are_ahead.wait()
    print(exit_code(fork(lambda: raises(next, ahead) and works())))
    print(taken + list(ahead))
    """)
    assert running.end() == (0, f"0\n{list(range(10))}\n", "")


def test_a_context_manager_of_the_parent_raises_in_the_child_and_is_left_in_the_parent(program):
    running = program(f"""
    {textwrap.indent(BEGUN, " " * 4).strip()}

    def leave():
        for each in fresh:
            with each:
                pass
        return all(raises(each.__exit__, None, None, None) for each in begun) and works()

    def fork_in_block(kind, error):
        with kind():
            child = os.fork()
            if not child:
                signal.alarm(20)
                if error is not None:
                    raise error
        return child

    kinds = [session, lock]
    begun, fresh = [kind() for kind in kinds], [kind() for kind in kinds]
    for each in begun:
        each.__enter__()
    print(exit_code(fork(leave)), exit_code(fork(leave)))
    for each in begun:
        each.__exit__(None, None, None)
    for each in fresh:
        with each:
            pass
    for kind in kinds:
        for error in None, ValueError(), SystemExit():
            try:
                child = fork_in_block(kind, error)
            except RuntimeError as raised:
                os._exit(0 if "fork" in str(raised) and works() else 1)
            except BaseException:
                traceback.print_exc()
                os._exit(2)
            if not child:
                os._exit(3)
            print(exit_code(child))
    """)
    assert running.end() == (0, "0 0\n" + "0\n" * 6, "")


# A fork in a signal handler.

INTERRUPT = """
forked, main = threading.Event(), threading.get_ident()
children, asked = [], []

def fork_in_handler(signum, frame):
    if not asked:
        return
    asked.clear()
    children.append(os.fork())
    if os.getpid() == parent:
        forked.set()
    else:
        signal.alarm(20)

signal.signal(signal.SIGUSR1, fork_in_handler)

def interrupt_main():
    # A signal to the main thread once it waits.
    while sys._current_frames()[main].f_code.co_name not in ("wait", "_wait_for_long", "_wait_until", "in_a_thread"):
        time.sleep(0.001)
    asked.append(True)
    while not forked.wait(0.05):  # a signal that comes just before a thread falls asleep does not wake it
        os.kill(parent, signal.SIGUSR1)

async def body():
    await asyncio.to_thread(interrupt_main)
    return "kept"

keep = syncer(body)

@syncer
async def keeping_rows():
    yield await body()

@syncer(prefetch=3)
async def keeping_ahead():
    yield await body()

class Keeper:
    @syncer
    async def keep(self):
        return await body()
    def __aiter__(self):
        return self
    async def __anext__(self):
        return await body()

@syncer
async def keeping():
    return Keeper()

@syncer
@asynccontextmanager
async def keeping_session():
    yield await body()

def keep_for_a_time():
    with timeout(1000):
        return keep()

def check(error):
    if error is not None:
        raise error
    return "kept"
"""


def test_what_waits_when_a_signal_handler_forks_raises_in_the_child_and_goes_on_in_the_parent(program):
    running = program(f"""
    {textwrap.indent(INTERRUPT, " " * 4).strip()}

    waits = [
        keep, Keeper().keep, lambda: syncer.run(body()), keep_for_a_time, lambda: next(keeping_rows()),
        lambda: next(keeping_ahead()), lambda: next(keeping_view), lambda: keeping_session().__enter__(),
    ]
    keeping_view = keeping()
    for number, wait in enumerate(waits):
        forked.clear()
        try:
            outcome = wait()
        except RuntimeError as error:
            os._exit(0 if os.getpid() != parent and "fork" in str(error) and works() else 1)
        if os.getpid() != parent:
            os._exit(2)
        print(number, outcome, exit_code(children[-1]))
    """)
    assert running.end() == (0, "".join(f"{number} kept 0\n" for number in range(8)), "")


def test_a_first_call_that_waits_for_the_start_when_a_signal_handler_forks_is_made_in_the_child_too(asyncio_program):
    running = asyncio_program(f"""
    {textwrap.indent(INTERRUPT, " " * 4).strip()}

    def loop_factory():
        if os.getpid() == parent:
            interrupt_main()
        return new_event_loop()

    starting = Syncify("starting", loop_factory=loop_factory)
    try:
        here = starting.run(asyncio.sleep(0, "done"))
    except RuntimeError:
        here = "refused"
    if os.getpid() != parent:
        fine = here in ("done", "refused") and starting.run(asyncio.sleep(0, 7)) == 7 and works()
        os._exit(0 if fine else 1)
    print(here, exit_code(children[0]))
    """)
    assert running.end() == (0, "done 0\n", "")


def test_who_waits_for_the_end_of_the_loop_when_a_signal_handler_forks_does_not_wait_in_the_child(program):
    running = program(f"""
    {textwrap.indent(INTERRUPT, " " * 4).strip()}

    @syncer
    async def cleans_up():
        begun.set()
        try:
            await asyncio.sleep(1000)
        finally:
            await asyncio.to_thread(interrupt_main)
            print("cleaned up")

    begun = threading.Event()
    pending = cleans_up.submit()
    begun.wait()
    try:
        syncer.close(None)
    except RuntimeError:
        pass
    if os.getpid() != parent:
        fine = raises(pid, error=ClosedError) and raises(pending.result) and raises(syncer.get_loop, error=ClosedError)
        other = Syncify("other")
        os._exit(0 if fine and other.run(asyncio.sleep(0, 7)) == 7 else 1)
    print(exit_code(children[0]), type(pending.exception()).__name__)
    """)
    assert running.end() == (0, "cleaned up\n0 ClosedError\n", "")


# A fork at any moment. The threads of the parent are stopped at each line of the library, and of the futures that it
# uses, once. So a lock, a queue or a set that any of them may leave behind in the child is left behind in some child.

AT_ANY_LINE = """
import _thread, queue, syncify
from concurrent.futures import _base
from syncify._loop import BackgroundLoop

here = os.path.dirname(syncify.__file__)
watched = tuple(os.path.join(here, name) for name in {files}) + (_base.__file__,)
main = threading.get_ident()
places, stops, moments = set(), queue.SimpleQueue(), threading.Event()

def trace(frame, event, argument):
    if not frame.f_code.co_filename.startswith(watched):
        return None
    place = frame.f_code.co_filename, frame.f_lineno
    if moments.is_set() and place not in places and threading.get_ident() {thread} main and os.getpid() == parent:
        places.add(place)
        stop(place)
    return trace

def stop(place):
    go = _thread.allocate_lock()
    go.acquire()
    stops.put((place, go))
    if not signals:
        go.acquire()
        return
    # Sent again, since one that comes just before a thread falls asleep does not wake it. And given up at some time, as
    # the main thread may wait for a lock of a future, which this thread holds, and runs no handler then.
    for _ in range(20):
        signal.pthread_kill(main, signal.SIGUSR1)
        if go.acquire(True, 0.05):
            return

def start_once(self, start, start_once=BackgroundLoop._start_once):
    sys.settrace(trace)  # the thread that it runs in is not one of `threading`
    start_once(self, start)

BackgroundLoop._start_once = start_once
threading.settrace(trace)

@syncer
async def numbers():
    try:
        yield 1
        yield 2
    finally:
        await asyncio.sleep(0)

@syncer(prefetch=2)
async def ahead():
    for number in range(6):
        yield number

@syncer
@asynccontextmanager
async def session():
    yield

@syncer
async def to_thread():
    return await asyncio.to_thread(int, "7")

@syncer
async def fails():
    raise ValueError

@syncer
async def rests():
    await asyncio.sleep(1000)

futures, syncers = [], [syncer]

def submit(function, *args):
    futures.append(function.submit(*args))
    return futures[-1]

def submit_two():
    futures.extend([double.submit(1), double.submit(2)])
    concurrent.futures.wait(futures[-2:])

def take():
    taking = numbers()
    next(taking)
    taking.close()

def enter():
    with session():
        pass

def cancel():
    future = submit(rests)
    future.cancel()

def begin_and_close():
    # The whole life of another loop, with something in flight at its end.
    other = Syncify("other", loop_factory=new_event_loop)
    syncers[1:] = [other]
    kept = other(asyncio.sleep).submit(1000)
    futures.append(kept)
    other.run(asyncio.to_thread(int))
    other.close()
    syncers.pop()
    kept.exception()

STEPS = [
    lambda: double(1), lambda: syncer.run(asyncio.sleep(0)), take, lambda: list(ahead()), enter, to_thread, cancel,
    lambda: submit(fails).exception(), lambda: submit(double, 3).result(), begin_and_close,
]

def check():
    # All that can be waited for in the child comes to an end.
    for future in futures:
        try:
            future.exception()
        except concurrent.futures.CancelledError:
            pass
    for each in syncers:
        try:
            assert each.run(asyncio.sleep(0, 7)) == 7
        except ClosedError:
            assert each._background.closed
    return works() and list(ahead()) == list(range(6))
"""


def at_any_line(thread, *files):
    return textwrap.indent(AT_ANY_LINE.format(thread=thread, files=files), " " * 4).strip()


def test_a_fork_while_another_thread_is_at_any_line_leaves_the_child_nothing_to_wait_for(asyncio_program):
    running = asyncio_program(
        f"""
    {at_any_line("!=", "_handoff", "_loop", "_call", "_callers", "_executor", "_shutdown", "_deadlock")}

    def make_steps():
        moments.set()
        for step in [*STEPS, submit_two, lambda: asyncio.run(double.aio(1))]:
            step()
        stops.put((None, None))

    signals = False
    thread = threading.Thread(target=make_steps)
    thread.start()
    while True:
        place, go = stops.get()
        if place is None:
            break
        code = exit_code(fork(check))
        if code:
            print(code, *place)
        go.release()
    thread.join()
    assert len(places) > 250, len(places)
    print(works())
    """,
        env=WITHOUT_DEBUG,
    )
    assert running.end() == (0, "True\n", "")


IN_HANDLER = """
def fork_here(place):
    child = os.fork()
    if not child:
        signal.alarm(20)
        if not waiting:
            leave()
        return False
    children.append((child, place))
    return True

def leave():
    try:
        os._exit(0 if check() else 1)
    except BaseException:
        traceback.print_exc()
    os._exit(2)

def wait_for_all():
    for step in STEPS:
        waiting.append(step)
        try:
            step()
        except RuntimeError:
            if os.getpid() == parent:
                raise
        waiting.clear()
        if os.getpid() != parent:
            leave()
        while children:
            child, place = children.pop()
            code = exit_code(child)
            if code:
                print(code, *place)
    moments.clear()

children, waiting = [], []
"""


def test_a_fork_in_a_signal_handler_while_the_loop_is_at_any_line_ends_the_wait_in_the_child(asyncio_program):
    running = asyncio_program(
        f"""
    {at_any_line("!=", "_handoff", "_life", "_loop", "_call", "_callers", "_executor", "_shutdown", "_conversation")}
    {textwrap.indent(IN_HANDLER, " " * 4).strip()}

    def handle(signum, frame):
        if forking:
            return  # it is sent again; what Python itself does at a fork does not allow for another one in there
        forking.append(True)
        while not stops.empty():
            place, go = stops.get()
            if not fork_here(place):
                return
            go.release()
        forking.clear()

    signals, forking = True, []
    signal.signal(signal.SIGUSR1, handle)
    works()
    moments.set()
    wait_for_all()
    assert len(places) > 200, len(places)
    print(works())
    """,
        env=WITHOUT_DEBUG,
    )
    assert running.end() == (0, "True\n", "")


def test_a_fork_in_a_signal_handler_at_any_line_of_the_caller_leaves_the_child_nothing_to_wait_for(asyncio_program):
    running = asyncio_program(
        f"""
    {at_any_line("==", "_handoff", "_life", "_loop", "_call", "_callers", "_conversation", "_generators", "_prefetch")}
    {textwrap.indent(IN_HANDLER, " " * 4).strip()}

    def stop(place):
        here[:] = [place]
        signal.raise_signal(signal.SIGUSR1)

    here = []
    signal.signal(signal.SIGUSR1, lambda signum, frame: fork_here(here[0]))
    moments.set()
    sys.settrace(trace)
    wait_for_all()
    sys.settrace(None)
    assert len(places) > 150, len(places)
    print(works())
    """,
        env=WITHOUT_DEBUG,
    )
    assert running.end() == (0, "True\n", "")


@pytest.mark.parametrize(("kind", "forks"), [("asyncio", 150), ("uvloop", 60)])
def test_hundreds_of_forks_under_load_lose_no_call(script, kind, forks):
    if kind == "uvloop":
        pytest.importorskip("uvloop")
    running = script(
        PRELUDE.format(uvloop=kind == "uvloop")
        + textwrap.dedent("""
        sys.setswitchinterval(1e-4)
        stop, failures, counts, pending = threading.Event(), [], [], {}

        def load(number):
            count = 0
            try:
                while not stop.is_set():
                    assert double(count) == 2 * count
                    pending[number] = futures = [double.submit(number), double.submit(count)]
                    assert [future.result() for future in futures] == [2 * number, 2 * count]
                    count += 1
            except BaseException as error:
                failures.append(error)
            counts.append(count)

        async def load_from_another_loop():
            count = 0
            while not stop.is_set():
                assert await asyncio.gather(*map(double.aio, range(8))) == [*range(0, 16, 2)]
                count += 1
            return count

        def work():
            for futures in list(pending.values()):
                for future in futures:
                    error = future.exception()
                    assert error is None or type(error) is RuntimeError
            return double(2) == 4 and double.submit(3).result() == 6 and asyncio.run(double.aio(4)) == 8

        threads = [threading.Thread(target=load, args=[number]) for number in range(16)]
        threads.append(threading.Thread(target=lambda: counts.append(asyncio.run(load_from_another_loop()))))
        for thread in threads:
            thread.start()
        works()
        codes = [exit_code(fork(work)) for _ in range(FORKS)]
        stop.set()
        for thread in threads:
            thread.join()
        print(set(codes), failures, len(counts), all(counts), works())
        """).replace("FORKS", str(forks)),
        QUIET,
    )
    assert running.end() == (0, "{0} [] 17 True True\n", "")


# The end of the loop.


def test_a_fork_while_the_loop_is_being_closed_leaves_the_child_a_closed_syncer(program):
    running = program("""
    go, begun, cleaning = threading.Event(), threading.Event(), threading.Event()

    @syncer
    async def cleans_up():
        begun.set()
        try:
            await asyncio.sleep(1000)
        finally:
            cleaning.set()
            await asyncio.to_thread(go.wait)

    def work():
        assert repr(syncer) == "<Syncify 's', closed>"
        assert raises(pid, error=ClosedError) and raises(pid.submit, error=ClosedError)
        assert raises(asyncio.run, pid.aio(), error=ClosedError) and raises(syncer.get_loop, error=ClosedError)
        pending.exception(), waiting.exception()
        syncer.close(None)
        return Syncify("other", loop_factory=new_event_loop).run(asyncio.sleep(0, 7)) == 7

    # While what was in flight cleans up; and at its end.
    pending, waiting = cleans_up.submit(), syncer(asyncio.sleep).submit(1000)
    begun.wait()
    closing = threading.Thread(target=syncer.close, args=[None])
    closing.start()
    cleaning.wait()
    codes = [exit_code(fork(work))]
    go.set()
    while not pending.done():
        codes.append(exit_code(fork(work)))
    closing.join()
    codes.append(exit_code(fork(work)))
    print({*codes}, *[type(each.exception()).__name__ for each in (pending, waiting)], raises(pid, error=ClosedError))
    """)
    assert running.end() == (0, "{0} ClosedError ClosedError True\n", "")


def test_forks_at_all_moments_of_a_loops_life_leave_no_child_waiting(program):
    running = program("""
    def live():
        while not stop.is_set():
            other = Syncify("other", loop_factory=new_event_loop)
            others[:] = [other]
            futures[:] = [other(asyncio.sleep).submit(1000), other.run.submit(asyncio.to_thread(int))]
            other.run(asyncio.sleep(0))
            other.close()

    def work():
        for future in list(futures):
            concurrent.futures.wait([future])
        for other in list(others):
            try:
                assert other.run(asyncio.sleep(0, 7)) == 7
            except ClosedError:
                pass
            other.close(None)
        return works()

    stop, others, futures = threading.Event(), [], []
    sys.setswitchinterval(1e-4)
    threads = [threading.Thread(target=live) for _ in range(3)]
    for thread in threads:
        thread.start()
    print({exit_code(fork(work)) for _ in range(60)})
    stop.set()
    for thread in threads:
        thread.join()
    """)
    assert running.end() == (0, "{0}\n", "")


LEAVING = {
    "the end": "pass",
    "sys.exit": "sys.exit(0)",
    "an exception": "raise ValueError",
}


@pytest.mark.parametrize("leaving", LEAVING)
def test_the_exit_of_a_child_ends_its_own_calls_and_not_those_of_the_parent(asyncio_program, leaving):
    running = asyncio_program(f"""
    @syncer
    async def held():
        begun.release()
        try:
            await asyncio.sleep(1000)
        finally:
            await asyncio.sleep(0)
            print("ended in", "the parent" if os.getpid() == parent else "the child")

    @syncer
    async def rows():
        try:
            begun.release()
            yield 1
        finally:
            await asyncio.sleep(0)
            print("closed in", "the parent" if os.getpid() == parent else "the child")

    def begin():
        futures.append(held.submit())
        threading.Thread(target=held, daemon=True).start()
        begun_rows.append(rows())
        next(begun_rows[-1])
        for _ in range(3):
            begun.acquire()

    begun, futures, begun_rows = threading.Semaphore(0), [], []
    sys.excepthook = lambda *error: print(error[0].__name__)
    begin()
    child = os.fork()
    if child:
        print("exit code", exit_code(child), futures[0].done(), works())
    else:
        signal.alarm(20)
        begin()
        {LEAVING[leaving]}
    """)
    code, out, err = running.end()
    assert (code, err) == (0, "")
    lines = out.splitlines()
    raised = leaving == "an exception"
    middle = lines.index(f"exit code {int(raised)} False True")
    assert sorted(lines[:middle]) == ["ValueError"] * raised + ["closed in the child"] + ["ended in the child"] * 2
    assert sorted(lines[middle + 1 :]) == ["closed in the parent"] + ["ended in the parent"] * 2


# What the two share: the selector and the sockets of the parent's loop.

# The sockets are made by hand. To look up an address libuv starts threads, for which a forked child waits as it exits.
# It crashes then, with uvloop alone as well.
ECHO = """
import socket

listening = socket.create_server(("127.0.0.1", 0))
address = listening.getsockname()

class Echo(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport
    def data_received(self, data):
        self.transport.write(data)

async def ask(streams, word):
    reader, writer = streams
    writer.write(word + b"\\n")
    await writer.drain()
    return await reader.readline() == word + b"\\n"

@syncer
async def serve():
    return await asyncio.get_running_loop().create_server(Echo, sock=listening)

@syncer
async def keep_asking():
    # Its streams belong to the loop alone.
    streams = await asyncio.open_connection(sock=socket.create_connection(address))
    while True:
        word, answered = await questions.get()
        answered.set_result(await ask(streams, word))

def answers():
    answered = concurrent.futures.Future()
    syncer.get_loop().call_soon_threadsafe(questions.put_nowait, (b"word", answered))
    return answered.result(10)

@syncer
async def ask_once():
    streams = await asyncio.open_connection(sock=socket.create_connection(address))
    answered = await ask(streams, b"once")
    streams[1].close()
    await streams[1].wait_closed()
    return answered

def registered():
    # What the selectors of the parent wait for.
    found = {}
    for number in os.listdir(f"/proc/{parent}/fd"):
        try:
            if "eventpoll" in os.readlink(f"/proc/{parent}/fd/{number}"):
                with open(f"/proc/{parent}/fdinfo/{number}") as info:
                    found[number] = sorted(line for line in info if line.startswith("tfd"))
        except FileNotFoundError:
            pass  # that of the directory
    return found

questions = asyncio.Queue()
server = serve()
asking = keep_asking.submit()
assert answers()
"""

USES = {
    "nothing": "pass",
    "calls": "assert works() and ask_once()",
    "garbage": "gc.collect(); gc.collect()",
    "calls and garbage": "assert works() and ask_once(); del asking; gc.collect(); assert works()",
    "close": "assert works(); syncer.close()",
    "close at once": "syncer.close()",
    "drops it all": """if True:
        syncer.run(asyncio.sleep(0))
        for name in list(globals()):
            if name[0] != "_" and name not in ("gc", "sys", "os", "signal", "end"):
                del globals()[name]
        gc.collect()
        """,
}

ENDS = {
    "os._exit": "os._exit(0)",
    "sys.exit": "sys.exit(0)",
    "the end": "pass",
    "an exception": "raise ValueError",
    "a signal": "os.kill(os.getpid(), signal.SIGKILL)",
}


@pytest.mark.skipif(not os.path.exists("/proc/self/fdinfo"), reason="looks at what an epoll object has registered")
def test_nothing_that_a_child_does_and_no_way_to_end_it_changes_the_parents_selector(program):
    running = program(
        f"""
    {textwrap.indent(ECHO, " " * 4).strip()}

    sys.excepthook = lambda *error: None if error[0] is ValueError else traceback.print_exception(*error)
    before = registered()
    assert sum(map(len, before.values())) >= 4  # the server, both sides of a connection, and what wakes the loop
    child = 1
    for use, end in {[(use, end) for use in USES.values() for end in ENDS.values()]}:
        child = os.fork()
        if not child:
            break
        print(exit_code(child))
        assert answers() and ask_once() and answers()
        until = time.monotonic() + 10
        while registered() != before and time.monotonic() < until:
            time.sleep(0.001)  # until the server has closed what its clients have closed
        assert registered() == before, (use, end, before, registered())
    if not child:
        signal.alarm(20)
        exec(use)
        exec(end)
    """,
        env=WITHOUT_DEBUG,
    )
    assert running.end() == (0, "0\n0\n0\n1\n-9\n" * len(USES), "")


@pytest.mark.parametrize("end", ["os._exit", "the end"])
def test_connections_that_a_child_drops_go_on_in_the_parent(program, end):
    running = program(
        f"""
    {textwrap.indent(ECHO, " " * 4).strip()}

    @syncer
    async def connect():
        return await asyncio.open_connection(sock=socket.create_connection(address))

    ask = syncer(ask)
    streams = [connect() for _ in range(3)]
    child = os.fork()
    if child:
        print(exit_code(child), [ask(each, b"word") for each in streams])
    else:
        signal.alarm(20)
        del streams[0]
        gc.collect()
        assert works()
        streams.pop()
        {ENDS[end]}
    """,
        env=WITHOUT_DEBUG,
    )
    assert running.end() == (0, "0 [True, True, True]\n", "")


def test_children_come_and_go_while_the_parent_talks(program):
    running = program(
        f"""
    {textwrap.indent(ECHO, " " * 4).strip()}

    def talk():
        while not stop.is_set():
            said.append(answers() and ask_once())

    stop, said = threading.Event(), []
    talking = threading.Thread(target=talk)
    talking.start()
    ends = [lambda: sys.exit(0), lambda: os._exit(0), lambda: os.kill(os.getpid(), signal.SIGKILL)]
    children = []
    for number in range(30):
        children.append(os.fork())
        if not children[-1]:
            signal.alarm(20)
            break
        if len(children) == 3:  # that many live at a time
            exit_code(children.pop(0))
    if children[-1]:
        for child in children:
            exit_code(child)
        stop.set()
        talking.join()
        print(all(said), len(said) > 0)
    else:
        assert works() and ask_once()
        gc.collect()
        ends[number % 3]()
    """,
        env=WITHOUT_DEBUG,
    )
    assert running.end() == (0, "True True\n", "")


# A server that forks its workers from a master in which the loop runs already.

APPLICATION = """
import asyncio, multiprocessing, os
from syncify import syncify

@syncify
async def pid():
    await asyncio.sleep(0.001)
    return os.getpid()

@syncify
async def held():
    os.write(begun, b".")
    await asyncio.to_thread(os.read, release, 1)
    return "held"

master = pid()
assert master == os.getpid()
of_master = syncify(asyncio.sleep).submit(1000)
meeting = multiprocessing.get_context("fork").Barrier(3)
begun, release = map(int, os.environ["PIPES"].split())

def application(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/meet":
        meeting.wait(30)  # until a request has come to each worker
        answer = f"{pid() == os.getpid() != master} {type(of_master.exception()).__name__} {os.getpid()}"
    elif path == "/held":
        answer = held()
    else:
        answer = str(pid() == os.getpid())
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [answer.encode()]
"""


@pytest.mark.parametrize("worker", ["sync", "gthread"])
def test_a_prefork_server_whose_master_has_a_loop(tmp_path, worker):
    pytest.importorskip("gunicorn")
    (tmp_path / "served.py").write_text(APPLICATION)
    begun, report = os.pipe()
    release_end, release = os.pipe()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = listening.getsockname()
        command = ["gunicorn", "served:application", "--preload", "--workers=3", f"--worker-class={worker}"]
        command += ["--threads=3"] * (worker == "gthread")
        options = [f"--bind=fd://{listening.fileno()}", "--log-level=warning", "--graceful-timeout=30"]
        server = subprocess.Popen(
            [sys.executable, QUIET, "-m", *command, *options],
            cwd=tmp_path,
            env=WITHOUT_DEBUG | {"PIPES": f"{report} {release_end}"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            pass_fds=[listening.fileno(), report, release_end],
        )

    def get(path):
        connection = http.client.HTTPConnection(*address, timeout=40)
        connection.request("GET", path)
        response = connection.getresponse()
        body = response.read().decode()
        connection.close()
        return body if response.status == 200 else f"{response.status} {body}"

    try:
        with ThreadPoolExecutor(4) as pool:
            met = [answer.rsplit(" ", 1) for answer in pool.map(get, ["/meet"] * 3)]
            assert [answer for answer, _ in met] == ["True RuntimeError"] * 3
            assert worker != "sync" or len({process for _, process in met}) == 3
            assert list(pool.map(get, ["/"] * 40)) == ["True"] * 40
            in_flight = pool.submit(get, "/held")
            os.read(begun, 1)
            server.send_signal(signal.SIGTERM)
            os.write(release, b".")
            assert in_flight.result() == "held"
        out, err = server.communicate(timeout=40)
    finally:
        server.kill()
        server.communicate()
        for end in begun, report, release_end, release:
            os.close(end)
    assert server.returncode == 0
    assert out == ""
    assert not re.search("(?i)syncify|traceback|warning|error", err), err


def test_items_that_were_fetched_ahead_are_taken_by_the_parent_also_when_their_producer_has_ended(program):
    running = program("""
    @syncer(prefetch=10)
    async def numbers():
        for number in range(4):
            yield number

    taking = numbers()
    assert next(taking) == 0
    works()  # by now the producer has ended
    works()
    child = fork(lambda: raises(next, taking) and raises(next, taking, error=StopIteration) and works())
    print(exit_code(child), list(taking))
    """)
    assert running.end() == (0, "0 [1, 2, 3]\n", "")


def test_a_generator_that_another_thread_was_stepping_raises_in_the_child(program):
    running = program("""
    stepped, go = threading.Event(), threading.Event()

    @syncer
    async def numbers():
        yield 0
        stepped.set()
        await asyncio.to_thread(go.wait)
        yield 1

    taking = numbers()
    next(taking)
    thread = threading.Thread(target=lambda: print(next(taking)))
    thread.start()
    stepped.wait()
    child = fork(lambda: raises(next, taking) and works())
    print(exit_code(child))
    go.set()
    thread.join()
    """)
    assert running.end() == (0, "0\n1\n", "")


def test_a_function_after_the_fork_that_was_registered_before_the_import_cannot_make_calls(script):
    running = script(
        """
        import os, signal

        def after():
            signal.alarm(20)
            try:
                hooked.append(pid())
            except RuntimeError as error:
                hooked.append("fork" in str(error))

        os.register_at_fork(after_in_child=after)
        hooked = []
        from syncify import syncify

        @syncify
        async def pid():
            return os.getpid()

        pid()
        child = os.fork()
        if not child:
            os._exit(0 if hooked == [True] and pid() == os.getpid() else 1)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), pid() == os.getpid())
        """,
        QUIET,
    )
    assert running.end() == (0, "0 True\n", "")
