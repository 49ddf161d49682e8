"""How calls get to the loop: none is lost, many share a wake-up, and none stops the loop or the others."""

import asyncio
import collections
import contextvars
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from syncify import Syncify, _callers

variable = contextvars.ContextVar("variable", default="default")


@pytest.fixture(autouse=True)
def _switch_threads_often():
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


def test_no_call_of_many_threads_is_lost(syncer):
    @syncer
    async def echo(x, turns):
        for _ in range(turns):
            await asyncio.sleep(0)
        return x

    def caller(start):
        return [echo(start + i, i % 3) for i in range(300)]

    with ThreadPoolExecutor(16) as pool:
        results = list(pool.map(caller, range(0, 16_000, 1000)))
    assert results == [[start + i for i in range(300)] for start in range(0, 16_000, 1000)]


def test_no_call_of_many_loops_is_lost(syncer, loop_factory):
    @syncer
    async def echo(x):
        await asyncio.sleep(0)
        return x

    async def caller(start):
        one_by_one = [await echo.aio(start + i) for i in range(100)]
        return one_by_one + await asyncio.gather(*(echo.aio(start + i) for i in range(100, 200)))

    def on_a_loop(start):
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            return runner.run(caller(start))

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(on_a_loop, range(0, 8000, 1000)))
    assert results == [[start + i for i in range(200)] for start in range(0, 8000, 1000)]


def test_many_calls_share_a_wake_up(loop_factory):
    """Those that come while the loop is busy wake it once."""
    wake_ups = []

    def make_loop():
        loop = loop_factory()

        class Counting(type(loop)):
            def call_soon_threadsafe(self, *args, **kwargs):
                wake_ups.append(args)
                return super().call_soon_threadsafe(*args, **kwargs)

        loop.close()
        return Counting()

    syncer = Syncify("counting", loop_factory=make_loop)

    @syncer
    async def echo(x):
        return x

    @syncer
    async def busy():
        began.set()
        go.wait()

    began, go = threading.Event(), threading.Event()
    blocker = busy.submit()
    began.wait()
    before = len(wake_ups)
    futures = [echo.submit(i) for i in range(1000)]
    woken = len(wake_ups) - before
    go.set()
    assert [future.result(10) for future in futures] == list(range(1000))
    blocker.result(10)
    assert woken == 1


