"""Whoever leaves a loop before its end finds the generator's `finally` done, awaits and all."""

import asyncio
import contextlib
import gc
import itertools
import os
import signal
import sys
import textwrap
import threading

import pytest
from test_interrupt import STRUCK

from syncify import Syncify

posix = pytest.mark.skipif(sys.platform == "win32", reason="sends POSIX signals")


class Source:
    """A generator function that tells what became of its generators. With a gate, their cleanup waits for `open`."""

    def __init__(self, syncer, *, gate=False, name="rows"):
        self.log = []
        self.cleaned = threading.Event()
        self.leaving = threading.Event()
        event = asyncio.Event()

        async def rows():
            try:
                for i in range(5):
                    await asyncio.sleep(0)
                    yield i
            finally:
                self.leaving.set()
                if gate:
                    async with asyncio.timeout(20):  # so that who waits for it fails, and does not hang
                        await event.wait()
                for _ in range(3):
                    await asyncio.sleep(0.001)
                self.log.append(f"{name} cleaned")
                self.cleaned.set()

        async def open_the_gate():
            event.set()

        self.rows = syncer(rows)
        self.aio = self.rows.aio
        self.open = syncer(open_the_gate)

    def assert_cleaned_later(self):
        """Whoever has left did not wait; now the gate is opened, and the cleanup goes on."""
        assert self.log == []
        assert self.leaving.wait(10)
        self.open()
        assert self.cleaned.wait(10)
        assert self.log == ["rows cleaned"]


@pytest.fixture
def source(syncer):
    return Source(syncer)


@pytest.fixture
def gated(syncer):
    return Source(syncer, gate=True)


@pytest.fixture
def unraisable(monkeypatch):
    """What Python could not raise anywhere."""
    errors = []
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: errors.append(unraisable.exc_value))
    yield errors
    errors.clear()


# Plain code that leaves.


def test_break(source):
    for _ in source.rows():
        break
    assert source.log == ["rows cleaned"]


def test_break_after_some_items(source):
    items = []
    for item in source.rows():
        items.append(item)
        if item == 2:
            break
    assert source.log == ["rows cleaned"]
    assert items == [0, 1, 2]


def test_break_out_of_blocks_within_the_loop(source):
    for item in source.rows():
        try:
            with contextlib.nullcontext():
                if item == 1:
                    break
        finally:
            source.log.append("finally of the body")
    assert source.log == ["finally of the body"] * 2 + ["rows cleaned"]


def test_return(source):
    def first():
        for item in source.rows():
            return item
        return None

    assert first() == 0
    assert source.log == ["rows cleaned"]


def test_the_end_of_a_function_that_has_kept_it(source):
    def first():
        generator = source.rows()
        return next(generator)

    item = first()
    assert source.log == ["rows cleaned"]
    assert item == 0


def test_an_error_in_the_body(source):
    error = ValueError("in the body")
    with pytest.raises(ValueError, match="in the body") as caught:
        for _ in source.rows():
            raise error
    assert source.log == ["rows cleaned"]
    assert caught.value is error
    assert error.__context__ is None


class Refuses:
    """Whatever is stored in it, or deleted."""

    def __setattr__(self, name, value):
        raise ValueError("refused")

    def __delattr__(self, name):
        raise ValueError("refused")

    def __setitem__(self, name, value):
        raise ValueError("refused")

    def __delitem__(self, name):
        raise ValueError("refused")


def calls(source, refuses):
    for item in source.rows():
        refuses.__setattr__("item", item)


def stores_an_item(source, refuses):
    for item in source.rows():
        refuses[item] = item


def stores_an_attribute(source, refuses):
    for item in source.rows():
        refuses.item = item


def stores_a_slice(source, refuses):
    for item in source.rows():
        refuses[item:item] = item


def deletes_an_item(source, refuses):
    for item in source.rows():
        del refuses[item]


def deletes_an_attribute(source, refuses):
    for _ in source.rows():
        del refuses.item


def deletes_a_name(source, refuses):
    for _ in source.rows():
        with contextlib.suppress(ValueError):
            unbound = refuses.__setattr__("item", 1)
        del unbound


def loops_with_an_attribute(source, refuses):
    for refuses.item in source.rows():
        pass


ERRORS = [
    calls,
    stores_an_item,
    stores_an_attribute,
    stores_a_slice,
    deletes_an_item,
    deletes_an_attribute,
    deletes_a_name,
    loops_with_an_attribute,
]


