"""`with timeout(seconds):` bounds all that blocks in it, and what it has cut off cleans up."""

import asyncio
import contextlib
import contextvars
import gc
import itertools
import math
import random
import signal
import sys
import textwrap
import threading
import time
from collections.abc import AsyncIterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from decimal import Decimal

import pytest
from conftest import LOOP_FACTORIES
from test_interrupt import PRELUDE, STRUCK

from syncify import SyncContextManager, Syncify, timeout


@pytest.fixture(scope="module", params=LOOP_FACTORIES)
def syncer(request):
    """One that no other test has left anything in."""
    return Syncify(f"alone-{request.param}", loop_factory=LOOP_FACTORIES[request.param])


@pytest.fixture(autouse=True)
def _nothing_is_left(request):
    """After each test nothing is in flight, and no time limit is in force."""
    yield
    if "syncer" in request.fixturenames:
        syncer = request.getfixturevalue("syncer")
        assert syncer.run(asyncio.sleep(0, "works")) == "works"
        wait_until_idle(syncer)


def wait_until_idle(syncer):
    """What was dropped is closed on its loop, and nobody else waits for that."""
    for _ in range(2000):
        if repr(syncer).endswith(", 0 calls in flight>"):
            return
        syncer.run(asyncio.sleep(0.001))
        gc.collect()  # a view is in flight for as long as there is one, and the traceback of an error may hold it
    raise AssertionError(syncer)


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


class Rows:
    """An async iterator that is no generator, so callers get a view of it."""

    def __init__(self, body):
        self.body = body

    def __aiter__(self):
        return self

    async def __anext__(self):
        return await self.body()


# All that blocks: each makes what is needed without a time limit, and returns the call that waits for `body`, an async
# function that runs on the loop.


def function(syncer, body):
    @syncer
    async def function():
        return await body()

    return function


def method(syncer, body):
    class Client:
        @syncer
        async def get(self):
            return await body()

    return Client().get


def run(syncer, body):
    return lambda: syncer.run(body())


def first_step(syncer, body):
    @syncer
    async def rows():
        yield await body()

    return rows().__next__


def later_step(syncer, body):
    @syncer
    async def rows():
        yield
        yield await body()

    generator = rows()
    next(generator)
    return generator.__next__


def throw(syncer, body):
    @syncer
    async def rows():
        try:
            yield
        except ValueError:
            yield await body()

    generator = rows()
    next(generator)
    return lambda: generator.throw(ValueError)


def first_prefetched_step(syncer, body):
    @syncer(prefetch=2)
    async def rows():
        yield await body()

    return rows().__next__


def step_of_a_view(syncer, body):
    @syncer
    async def make() -> AsyncIterator:
        return Rows(body)

    return make().__next__


def enter(syncer, body):
    @syncer
    @contextlib.asynccontextmanager
    async def manager():
        yield await body()

    def call():
        with manager() as value:
            return value

    return call


def enter_of_a_mixin(syncer, body):
    class Mixed(SyncContextManager, syncer=syncer):
        async def __aenter__(self):
            return await body()

        async def __aexit__(self, *exc_info):
            pass

    return lambda: Mixed().__enter__()


def close(syncer, body):
    @syncer
    async def rows():
        try:
            yield
        finally:
            await body()

    generator = rows()
    next(generator)
    return generator.close


def close_of_a_prefetched(syncer, body):
    @syncer(prefetch=1)
    async def rows():
        try:
            while True:
                yield
        finally:
            await body()

    generator = rows()
    next(generator)
    return generator.close


def leave(syncer, body):
    @syncer
    @contextlib.asynccontextmanager
    async def manager():
        try:
            yield
        finally:
            await body()

    stack = contextlib.ExitStack()
    stack.enter_context(manager())
    return stack.close


def leave_mixin(syncer, body):
    class Mixed(SyncContextManager, syncer=syncer):
        async def __aenter__(self):
            pass

        async def __aexit__(self, *exc_info):
            await body()

    stack = contextlib.ExitStack()
    stack.enter_context(Mixed())
    return stack.close


