"""An async iterator that a coroutine returns can be iterated by who called it; its steps run on the background loop."""

import asyncio
import collections.abc
import copy
import gc
import inspect
import itertools
import os
import signal
import socket
import sys
import threading
import traceback
import unittest.mock
import weakref

import pytest

from syncify import BlockingCallWarning, DeadlockError

try:
    import uvloop
except ImportError:
    uvloop = None


class Numbers:
    """An async iterator of numbers, down to 0, that notes where its steps run."""

    kind = "numbers"

    def __init__(self, left=3):
        self.left = left
        self.tasks = []
        self.loops = set()

    def __aiter__(self):
        return self

    async def __anext__(self):
        self.loops.add(asyncio.get_running_loop())
        self.tasks.append(asyncio.current_task())
        await asyncio.sleep(0)
        if not self.left:
            raise StopAsyncIteration
        self.left -= 1
        return self.left


def _submit(syncer, function, *args):
    return list(function.submit(*args).result())


def _run(syncer, function, *args):
    return list(syncer.run(function.__wrapped__(*args)))


def _on(loop_factory):
    def collect(syncer, function, *args):
        async def main():
            return [item async for item in await function.aio(*args)]

        with asyncio.Runner(loop_factory=loop_factory) as runner:
            return runner.run(main())

    return collect


def _on_by_run(syncer, function, *args):
    async def main():
        return [item async for item in await syncer.run.aio(function.__wrapped__(*args))]

    return asyncio.run(main())


def _own(syncer, function, *args):
    async def main():
        return [item async for item in await function.aio(*args)]

    return syncer.run(main())


WAYS = {
    "blocking": lambda syncer, function, *args: list(function(*args)),
    "submit": _submit,
    "run": _run,
    "another loop": _on(asyncio.new_event_loop),
    "another loop, by run": _on_by_run,
    "the own loop": _own,
} | ({"a uvloop": _on(uvloop.new_event_loop)} if uvloop else {})


@pytest.fixture(params=WAYS)
def collect(request, syncer):
    """`collect(f, 1)` is `list(f(1))`, or the like."""
    return lambda function, *args: WAYS[request.param](syncer, function, *args)


@pytest.fixture
def numbers(syncer):
    async def numbers(*args):
        return Numbers(*args)

    return syncer(numbers)


@pytest.fixture(params=["blocking", "another loop"])
def step(request, loop_factory):
    """`step(view)` is `next(view)`, or the like."""
    if request.param == "blocking":
        yield next
        return

    with asyncio.Runner(loop_factory=loop_factory) as runner:

        def step(view):
            async def one():
                try:
                    return await anext(view), None
                except Exception as error:  # a StopIteration could not leave
                    return None, error

            value, error = runner.run(one())
            if error is not None:
                raise error
            return value

        yield step


class Server:
    """Sends what it is given to whoever connects, in a thread of its own."""

    def __init__(self, *chunks):
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.address = self.listening.getsockname()
        self.chunks = chunks
        self.thread = threading.Thread(target=self.serve)
        self.thread.start()

    def serve(self):
        connection, _ = self.listening.accept()
        with connection:
            for chunk in self.chunks:
                connection.sendall(chunk)

    def close(self):
        self.listening.close()
        self.thread.join(20)


@pytest.fixture
def server():
    servers = []

    def start(*chunks):
        servers.append(Server(*chunks))
        return servers[-1].address

    yield start
    for each in servers:
        each.close()


@pytest.fixture
def connect(syncer):
    """A coroutine function that returns a reader of a connection. `connect.close()` closes what it has opened."""
    writers = []

    @syncer
    async def connect(address):
        reader, writer = await asyncio.open_connection(*address)
        writers.append(writer)
        return reader

    async def close():
        for writer in writers:
            writer.close()
            await writer.wait_closed()

    yield connect
    syncer.run(close())


# asyncio.StreamReader.


def test_a_stream_reader_gives_its_lines(collect, connect, server):
    assert collect(connect, server(b"one\ntw", b"o\n", b"three")) == [b"one\n", b"two\n", b"three"]


