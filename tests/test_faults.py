"""What goes wrong in the loop's thread: nobody waits for ever, and a loop that is lost says why."""

import asyncio
import collections
import contextlib
import contextvars
import gc
import os
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager

import pytest

from syncify import ClosedError, Syncify

variable = contextvars.ContextVar("variable", default="default")


class Fault(Exception):
    """What no library raises by itself."""


class BaseFault(BaseException):
    pass


def faulty(loop_factory):
    """Make a loop whose `run_forever` can be made to raise, or to wait when it has been stopped."""
    plain = loop_factory()
    plain.close()

    class Faulty(type(plain)):
        fault = None  # raised when it has been stopped
        left = 0  # so many times
        stopped = None  # then it tells by this that it does not run,
        go = None  # and waits for that before it runs again

        def run_forever(self):
            self.raise_fault()
            super().run_forever()
            if self.stopped is not None:
                self.stopped.set()
                self.go.wait(20)
            self.raise_fault()

        def raise_fault(self):
            if self.left > 0:
                self.left -= 1
                raise self.fault

    return Faulty()


def strike(syncer, error, times=10**6):
    """Let the `run_forever` of the loop raise the error so many times."""

    def on_the_loop():
        loop.fault, loop.left = error, times
        loop.stop()

    loop = syncer.get_loop()
    loop.call_soon_threadsafe(on_the_loop)


def in_thread(function):
    """Call it in a thread that may wait for ever without keeping pytest from its end. Return a future."""
    future = Future()

    def work():
        try:
            future.set_result(function())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    return future


class Callers:
    """One caller of each kind, who waits for a coroutine that does not end by itself."""

    def __init__(self, syncer, other_loops):
        self.syncer = syncer
        self.cleaned = collections.Counter()
        self.begun = threading.Semaphore(0)

        async def forever(name):
            self.begun.release()
            try:
                await asyncio.Event().wait()
            finally:
                self.cleaned[name] += 1

        async def rows(name, items=0):
            for item in range(items):
                yield item
            await forever(name)

        @asynccontextmanager
        async def entered(name, enter=True):
            if enter:
                await forever(name)
            yield
            await forever(name)

        self.f = f = syncer(forever)
        self.rows = g = syncer(rows)
        prefetched = syncer(prefetch=2)(rows)
        self.manager = m = syncer(entered)

        def leave():
            with m("leave", enter=False):
                pass

        async def step():
            async for _ in g.aio("aio step"):
                pass

        async def enter():
            async with m.aio("aio enter"):
                pass

        async def leave_there():
            async with m.aio("aio leave", enter=False):
                pass

        callers = {
            "blocking": lambda: f("blocking"),
            "run": lambda: syncer.run(forever("run")),
            "submit": lambda: f.submit("submit").result(),
            "step": lambda: list(g("step")),
            "second step": lambda: list(g("second step", 1)),
            "prefetched": lambda: list(prefetched("prefetched", 1)),
            "enter": lambda: m("enter").__enter__(),
            "leave": leave,
        }
        coroutines = {
            "aio": lambda: f.aio("aio"),
            "run.aio": lambda: syncer.run.aio(forever("run.aio")),
            "aio step": step,
            "aio enter": enter,
            "aio leave": leave_there,
        }
        for number, factory in enumerate(other_loops):
            for name, make in coroutines.items():
                callers[f"{name} {number}"] = lambda make=make, factory=factory: self._await(factory, make)
        self.names = {name.rstrip(" 0123456789") for name in callers}
        self.expected = len(callers)
        self.waiting = {name: in_thread(call) for name, call in callers.items()}
        for _ in callers:
            assert self.begun.acquire(timeout=20)

    def _await(self, factory, make):
        async def main():
            return await make()

        with asyncio.Runner(loop_factory=factory) as runner:
            return runner.run(main())

    def errors(self):
        """What they get."""
        return {name: future.exception(20) for name, future in self.waiting.items()}

    def later(self):
        """The errors of those who come later."""
        syncer, f = self.syncer, self.f

        async def iterate():
            async for _ in self.rows.aio("late"):
                pass

        async def enter():
            async with self.manager.aio("late"):
                pass

        calls = {
            "blocking": lambda: f("late"),
            "run": lambda: syncer.run(asyncio.sleep(0)),
            "submit": lambda: f.submit("late").result(),
            "run.submit": lambda: syncer.run.submit(asyncio.sleep(0)).result(),
            "aio": lambda: asyncio.run(f.aio("late")),
            "step": lambda: list(self.rows("late")),
            "enter": lambda: self.manager("late").__enter__(),
            "aio step": lambda: asyncio.run(iterate()),
            "aio enter": lambda: asyncio.run(enter()),
            "get_loop": syncer.get_loop,
        }
        return {name: in_thread(call).exception(20) for name, call in calls.items()}


