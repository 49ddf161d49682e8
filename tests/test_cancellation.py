"""Cancelling who waits cancels the coroutine, and waits until it has cleaned up."""

import asyncio
import contextlib
import contextvars
import gc
import threading

import pytest

from syncify import Syncify


class Job:
    """A coroutine function that tells when it waits, and what became of it."""

    def __init__(self, syncer, *, swallow=False, fail=None, uncancel=False):
        self.log = []
        self.waits = threading.Event()

        async def job():
            self.log.append("began")
            try:
                self.waits.set()
                await asyncio.Event().wait()
            except asyncio.CancelledError as error:
                self.log.append(("cancelled", error.args))
                for _ in range(3):  # cleanup that has to await
                    await asyncio.sleep(0.001)
                self.log.append("cleaned")
                if uncancel:
                    asyncio.current_task().uncancel()
                if fail:
                    raise fail from None
                if swallow:
                    return "swallowed"
                raise

        self.aio = syncer(job).aio
        self.submit = syncer(job).submit

    def task(self):
        """A task of the running loop in which it waits."""

        async def wait():
            task = asyncio.create_task(self.aio())
            while not self.waits.is_set():
                await asyncio.sleep(0)
            return task

        return wait()


class Told:
    """A coroutine function that waits until it is told to end, with a value or an error."""

    def __init__(self, syncer, error=None):
        self.waits = threading.Event()
        event = asyncio.Event()

        async def wait():
            self.waits.set()
            await event.wait()
            if error is not None:
                raise error
            return "value"

        async def end():
            event.set()
            for _ in range(3):
                await asyncio.sleep(0)

        self.aio = syncer(wait).aio
        self.end = syncer(end)


@pytest.fixture
def run(loop_factory):
    def run(coroutine):
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            return runner.run(coroutine)

    return run


@pytest.fixture(params=["another loop", "the own loop"])
def run_anywhere(request, syncer):
    return asyncio.run if request.param == "another loop" else syncer.run


def test_cleanup_is_done_when_the_await_returns(syncer, run):
    job = Job(syncer)

    async def main():
        task = await job.task()
        task.cancel("message")
        with pytest.raises(asyncio.CancelledError) as caught:
            await task
        assert task.cancelled()
        assert caught.value.args == ("message",)
        assert job.log == ["began", ("cancelled", ("message",)), "cleaned"]

    run(main())


def test_a_coroutine_that_swallows_the_cancel_returns_its_value(syncer, run_anywhere):
    job = Job(syncer, swallow=True)

    async def main():
        task = await job.task()
        task.cancel()
        assert await task == "swallowed"
        assert task.cancelling() == 1
        await asyncio.sleep(0)

    run_anywhere(main())


def test_a_coroutine_that_takes_the_cancel_back_takes_it_back_from_its_caller(syncer, run_anywhere):
    job = Job(syncer, swallow=True, uncancel=True)
    counts = []

    async def main():
        async def caller():
            result = await job.aio()
            counts.append(asyncio.current_task().cancelling())
            return result

        task = asyncio.create_task(caller())
        while not job.waits.is_set():
            await asyncio.sleep(0)
        task.cancel()
        assert await task == "swallowed"
        assert counts == [0]

    run_anywhere(main())


def test_an_error_in_the_cleanup_is_what_the_caller_gets(syncer, run_anywhere):
    error = ValueError("cleanup")
    job = Job(syncer, fail=error)

    async def main():
        task = await job.task()
        task.cancel()
        with pytest.raises(ValueError, match="cleanup") as caught:
            await task
        assert caught.value is error

    run_anywhere(main())


def test_timeout(syncer, run_anywhere):
    job = Job(syncer)

    async def main():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await job.aio()
        assert job.log[-1] == "cleaned"
        assert asyncio.current_task().cancelling() == 0
        await asyncio.sleep(0)

    run_anywhere(main())


def test_timeout_around_a_coroutine_that_swallows(syncer, run_anywhere):
    job = Job(syncer, swallow=True)

    async def main():
        async with asyncio.timeout(0.01) as scope:
            assert await job.aio() == "swallowed"
        assert scope.expired()
        assert asyncio.current_task().cancelling() == 0
        await asyncio.sleep(0)

    run_anywhere(main())


def test_wait_for(syncer, run_anywhere):
    job = Job(syncer)

    async def main():
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(job.aio(), 0.01)
        assert job.log[-1] == "cleaned"

    run_anywhere(main())