def leave_a_loop(syncer, body):
    @syncer
    async def rows():
        try:
            while True:
                yield
        finally:
            await body()

    generators = [rows()]
    next(generators[0])
    return generators.clear


PLAIN = [function, method, run]
FIRST = [*PLAIN, first_step, first_prefetched_step, enter, enter_of_a_mixin]
STEPS = [later_step, throw, step_of_a_view]
ENDS = [close, close_of_a_prefetched, leave, leave_mixin]


def each(*kinds):
    return pytest.mark.parametrize("kind", kinds, ids=lambda kind: kind.__name__)


class Body:
    """What is waited for: it goes on for ever, unless it is cancelled, and then it cleans up."""

    def __init__(self, then="raise"):
        self.then = then
        self.log = []

    async def __call__(self):
        self.log.append("begun")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.log.append("cancelled")
            for _ in range(3):
                await asyncio.sleep(0.001)
            self.log.append("cleaned")
            if self.then == "raise":
                raise
            if self.then == "return":
                return "value"
            raise self.then from None


def expire(kind, syncer, then="raise"):
    """Let the time be over while the call is under way, and return what came of it, and the body.

    On a busy machine it may be over before that. Then it is tried with more time.
    """
    seconds = 0.004
    while True:
        body = Body(then)
        call = kind(syncer, body)
        error = value = None
        try:
            with timeout(seconds):
                value = call()
        except BaseException as raised:
            error = raised
        call = None
        if body.log:
            try:
                return value, error, body
            finally:
                del error
        assert type(error) is TimeoutError
        error = None
        wait_until_idle(syncer)
        seconds *= 2


@each(*FIRST, *STEPS, *ENDS)
def test_when_the_time_is_over_the_coroutine_is_cancelled_and_its_cleanup_awaited(syncer, kind):
    value, error, body = expire(kind, syncer)
    assert type(error) is TimeoutError
    assert type(error.__cause__) is asyncio.CancelledError
    assert value is None
    assert body.log == ["begun", "cancelled", "cleaned"]
    del error


def test_the_error_is_raised_at_the_line_of_the_call(syncer):
    f = function(syncer, Body())
    with pytest.raises(TimeoutError) as caught, timeout(0.01):
        f()
    frames = [(entry.path.name, entry.name) for entry in caught.traceback]
    assert frames[0] == ("test_timeout.py", "test_the_error_is_raised_at_the_line_of_the_call")
    assert {name for name, _ in frames[1:]} <= {"_functions.py", "_callers.py"}


@each(*FIRST, *STEPS)
def test_what_the_coroutine_returns_instead_is_returned(syncer, kind):
    value, error, body = expire(kind, syncer, "return")
    assert error is None
    assert value == "value"
    assert body.log == ["begun", "cancelled", "cleaned"]


@each(*ENDS)
def test_an_end_that_swallows_the_cancellation_has_ended(syncer, kind):
    _, error, body = expire(kind, syncer, "return")
    assert error is None
    assert body.log == ["begun", "cancelled", "cleaned"]


@each(*FIRST, *STEPS, *ENDS)
def test_what_the_coroutine_raises_instead_is_raised(syncer, kind):
    instead = ValueError("in the cleanup")
    _, error, body = expire(kind, syncer, instead)
    assert error is instead
    assert body.log == ["begun", "cancelled", "cleaned"]
    del error


def test_a_step_that_ends_the_generator_instead_ends_the_loop(syncer):
    """Here it catches the cancellation, and returns."""
    seconds, log = 0.004, []

    @syncer
    async def rows():
        yield 1
        log.append("begun")
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()

    while not log:
        generator = rows()
        items = [next(generator)]
        with contextlib.suppress(TimeoutError), timeout(seconds):
            items += generator
            assert log
        seconds *= 2
    assert items == [1]


def test_a_timeout_of_the_coroutine_itself_is_its_own(syncer):
    own = TimeoutError("own")

    @syncer
    async def f():
        raise own

    with pytest.raises(TimeoutError) as caught, timeout(1000):
        f()
    assert caught.value is own
    assert own.__cause__ is None