@pytest.fixture
def other_loops():
    from conftest import LOOP_FACTORIES

    return list(LOOP_FACTORIES.values())


def check_lost(callers, cause):
    """See that the loop is lost, and that everybody is told."""
    for when, errors in ("waiting", callers.errors()), ("later", callers.later()):
        for name, error in errors.items():
            assert isinstance(error, ClosedError), (when, name, error)
            assert f"{callers.syncer.name!r} has come to an end by itself" in str(error), (when, name)
            assert isinstance(error.__cause__, cause), (when, name, error.__cause__)
            assert str(error.__cause__) in str(error), (when, name)
    assert len({id(error) for error in callers.errors().values()}) == callers.expected  # each has its own
    assert callers.cleaned.total() == callers.expected
    assert repr(callers.syncer) == f"<Syncify {callers.syncer.name!r}, closed>"
    callers.syncer.close()


# The loop is lost.


@pytest.mark.parametrize("error", [Fault, BaseFault, MemoryError, OSError, GeneratorExit, asyncio.CancelledError])
def test_a_run_forever_that_always_raises_is_an_error_for_all_callers(loop_factory, other_loops, error):
    syncer = Syncify("always", loop_factory=lambda: faulty(loop_factory))
    callers = Callers(syncer, other_loops)
    raised = error("told")
    strike(syncer, raised)
    check_lost(callers, error)
    assert all(each.__cause__ is raised for each in callers.later().values())


def test_a_selector_closed_by_a_callback_is_an_error_for_all_callers(other_loops):
    syncer = Syncify("selector")
    callers = Callers(syncer, other_loops)
    loop = syncer.get_loop()
    loop.call_soon_threadsafe(lambda: loop._selector.close())
    check_lost(callers, (ValueError, OSError, RuntimeError, KeyError))


def test_a_selector_closed_by_another_thread_is_an_error_for_all_callers(other_loops):
    syncer = Syncify("selector")
    callers = Callers(syncer, other_loops)
    loop = syncer.get_loop()
    loop._selector.close()
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(lambda: None)  # it sleeps, and has to look
    check_lost(callers, (ValueError, OSError, RuntimeError, KeyError))


def test_a_loop_closed_by_another_thread_when_it_was_stopped_is_an_error_for_all_callers(loop_factory, other_loops):
    syncer = Syncify("closed", loop_factory=lambda: faulty(loop_factory))
    callers = Callers(syncer, other_loops)
    loop = syncer.get_loop()
    loop.go = threading.Event()
    loop.stopped = threading.Event()
    loop.call_soon_threadsafe(loop.stop)
    assert loop.stopped.wait(10)
    loop.close()
    loop.go.set()
    check_lost(callers, RuntimeError)
    assert "closed by other code" in str(callers.later()["blocking"])