@pytest.mark.parametrize("body", ERRORS)
def test_an_error_in_the_body_whatever_statement_raises_it(source, body):
    try:
        body(source, Refuses())
    except (ValueError, UnboundLocalError):
        assert source.log == ["rows cleaned"]
    else:
        pytest.fail("no error")


def test_an_error_of_a_statement_that_stores_is_caught_in_the_same_function(source):
    refuses = Refuses()
    try:
        for item in source.rows():
            refuses[0] = item
    except ValueError:
        assert source.log == ["rows cleaned"]
    assert source.log == ["rows cleaned"]


def test_nested_loops_are_left_from_the_inside_out(syncer):
    log = []

    def sources():
        outer, inner = Source(syncer, name="outer"), Source(syncer, name="inner")
        outer.log = inner.log = log
        return outer, inner

    def returns(outer, inner):
        for _ in outer.rows():
            for _ in inner.rows():
                return

    def raises(outer, inner):
        with contextlib.suppress(ValueError):
            for _ in outer.rows():
                for _ in inner.rows():
                    raise ValueError

    for leave in returns, raises:
        leave(*sources())
        assert log == ["inner cleaned", "outer cleaned"]
        log.clear()
    outer, inner = sources()
    for _ in outer.rows():
        for _ in inner.rows():
            break
        assert log == ["inner cleaned"]
        break
    assert log == ["inner cleaned", "outer cleaned"]


def test_leaving_an_inner_loop_does_not_touch_the_outer(syncer):
    outer, inner = Source(syncer), Source(syncer)
    items = []
    for item in outer.rows():
        for _ in inner.rows():
            break
        assert len(inner.log) == item + 1
        items.append(item)
    assert items == [0, 1, 2, 3, 4]
    assert len(outer.log) == 1


WRAPPED = {
    "islice": lambda rows: itertools.islice(rows, 2),
    "islice exhausted": lambda rows: itertools.islice(rows, 1),
    "zip, first": lambda rows: zip(rows, range(2), strict=False),
    "zip, last": lambda rows: zip(range(2), rows, strict=False),
    "enumerate": enumerate,
    "map": lambda rows: map(str, rows),
    "chain": lambda rows: itertools.chain(rows, range(3)),
    "a generator expression": lambda rows: (item for item in rows),
    "takewhile": lambda rows: itertools.takewhile(lambda item: item < 1, rows),
}


@pytest.mark.parametrize("wrap", WRAPPED.values(), ids=WRAPPED)
def test_break_out_of_what_iterates_over_it(source, wrap):
    for _ in wrap(source.rows()):
        break
    assert source.log == ["rows cleaned"]


@pytest.mark.parametrize("wrap", [WRAPPED[name] for name in ("islice", "zip, first", "zip, last", "takewhile")])
def test_the_end_of_what_takes_only_some_items(source, wrap):
    for _ in wrap(source.rows()):
        pass
    assert source.log == ["rows cleaned"]


def test_expressions_that_take_only_some_items(syncer):
    def check(source):  # no expression of an `assert`, whose parts pytest gives names to
        assert source.log == ["rows cleaned"]
        source.log.clear()

    source = Source(syncer)
    item = next(source.rows())
    check(source)
    assert item == 0
    items = list(itertools.islice(source.rows(), 2))
    check(source)
    assert items == [0, 1]
    found = any(item == 1 for item in source.rows())
    check(source)
    assert found
    found = 2 in source.rows()
    check(source)
    assert found
    with pytest.raises(ValueError, match="too many values"):
        _a, _b = source.rows()
    check(source)
    squares = [item**2 for item, _ in zip(source.rows(), range(2), strict=False)]
    check(source)
    assert squares == [0, 1]


def test_contextlib_closing(source):
    with contextlib.closing(source.rows()) as rows:
        next(rows)
    assert source.log == ["rows cleaned"]


def test_a_wrapping_generator_that_is_closed(source):
    def wraps():
        for item in source.rows():
            yield item + 1

    generator = wraps()
    next(generator)
    generator.close()
    assert source.log == ["rows cleaned"]


def test_in_a_thread(source):
    def leave():
        for _ in source.rows():
            break
        logs.append(list(source.log))

    logs = []
    thread = threading.Thread(target=leave)
    thread.start()
    thread.join(10)
    assert logs == [["rows cleaned"]]