@each(later_step, throw)
def test_a_generator_whose_step_was_cut_off_has_ended(syncer, kind):
    _, error, _ = expire(kind, syncer)
    assert type(error) is TimeoutError
    error = None
    body = Body()
    call = later_step(syncer, body)
    with pytest.raises(TimeoutError), timeout(0):
        call()
    assert body.log == []
    with pytest.raises(StopIteration):
        call()


# When the time is over before the call.


@each(*FIRST, *STEPS)
@pytest.mark.parametrize("seconds", [0, 0.0, -1, -math.inf])
def test_a_call_after_the_time_raises_and_starts_nothing(syncer, kind, seconds):
    """Warnings are errors here: a coroutine that is not awaited would make one."""
    body = Body()
    call = kind(syncer, body)
    for _ in range(2):
        with pytest.raises(TimeoutError) as caught, timeout(seconds):
            call()
        assert caught.value.__cause__ is None
        if kind in STEPS or "step" in kind.__name__:
            break  # a generator has ended now
    wait_until_idle(syncer)
    assert body.log == []


def test_a_loop_that_never_has_to_wait_ends_as_well(syncer):
    """Its items are ahead. A few of these may come after the time, but no more than were ahead when it was over."""
    full = threading.Event()
    log = []

    @syncer(prefetch=5)
    async def rows():
        try:
            for i in itertools.count():
                yield i
                if i == 4:
                    full.set()
        finally:
            await asyncio.sleep(0.001)
            log.append("cleaned")

    def settled(items):
        """Let the producer come ahead before each step."""
        while True:
            contextvars.Context().run(syncer.run, asyncio.sleep(0))  # without the limit
            yield next(items)

    generator = rows()
    items = [next(generator)]
    assert full.wait(20)
    with pytest.raises(TimeoutError), timeout(0):
        for item in settled(generator):
            items.append(item)
            assert len(items) <= 7
    assert items == [*range(len(items))]
    assert log == ["cleaned"]
    assert list(generator) == []


@each(*ENDS, leave_a_loop)
def test_what_ends_something_after_the_time_is_done_in_full(syncer, kind):
    log = []

    async def cleanup():
        log.append("begun")
        for _ in range(5):
            await asyncio.sleep(0.001)
        log.append("cleaned")

    call = kind(syncer, cleanup)
    with timeout(0):
        call()
    assert log == ["begun", "cleaned"]


def test_a_with_block_whose_body_was_cut_off_is_left_in_full(syncer):
    """Its exit comes after the time. It is told of the error, as always."""
    log = []

    @syncer
    @contextlib.asynccontextmanager
    async def manager():
        try:
            yield
        except BaseException as error:
            log.append(type(error))
            await asyncio.sleep(0.001)
            log.append("cleaned")
            raise

    body, seconds = Body(), 0.01
    f = function(syncer, body)
    while not body.log:
        log.clear()
        with pytest.raises(TimeoutError), timeout(seconds), manager():
            f()
        seconds *= 2
    assert body.log == ["begun", "cancelled", "cleaned"]
    assert log == [TimeoutError, "cleaned"]


def test_a_loop_over_a_generator_is_bounded_as_a_whole(syncer):
    """Each step ends, and yet the loop does."""
    log = []

    @syncer
    async def rows():
        try:
            while True:
                await asyncio.sleep(0.0001)
                yield
        finally:
            await asyncio.sleep(0.001)
            log.append("cleaned")

    steps, seconds = 0, 0.004
    while not steps:
        log.clear()
        with pytest.raises(TimeoutError), timeout(seconds):
            for _ in rows():
                steps += 1
        seconds *= 2
        wait_until_idle(syncer)  # on a busy machine the last step may not have begun, and then nobody waits
    assert log == ["cleaned"]


def test_the_time_is_one_for_all_calls_of_the_block(syncer):
    def helper():
        return g()

    body, seconds = Body(), 0.004
    f, g = function(syncer, body), function(syncer, second := Body())
    while not body.log:
        with timeout(seconds):
            with pytest.raises(TimeoutError):
                f()
            with pytest.raises(TimeoutError):
                helper()
        seconds *= 2
    assert second.log == []


# A loop that something keeps.