def test_calls_that_come_between_the_closing_and_its_notice_get_an_error(loop_factory):
    """Those are the first to notice, while the loop's thread does something else."""
    syncer = Syncify("unnoticed", loop_factory=lambda: faulty(loop_factory))
    f = syncer(asyncio.sleep)
    loop = syncer.get_loop()
    loop.go = threading.Event()
    loop.stopped = threading.Event()
    loop.call_soon_threadsafe(loop.stop)
    assert loop.stopped.wait(10)
    loop.close()

    async def rows():
        yield 1

    calls = [
        lambda: f(0),
        lambda: f.submit(0).result(),
        lambda: asyncio.run(f.aio(0)),
        lambda: next(syncer(rows)()),
        lambda: syncer.run(asyncio.sleep(0)),
    ]
    for call in calls:
        assert isinstance(in_thread(call).exception(20), ClosedError)
    loop.go.set()
    syncer.close()


def test_a_loop_that_cannot_run_at_all_is_an_error_and_no_hang(loop_factory):
    def factory():
        loop = faulty(loop_factory)
        loop.fault, loop.left = Fault("told"), 10**6
        return loop

    syncer = Syncify("never-ran", loop_factory=factory)
    f = syncer(asyncio.sleep)
    for call in lambda: f(0), lambda: f.submit(0), lambda: asyncio.run(f.aio(0)), syncer.get_loop:
        error = in_thread(call).exception(20)
        assert isinstance(error, ClosedError | Fault), repr(error)
        assert "told" in str(error)


def test_a_factory_that_gives_a_closed_loop_is_an_error_and_the_next_call_tries_again(loop_factory):
    def closed():
        loop = loop_factory()
        loop.close()
        return loop

    makers = [closed, loop_factory]
    syncer = Syncify("second-hand", loop_factory=lambda: makers.pop(0)())
    assert isinstance(in_thread(lambda: syncer.run(asyncio.sleep(0))).exception(20), RuntimeError)
    assert in_thread(lambda: syncer.run(asyncio.sleep(0, "works"))).result(20) == "works"
    syncer.close()


def test_what_is_between_two_steps_is_told_at_the_next_one(loop_factory):
    syncer = Syncify("parked", loop_factory=lambda: faulty(loop_factory))
    cleaned = []

    @syncer
    async def rows():
        try:
            yield 1
            yield 2
        finally:
            cleaned.append("rows")

    @syncer
    @asynccontextmanager
    async def entered():
        try:
            yield
        finally:
            cleaned.append("entered")

    iterator, manager = rows(), entered()
    assert next(iterator) == 1
    manager.__enter__()
    strike(syncer, Fault("told"))
    with pytest.raises(ClosedError):
        syncer.run(asyncio.Event().wait())
    for call in lambda: next(iterator), lambda: manager.__exit__(None, None, None):
        error = in_thread(call).exception(20)
        assert isinstance(error, ClosedError)
        assert isinstance(error.__cause__, Fault)
    syncer.close(None)
    assert sorted(cleaned) == ["entered", "rows"]
    iterator.close()  # it has ended with its loop
    with pytest.raises(StopIteration):
        next(iterator)


def test_the_cleanup_runs_in_the_context_of_its_caller_as_far_as_it_goes(loop_factory):
    syncer = Syncify("cleanup", loop_factory=lambda: faulty(loop_factory))
    seen = []

    @syncer
    async def f(further):
        begun.release()
        try:
            await asyncio.Event().wait()
        finally:
            seen.append((further, variable.get()))
            await further()
            seen.append("more")

    async def suspends():
        await asyncio.sleep(0)

    async def does_not():
        pass

    @syncer
    async def stubborn():
        begun.release()
        for _ in range(2):  # more would be noise of Python itself when it is collected
            try:
                await asyncio.Event().wait()
            except (GeneratorExit, asyncio.CancelledError):
                seen.append("stubborn")

    def caller(call, *args):
        variable.set("mine")
        call(*args)

    begun = threading.Semaphore(0)
    waiting = [in_thread(lambda call=call: caller(*call)) for call in [(f, suspends), (f, does_not), (stubborn,)]]
    for _ in waiting:
        assert begun.acquire(timeout=10)
    strike(syncer, Fault())
    for future in waiting:
        assert isinstance(future.exception(20), ClosedError)
    assert (suspends, "mine") in seen
    assert (does_not, "mine") in seen
    assert seen.count("more") == 1
    assert "stubborn" in seen