def test_a_kept_generator_goes_on_after_a_break(source):
    generator = source.rows()
    for _ in generator:
        break
    assert source.log == []
    assert list(generator) == [1, 2, 3, 4]
    assert source.log == ["rows cleaned"]


def test_the_cleanup_runs_in_the_task_and_context_of_the_steps(syncer):
    tasks = []

    @syncer
    async def rows():
        tasks.append(asyncio.current_task())
        try:
            yield 1
        finally:
            await asyncio.sleep(0)
            tasks.append(asyncio.current_task())

    for _ in rows():
        break
    assert len(tasks) == 2
    assert tasks[0] is tasks[1]


def test_an_error_of_the_cleanup_at_a_break_is_told_and_nothing_stops(syncer, unraisable):
    @syncer
    async def rows():
        try:
            yield 1
        finally:
            await asyncio.sleep(0)
            raise ValueError("in the cleanup")

    for _ in rows():
        break
    assert [repr(error) for error in unraisable] == ["ValueError('in the cleanup')"]
    assert list(Source(syncer).rows()) == [0, 1, 2, 3, 4]


def test_a_generator_that_ignores_the_break_is_told_of_and_nothing_stops(syncer, unraisable):
    ended = threading.Event()

    @syncer
    async def rows():
        try:
            try:
                yield 1
            except GeneratorExit:
                yield 2
        finally:
            await asyncio.sleep(0)
            ended.set()

    for _ in rows():
        break
    assert ended.wait(10)  # it was told a second time
    assert [repr(error) for error in unraisable] == ["RuntimeError('generator ignored GeneratorExit')"]
    assert list(Source(syncer).rows()) == [0, 1, 2, 3, 4]


# Nobody waits who has just dropped it.


def test_del_does_not_wait(gated):
    generator = gated.rows()
    next(generator)
    del generator
    gated.assert_cleaned_later()


def test_del_of_what_holds_it_does_not_wait(gated):
    class Holder:
        pass

    holder = Holder()
    holder.generator = gated.rows()
    next(holder.generator)
    del holder
    gated.assert_cleaned_later()


def test_del_of_an_attribute_or_an_item_does_not_wait(syncer):
    class Holder:
        pass

    first, second = Source(syncer, gate=True), Source(syncer, gate=True)
    holder, items = Holder(), {}
    holder.generator, items["generator"] = first.rows(), second.rows()
    next(holder.generator), next(items["generator"])
    del holder.generator
    del items["generator"]
    first.assert_cleaned_later()
    second.assert_cleaned_later()


def test_rebinding_does_not_wait(gated):
    generator = gated.rows()
    next(generator)
    generator = None
    gated.assert_cleaned_later()
    assert generator is None


def test_rebinding_an_attribute_a_global_or_an_item_does_not_wait(syncer):
    class Holder:
        pass

    sources = [Source(syncer, gate=True) for _ in range(3)]
    holder, items, scope = Holder(), [None], {"generator": sources[2].rows()}
    holder.generator, items[0] = sources[0].rows(), sources[1].rows()
    for generator in holder.generator, items[0], scope["generator"]:
        next(generator)
    del generator
    holder.generator = None
    items[0] = None
    exec("global generator; generator = None", scope)
    for source in sources:
        source.assert_cleaned_later()


def test_the_garbage_collector_does_not_wait(gated):
    def leave_a_cycle():
        cycle = [gated.rows()]
        next(cycle[0])
        cycle.append(cycle)

    gc.collect()
    gc.disable()
    try:
        leave_a_cycle()
        assert not gated.leaving.is_set()
        gc.collect()
    finally:
        gc.enable()
    gated.assert_cleaned_later()


def test_a_drop_in_another_thread_does_not_wait(gated):
    box = [gated.rows()]
    next(box[0])
    thread = threading.Thread(target=box.clear)
    thread.start()
    thread.join(10)
    gated.assert_cleaned_later()


def test_a_drop_of_what_another_thread_has_iterated_over_does_not_wait(gated):
    box = [gated.rows()]
    thread = threading.Thread(target=lambda: next(box[0]))
    thread.start()
    thread.join(10)
    box.clear()
    gated.assert_cleaned_later()


def test_a_drop_on_the_background_loops_own_thread_does_not_wait(syncer, gated):
    box = [gated.rows()]
    next(box[0])

    async def drop():
        box.clear()

    syncer.run(drop())
    gated.assert_cleaned_later()