def test_timeout_inside(syncer, call):
    @syncer
    async def f():
        try:
            async with asyncio.timeout(0.001):
                await asyncio.Event().wait()
        except TimeoutError:
            return asyncio.current_task().cancelling()

    assert call(f) == 0


def test_task_group(syncer, run_anywhere):
    job = Job(syncer)

    async def main():
        with pytest.raises(ExceptionGroup) as caught:
            async with asyncio.TaskGroup() as group:
                group.create_task(job.aio())
                while not job.waits.is_set():
                    await asyncio.sleep(0)
                raise ValueError("sibling")
        assert [str(error) for error in caught.value.exceptions] == ["sibling"]
        assert job.log[-1] == "cleaned"
        assert asyncio.current_task().cancelling() == 0

    run_anywhere(main())


def test_a_task_group_whose_body_waits(syncer, run_anywhere):
    job = Job(syncer)

    async def main():
        async def fails():
            while not job.waits.is_set():
                await asyncio.sleep(0)
            raise ValueError("child")

        with pytest.raises(ExceptionGroup):
            async with asyncio.TaskGroup() as group:
                group.create_task(fails())
                await job.aio()
        assert job.log[-1] == "cleaned"
        assert asyncio.current_task().cancelling() == 0

    run_anywhere(main())


def test_every_further_cancel_goes_through_too(syncer, run_anywhere):
    received = []
    waits = asyncio.Event()

    @syncer
    async def stubborn():
        for _ in range(3):
            try:
                loop.call_soon_threadsafe(waits.set)
                await asyncio.Event().wait()
            except asyncio.CancelledError as error:
                received.append(error.args)
        return asyncio.current_task().cancelling()

    async def main():
        nonlocal loop
        loop = asyncio.get_running_loop()
        task = asyncio.create_task(stubborn.aio())
        for i in range(3):
            await waits.wait()
            waits.clear()
            task.cancel(i)
        assert await task == 3
        assert received == [(0,), (1,), (2,)]
        assert task.cancelling() == 3

    loop = None
    run_anywhere(main())


def test_a_task_cancelled_before_it_starts_never_starts_the_coroutine(syncer, run_anywhere):
    job = Job(syncer)

    async def main():
        task = asyncio.create_task(job.aio())
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await syncer.run.aio(asyncio.sleep(0))
        assert job.log == []

    run_anywhere(main())


def test_a_task_that_has_cancelled_itself_is_cancelled_where_the_coroutine_first_suspends(syncer, run_anywhere):
    job = Job(syncer)

    async def main():
        asyncio.current_task().cancel("self")
        with pytest.raises(asyncio.CancelledError, match="self"):
            await job.aio()
        assert job.log == ["began", ("cancelled", ("self",)), "cleaned"]
        assert asyncio.current_task().uncancel() == 0

    run_anywhere(main())


def test_a_task_that_has_cancelled_itself_gets_the_result_of_what_does_not_suspend(syncer, run_anywhere):
    @syncer
    async def at_once():
        return "result"

    async def main():
        asyncio.current_task().cancel("self")
        assert await at_once.aio() == "result"
        assert asyncio.current_task().cancelling() == 1
        with pytest.raises(asyncio.CancelledError, match="self"):
            await asyncio.sleep(0)
        assert asyncio.current_task().uncancel() == 0

    run_anywhere(main())


def test_a_cancel_that_comes_too_late_for_the_coroutine_is_not_lost(syncer, run):
    """The coroutine has ended, but the task that awaits it does not know yet."""
    told = Told(syncer)

    async def main():
        task = asyncio.create_task(told.aio())
        while not told.waits.is_set():
            await asyncio.sleep(0)
        told.end()  # blocks this loop, so that it cannot have been told
        task.cancel("late")
        with pytest.raises(asyncio.CancelledError, match="late"):
            await task
        assert task.cancelling() == 1

    with pytest.warns(match="blocks the event loop"):
        run(main())


def test_a_cancel_that_meets_the_end_of_the_coroutine_is_not_lost(syncer):
    """Sent before the end, and found after it on the background loop."""

    @syncer
    async def ends_when_told():
        waits.set()
        await event.wait()
        return "value"

    @syncer
    async def hold_the_loop():
        event.set()  # so the other ends at the next turn, and what comes meanwhile is too late
        await asyncio.sleep(0)
        held.set()
        go.wait()

    async def main():
        task = asyncio.create_task(ends_when_told.aio())
        while not waits.is_set():
            await asyncio.sleep(0)
        holder = hold_the_loop.submit()
        held.wait()
        assert task.cancel("late")
        await asyncio.sleep(0)
        go.set()
        holder.result()
        try:
            return await task
        except asyncio.CancelledError as error:
            return error.args

    for _ in range(20):
        event, waits, held, go = asyncio.Event(), threading.Event(), threading.Event(), threading.Event()
        assert asyncio.run(main()) == ("late",)