def test_the_callback_of_a_future_is_called_when_the_loop_is_lost(loop_factory):
    syncer = Syncify("future", loop_factory=lambda: faulty(loop_factory))
    future = syncer(asyncio.sleep).submit(1000)
    called = threading.Event()
    future.add_done_callback(lambda _: called.set())
    strike(syncer, Fault())
    assert called.wait(20)
    assert isinstance(future.exception(20), ClosedError)


def test_to_close_a_lost_loop_waits_for_its_end(loop_factory):
    """When there is an end to wait for: its thread tells all callers before it closes the loop."""
    syncer = Syncify("lost", loop_factory=lambda: faulty(loop_factory))
    with syncer:
        loop = syncer.get_loop()
        future = syncer(asyncio.sleep).submit(1000)
        strike(syncer, Fault())
        assert isinstance(future.exception(20), ClosedError)
    assert loop.is_closed()
    syncer.close(None)


# A program in which it is lost.

_LOST = """
    import asyncio, contextlib, gc, sys, threading, warnings
    from contextlib import asynccontextmanager
    from syncify import ClosedError, Syncify

    class Fault(Exception):
        pass

    class Faulty(asyncio.SelectorEventLoop):
        fault, stopped, go = None, None, threading.Event()

        def run_forever(self):
            if self.fault: raise self.fault
            super().run_forever()
            if self.stopped:
                self.stopped.set()
                self.go.wait()
            if self.fault: raise self.fault

    def raises():
        def on_the_loop():
            loop.fault = Fault("told")
            loop.stop()
        loop.call_soon_threadsafe(on_the_loop)

    def selector():
        loop.call_soon_threadsafe(lambda: loop._selector.close())

    def closed():
        loop.stopped = threading.Event()
        loop.call_soon_threadsafe(loop.stop)
        loop.stopped.wait()
        loop.close()
        loop.go.set()

    syncer = Syncify("lost", loop_factory=Faulty)
    loop = syncer.get_loop()
    begun, cleaned, left = threading.Semaphore(0), [], []

    async def forever(name):
        begun.release()
        try:
            await asyncio.Event().wait()
        finally:
            cleaned.append(name)

    async def items(name):
        yield 1
        await forever(name)

    @asynccontextmanager
    async def entered(name):
        yield
        await forever(name)

    f, rows, manager = syncer(forever), syncer(items), syncer(entered)

    def leave():
        with manager("leave"):
            pass

    async def leave_there():
        async with manager.aio("aio leave"):
            pass

    def expect(call):
        try:
            call()
        except ClosedError:
            pass
        else:
            print("no error")
"""


@pytest.mark.parametrize("fault", ["raises", "selector", "closed"])
def test_a_program_whose_loop_is_lost_ends_without_noise(script, fault):
    program = script(
        _LOST
        + f"""
    calls = [
        lambda: f("blocking"),
        lambda: list(rows("step")),
        lambda: asyncio.run(f.aio("aio")),
        lambda: asyncio.run(leave_there()),
        leave,
    ]
    threads = [threading.Thread(target=expect, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
        begun.acquire()
    future = f.submit("submit")
    begun.acquire()
    between = rows("between")
    next(between)
    {fault}()
    for thread in threads:
        thread.join()
    expect(future.result)
    expect(lambda: f("late"))
    syncer.close()  # which waits for the end of the loop, and so for the cleanup
    del between, future
    gc.collect()
    print(sorted(cleaned))
    """,
        "-Xdev",
        "-Walways",
    )
    assert program.end() == (0, "['aio', 'aio leave', 'blocking', 'leave', 'step', 'submit']\n", "")