def test_a_drop_in_a_callback_of_the_background_loop_does_not_wait(syncer, gated):
    box = [gated.rows()]
    next(box[0])
    syncer.get_loop().call_soon_threadsafe(box.clear)
    gated.assert_cleaned_later()


def test_one_that_has_not_begun_is_dropped_without_a_word(syncer, source, unraisable):
    source.rows()
    generator = source.rows()
    del generator
    syncer.run(asyncio.sleep(0))
    gc.collect()
    assert not unraisable
    assert source.log == []


@pytest.mark.parametrize("cleanup", ["raises", "ignores GeneratorExit"])
def test_what_goes_wrong_after_a_drop_is_told_to_the_loops_exception_handler(cleanup, unraisable):
    syncer = Syncify("reports")
    reports = []
    told = threading.Event()

    def handler(loop, context):
        reports.append(context["exception"])
        told.set()

    syncer.get_loop().set_exception_handler(handler)

    @syncer
    async def rows():
        try:
            yield 1
        except GeneratorExit:
            if cleanup == "raises":
                raise ValueError("in the cleanup") from None
            yield 2

    generator = rows()
    next(generator)
    del generator
    assert told.wait(10)
    assert type(reports[0]) is (ValueError if cleanup == "raises" else RuntimeError)
    assert not unraisable


def test_nothing_is_in_flight_once_they_are_left():
    syncer = Syncify("in-flight")
    source = Source(syncer)
    for _ in source.rows():
        break
    generator = source.rows()
    next(generator)
    source.cleaned.clear()
    del generator
    assert source.cleaned.wait(10)
    syncer.run(asyncio.sleep(0))
    assert repr(syncer) == "<Syncify 'in-flight', 0 calls in flight>"


# Async code that leaves.


@pytest.fixture(params=["another loop", "the own loop"])
def run_anywhere(request, syncer, loop_factory):
    def run(coroutine):
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            return runner.run(coroutine)

    return run if request.param == "another loop" else syncer.run


async def until(event):
    """Wait for an event of threads, and let the loop go on."""
    async with asyncio.timeout(10):
        while not event.is_set():
            await asyncio.sleep(0)


def test_break_in_async_for_runs_the_cleanup_soon(source, run_anywhere):
    async def main():
        async for _ in source.aio():
            break
        await until(source.cleaned)

    run_anywhere(main())
    assert source.log == ["rows cleaned"]


def test_break_in_async_for_with_aclosing_has_run_the_cleanup(source, run_anywhere):
    async def main():
        async with contextlib.aclosing(source.aio()) as rows:
            async for _ in rows:
                break
        assert source.log == ["rows cleaned"]

    run_anywhere(main())


def test_del_in_async_code_does_not_wait(gated, run_anywhere):
    async def main():
        rows = gated.aio()
        await anext(rows)
        del rows
        await until(gated.leaving)
        assert gated.log == []
        await gated.open.aio()
        await until(gated.cleaned)

    run_anywhere(main())


def test_the_end_of_the_callers_loop_waits_for_the_cleanup(source, loop_factory):
    async def main():
        rows.append(source.aio())
        await anext(rows[0])

    rows = []
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main())
    assert source.log == ["rows cleaned"]


@pytest.mark.parametrize("first_step", ["in a task", "as a task"])
def test_one_whose_loop_is_closed_is_cleaned_up_when_it_is_dropped(source, loop_factory, unraisable, first_step):
    async def first(rows):
        return await anext(rows)

    gc.collect()
    gc.disable()
    try:
        loop = loop_factory()
        rows = source.aio()
        # Of what is first iterated over outside of its loop, the loop does not know.
        assert loop.run_until_complete(first(rows) if first_step == "in a task" else anext(rows)) == 0
        loop.close()
        del rows
        assert source.cleaned.wait(10)
    finally:
        gc.enable()
    assert [repr(error) for error in unraisable] == []


class Waits:
    """A generator function whose second step waits, and that may answer its cancellation in its own way."""

    def __init__(self, syncer, answer="raise"):
        self.log = []
        self.waits = threading.Event()
        self.cleaned = threading.Event()
        event = asyncio.Event()

        async def rows():
            try:
                yield "first"
                try:
                    self.task = asyncio.current_task()
                    self.waits.set()
                    await event.wait()
                except asyncio.CancelledError as error:
                    self.log.append(("cancelled", error.args))
                    if answer == "raise":
                        raise
                    if answer == "fail":
                        raise ValueError("instead") from None
                    if answer == "return":
                        return
                yield "second"
            finally:
                for _ in range(3):
                    await asyncio.sleep(0.001)
                self.log.append("cleaned")
                self.cleaned.set()

        async def tell():
            event.set()
            for _ in range(3):
                await asyncio.sleep(0)

        self.rows = syncer(rows)
        self.aio = self.rows.aio
        self.tell = syncer(tell)