def test_a_stream_reader_has_its_attributes(syncer, connect, server):
    reader = connect(server(b"one\ntwo\nthree\n"))
    assert next(reader) == b"one\n"
    assert syncer.run(reader.readline()) == b"two\n"
    assert syncer.run(reader.read()) == b"three\n"
    assert reader.at_eof() is True
    assert next(reader, "end") == "end"
    assert list(reader) == []


def test_a_stream_reader_goes_on_after_an_error_of_its_own(syncer, step):
    async def make():
        reader = asyncio.StreamReader(limit=4)
        reader.feed_data(b"far too long\nok\n")
        reader.feed_eof()
        return reader

    reader = syncer(make)()
    with pytest.raises(ValueError, match="limit"):
        step(reader)
    assert step(reader) == b"ok\n"


# What comes back.


def test_items_come_in_order_and_steps_run_on_the_loop(syncer, collect):
    made = []

    @syncer
    async def make(n):
        made.append(Numbers(n))
        return made[0]

    assert collect(make, 3) == [2, 1, 0]
    assert made[0].loops == {syncer.get_loop()}


def test_its_steps_run_in_one_task(syncer, numbers):
    view = numbers()
    assert list(view) == [2, 1, 0]
    assert len(view.tasks) == 4
    assert len(set(view.tasks)) == 1


def test_it_is_an_iterator_and_an_async_iterator(numbers):
    for view in numbers(), numbers.submit().result():
        assert isinstance(view, collections.abc.Iterator)
        assert isinstance(view, collections.abc.AsyncIterator)
        assert iter(view) is view
        assert aiter(view) is view


def test_what_one_has_begun_the_other_goes_on_with(numbers, loop_factory):
    view = numbers(4)
    assert next(view) == 3

    async def main():
        assert await anext(view) == 2
        assert await anext(view) == 1

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main())
    assert list(view) == [0]


def test_on_the_own_loop_the_very_object_comes_back(syncer):
    iterator = Numbers()

    @syncer
    async def make():
        return iterator

    assert syncer.run(_the_very(make, iterator)) is True


async def _the_very(function, expected):
    return await function.aio() is expected


class OnlyAiter:
    def __aiter__(self):
        return Numbers()


class OnlyAnext:
    async def __anext__(self):
        pass


class InTheInstance:
    def __init__(self):
        self.__aiter__ = self.__anext__ = lambda: None


@pytest.mark.parametrize(
    "value",
    [OnlyAiter(), OnlyAnext(), InTheInstance(), Numbers, iter([1]), [1], None, {"a": 1}, object()],
    ids=lambda value: type(value).__name__,
)
def test_other_objects_come_back_untouched(syncer, call, value):
    @syncer
    async def make():
        return value

    assert call(make) is value
    assert syncer.run(make.__wrapped__()) is value
    assert syncer.run.submit(make.__wrapped__()).result() is value


def test_an_async_generator_comes_as_a_generator_or_an_async_generator(syncer, collect):
    log = []

    async def rows(n):
        try:
            for i in range(n):
                assert asyncio.get_running_loop() is syncer.get_loop()
                log.append((yield i))
        finally:
            await asyncio.sleep(0)
            log.append("closed")

    @syncer
    async def make(n):
        return rows(n)

    assert collect(make, 3) == [0, 1, 2]
    assert log.pop() == "closed"
    log.clear()
    generator = make(3)
    assert isinstance(generator, collections.abc.Generator)
    assert next(generator) == 0
    assert generator.send("sent") == 1
    generator.close()
    assert log == ["sent", "closed"]

    async def main():
        generator = await make.aio(3)
        assert inspect.isasyncgen(generator)
        assert await anext(generator) == 0
        assert await generator.asend("sent") == 1
        await generator.aclose()

    log.clear()
    asyncio.run(main())
    assert log == ["sent", "closed"]


def test_methods_return_views_too(syncer):
    class Store:
        @syncer
        async def method(self):
            return Numbers(1)

        @syncer
        @classmethod
        async def class_method(cls):
            return Numbers(1)

        @syncer
        @staticmethod
        async def static_method():
            return Numbers(1)

    for function in Store().method, Store.class_method, Store.static_method:
        assert list(function()) == [0]
        assert list(function.submit().result()) == [0]


# Attributes.