@contextlib.contextmanager
def kept(syncer):
    """The loop does nothing until the end of the block."""
    holds, released = threading.Event(), threading.Event()

    def hold():
        holds.set()
        released.wait(40)

    syncer.get_loop().call_soon_threadsafe(hold)
    assert holds.wait(20)
    try:
        yield
        assert not released.is_set()
    finally:
        released.set()


@each(*FIRST, *STEPS)
def test_a_call_that_cannot_begin_does_not_wait_for_the_loop_and_never_starts(syncer, kind):
    body = Body()
    call = kind(syncer, body)

    def bounded():
        with timeout(0.001):
            call()

    with kept(syncer):
        future = in_thread(bounded)
        wait([future], 20)
        assert future.done()
    assert type(future.exception()) is TimeoutError
    wait_until_idle(syncer)
    assert body.log == []


@each(*ENDS)
def test_an_end_that_cannot_begin_waits_for_the_loop_and_is_done_in_full(syncer, kind):
    log = []

    async def cleanup():
        log.append("begun")
        await asyncio.sleep(0.001)
        log.append("cleaned")

    call = kind(syncer, cleanup)

    def bounded():
        with timeout(0.001):
            call()
        assert log == ["begun", "cleaned"]

    with kept(syncer):
        future = in_thread(bounded)
        wait([future], 0.05)
        assert not future.done()
        assert log == []
    future.result(20)


# Which time counts, and where.


@pytest.mark.parametrize(
    ("outer", "inner"),
    [(0, 1000), (0, None), (0, math.inf), (0, 0), (1000, 0), (None, 0), (math.inf, 0), (-1000, 1000), (1000, -1000)],
)
def test_in_a_block_inside_of_another_the_nearer_end_counts(syncer, outer, inner):
    f = function(syncer, body := Body())
    with timeout(outer), timeout(inner), pytest.raises(TimeoutError):
        f()
    assert body.log == []


@pytest.mark.parametrize("seconds", [None, math.inf, 1000, 1e300, 10**300, 0.5 + 1000])
def test_long_and_no_limits_change_nothing(syncer, seconds):
    f = syncer(asyncio.sleep)
    with timeout(seconds), timeout(seconds):
        assert f(0, "value") == "value"
        assert list(syncer(prefetch=2)(numbers)(3)) == [0, 1, 2]
        assert list(syncer(numbers)(3)) == [0, 1, 2]


async def numbers(n):
    for i in range(n):
        await asyncio.sleep(0)
        yield i


def test_after_the_block_the_outer_limit_holds_again(syncer):
    f = syncer(asyncio.sleep)
    with timeout(1000):
        with pytest.raises(TimeoutError), timeout(0):
            f(0)
        assert f(0, "value") == "value"
    with timeout(0):
        with timeout(1000):
            pass
        with pytest.raises(TimeoutError):
            f(0)
    assert f(0, "value") == "value"


def test_after_an_error_too(syncer):
    f = syncer(asyncio.sleep)
    with pytest.raises(ZeroDivisionError), timeout(0):
        raise ZeroDivisionError
    assert f(0, "value") == "value"


def test_nothing_is_swallowed_and_nothing_is_given():
    with timeout(1000) as given:
        assert given is None
    with pytest.raises(TimeoutError, match=r"^mine$"), timeout(1000):
        raise TimeoutError("mine")


def test_another_thread_is_not_bounded(syncer):
    f = syncer(asyncio.sleep)
    with timeout(0), ThreadPoolExecutor(1) as pool:
        assert pool.submit(f, 0, "value").result(20) == "value"
        assert in_thread(contextvars.Context().run, f, 0, "value").result(20) == "value"


def test_it_belongs_to_the_context(syncer):
    f = syncer(asyncio.sleep)
    before = contextvars.copy_context()
    with timeout(0):
        assert contextvars.Context().run(f, 0, "value") == "value"
        assert before.run(f, 0, "value") == "value"
        with pytest.raises(TimeoutError):
            contextvars.copy_context().run(f, 0)
        copied = contextvars.copy_context()
    assert copied.run(f, 0, "value") == "value"  # the block is over