def test_cancelling_a_task_in_the_step_cancels_the_step_and_waits_for_the_cleanup(syncer, run_anywhere):
    job = Waits(syncer)

    async def consume():
        async for _ in job.aio():
            pass

    async def main():
        task = asyncio.create_task(consume())
        await until(job.waits)
        task.cancel("message")
        with pytest.raises(asyncio.CancelledError) as caught:
            await task
        assert job.log == [("cancelled", ("message",)), "cleaned"]
        assert caught.value.args == ("message",)
        assert task.cancelled()

    run_anywhere(main())


def test_a_timeout_around_async_for(syncer, run_anywhere):
    job = Waits(syncer)

    async def main():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                async for _ in job.aio():
                    pass
        assert job.log[-1] == "cleaned"
        assert asyncio.current_task().cancelling() == 0

    run_anywhere(main())


def test_an_error_that_answers_the_cancellation_is_what_the_task_gets(syncer, run_anywhere):
    job = Waits(syncer, "fail")

    async def consume():
        async for _ in job.aio():
            pass

    async def main():
        task = asyncio.create_task(consume())
        await until(job.waits)
        task.cancel()
        with pytest.raises(ValueError, match="instead"):
            await task
        assert job.log[-1] == "cleaned"

    run_anywhere(main())


def test_a_generator_that_swallows_the_cancellation_goes_on(syncer, run_anywhere):
    job = Waits(syncer, "swallow")

    async def consume():
        return [item async for item in job.aio()]

    async def main():
        task = asyncio.create_task(consume())
        await until(job.waits)
        task.cancel()
        assert await task == ["first", "second"]
        assert job.log == [("cancelled", ()), "cleaned"]
        assert task.cancelling() == 1

    run_anywhere(main())


def test_a_generator_that_returns_when_it_is_cancelled_ends_the_loop(syncer, run_anywhere):
    job = Waits(syncer, "return")

    async def consume():
        return [item async for item in job.aio()]

    async def main():
        task = asyncio.create_task(consume())
        await until(job.waits)
        task.cancel()
        assert await task == ["first"]
        assert job.log == [("cancelled", ()), "cleaned"]

    run_anywhere(main())


def test_cancelling_a_task_in_the_body_runs_the_cleanup(source, run_anywhere):
    async def consume(waits):
        async for _ in source.aio():
            waits.set()
            await asyncio.Event().wait()

    async def main():
        waits = asyncio.Event()
        task = asyncio.create_task(consume(waits))
        await waits.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(source.cleaned)

    run_anywhere(main())


def test_cancelling_a_task_in_the_body_with_aclosing_has_run_the_cleanup(source, run_anywhere):
    async def consume(waits):
        async with contextlib.aclosing(source.aio()) as rows:
            async for _ in rows:
                waits.set()
                await asyncio.Event().wait()

    async def main():
        waits = asyncio.Event()
        task = asyncio.create_task(consume(waits))
        await waits.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert source.log == ["rows cleaned"]

    run_anywhere(main())


def test_an_error_in_the_body_of_async_for_runs_the_cleanup(source, run_anywhere):
    async def main():
        with pytest.raises(ValueError, match="in the body"):
            async for _ in source.aio():
                raise ValueError("in the body")
        await until(source.cleaned)

    run_anywhere(main())


def test_a_cancellation_that_comes_when_the_step_is_done_is_not_lost_and_the_cleanup_is_done(syncer, loop_factory):
    job = Waits(syncer)

    async def consume():
        async for _ in job.aio():
            pass

    async def main():
        task = asyncio.create_task(consume())
        await until(job.waits)
        job.tell()  # blocks this loop, so that it cannot know that the step is done
        task.cancel("late")
        with pytest.raises(asyncio.CancelledError, match="late"):
            await task
        assert job.log == ["cleaned"]

    with pytest.warns(match="blocks the event loop"), asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main())