def test_attributes_are_those_of_the_iterator(syncer):
    iterator = Numbers()

    @syncer
    async def make():
        return iterator

    view = make()
    assert view.kind == "numbers"
    assert view.left == 3
    view.left = 2
    view.new = "new"
    assert (iterator.left, iterator.new) == (2, "new")
    assert "new" in dir(view) and "kind" in dir(view)
    del view.new
    assert not hasattr(iterator, "new")
    with pytest.raises(AttributeError, match="'Numbers' object has no attribute 'new'"):
        view.new  # noqa: B018
    with pytest.raises(AttributeError):
        del view.new
    assert list(view) == [1, 0]
    assert repr(iterator) in repr(view)


def test_an_iterator_whose_attributes_cannot_be_set_says_so_itself(syncer):
    class Slots(Numbers):
        __slots__ = ()

        def __setattr__(self, name, value):
            if name == "fixed":
                raise AttributeError("cannot be set")
            super().__setattr__(name, value)

    @syncer
    async def make():
        return Slots()

    with pytest.raises(AttributeError, match="cannot be set"):
        make().fixed = 1


# Errors.


class Fails:
    """Fails at every second step."""

    def __init__(self, error):
        self.error = error
        self.steps = 0

    def __aiter__(self):
        return self

    async def __anext__(self):
        await asyncio.sleep(0)
        self.steps += 1
        if self.steps % 2 == 0:
            raise self.error
        return self.steps


@pytest.mark.parametrize("kind", [ValueError, asyncio.CancelledError, KeyError])
def test_an_error_is_the_very_object_and_one_can_go_on_after_it(syncer, kind):
    error = kind("step")

    @syncer
    async def make():
        return Fails(error)

    view = make()
    for i in 1, 3:
        assert next(view) == i
        with pytest.raises(type(error)) as raised:
            next(view)
        assert raised.value is error

    async def main():
        view = await make.aio()
        for i in 1, 3:
            assert await anext(view) == i
            with pytest.raises(type(error)) as raised:
                await anext(view)
            assert raised.value is error

    asyncio.run(main())


def test_a_traceback_has_the_users_frames_and_one_of_the_library(syncer, step):
    @syncer
    async def make():
        return Fails(LookupError())

    view = make()
    step(view)
    with pytest.raises(LookupError) as raised:
        step(view)
    frames = traceback.extract_tb(raised.value.__traceback__)
    assert frames[-1].name == "__anext__" and frames[-1].filename == __file__
    assert sum(os.path.basename(frame.filename) == "_views.py" for frame in frames) == 1
    assert not any(os.path.basename(frame.filename).startswith(("_call", "_conv")) for frame in frames)


def test_one_that_has_more_after_its_end_can_be_asked_again(syncer, step):
    class Pauses(Numbers):
        async def __anext__(self):
            if self.left == 1:
                self.left = 10
                raise StopAsyncIteration
            return await super().__anext__()

    @syncer
    async def make():
        return Pauses()

    view = make()
    assert [step(view), step(view)] == [2, 1]
    with pytest.raises((StopIteration, StopAsyncIteration)):
        step(view)
    assert step(view) == 9


def test_an_anext_that_is_no_coroutine_function_works(syncer, step):
    class Futures(Numbers):
        def __anext__(self):
            return asyncio.ensure_future(asyncio.sleep(0, "item"))

    @syncer
    async def make():
        return Futures()

    assert step(make()) == "item"


# Two consumers.


def test_two_consumers_share_the_items(syncer):
    class Counts(Numbers):
        running = 0

        async def __anext__(self):
            type(self).running += 1
            assert self.running == 1  # one step at a time
            try:
                return await super().__anext__()
            finally:
                type(self).running -= 1

    @syncer
    async def make():
        return Counts(300)

    view, results = make(), [[], [], []]

    async def iterate():
        results[2].extend([item async for item in view])

    threads = [threading.Thread(target=lambda i=i: results[i].extend(view)) for i in range(2)]
    threads.append(threading.Thread(target=lambda: asyncio.run(iterate())))
    for each in threads:
        each.start()
    for each in threads:
        each.join(20)
    assert sorted(itertools.chain(*results)) == list(range(300))
    assert all(items == sorted(items, reverse=True) for items in results)