@pytest.mark.parametrize("fault", ["raises", "selector", "closed"])
def test_what_users_have_left_on_a_lost_loop_makes_no_noise(script, fault):
    """Tasks, async generators, transports."""
    program = script(
        _LOST
        + f"""
    async def rows_left():
        try:
            yield 1
        finally:
            pass

    @syncer
    async def leave_behind():
        left.append(asyncio.create_task(forever("task")))
        generator = rows_left()
        await generator.__anext__()
        left.append(generator)
        loop.call_later(1000, print)
        await asyncio.sleep(0)

    leave_behind()
    {fault}()
    expect(lambda: syncer.run(asyncio.Event().wait()))
    syncer.close()  # which waits for the end of the loop
    left.clear()
    gc.collect()
    print(cleaned)
    """,
        "-Xdev",
        "-Walways",
    )
    assert program.end() == (0, "['task']\n", "")


# The loop goes on.


@pytest.mark.parametrize("error", [Fault, BaseFault, MemoryError, SystemExit, KeyboardInterrupt])
def test_a_run_forever_that_raises_once_goes_on(loop_factory, error, caplog):
    with Syncify("once", loop_factory=lambda: faulty(loop_factory)) as syncer:
        event = asyncio.Event()
        waiting = syncer.run.submit(event.wait())
        for _ in range(20):
            strike(syncer, error(), times=1)
            assert syncer.run(asyncio.sleep(0, "alive")) == "alive"
        syncer.get_loop().call_soon_threadsafe(event.set)
        assert waiting.result(10) is True


@pytest.mark.parametrize(
    "error", [Fault, BaseFault, GeneratorExit, asyncio.CancelledError, StopIteration, MemoryError, RecursionError]
)
def test_a_callback_that_raises_disturbs_nobody(loop_factory, error, caplog):
    def callback():
        raise error("told")

    with Syncify("callback", loop_factory=loop_factory) as syncer:
        loop = syncer.get_loop()
        event = asyncio.Event()
        waiting = syncer.run.submit(event.wait())
        for _ in range(20):
            loop.call_soon_threadsafe(callback)
            assert syncer.run(asyncio.sleep(0, "alive")) == "alive"
        loop.call_soon_threadsafe(event.set)
        assert waiting.result(10) is True
    assert caplog.text.count("Exception in callback") == 20


@pytest.mark.parametrize("error", [Fault, BaseFault, SystemExit, KeyboardInterrupt])
def test_an_exception_handler_that_raises_takes_the_loop_from_nobody(loop_factory, error, caplog):
    def handler(loop, context):
        handled.append(context)
        raise error

    def callback():
        raise Fault

    handled = []
    with Syncify("handler", loop_factory=loop_factory) as syncer:
        loop = syncer.get_loop()
        loop.call_soon_threadsafe(loop.set_exception_handler, handler)
        event = asyncio.Event()
        waiting = syncer.run.submit(event.wait())
        for _ in range(20):
            loop.call_soon_threadsafe(callback)
            assert syncer.run(asyncio.sleep(0, "alive")) == "alive"
        loop.call_soon_threadsafe(event.set)
        assert waiting.result(10) is True
    assert len(handled) >= 20