def test_a_task_that_was_cancelled_before_its_first_step_starts_nothing(source, run_anywhere):
    async def main():
        task = asyncio.ensure_future(anext(source.aio()))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run_anywhere(main())
    assert source.log == []


def test_a_blocking_consumer_whose_step_is_cancelled_from_outside_gets_that(syncer):
    job = Waits(syncer)

    @syncer
    async def cancel():
        job.task.cancel("outside")

    generator = job.rows()
    next(generator)
    caught = []

    def step():
        try:
            next(generator)
        except BaseException as error:
            caught.append(error)

    thread = threading.Thread(target=step)
    thread.start()
    assert job.waits.wait(10)
    cancel()
    thread.join(10)
    assert [type(error) for error in caught] == [asyncio.CancelledError]
    assert job.log == [("cancelled", ("outside",)), "cleaned"]
    assert list(generator) == []


# Ctrl-C: real signals, in a process of its own.


PRELUDE = """
import asyncio, gc, os, random, signal, sys, threading, time
from syncify import Syncify, _loop
if {short_steps}:
    _loop.STEP = 1e-3  # so that a wait has many of them
if {uvloop}:
    import uvloop
    syncer = Syncify("s", loop_factory=uvloop.new_event_loop)
else:
    syncer = Syncify("s")

@syncer
async def rows(how="raise"):
    try:
        yield 0
        try:
            print("waits", flush=True)
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            print("cancelled", flush=True)
            if how == "raise" or how == "fail" or how == "stuck":
                raise
            if how == "return":
                return
        try:
            yield 1
        except GeneratorExit:
            print("exit", flush=True)
            if how == "ignore":
                yield 2
            raise
    finally:
        print("leaving", flush=True)
        if how == "stuck":
            try:
                await asyncio.Event().wait()
            finally:
                print("cleanup cancelled", flush=True)
        if how != "ignore":
            await asyncio.sleep(0.01)
        print("cleaned", flush=True)
        if how == "fail":
            raise ValueError("in the cleanup")

@syncer
async def works():
    await asyncio.sleep(0)
    return "works"

def body(how="raise"):
    for row in rows(how):
        print("body", flush=True)
        while True:
            time.sleep(0.001)  # a signal that comes just before a long sleep would not end it

def step(how="raise"):
    for row in rows(how):
        pass
"""


@pytest.fixture(params=["asyncio", "uvloop", "short steps"])
def program(request, script):
    if request.param == "uvloop":
        pytest.importorskip("uvloop")
    prelude = PRELUDE.format(short_steps="steps" in request.param, uvloop=request.param == "uvloop")
    return lambda code: script(prelude + textwrap.dedent(code))


@posix
def test_ctrl_c_in_the_body(program):
    running = program("""
        try:
            body()
        except KeyboardInterrupt:
            print("raised")
        print(works())
    """)
    assert running.line() == "body"
    running.process.send_signal(signal.SIGINT)
    assert running.end() == (0, "leaving\ncleaned\nraised\nworks\n", "")


@posix
def test_ctrl_c_in_the_step_cancels_it_waits_for_the_cleanup_and_raises(program):
    running = program("""
        try:
            step()
        except KeyboardInterrupt as error:
            print("raised", error.__context__)
        print(works())
    """)
    assert running.line() == "waits"
    running.process.send_signal(signal.SIGINT)
    assert running.end() == (0, "cancelled\nleaving\ncleaned\nraised None\nworks\n", "")


@posix
def test_after_ctrl_c_in_the_step_a_kept_generator_has_ended(program):
    running = program("""
        generator = rows()
        next(generator)
        try:
            next(generator)
        except KeyboardInterrupt:
            print("raised")
        print(list(generator), generator.close())
    """)
    assert running.line() == "waits"
    running.process.send_signal(signal.SIGINT)
    assert running.end() == (0, "cancelled\nleaving\ncleaned\nraised\n[] None\n", "")


@posix
@pytest.mark.parametrize("how", ["swallow", "return", "ignore", "fail"])
def test_ctrl_c_in_the_step_of_a_generator_that_answers_in_its_own_way(program, how):
    running = program(f"""
        try:
            step({how!r})
        except KeyboardInterrupt as error:
            print("raised", repr(error.__context__), flush=True)
        print(works(), flush=True)
        os._exit(0)  # what ignores all this ends at some time, and may say so
    """)
    assert running.line() == "waits"
    running.process.send_signal(signal.SIGINT)
    code, out, _ = running.end()
    assert code == 0
    assert out.startswith(
        {
            "swallow": "cancelled\nexit\nleaving\ncleaned\nraised None\nworks\n",
            "return": "cancelled\nleaving\ncleaned\nraised None\nworks\n",
            "ignore": "cancelled\nexit\nraised RuntimeError('async generator ignored GeneratorExit')\n",
            "fail": "cancelled\nleaving\ncleaned\nraised ValueError('in the cleanup')\nworks\n",
        }[how]
    )
    assert "works" in out