def test_an_error_that_one_consumer_gets_does_not_end_the_other(syncer):
    waits, go = threading.Event(), asyncio.Event()

    class Once(Numbers):
        first = True

        async def __anext__(self):
            if self.first:
                self.first = False
                waits.set()
                await go.wait()
                raise LookupError("for the first")
            return await super().__anext__()

    @syncer
    async def make():
        return Once()

    view, results = make(), []

    def first():
        with pytest.raises(LookupError):
            next(view)
        results.append("first")

    async def second():
        step = asyncio.ensure_future(anext(view))
        await asyncio.sleep(0)  # now it is queued behind the first
        syncer.get_loop().call_soon_threadsafe(go.set)
        results.append(await step)

    thread = threading.Thread(target=first)
    thread.start()
    assert waits.wait(20)
    asyncio.run(second())
    thread.join(20)
    assert sorted(map(str, results)) == ["2", "first"]


def test_a_cancelled_step_of_one_consumer_does_not_end_the_other(syncer, loop_factory):
    @syncer
    async def make():
        return Waits()

    async def main():
        view = await make.aio()
        first = asyncio.ensure_future(anext(view))
        while not view.waits.is_set():
            await asyncio.sleep(0)
        second = asyncio.ensure_future(anext(view))
        await asyncio.sleep(0)  # now it is queued behind the first
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        assert await second == 2

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main())


def test_two_consumers_that_take_the_first_step_at_one_instant_are_in_one_task(numbers):
    view, meeting, errors = numbers(2), threading.Barrier(2), []

    def trace(frame, event, arg):
        # Where they note what both are to find. If but one comes here, all is well, and it waits in vain.
        if os.path.basename(frame.f_code.co_filename) == "_conversation.py" and frame.f_code.co_name == "__init__":
            try:
                meeting.wait(0.2)
            except threading.BrokenBarrierError:
                pass

    def step():
        sys.settrace(trace)
        try:
            next(view)
        except BaseException as error:
            errors.append(error)
        finally:
            sys.settrace(None)

    threads = [threading.Thread(target=step) for _ in range(2)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(20)
    assert not errors
    assert len(view.tasks) == 2
    assert len(set(view.tasks)) == 1


# Cancellation, and where one should not block.


class Waits(Numbers):
    def __init__(self):
        super().__init__()
        self.waits = threading.Event()
        self.log = []

    async def __anext__(self):
        if not self.log:
            try:
                self.waits.set()
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0)
                self.log.append("cleaned")
        return await super().__anext__()


def test_cancelling_a_step_waits_for_its_cleanup_and_one_can_go_on(syncer, loop_factory):
    @syncer
    async def make():
        return Waits()

    async def main():
        view = await make.aio()
        task = asyncio.ensure_future(anext(view))
        while not view.waits.is_set():
            await asyncio.sleep(0)
        task.cancel("message")
        with pytest.raises(asyncio.CancelledError, match="message"):
            await task
        assert view.log == ["cleaned"]
        assert [item async for item in view] == [2, 1, 0]

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main())


def test_a_time_limit_around_a_step(syncer, loop_factory):
    @syncer
    async def make():
        return Waits()

    async def main():
        view = await make.aio()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001):
                await anext(view)
        # Struck while it waited, or before it had begun.
        assert view.log == ["cleaned"] or not view.waits.is_set()
        assert asyncio.current_task().cancelling() == 0

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main())


def test_on_the_loop_itself_next_is_refused(syncer, numbers):
    view = numbers()

    async def main():
        with pytest.raises(DeadlockError, match=r"Numbers.__next__\(\)"):
            next(view)
        return [item async for item in view]

    assert syncer.run(main()) == [2, 1, 0]


def test_on_another_loop_next_warns_at_the_callers_line(numbers, loop_factory):
    view = numbers()

    async def main():
        next(view)
        return inspect.currentframe().f_lineno - 1

    with pytest.warns(BlockingCallWarning, match="`async for ") as caught, asyncio.Runner() as runner:
        line = runner.run(main())
    assert [(w.filename, w.lineno) for w in caught] == [(__file__, line)]


def test_where_no_loop_runs_anext_says_so(numbers):
    coroutine = numbers().__anext__()
    with pytest.raises(RuntimeError, match="neither an asyncio event loop nor Trio runs"):
        coroutine.send(None)