def test_to_thread_inherits_it(syncer, loop_factory):
    f = syncer(asyncio.sleep)

    async def main():
        with pytest.raises(TimeoutError):
            await asyncio.to_thread(f, 0)
        return "done"

    with timeout(0), asyncio.Runner(loop_factory=loop_factory) as runner:
        assert runner.run(main()) == "done"


def test_code_on_the_loop_inherits_it(syncer):
    """In threads that it waits for, and on other loops that it blocks."""
    other = Syncify("other", blocking="allow")
    g = function(other, body := Body())
    log = []

    @syncer
    async def in_a_thread():
        log.append("begun")
        work = asyncio.ensure_future(asyncio.to_thread(g))
        try:
            await asyncio.shield(work)
        finally:
            await asyncio.wait([work])  # within the block; after that the limit is none for the thread, either
            assert isinstance(work.exception(), TimeoutError)

    @syncer
    async def blocks():
        log.append("begun")
        try:
            g()
        except TimeoutError:
            log.append("on the loop")

    for f in in_a_thread, blocks:
        seconds = 0.01
        body.log.clear()
        while not body.log:
            log.clear()
            with contextlib.suppress(TimeoutError), timeout(seconds):
                f()
            seconds *= 2
            wait_until_idle(other)
        assert body.log == ["begun", "cancelled", "cleaned"]
    wait_until_idle(syncer)
    other.close()
    assert log == ["begun", "on the loop"]


def test_what_is_awaited_is_not_bounded(syncer, loop_factory):
    """Async code has asyncio.timeout."""

    async def main():
        async with syncer(contextlib.asynccontextmanager(numbers)).aio(1) as number:
            rows = [row async for row in syncer(numbers).aio(3)]
            return number, rows, await syncer(asyncio.sleep).aio(0, 1), await syncer.run.aio(asyncio.sleep(0, 2))

    with timeout(0), asyncio.Runner(loop_factory=loop_factory) as runner:
        assert runner.run(main()) == (0, [0, 1, 2], 1, 2)


# How it is used.


@pytest.mark.parametrize("seconds", ["1", True, False, [], 1j, b"1", Decimal(1), object(), timeout])
def test_what_is_no_number_is_a_type_error(seconds):
    with pytest.raises(TypeError, match=r"^timeout\(\) takes a number of seconds, or None, got "):
        timeout(seconds)


def test_nan_is_a_value_error():
    with pytest.raises(ValueError, match=r"^timeout\(\) takes a number of seconds.*NaN"):
        timeout(math.nan)


def test_entered_twice_is_an_error(syncer):
    limit = timeout(0)
    with limit:
        with pytest.raises(RuntimeError, match="once"), limit:
            pass
        with pytest.raises(TimeoutError):  # it still holds
            syncer.run(asyncio.sleep(0))
    assert syncer.run(asyncio.sleep(0, "value")) == "value"
    with pytest.raises(RuntimeError, match="once"), limit:
        pass
    assert syncer.run(asyncio.sleep(0, "value")) == "value"


def test_the_time_begins_with_the_block(syncer):
    """Not when it is made."""
    seconds = 0.05
    while True:
        limit = timeout(seconds)
        made = time.monotonic()
        while time.monotonic() < made + seconds:
            pass
        try:
            with limit:
                assert syncer.run(asyncio.sleep(0, "value")) == "value"
            break
        except TimeoutError:  # by a busy machine
            seconds *= 2


def test_in_async_code_it_is_an_error_that_names_what_to_write(syncer, loop_factory):
    async def main():
        limit = timeout(0)
        with pytest.raises(RuntimeError, match=r"asyncio\.timeout\("), limit:
            pass
        return await asyncio.to_thread(syncer.run, asyncio.sleep(0, "value"))

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        assert runner.run(main()) == "value"
    assert Syncify("another").run(main()) == "value"


def test_in_ipython_it_is_none(script):
    """There a loop always runs."""
    program = script("""
        from IPython.core.interactiveshell import InteractiveShell

        cell = [
            "import asyncio",
            "from syncify import syncify, timeout",
            "async def one(): return 1",
            "asyncio.get_running_loop()",
            "with timeout(1000): print(syncify(one)(), syncify.run(one()))",
            "try:",
            "    with timeout(0): syncify(one)()",
            "except TimeoutError: print('over')",
            "print(syncify(one)())",
            "await asyncio.sleep(0)",
        ]
        InteractiveShell.instance().run_cell("\\n".join(cell)).raise_error()
    """)
    assert program.end() == (0, "1 1\nover\n1\n", "")