@posix
def test_a_second_ctrl_c_in_the_step_leaves_at_once(program):
    running = program("""
        try:
            step("stuck")
        except KeyboardInterrupt:
            print("raised", flush=True)
        print(works(), flush=True)
        os._exit(0)
    """)
    assert running.line() == "waits"
    running.process.send_signal(signal.SIGINT)
    assert [running.line(), running.line()] == ["cancelled", "leaving"]
    running.process.send_signal(signal.SIGINT)
    code, out, _ = running.end()
    assert code == 0
    # What the loop does meanwhile may be seen between them.
    assert [line for line in out.splitlines() if "clean" not in line] == ["raised", "works"]


@posix
def test_a_second_ctrl_c_in_the_cleanup_that_follows_the_body_cancels_that(program):
    running = program("""
        try:
            body("stuck")
        except KeyboardInterrupt:
            print("raised", flush=True)
        print(works())
    """)
    assert running.line() == "body"
    running.process.send_signal(signal.SIGINT)
    assert running.line() == "leaving"
    running.process.send_signal(signal.SIGINT)
    code, out, _ = running.end()  # Python tells of the second, which it cannot raise in a finalizer
    assert (code, out) == (0, "cleanup cancelled\nraised\nworks\n")


@posix
def test_ctrl_c_in_close_cancels_the_cleanup_waits_and_raises(program):
    running = program("""
        generator = rows("stuck")
        next(generator)
        try:
            generator.close()
        except KeyboardInterrupt:
            print("raised")
        print(works())
    """)
    assert running.line() == "leaving"
    running.process.send_signal(signal.SIGINT)
    assert running.end() == (0, "cleanup cancelled\nraised\nworks\n", "")


@posix
@pytest.mark.parametrize("where", ["body", "step"])
def test_ctrl_c_that_nobody_catches_ends_the_program_after_the_cleanup(program, where):
    running = program(f"{where}()")
    assert running.line() == {"body": "body", "step": "waits"}[where]
    running.process.send_signal(signal.SIGINT)
    code, out, err = running.end()
    assert code == -signal.SIGINT
    assert out.splitlines()[-2:] == ["leaving", "cleaned"]
    assert err.strip().endswith("KeyboardInterrupt")


@posix
@pytest.mark.parametrize("where", ["body", "step"])
def test_ctrl_c_in_asyncio_run_cleans_up_before_it_is_raised(program, where):
    running = program(f"""
        async def main():
            async def tick():
                while True:  # the loop of asyncio.run sleeps through a signal that comes just before it falls asleep
                    await asyncio.sleep(0.01)

            ticking = asyncio.create_task(tick())
            async for row in rows.aio():
                if {where!r} == "body":
                    print("body", flush=True)
                    await asyncio.Event().wait()

        try:
            asyncio.run(main())
        except KeyboardInterrupt:
            print("raised")
    """)
    assert running.line() == {"body": "body", "step": "waits"}[where]
    running.process.send_signal(signal.SIGINT)
    code, out, err = running.end()
    assert (code, err) == (0, "")
    assert out.splitlines()[-3:] == ["leaving", "cleaned", "raised"]


def test_sys_exit_in_the_body_runs_the_cleanup(script):
    running = script(PRELUDE.format(short_steps=False, uvloop=False) + "for row in rows(): sys.exit(3)\n")
    assert running.end() == (3, "leaving\ncleaned\n", "")


@pytest.mark.parametrize("kept", ["in a module", "in a cycle", "in a function"])
def test_a_generator_that_is_left_open_does_not_keep_the_program_from_ending(script, kept):
    code = {
        "in a module": "generator = rows(); next(generator)",
        "in a cycle": "cycle = [rows()]; next(cycle[0]); cycle.append(cycle); del cycle",
        "in a function": "import atexit\ngenerator = rows(); next(generator); atexit.register(lambda g: 0, generator)",
    }[kept]
    running = script(PRELUDE.format(short_steps=False, uvloop=False) + code + "\nprint('end')\n")
    code, out, err = running.end()
    assert (code, err) == (0, "")
    assert out.startswith("end\n")