@pytest.mark.skipif(sys.platform == "win32", reason="sends POSIX signals")
def test_ctrl_c_during_a_step_cancels_it_and_one_can_go_on(script):
    running = script("""
        import asyncio, os
        from syncify import syncify

        class Rows:
            steps = 0
            def __aiter__(self):
                return self
            async def __anext__(self):
                self.steps += 1
                if self.steps == 1:
                    try:
                        print("waits", flush=True)
                        await asyncio.Event().wait()
                    finally:
                        await asyncio.sleep(0.01)
                        print("cleaned")
                return self.steps

        @syncify
        async def make():
            return Rows()

        view = make()
        try:
            next(view)
        except KeyboardInterrupt:
            print("raised")
        print(next(view), flush=True)
        os._exit(0)
    """)
    assert running.line() == "waits"
    running.process.send_signal(signal.SIGINT)
    assert running.end() == (0, "cleaned\nraised\n2\n", "")


# Garbage.


@pytest.mark.parametrize("steps", [0, 1, 3, 4])
def test_dropped_it_goes_away_with_its_iterator_and_its_task(syncer, step, steps):
    references = []

    @syncer
    async def make():
        iterator = Numbers()
        references.append(weakref.ref(iterator))
        return iterator

    view = make()
    for _ in range(steps):
        try:
            step(view)
        except (StopIteration, StopAsyncIteration):
            pass
    references += [weakref.ref(task) for task in view.tasks]
    del view
    for _ in range(1000):
        gc.collect()  # asyncio.run keeps what it raises in a cycle; and this does nothing while another thread collects
        syncer.run(asyncio.sleep(0))
        if [reference() for reference in references] == [None] * (1 + steps):
            break
    assert [reference() for reference in references] == [None] * (1 + steps)


def test_dropped_on_the_loop_itself_it_does_not_block_that(syncer, numbers):
    views = [numbers()]
    next(views[0])
    tasks = [weakref.ref(task) for task in views[0].tasks]

    async def main():
        views.clear()
        for _ in range(3):
            await asyncio.sleep(0)
        gc.collect()
        return [task() for task in tasks]

    assert syncer.run(main()) == [None]


def test_one_that_is_still_there_when_the_program_ends_ends_in_silence(script):
    running = script("""
        import asyncio
        from syncify import syncify

        class Rows:
            def __aiter__(self):
                return self
            async def __anext__(self):
                return "row"

        @syncify
        async def make():
            return Rows()

        view = make()
        print(next(view))
    """)
    assert running.end() == (0, "row\n", "")


# What has both kinds of iteration, loops that begin anew, and consumers that leave each other alone.


class Both(Numbers):
    """Plain code can iterate over it without help."""

    def __iter__(self):
        return iter([1])


@pytest.mark.parametrize("make_value", [unittest.mock.MagicMock, Both])
def test_what_plain_code_can_iterate_over_comes_back_untouched(syncer, call, make_value):
    value = make_value()

    @syncer
    async def make():
        return value

    assert call(make) is value
    assert syncer.run(make.__wrapped__()) is value


def test_a_loop_begins_with_the_aiter_of_the_iterator(syncer, collect):
    class Rewinds(Numbers):
        def __aiter__(self):
            self.left = 2
            return self

    iterator = Rewinds(0)

    @syncer
    async def make():
        return iterator

    assert collect(make) == [1, 0]
    assert collect(make) == [1, 0]
    view = make()
    assert list(view) == [1, 0]
    assert list(view) == [1, 0]


def test_an_aiter_that_is_an_async_generator_is_iterated_and_closed(syncer, loop_factory):
    log, closed = [], threading.Event()

    class Rows:
        async def __aiter__(self):
            try:
                yield 1
                yield 2
            finally:
                await asyncio.sleep(0)
                log.append(asyncio.get_running_loop())
                closed.set()

        async def __anext__(self):
            raise NotImplementedError

    @syncer
    async def make():
        return Rows()

    async def iterate():
        return [item async for item in await make.aio()]

    assert list(make()) == [1, 2]
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        assert runner.run(iterate()) == [1, 2]
    closed.clear()
    view = make()
    for item in view:
        assert item == 1
        break
    assert not closed.is_set()
    del view
    assert closed.wait(20)
    assert log == [syncer.get_loop()] * 3