@pytest.mark.parametrize("error", [Fault, BaseFault, SystemExit, KeyboardInterrupt])
@pytest.mark.parametrize("raised", [Fault, SystemExit])
def test_one_that_raises_when_it_is_told_of_the_callback_of_a_future_neither(loop_factory, raised, error, caplog):
    def handler(loop, context):
        handled.append(context)
        if not over:
            raise error

    def leave(future):
        raise raised

    handled, over = [], False
    with Syncify("handler", loop_factory=loop_factory) as syncer:
        loop = syncer.get_loop()
        loop.call_soon_threadsafe(loop.set_exception_handler, handler)
        f = syncer(asyncio.sleep)

        async def submit():  # from the loop, so that the callback is there before the call ends
            for seconds in 0, 0.001:
                f.submit(seconds).add_done_callback(leave)

        event = asyncio.Event()
        waiting = syncer.run.submit(event.wait())
        for _ in range(5):
            syncer.run(submit())
            syncer.run(asyncio.sleep(0.002))
            assert syncer.run(asyncio.sleep(0, "alive")) == "alive"
        loop.call_soon_threadsafe(event.set)
        assert waiting.result(10) is True
        over = True
    gc.collect()
    # Nothing else has gone wrong by what it has raised.
    assert {context["message"] for context in handled} <= {"a callback of a submitted call raised"}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of asyncio on Python 3.12, for a task without a name
@pytest.mark.parametrize("error", [Fault, SystemExit, KeyboardInterrupt, asyncio.CancelledError, None])
def test_a_task_factory_that_raises_is_an_error_of_generators_and_context_managers(loop_factory, error, caplog):
    def factory(loop, coroutine, **kwargs):
        if not broken:
            return asyncio.Task(coroutine, loop=loop, **kwargs)
        if error is not None:
            raise error
        return object()  # which is no task

    def make_loop():
        loop = loop_factory()
        loop.set_task_factory(factory)
        return loop

    async def rows():
        yield 1

    @asynccontextmanager
    async def entered():
        yield 2

    async def iterate():
        return [row async for row in g.aio()]

    async def enter():
        async with m.aio() as value:
            return value

    broken = False
    expected = (TypeError, AttributeError) if error is None else error
    with Syncify("factory", loop_factory=make_loop) as syncer:
        g, p, m = syncer(rows), syncer(prefetch=2)(rows), syncer(entered)
        calls = [lambda: list(g()), lambda: list(p()), lambda: m().__enter__()]
        calls += [lambda: asyncio.run(iterate()), lambda: asyncio.run(enter())]
        syncer.run(asyncio.sleep(0))
        broken = True
        for call in calls:
            assert isinstance(in_thread(call).exception(20), expected)
        broken = False
        assert list(g()) == list(p()) == asyncio.run(iterate()) == [1]
        with m() as value:
            assert value == 2


def test_to_stop_it_over_and_over_while_calls_run_disturbs_none(loop_factory):
    with Syncify("stopped", loop_factory=loop_factory) as syncer:
        loop = syncer.get_loop()

        @syncer
        async def echo(x):
            asyncio.get_running_loop().stop()
            await asyncio.sleep(0)
            asyncio.get_running_loop().stop()
            await asyncio.sleep(0.0001)
            return x

        @syncer
        async def rows(n):
            for i in range(n):
                loop.stop()
                yield i

        def stop():
            while not over.is_set():
                loop.call_soon_threadsafe(loop.stop)
                time.sleep(0)

        def caller(start):
            return [echo(start + i) for i in range(50)] + list(rows(50)) + [asyncio.run(echo.aio(7))]

        over = threading.Event()
        stopper = threading.Thread(target=stop)
        stopper.start()
        try:
            with ThreadPoolExecutor(4) as pool:
                results = list(pool.map(caller, range(0, 400, 100)))
        finally:
            over.set()
            stopper.join()
        assert results == [[*range(start, start + 50), *range(50), 7] for start in range(0, 400, 100)]


def test_to_close_it_while_it_runs_is_refused_by_asyncio_and_disturbs_nobody(loop_factory):
    with Syncify("running", loop_factory=loop_factory) as syncer:
        loop = syncer.get_loop()
        event = asyncio.Event()
        waiting = syncer.run.submit(event.wait())
        with pytest.raises(RuntimeError):
            loop.close()

        async def close():
            loop.close()

        with pytest.raises(RuntimeError):
            syncer.run(close())
        loop.call_soon_threadsafe(event.set)
        assert waiting.result(10) is True