def test_a_cancelled_gather(syncer, run_anywhere):
    jobs = [Job(syncer) for _ in range(10)]

    async def main():
        task = asyncio.ensure_future(asyncio.gather(*(job.aio() for job in jobs), return_exceptions=True))
        while not all(job.waits.is_set() for job in jobs):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert all(job.log[-1] == "cleaned" for job in jobs)

    run_anywhere(main())


def test_a_shield_shields(syncer, run_anywhere):
    @syncer
    async def f():
        waits.set()
        await event.wait()
        return "kept"

    event, waits = asyncio.Event(), threading.Event()

    async def main():
        inner = asyncio.ensure_future(f.aio())
        outer = asyncio.ensure_future(asyncio.shield(inner))
        while not waits.is_set():
            await asyncio.sleep(0)
        outer.cancel()
        with pytest.raises(asyncio.CancelledError):
            await outer
        syncer.get_loop().call_soon_threadsafe(event.set)
        assert await inner == "kept"

    run_anywhere(main())


def test_the_end_of_the_callers_loop_waits_for_the_cleanup(syncer, run):
    job = Job(syncer)

    async def main():
        await job.task()

    run(main())  # leaves the task behind, which the runner cancels
    assert job.log[-1] == "cleaned"


def test_a_caller_whose_loop_is_gone_is_cancelled_when_its_coroutine_is_closed(syncer, loop_factory):
    job = Job(syncer)
    loop = loop_factory()
    coroutine = job.aio()
    context = contextvars.copy_context()
    task = loop.create_task(coroutine, context=context)
    loop.run_until_complete(asyncio.sleep(0))
    job.waits.wait()
    loop.close()
    task._log_destroy_pending = False  # as asyncio.gather does with tasks that it drops
    del task
    coroutine.close()
    for _ in range(100):
        syncer.run(asyncio.sleep(0.001))
        if job.log[-1] == "cleaned":
            break
    assert job.log[-1] == "cleaned"


def test_cancelling_a_future_marks_it_at_once_and_cancels_the_coroutine(syncer):
    job = Job(syncer)
    future = job.submit()
    job.waits.wait()
    assert future.cancel()
    assert future.cancelled()
    assert future.cancel()  # no second cancel for the coroutine
    for _ in range(100):
        syncer.run(asyncio.sleep(0.001))
        if job.log[-1] == "cleaned":
            break
    assert job.log == ["began", ("cancelled", ()), "cleaned"]


def test_a_future_cancelled_before_the_start_never_starts_the_coroutine(syncer):
    job = Job(syncer)

    async def main():
        future = job.submit()  # from the loop itself, so it cannot have started
        future.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    syncer.run(main())
    assert job.log == []


def test_somebody_who_cancels_all_tasks_of_the_loop_leaves_no_caller_waiting():
    syncer = Syncify("all-tasks")
    job = Job(syncer)
    future = job.submit()
    job.waits.wait()

    async def cancel_all():
        not_started = job.submit()
        await asyncio.sleep(0)  # on Python 3.11 its task is there now, but has not begun
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        return not_started

    not_started = syncer.run(cancel_all())
    for each in future, not_started:
        with pytest.raises(asyncio.CancelledError):
            each.result(10)


@pytest.mark.parametrize("late_for", ["the value", "the error"])
def test_a_cancel_that_comes_too_late_is_not_lost_on_a_caller_that_catches_the_error(syncer, run, late_for):
    async def main(told):
        async def caller():
            try:
                await told.aio()
            except ValueError:
                pass
            await asyncio.Event().wait()  # where it would wait for ever, if the cancel were lost

        task = asyncio.create_task(caller())
        while not told.waits.is_set():
            await asyncio.sleep(0)
        await asyncio.wrap_future(told.end.submit())
        task.cancel("late")
        with pytest.raises(asyncio.CancelledError, match="late"):
            await asyncio.wait_for(task, 10)

    for _ in range(20):
        run(main(Told(syncer, ValueError("of the coroutine") if late_for == "the error" else None)))