def test_ipython_that_is_only_imported_changes_nothing(script):
    program = script("""
        import asyncio
        import IPython
        from syncify import timeout

        async def main():
            try:
                with timeout(1):
                    pass
            except RuntimeError as error:
                print("asyncio.timeout" in str(error))

        asyncio.run(main())
    """)
    assert program.end() == (0, "True\n", "")


def test_the_repr_tells_the_time():
    assert "1.5" in repr(timeout(1.5))


# Submitted calls have a time limit of their own.


def test_the_result_of_a_submitted_call_is_as_that_of_any_future(syncer):
    released = threading.Event()

    @syncer
    async def waits():
        await asyncio.to_thread(released.wait, 40)
        return "value"

    for limit in 0, 1000:
        released.clear()
        with timeout(limit):
            future = waits.submit()
            also = syncer.run.submit(waits.aio())
            for each in future, also:
                with pytest.raises(TimeoutError):
                    each.result(0)
                with pytest.raises(TimeoutError):
                    each.exception(timeout=0.001)
                assert not each.done()
            released.set()
            assert future.result() == also.result(20) == "value"


# Signals, in a process of its own.


@pytest.fixture(params=LOOP_FACTORIES)
def program(request, script):
    prelude = PRELUDE.format(short_steps=False, uvloop=request.param == "uvloop") + "from syncify import timeout\n"
    return lambda code: script(prelude + textwrap.dedent(code))


posix = pytest.mark.skipif(sys.platform == "win32", reason="sends POSIX signals")


@posix
def test_ctrl_c_during_a_call_with_a_limit_is_as_without_one(program):
    running = program("""
        try:
            with timeout(1000):
                job()
        except KeyboardInterrupt as error:
            print("raised", error.__context__)
        print(works())
        try:
            with timeout(1000):
                job("fail")
        except KeyboardInterrupt as error:
            print(repr(error.__context__))
        print(works(), syncer)
    """)
    assert running.line() == "waits"
    running.process.send_signal(signal.SIGINT)
    assert [running.line() for _ in range(5)] == ["cancelled", "cleaned", "raised None", "works", "waits"]
    running.process.send_signal(signal.SIGINT)
    expected = "cancelled\ncleaned\nValueError('in the cleanup')\nworks <Syncify 's', 0 calls in flight>\n"
    assert running.end() == (0, expected, "")


@posix
def test_a_second_ctrl_c_leaves_at_once(program):
    running = program("""
        try:
            with timeout(1000):
                job("stuck")
        except KeyboardInterrupt:
            print("raised", flush=True)
        print(works())
        os._exit(0)
    """)
    assert running.line() == "waits"
    running.process.send_signal(signal.SIGINT)
    assert running.line() == "cancelled"
    running.process.send_signal(signal.SIGINT)
    assert running.end() == (0, "raised\nworks\n", "")


@posix
def test_ctrl_c_during_the_cleanup_after_the_time_gets_out_of_it(program):
    """The cleanup is cancelled, as a call is without a limit."""
    running = program("""
        seconds = 0.1
        while True:
            try:
                with timeout(seconds):
                    job("stuck")
            except KeyboardInterrupt:
                print("raised", flush=True)
                break
            except TimeoutError:  # it was over before the call could begin
                seconds *= 2
        print(works())
    """)
    assert [running.line(), running.line()] == ["waits", "cancelled"]
    running.process.send_signal(signal.SIGINT)
    assert running.end() == (0, "raised\nworks\n", "")


@posix
def test_a_handler_that_does_not_raise_disturbs_nothing(program):
    running = program("""
        signal.signal(signal.SIGUSR1, lambda *_: print("handled", flush=True))
        signal.signal(signal.SIGUSR2, lambda *_: event.set())
        event = threading.Event()

        @syncer
        async def waits():
            print("waits", flush=True)
            await asyncio.to_thread(event.wait)
            return "value"

        with timeout(1000):
            print(waits())
    """)
    assert running.line() == "waits"
    for _ in range(3):
        running.process.send_signal(signal.SIGUSR1)
        assert running.line() == "handled"
    running.process.send_signal(signal.SIGUSR2)
    assert running.end() == (0, "value\n", "")