# No memory at a bad moment.


class Starving(collections.deque):
    """What has been posted, where there is no memory once."""

    at_append = at_popleft = False

    def append(self, callback):
        if self.at_append:
            self.at_append = False
            raise MemoryError("no memory")
        super().append(callback)

    def popleft(self):
        if self.at_popleft:
            self.at_popleft = False
            raise MemoryError("no memory")
        return super().popleft()


def calls_of(syncer):
    """A short call of each kind, and what it returns."""

    async def one():
        return 1

    async def rows():
        yield 1
        yield 2

    @asynccontextmanager
    async def entered():
        yield 3

    f, g, p, m = syncer(one), syncer(rows), syncer(prefetch=1)(rows), syncer(entered)

    def enter():
        with m() as value:
            return value

    async def iterate():
        return [row async for row in g.aio()]

    return {
        "blocking": (f, 1),
        "run": (lambda: syncer.run(one()), 1),
        "submit": (lambda: f.submit().result(), 1),
        "aio": (lambda: asyncio.run(f.aio()), 1),
        "generator": (lambda: list(g()), [1, 2]),
        "prefetched": (lambda: list(p()), [1, 2]),
        "with": (enter, 3),
        "aio generator": (lambda: asyncio.run(iterate()), [1, 2]),
    }


KINDS = ("blocking", "run", "submit", "aio", "generator", "prefetched", "with", "aio generator")


@pytest.mark.parametrize("kind", KINDS)
def test_without_memory_to_post_a_call_its_caller_gets_the_error(loop_factory, kind):
    with Syncify("append", loop_factory=loop_factory) as syncer:
        syncer.run(asyncio.sleep(0))
        syncer._background.incoming = incoming = Starving()
        call, result = calls_of(syncer)[kind]
        incoming.at_append = True
        assert isinstance(in_thread(call).exception(20), MemoryError)
        assert in_thread(call).result(20) == result


@pytest.mark.parametrize("kind", KINDS)
def test_without_memory_to_take_a_call_over_the_loop_is_lost_and_says_so(loop_factory, kind):
    syncer = Syncify("popleft", loop_factory=loop_factory)
    waiting = syncer(asyncio.sleep).submit(1000)
    syncer.run(asyncio.sleep(0))
    syncer._background.incoming = incoming = Starving()
    call, _ = calls_of(syncer)[kind]
    incoming.at_popleft = True
    for error in in_thread(call).exception(20), waiting.exception(20), in_thread(call).exception(20):
        assert isinstance(error, ClosedError)
        assert isinstance(error.__cause__, MemoryError)


@pytest.mark.parametrize("method", ["call_soon_threadsafe", "call_soon"])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_without_memory_to_wake_the_loop_somebody_gets_an_error(loop_factory, method, after, caplog):
    """Whichever of these calls of the loop fails, in whichever thread."""
    plain = loop_factory()
    plain.close()

    def starving(self, *args, **kwargs):
        nonlocal left
        left -= 1
        if left == 0 and not after:
            raise MemoryError
        result = getattr(super(waking, self), method)(*args, **kwargs)
        if left == 0:
            raise MemoryError
        return result

    waking = type("Waking", (type(plain),), {method: starving})
    left = 0
    for kind in KINDS:
        for number in range(1, 8):
            syncer = Syncify("waking", loop_factory=waking)
            syncer.run(asyncio.sleep(0))
            call, result = calls_of(syncer)[kind]
            left = number
            _check(in_thread(call), (MemoryError, ClosedError), result)
            left = 0
            _check(in_thread(call), (ClosedError,), result)
            syncer.close()
    gc.collect()  # what asyncio has to say of its tasks