def test_a_flood_of_calls_does_not_keep_the_loop_from_its_own_work(syncer):
    stop = threading.Event()
    fired = threading.Event()

    @syncer
    async def echo():
        pass

    def flood():
        while not stop.is_set():
            echo.submit()

    threads = [threading.Thread(target=flood) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        loop = syncer.get_loop()
        loop.call_soon_threadsafe(loop.call_later, 0.01, fired.set)
        assert fired.wait(10)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    echo()


def test_calls_are_started_in_the_order_of_one_caller(syncer):
    order = []

    @syncer
    async def note(i):
        order.append(i)

    futures = [note.submit(i) for i in range(200)]
    note(200)
    assert order == list(range(201))
    assert all(future.done() for future in futures)


def test_a_task_factory_that_raises_is_the_callers_error_and_no_hang(loop_factory):
    def make_loop():
        loop = loop_factory()
        loop.set_task_factory(lambda loop, coroutine, **kwargs: 1 / 0)
        return loop

    syncer = Syncify("bad-factory", loop_factory=make_loop)

    @syncer
    async def f():
        pass

    with pytest.raises(ZeroDivisionError):
        f()
    with pytest.raises(ZeroDivisionError):
        f.submit().result(10)
    with pytest.raises(ZeroDivisionError):
        asyncio.run(f.aio())
    with pytest.raises(ZeroDivisionError):
        syncer.run(asyncio.sleep(0))


def test_a_callback_of_a_future_that_raises_disturbs_nobody(syncer, caplog):
    @syncer
    async def echo(x):
        return x

    future = echo.submit(1)
    future.add_done_callback(lambda future: 1 / 0)
    assert future.result(10) == 1
    assert echo(2) == 2
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks are new in Python 3.12")
def test_eager_task_factories_on_either_side():
    def make_loop():
        loop = asyncio.new_event_loop()
        loop.set_task_factory(asyncio.eager_task_factory)
        return loop

    syncer = Syncify("eager", loop_factory=make_loop)

    @syncer
    async def f(turns):
        for _ in range(turns):
            await asyncio.sleep(0)
        return asyncio.get_running_loop()

    async def main():
        return await asyncio.gather(*(f.aio(i) for i in range(3)))

    assert [f(0), f(1), f.submit(2).result(10)] == [syncer.get_loop()] * 3
    assert syncer.run(main()) == [syncer.get_loop()] * 3
    with asyncio.Runner(loop_factory=make_loop) as runner:
        assert runner.run(main()) == [syncer.get_loop()] * 3


def test_however_many_calls_come_a_turn_of_the_loop_takes_a_bounded_number(loop_factory):
    syncer = Syncify("bounded", loop_factory=loop_factory)
    turn = 0
    taken = []

    def count_turns():
        nonlocal turn
        turn += 1
        if not stop.is_set():
            syncer.get_loop().call_soon(count_turns)

    @syncer
    async def note():
        taken.append(turn)

    def flood():
        for _ in range(5000):
            note.submit()

    stop, come = threading.Event(), threading.Event()
    syncer.get_loop().call_soon_threadsafe(come.wait)  # the loop finds all of them at once
    syncer.get_loop().call_soon_threadsafe(count_turns)
    threads = [threading.Thread(target=flood) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    come.set()
    note()
    stop.set()
    assert len(taken) == 20_001
    # Two, since the loop may run our part at the end of one turn and at the beginning of the next.
    assert max(taken.count(turn) for turn in set(taken)) <= 2 * 256


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of asyncio on Python 3.12, for a task without a name
def test_a_task_factory_that_returns_no_task_is_the_callers_error_and_no_hang(loop_factory):
    def make_loop():
        loop = loop_factory()
        loop.set_task_factory(lambda loop, coroutine, **kwargs: None)
        return loop

    f = Syncify("no-task", loop_factory=make_loop)(asyncio.sleep)
    with pytest.raises((TypeError, AttributeError)):
        f(0)
    with pytest.raises((TypeError, AttributeError)):
        f.submit(0).result(10)


def test_a_callback_of_a_future_that_raises_system_exit_is_reported(syncer):
    @syncer
    async def echo(x):
        return x

    def leave(future):
        raise SystemExit(3)

    reported = threading.Event()
    loop = syncer.get_loop()
    loop.call_soon_threadsafe(loop.set_exception_handler, lambda loop, context: reported.set())
    try:

        async def submit():  # from the loop, so that the callback is there before the call ends
            echo.submit(1).add_done_callback(leave)

        syncer.run(submit())
        assert reported.wait(10)
        assert echo(2) == 2
    finally:
        loop.call_soon_threadsafe(loop.set_exception_handler, None)


def test_a_call_that_failed_when_it_was_posted_is_not_made_later(script):
    """A signal handler, or the recursion limit, may strike when the call waits for the loop, which is not woken yet."""
    program = script("""
        from syncify import syncify

        begun = []

        @syncify
        async def f(x):
            begun.append(x)

        def deep(n):
            if n:
                return deep(n - 1)
            f("deep")
            return True

        import sys
        f("first")
        failed = 0
        for n in range(sys.getrecursionlimit() - 60, sys.getrecursionlimit()):
            begun.clear()
            try:
                deep(n)
            except RecursionError:
                failed += 1
                f("next")
                assert begun == ["next"], (n, begun)
        assert failed
        print("done")
    """)
    assert program.end() == (0, "done\n", "")


class Meeting(collections.deque):
    """What has been posted, with a stop inside an append or a look at it."""

    at_append = at_length = staticmethod(lambda: None)

    def append(self, callback):
        self.at_append()
        super().append(callback)

    def __len__(self):
        length = super().__len__()
        self.at_length()
        return length


@pytest.fixture
def meeting(loop_factory):
    syncer = Syncify("meeting", loop_factory=loop_factory)
    syncer.run(asyncio.sleep(0))
    syncer._background.incoming = Meeting()
    return syncer, syncer._background.incoming


def test_a_call_appended_when_the_loop_has_just_looked_wakes_it_again(meeting):
    syncer, incoming = meeting

    def post():
        del incoming.at_length
        futures.append(syncer.run.submit(asyncio.sleep(0, "met")))

    def meet():
        thread = threading.Thread(target=post)
        thread.start()
        thread.join(10)

    futures = []
    incoming.at_length = meet
    syncer.run(asyncio.sleep(0))
    assert futures[0].result(10) == "met"


def test_a_call_that_is_slow_to_append_does_not_rely_on_an_earlier_wake_up(meeting):
    syncer, incoming = meeting

    @syncer
    async def hold():
        held.set()
        go.wait()

    def slow():
        del incoming.at_append
        go.set()
        holder.result(10)  # so the loop has taken over what there was
        syncer.get_loop().call_soon_threadsafe(turned.set)
        turned.wait(10)

    held, go, turned = threading.Event(), threading.Event(), threading.Event()
    holder = hold.submit()
    held.wait(10)
    first = syncer.run.submit(asyncio.sleep(0, "first"))  # wakes the loop, for both
    incoming.at_append = slow
    assert syncer.run.submit(asyncio.sleep(0, "second")).result(10) == "second"
    assert first.result(10) == "first"


def test_a_task_factory_that_raises_after_it_has_run_the_task_disturbs_nobody(loop_factory, caplog):
    def factory(loop, coroutine, **kwargs):
        nonlocal left
        if not left:
            return asyncio.Task(coroutine, loop=loop, **kwargs)
        left -= 1
        with pytest.raises(StopIteration):
            coroutine.send(None)
        raise ZeroDivisionError

    def make_loop():
        loop = loop_factory()
        loop.set_task_factory(factory)
        return loop

    syncer = Syncify("runs-then-raises", loop_factory=make_loop)

    @syncer
    async def echo(x):
        return x

    @syncer
    async def both():  # handed over together, since they come from the loop
        return echo.submit(1), echo.submit(2)

    left = 0
    echo(0)

    async def main():
        nonlocal left
        left = 1
        return echo.submit(1), echo.submit(2)

    first, second = syncer.run(main())
    assert [first.result(10), second.result(10)] == [1, 2]
    assert "a call could not be handled" in caplog.text


def test_callbacks_of_the_loop_keep_no_context_of_a_caller(loop_factory):
    def factory(loop, coroutine, **kwargs):
        seen.append(variable.get())
        return asyncio.Task(coroutine, loop=loop, **kwargs)

    def make_loop():
        loop = loop_factory()
        loop.set_task_factory(factory)
        return loop

    def caller():
        variable.set("mine")
        return syncer.run(asyncio.sleep(0, "done"))

    seen = []
    syncer = Syncify("own-context", loop_factory=make_loop)
    assert contextvars.Context().run(caller) == "done"
    assert seen == ["default"]


def test_a_task_factory_gets_the_name_and_the_context(loop_factory):
    def make_loop():
        loop = loop_factory()
        loop.set_task_factory(lambda loop, coroutine, **kwargs: asyncio.Task(coroutine, loop=loop, **kwargs))
        return loop

    syncer = Syncify("task-factory", loop_factory=make_loop)

    @syncer
    async def look():
        return asyncio.current_task().get_name(), variable.get()

    def caller():
        variable.set("mine")
        return look()

    name, value = contextvars.Context().run(caller)
    assert name.endswith("<locals>.look")
    assert value == "mine"


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_a_task_factory_that_exits_is_the_callers_error_and_no_hang(loop_factory, error):
    def factory(loop, coroutine, **kwargs):
        raise error

    def make_loop():
        loop = loop_factory()
        loop.set_task_factory(factory)
        return loop

    syncer = Syncify("exits", loop_factory=make_loop)
    with pytest.raises(error):
        syncer.run.submit(asyncio.sleep(0)).result(10)


def test_a_call_with_wrong_arguments_that_cannot_start_is_no_hang(loop_factory):
    def make_loop():
        loop = loop_factory()
        loop.set_task_factory(lambda loop, coroutine, **kwargs: 1 / 0)
        return loop

    f = Syncify("bad-factory", loop_factory=make_loop)(asyncio.sleep)
    with pytest.raises(ZeroDivisionError):
        f.submit(no="such argument").result(10)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks are new in Python 3.12")
def test_a_coroutine_that_never_suspends_ends_in_the_turn_that_takes_it(loop_factory):
    syncer = Syncify("eager", loop_factory=loop_factory)

    @syncer
    async def at_once():
        pass

    async def main():
        future = at_once.submit()
        await asyncio.sleep(0)
        return future.done()

    assert syncer.run(main())


def test_a_call_is_done_before_its_caller_is_woken(syncer, monkeypatch):
    """Or an interrupt in between would wait for a second wake-up, which never comes."""
    wake = _callers.BlockingCall.wake
    seen = []
    monkeypatch.setattr(_callers.BlockingCall, "wake", lambda call: (seen.append(call.done), wake(call)))
    syncer.run(asyncio.sleep(0))
    assert seen == [True]


def test_an_error_of_the_loop_factory_reaches_who_awaits(loop_factory):
    async def fine():
        pass

    f = Syncify("failing", loop_factory=lambda: 1 / 0)(fine)

    async def main():
        with pytest.raises(ZeroDivisionError):
            await asyncio.wait_for(f.aio(), 10)

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main())


class Interrupt(BaseException):
    pass


@pytest.mark.parametrize("posted", [False, True])
def test_an_interrupt_while_a_task_posts_its_call_cancels_it_and_is_raised(loop_factory, posted):
    """As a signal handler raises it."""
    syncer = Syncify("struck", loop_factory=loop_factory)
    syncer.run(asyncio.sleep(0))
    background = syncer._background
    ended = threading.Event()

    @syncer
    async def f():
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    def struck(callback):
        del background.post
        if posted:
            background.post(callback)
        raise Interrupt

    async def main():
        background.post = struck
        with pytest.raises(Interrupt):
            await f.aio()

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main())
    syncer.run(asyncio.sleep(0))
    assert ended.is_set() == posted
    assert repr(syncer) == "<Syncify 'struck', 0 calls in flight>"


def test_a_callback_of_a_future_that_raises_system_exit_is_reported_as_such(syncer):
    async def echo(x):
        return x

    def leave(future):
        raise SystemExit(3)

    messages = []
    loop = syncer.get_loop()
    loop.call_soon_threadsafe(loop.set_exception_handler, lambda loop, context: messages.append(context["message"]))
    try:

        async def submit():
            syncer(echo).submit(1).add_done_callback(leave)
            await asyncio.sleep(0)

        syncer.run(submit())
        syncer.run(asyncio.sleep(0))
        assert messages == ["a callback of a submitted call raised"]
    finally:
        loop.call_soon_threadsafe(loop.set_exception_handler, None)