def test_a_cancel_that_a_task_sent_itself_is_due_after_an_error_too(syncer, run_anywhere):
    @syncer
    async def raises():
        raise ValueError("at once")

    async def main():
        asyncio.current_task().cancel("self")
        with pytest.raises(ValueError, match="at once"):
            await raises.aio()
        with pytest.raises(asyncio.CancelledError, match="self"):
            await asyncio.sleep(0)
        assert asyncio.current_task().uncancel() == 0

    run_anywhere(main())


def test_a_cancel_that_a_task_sent_itself_strikes_at_the_first_suspension(syncer, run_anywhere):
    steps = []

    @syncer
    async def f():
        for i in range(20):
            steps.append(i)
            await asyncio.sleep(0)

    async def main():
        asyncio.current_task().cancel()
        with pytest.raises(asyncio.CancelledError):
            await f.aio()
        asyncio.current_task().uncancel()

    for _ in range(100):
        run_anywhere(main())
    assert set(steps) == {0}


def test_a_cancel_that_finds_the_coroutine_ended_is_not_lost(syncer):
    """It has been handled on the background loop before the caller's task knows of the end."""
    told = Told(syncer)

    async def main():
        task = asyncio.create_task(told.aio())
        while not told.waits.is_set():
            await asyncio.sleep(0)
        told.end.submit().result()  # blocks this loop, so that it cannot have been told
        task.cancel("late")
        told.end.submit().result()  # after the cancel
        with pytest.raises(asyncio.CancelledError, match="late"):
            await task
        assert task.cancelling() == 1

    asyncio.run(main())


def test_a_coroutine_closed_before_its_start_is_posted_never_starts(syncer, loop_factory):
    started = []

    @syncer
    async def f():
        started.append(True)

    async def main():
        asyncio.current_task().cancel()
        coroutine = f.aio()
        future = coroutine.send(None)
        future.add_done_callback(lambda future: None, context=contextvars.copy_context())
        coroutine.close()
        syncer.run.submit(asyncio.sleep(0)).result()
        asyncio.current_task().uncancel()
        await asyncio.sleep(0)  # before Python 3.13 the cancel is due here all the same

    with asyncio.Runner(loop_factory=loop_factory) as runner, contextlib.suppress(asyncio.CancelledError):
        runner.run(main())
    syncer.run(asyncio.sleep(0))
    assert not started


def test_a_caller_that_is_closed_does_not_go_on(syncer, loop_factory):
    went_on = []

    @syncer
    async def f():
        began.set()
        await asyncio.Event().wait()

    async def caller():
        await f.aio()
        went_on.append(True)

    began = threading.Event()
    loop = loop_factory()
    coroutine = caller()
    task = loop.create_task(coroutine)
    loop.run_until_complete(asyncio.sleep(0))
    began.wait(10)
    loop.close()
    task._log_destroy_pending = False  # as asyncio.gather does with tasks that it drops
    del task
    coroutine.close()
    syncer.run(asyncio.sleep(0))
    assert not went_on


def test_a_call_whose_callers_loop_is_gone_ends_in_silence(syncer, loop_factory, caplog):
    @syncer
    async def f():
        began.set()
        await event.wait()

    began, event = threading.Event(), asyncio.Event()
    loop = loop_factory()
    coroutine = f.aio()
    task = loop.create_task(coroutine)
    loop.run_until_complete(asyncio.sleep(0))
    began.wait(10)
    loop.close()
    syncer.get_loop().call_soon_threadsafe(event.set)
    for _ in range(3):
        syncer.run(asyncio.sleep(0))
    task._log_destroy_pending = False
    del task
    coroutine.close()
    gc.collect()
    syncer.run(asyncio.sleep(0))
    assert not caplog.records


@pytest.mark.parametrize("message", [(), ("late",)])
def test_a_cancel_that_comes_too_late_is_raised_at_once_with_the_coroutines_error_as_its_context(
    syncer, loop_factory, message
):
    error = ValueError("of the coroutine")
    told = Told(syncer, error)

    async def main():
        async def caller():
            try:
                await told.aio()
            except asyncio.CancelledError as late:
                return late.args, late.__context__

        task = asyncio.create_task(caller())
        while not told.waits.is_set():
            await asyncio.sleep(0)
        told.end.submit().result()  # blocks this loop, so that it cannot have been told
        task.cancel(*message)
        return await task

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        assert runner.run(main()) == (message, error)