@posix
def test_at_any_microsecond(program):
    """Nothing hangs and nothing is left open, wherever in our own code a signal handler raises."""
    running = program(
        textwrap.dedent(STRUCK)
        + "works()\n"
        + textwrap.dedent("""
        begun = ended = 0

        @syncer
        async def counts(suspends):
            global begun, ended
            begun += 1
            try:
                for _ in range(3):
                    for _ in range(suspends):
                        await asyncio.sleep(0)
                    yield
            finally:
                ended += 1

        def target():
            while left:
                for _ in counts(0):
                    pass
                for _ in counts(1):
                    break

        for _ in range(1000):
            strike(target, 1, 5e-4)
            assert works() == "works"
        for _ in range(100):
            if begun == ended:
                break
            syncer.run(asyncio.sleep(0.01))
        assert begun == ended, (begun, ended, seed)
        syncer.run(asyncio.sleep(0))
        assert repr(syncer) == "<Syncify 's', 0 calls in flight>", (syncer, seed)
        print("done")
    """)
    )
    assert running.end() == (0, "done\n", "")


# Errors that hold it, task groups that it holds, and forks.


def test_a_local_variable_of_a_function_that_an_error_has_left_is_gone_with_that(source):
    def use():
        generator = source.rows()
        for _ in generator:
            raise ValueError

    try:
        use()
    except ValueError as error:
        assert error is not None
    assert source.log == ["rows cleaned"]


def test_an_error_of_the_cleanup_after_a_late_cancellation_is_its_context(syncer, loop_factory):
    gate, waits, stepped = asyncio.Event(), threading.Event(), threading.Event()

    @syncer
    async def rows():
        try:
            waits.set()
            await gate.wait()
            stepped.set()
            yield 1
        finally:
            raise ValueError("cleanup")

    @syncer
    async def tell():
        gate.set()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    async def consume():
        async for _ in rows.aio():
            pass

    async def main():
        task = asyncio.create_task(consume())
        await until(waits)
        tell()  # blocks this loop, so that it cannot know that the step is done
        assert stepped.is_set()
        task.cancel("late")
        with pytest.raises(asyncio.CancelledError) as raised:
            await task
        assert repr(raised.value.__context__) == "ValueError('cleanup')"

    with pytest.warns(match="blocks the event loop"), asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main())


def test_a_dropped_generator_that_holds_a_task_group_goes_in_silence(unraisable):
    syncer = Syncify("silent")
    reports = []
    cleaned = threading.Event()
    syncer.get_loop().set_exception_handler(lambda loop, context: reports.append(context))

    @syncer
    async def rows():
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(asyncio.Event().wait())
                while True:
                    yield 1
        finally:
            cleaned.set()

    generator = rows()
    next(generator)
    del generator
    assert cleaned.wait(10)
    for _ in range(5):
        syncer.run(asyncio.sleep(0))
    gc.collect()
    syncer.run(asyncio.sleep(0))
    assert reports == []
    assert not unraisable


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_a_forked_child_leaves_what_its_parent_has_begun_in_silence(script):
    running = script(
        """
        import gc, os, signal
        from contextlib import asynccontextmanager
        from syncify import syncify

        @syncify
        async def rows():
            while True:
                yield 1

        @syncify(prefetch=3)
        async def ahead():
            while True:
                yield 1

        class Rows:
            def __aiter__(self):
                return self
            async def __anext__(self):
                return 1

        @syncify
        async def view():
            return Rows()

        @syncify
        @asynccontextmanager
        async def session():
            yield

        @syncify
        async def works():
            return "works"

        held = [rows(), ahead(), view()]
        for each in held:
            next(each)
        held.append(session())
        held[-1].__enter__()

        def fork():
            for _ in rows():
                for _ in ahead():
                    for _ in view():
                        child = os.fork()
                        if not child:
                            signal.alarm(20)  # rather than outlive the test
                            print(works())
                        break
                    break
                break
            return child

        child = fork()
        if child:
            print("exit code", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        else:
            while held:
                held.pop()
                gc.collect()
                print(works())
        """,
        "-Wignore::DeprecationWarning",  # Python's own, about forking with threads
    )
    assert running.end() == (0, "works\n" * 5 + "exit code 0\n", "")