@posix
def test_a_signal_that_does_not_wake_the_thread(program):
    """However long the limit is: a caller sleeps in short steps."""
    running = program("""
        works()
        # The system now gives it to the thread of the loop, and Python leaves its handler to the main thread.
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
        try:
            with timeout(1000):
                job()
        except KeyboardInterrupt:
            print("raised")
        print(works())
    """)
    assert running.line() == "waits"
    running.process.send_signal(signal.SIGINT)
    assert running.end() == (0, "cancelled\ncleaned\nraised\nworks\n", "")


@posix
def test_signals_at_any_microsecond_of_calls_that_time_out(program):
    running = program(
        textwrap.dedent(STRUCK)
        + textwrap.dedent("""
        import time

        begun = ended = 0

        @syncer
        async def counts(seconds):
            global begun, ended
            begun += 1
            try:
                await asyncio.sleep(seconds)
            finally:
                ended += 1

        def spin():
            while left:
                time.sleep(0)  # takes the GIL anew: Python 3.12 may forget a signal until then

        def target():
            try:
                while left:
                    try:
                        with timeout(random.uniform(0, 2e-4)):
                            counts(random.uniform(0, 2e-4))
                            syncer.run(counts.aio(random.uniform(0, 2e-4)))
                    except TimeoutError:
                        pass
            finally:
                spin()  # a loop right here makes Python 3.13.0 forget that the exception has been handled

        works()
        for i in range(700):
            strike(target, 1 + i % 3, 5e-4)
            assert works() == "works"  # no limit is left
        for _ in range(3):
            works()
        assert begun == ended, (begun, ended, seed)
        assert repr(syncer) == "<Syncify 's', 0 calls in flight>", (syncer, seed)
        print("done")
    """)
    )
    assert running.end() == (0, "done\n", "")


# The time is over at about the moment when the call ends, again and again.

MOST = 4e-4


@each(function, run, first_step, later_step, first_prefetched_step, step_of_a_view, enter, enter_of_a_mixin, *ENDS)
def test_a_call_that_ends_when_the_time_does_returns_or_times_out(syncer, kind):
    seed = random.randrange(1 << 32)
    rng = random.Random(seed)
    begun = ended = 0

    async def body():
        nonlocal begun, ended
        begun += 1
        try:
            for _ in range(rng.randrange(3)):
                await asyncio.sleep(rng.uniform(0, MOST / 2))
        finally:
            ended += 1
        return "value"

    for _ in range(150):
        call = kind(syncer, body)
        try:
            with timeout(rng.uniform(0, MOST)):
                value = call()
        except TimeoutError:
            pass
        else:
            assert value == (None if kind in ENDS else "value"), seed
    del call
    wait_until_idle(syncer)
    assert begun == ended, seed


def test_so_do_calls_of_many_threads(syncer):
    seed = random.randrange(1 << 32)
    begun = ended = 0

    async def body():
        nonlocal begun, ended
        begun += 1
        try:
            await asyncio.sleep(random.uniform(0, MOST))
        finally:
            ended += 1
        return "value"

    def calls(number):
        rng = random.Random(seed + number)
        outcomes = set()
        for _ in range(150):
            call = rng.choice(FIRST)(syncer, body)
            try:
                with timeout(rng.uniform(0, 3 * MOST)):
                    outcomes.add(call())
            except TimeoutError:
                outcomes.add("over")
        return outcomes

    for future in [in_thread(calls, number) for number in range(4)]:
        assert future.result(40) <= {"value", "over"}, seed
    wait_until_idle(syncer)
    assert begun == ended, seed


def test_an_exit_stack_may_hold_it(syncer):
    f = syncer(asyncio.sleep)
    with contextlib.ExitStack() as stack:
        stack.enter_context(timeout(0))
        with pytest.raises(TimeoutError):
            f(0)
    assert f(0, "value") == "value"