@pytest.mark.parametrize("way", ["call", "result", "close"])
def test_what_a_signal_handler_raises_while_the_loop_is_woken_is_not_lost(loop_factory, way):
    """Be it a RuntimeError, which a loop that is closed raises as well."""
    plain = loop_factory()
    plain.close()
    struck = False

    def call_soon_threadsafe(self, *args, **kwargs):
        nonlocal struck
        if struck:
            struck = False
            raise RuntimeError("of a handler")
        return super(waking, self).call_soon_threadsafe(*args, **kwargs)

    waking = type("Waking", (type(plain),), {"call_soon_threadsafe": call_soon_threadsafe})
    with Syncify("waking", loop_factory=waking) as syncer:
        sleep = syncer(asyncio.sleep)
        sleeping = sleep.submit(1000)
        sleep(0)
        struck = True
        with pytest.raises(RuntimeError, match="of a handler"):
            {"call": lambda: sleep(0), "result": sleeping.result, "close": syncer.close}[way]()
        assert not struck
        if way != "close":
            assert sleep(0, "goes on") == "goes on"
    assert isinstance(sleeping.exception(20), ClosedError)


def _check(future, errors, result):
    error = future.exception(20)
    if error is None:
        assert future.result() == result
    else:
        assert isinstance(error, errors), repr(error)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("where", ["loop", "caller"])
def test_whichever_function_cannot_be_called_for_want_of_memory_nobody_waits_for_ever(script, kind, where):
    """Python has not even begun it then. Each function of ours is struck, the first time, the second time, and so on.

    What is returned is what is to be returned: no generator that ends too early, for example.
    """
    program = script(f"""
        import asyncio, faulthandler, gc, logging, os, sys, threading, warnings
        sys.path.insert(0, {TESTS!r})
        import syncify
        from syncify import ClosedError, Syncify
        from test_faults import calls_of

        logging.disable()
        sys.unraisablehook = lambda unraisable: None
        library = os.path.dirname(syncify.__file__)
        # Python prints what a finalizer raises. What the caller's loop calls is then lost to it; and who
        # waits in no thread has nobody who would notice that the background loop has lost its wake-up.
        spared = ["__del__", "get_loop", "add_done_callback", "_post"]
        spared += {["_drain", "wake"] if "aio" in kind else ["wake"] if kind == "submit" else []}
        left = struck = 0

        def trace(frame, event, arg):
            global left, struck
            code = frame.f_code
            if left and code.co_filename.startswith(library) and code.co_name not in spared:
                left -= 1
                if not left:
                    struck = code.co_qualname
                    print(number, struck, file=sys.stderr)  # for who looks for what has gone wrong
                    raise MemoryError(struck)

        def warm():
            syncer = Syncify("starved", stuck_after=None)
            call, result = calls_of(syncer)[{kind!r}]
            assert call() == result
            return syncer, call, result

        syncer, call, result = warm()
        number, untouched = 0, 0
        while untouched < 3:
            number += 1
            faulthandler.cancel_dump_traceback_later()
            faulthandler.dump_traceback_later(20, exit=True)
            struck = None
            set_trace = syncer.get_loop().call_soon_threadsafe if {where!r} == "loop" else lambda f, arg: f(arg)
            ready = threading.Event()
            set_trace(sys.settrace, trace)
            syncer.get_loop().call_soon_threadsafe(ready.set)
            ready.wait()
            left = number
            try:
                given = call()
            except (MemoryError, ClosedError) as error:
                pass
            else:
                if given != result:
                    print(f"{{given}} was returned when {{struck}} was struck")
            finally:
                left = 0
                sys.settrace(None)
            untouched = 0 if struck else untouched + 1
            try:
                assert call() == result
                syncer.get_loop().call_soon_threadsafe(sys.settrace, None)
            except ClosedError:
                syncer.close()
                syncer, call, result = warm()
        assert number > 5
        print("done")
        faulthandler.cancel_dump_traceback_later()
    """)
    code, out, err = program.end()
    assert (code, out) == (0, "done\n"), f"{out}\n{err}"


TESTS = os.path.dirname(__file__)