@pytest.mark.parametrize("how", ["cancel", "wait_for"])
def test_a_cancelled_step_that_is_queued_does_not_touch_the_step_of_the_other(syncer, loop_factory, how):
    class Gated(Numbers):
        def __init__(self):
            super().__init__()
            self.waits = threading.Event()
            self.gate = asyncio.Event()

        async def __anext__(self):
            self.waits.set()
            await self.gate.wait()
            return await super().__anext__()

    @syncer
    async def make():
        return Gated()

    async def main():
        view = await make.aio()
        first = asyncio.ensure_future(anext(view))
        while not view.waits.is_set():
            await asyncio.sleep(0)
        if how == "cancel":
            second = asyncio.ensure_future(anext(view))
            await syncer.run.aio(asyncio.sleep(0))  # now it is queued behind the first
            second.cancel("message")
            with pytest.raises(asyncio.CancelledError, match="message"):
                await second
        else:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(view), 0.001)
        assert not first.done()
        syncer.get_loop().call_soon_threadsafe(view.gate.set)
        assert await first == 2
        assert await anext(view) == 1

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main())


def test_a_cancelled_step_leaves_nothing_behind_in_the_task_of_later_steps(syncer, loop_factory):
    class Tells(Waits):
        async def __anext__(self):
            await super().__anext__()
            return asyncio.current_task().cancelling()

    @syncer
    async def make():
        return Tells()

    async def main():
        view = await make.aio()

        async def strike(limit):
            while not view.waits.is_set():
                await asyncio.sleep(0)
            limit.reschedule(0)

        with pytest.raises(TimeoutError):
            async with asyncio.timeout(None) as limit:
                striking = asyncio.ensure_future(strike(limit))
                await anext(view)
        await striking
        assert view.log == ["cleaned"]
        assert [item async for item in view] == [0, 0, 0]

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main())


def test_an_async_generator_that_had_begun_is_closed_thrown_at_and_sent_to(syncer):
    log = []

    async def rows():
        try:
            while True:
                try:
                    log.append((yield "row"))
                except ValueError:
                    log.append("caught")
        finally:
            for _ in range(3):
                await asyncio.sleep(0)
            log.append("closed")

    @syncer
    async def make():
        generator = rows()
        assert await anext(generator) == "row"
        return generator

    make().close()
    assert log == ["closed"]
    log.clear()
    generator = make()
    assert generator.throw(ValueError()) == "row"
    generator.close()
    assert log == ["caught", "closed"]
    log.clear()
    generator = make()
    assert generator.send("sent") == "row"
    generator.close()
    assert log == ["sent", "closed"]


def test_it_cannot_be_copied(numbers):
    view = numbers()
    for how in copy.copy, copy.deepcopy:
        with pytest.raises(TypeError, match="cannot be copied"):
            how(view)
    assert list(view) == [2, 1, 0]


@pytest.mark.skipif(sys.platform == "win32", reason="sends POSIX signals")
def test_ctrl_c_in_a_step_that_is_queued_does_not_touch_the_step_of_the_other(script):
    running = script("""
        import asyncio, os, signal, threading
        from syncify import syncify

        waits, gate, results = threading.Event(), asyncio.Event(), []

        class Gated:
            def __aiter__(self):
                return self
            async def __anext__(self):
                waits.set()
                await gate.wait()
                return "item"

        @syncify
        async def make():
            return Gated()

        @syncify
        async def interrupt():
            os.kill(os.getpid(), signal.SIGINT)

        @syncify
        async def open_gate():
            gate.set()

        view = make()
        thread = threading.Thread(target=lambda: results.append(next(view)))
        thread.start()
        assert waits.wait(20)
        try:
            interrupt.submit()
            next(view)
        except KeyboardInterrupt:
            results.append("interrupted")
        open_gate()
        thread.join(20)
        print(results)
        print(next(view))
    """)
    assert running.end() == (0, "['interrupted', 'item']\nitem\n", "")


def test_a_cancellation_of_its_task_between_two_steps_is_raised_by_the_next_and_it_goes_on(syncer):
    @syncer
    async def make():
        return Numbers()

    view = make()
    first = next(view)
    syncer.get_loop().call_soon_threadsafe(view.tasks[0].cancel)
    with pytest.raises(asyncio.CancelledError):
        next(view)
    assert next(view) == first - 1
