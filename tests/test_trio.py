"""Callers are Trio tasks; or tasks of anyio, on either backend."""

import asyncio
import contextlib
import gc
import threading
import warnings
from contextlib import aclosing, asynccontextmanager

import anyio
import pytest
import trio

from syncify import BlockingCallWarning, ClosedError, SyncContextManager, Syncify, timeout


class Things:
    """What runs on the background loop, and notes what becomes of it."""

    def __init__(self, syncer):
        self.noted = []
        self.begun = threading.Semaphore(0)
        self.syncer = syncer

        async def value(x):
            return x

        async def sleep(what="sleep"):
            self.begun.release()
            try:
                await asyncio.sleep(1000)
            finally:
                await asyncio.sleep(0.001)  # the cleanup is waited for
                self.noted.append(f"{what} has ended")

        async def fail(error):
            await asyncio.sleep(0)
            raise error

        async def swallow():
            self.begun.release()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(1000)
            return "swallowed"

        async def rows(n):
            try:
                for row in range(n):
                    await asyncio.sleep(0)
                    got = yield row
                    if got is not None:
                        self.noted.append(got)
            finally:
                await asyncio.sleep(0.001)
                self.noted.append("rows has ended")

        @asynccontextmanager
        async def session(name):
            try:
                yield name
            except BaseException as error:
                self.noted.append(type(error).__name__)
                raise
            finally:
                await asyncio.sleep(0.001)
                self.noted.append("session has ended")

        async def where():
            return asyncio.get_running_loop(), threading.current_thread().name

        async def view():
            return rows(3)

        for function in value, sleep, fail, swallow, rows, session, where, view:
            setattr(self, function.__name__, syncer(function))


@pytest.fixture
def things(syncer):
    return Things(syncer)


@pytest.fixture(params=["trio", "anyio on trio", "anyio on asyncio"])
def run(request):
    """Runs an async function in each way in which a caller may."""
    if request.param == "trio":
        return trio.run
    return lambda function: anyio.run(function, backend=request.param.rpartition(" ")[2])


# What comes back.


def test_each_form_gives_what_it_gives_elsewhere(run, things):
    async def main():
        thing = object()
        assert await things.value.aio(thing) is thing
        assert await things.where.aio() == (things.syncer.get_loop(), things.syncer.name)
        assert [row async for row in things.rows.aio(3)] == [0, 1, 2]
        async with things.session.aio("s") as entered:
            assert entered == "s"
        assert await things.syncer.run.aio(asyncio.sleep(0, thing)) is thing
        assert [row async for row in await things.view.aio()] == [0, 1, 2]
        generator = things.rows.aio(3)
        assert await anext(generator) == 0
        assert await generator.asend("sent") == 1
        await generator.aclose()

    run(main)
    assert things.noted == ["rows has ended", "session has ended", "rows has ended", "sent", "rows has ended"]


def test_it_is_the_first_call_of_all(run):
    with Syncify("fresh") as syncer:
        things = Things(syncer)

        async def main():
            return await things.value.aio(1)

        assert run(main) == 1


def test_exceptions_are_the_very_objects(run, things):
    async def main():
        for error in ValueError("a"), StopAsyncIteration(), SystemExit(3), asyncio.CancelledError("mine"):
            with pytest.raises(type(error)) as caught:
                await things.fail.aio(error)
            assert caught.value is error

    run(main)


def test_what_the_body_raises_comes_to_the_context_manager(run, things):
    async def main():
        error = KeyError("body")
        with pytest.raises(KeyError) as caught:
            async with things.session.aio("s"):
                raise error
        assert caught.value is error

    run(main)
    assert things.noted == ["KeyError", "session has ended"]


def test_methods_and_classes_with_a_with_of_their_own(run, syncer):
    class Client(SyncContextManager, syncer=syncer):
        async def __aenter__(self):
            self.loop = asyncio.get_running_loop()
            return self

        async def __aexit__(self, *error):
            assert asyncio.get_running_loop() is self.loop

        @syncer
        async def get(self, x):
            return x, asyncio.get_running_loop() is self.loop

    async def main():
        async with Client() as client:
            assert await client.get.aio(1) == (1, True)

    run(main)


def test_a_class_enters_where_no_loop_runs_yet():
    with Syncify("fresh") as syncer:

        class Client(SyncContextManager, syncer=syncer):
            async def __aenter__(self):
                return asyncio.get_running_loop()

            async def __aexit__(self, *error):
                pass

        async def main():
            async with Client() as loop:
                return loop

        assert trio.run(main) is syncer.get_loop()


def test_many_tasks_wait_at_once(things):
    results = []

    async def call(number):
        results.append(await things.value.aio(number))
        async with things.session.aio(number) as entered:
            results.append(entered)

    async def main():
        async with trio.open_nursery() as nursery:
            for number in range(50):
                nursery.start_soon(call, number)

    trio.run(main)
    assert sorted(results) == sorted([*range(50)] * 2)


def test_two_tasks_in_one_context_manager_leave_each_what_it_has_entered(things):
    noted, tasks = [], []

    @things.syncer(context_manager=True)
    def make():
        return Reentrant()

    class Reentrant:
        async def __aenter__(self):
            return asyncio.current_task()

        async def __aexit__(self, *error):
            noted.append(asyncio.current_task())

    async def hold(manager, entered, go):
        async with manager as task:
            tasks.append(task)
            entered.set()
            await go.wait()

    async def main():
        manager = make.aio()
        gos = [trio.Event(), trio.Event()]
        async with trio.open_nursery() as nursery:
            for go in gos:
                entered = trio.Event()
                nursery.start_soon(hold, manager, entered, go)
                await entered.wait()
            for go in gos:  # the first to come is the first to go
                go.set()
                while len(noted) <= gos.index(go):
                    await trio.sleep(0)

    trio.run(main)
    assert noted == tasks
    assert len(set(tasks)) == 2


def test_code_for_anyio_that_runs_on_the_background_loop_knows_that_this_is_asyncio(things):
    @things.syncer
    async def sleeps():
        with anyio.move_on_after(0.001) as scope:
            await anyio.sleep(1000)
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.sleep, 0)
        return scope.cancelled_caught

    async def main():
        return await sleeps.aio()

    assert trio.run(main) is True


# Cancellation.


async def cancel_when(begun, function, *args):
    """Cancel it, as Trio does, when it has begun on the background loop."""

    async def wait(scope):
        while not begun.acquire(False):
            await trio.sleep(0.001)
        scope.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait, nursery.cancel_scope)
        result = await function(*args)
        return result, nursery.cancel_scope


def test_a_cancelled_task_waits_for_the_cleanup(things):
    async def call():
        try:
            await things.sleep.aio()
        finally:
            assert things.noted == ["sleep has ended"]

    async def main():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(cancel_when, things.begun, call)

    trio.run(main)


def test_time_limits(things):
    async def main():
        with trio.move_on_after(0.01) as scope:
            await things.sleep.aio()
        assert scope.cancelled_caught
        with pytest.raises(trio.TooSlowError), trio.fail_after(0.01):
            await things.sleep.aio()
        assert things.noted == ["sleep has ended"] * 2

    trio.run(main)


def test_a_coroutine_that_swallows_the_cancellation_returns_its_value_and_trio_raises_at_the_next_checkpoint(things):
    async def call():
        assert await things.swallow.aio() == "swallowed"
        with pytest.raises(trio.Cancelled):
            await trio.lowlevel.checkpoint()
        return "done"

    async def main():
        result, scope = await cancel_when(things.begun, call)
        assert (result, scope.cancel_called) == ("done", True)

    trio.run(main)


def test_a_coroutine_that_fails_in_its_cleanup_raises_that(things):
    @things.syncer
    async def fails():
        things.begun.release()
        try:
            await asyncio.sleep(1000)
        finally:
            raise ZeroDivisionError

    async def main():
        with pytest.raises(ExceptionGroup) as caught:
            await cancel_when(things.begun, fails.aio)
        assert caught.group_contains(ZeroDivisionError)

    trio.run(main)


def test_where_the_scope_is_cancelled_already_the_coroutine_runs_to_where_it_awaits(things):
    async def main():
        with trio.CancelScope() as scope:
            scope.cancel()
            assert await things.value.aio(1) == 1
            await things.sleep.aio()
        assert scope.cancelled_caught
        assert things.noted == ["sleep has ended"]

    trio.run(main)


def test_a_shield_holds(things):
    async def main():
        with trio.move_on_after(0.01), trio.CancelScope(shield=True):
            assert await things.syncer.run.aio(asyncio.sleep(0.05, "shielded")) == "shielded"

    trio.run(main)


def test_the_exit_of_a_context_manager_is_not_cancelled_by_what_has_cancelled_the_body(things):
    async def main():
        with trio.move_on_after(0.01) as scope:
            async with things.session.aio("s"):
                await trio.sleep(1000)
        assert scope.cancelled_caught
        assert things.noted == ["Cancelled", "session has ended"]

    trio.run(main)


def test_a_generator_is_closed_though_its_task_is_cancelled(things):
    async def main():
        with trio.move_on_after(0.01) as scope:
            async with aclosing(things.rows.aio(5)) as rows:
                async for _ in rows:
                    await trio.sleep(1000)
        assert scope.cancelled_caught
        assert things.noted == ["rows has ended"]

    trio.run(main)


def test_a_step_that_is_cancelled_closes_the_generator(things):
    @things.syncer
    async def slow():
        try:
            yield 1
            things.begun.release()
            await asyncio.sleep(1000)
        finally:
            await asyncio.sleep(0.001)
            things.noted.append("slow has ended")

    async def iterate():
        rows = slow.aio()
        assert await anext(rows) == 1
        try:
            await anext(rows)
        finally:
            assert things.noted == ["slow has ended"]

    async def main():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(cancel_when, things.begun, iterate)

    trio.run(main)


@pytest.mark.filterwarnings("ignore:Async generator .* was garbage collected:ResourceWarning")  # by Trio itself
def test_a_dropped_generator_is_closed(things):
    async def main():
        rows = things.rows.aio(5)
        assert await anext(rows) == 0
        del rows
        gc.collect()
        while not things.noted:
            await trio.sleep(0.001)

    trio.run(main)
    assert things.noted == ["rows has ended"]


def test_a_generator_that_outlives_trio_is_closed(things):
    kept = []

    async def main():
        kept.append(things.rows.aio(5))
        assert await anext(kept[0]) == 0

    trio.run(main)
    kept.clear()
    gc.collect()
    while not things.noted:
        things.value(0)
    assert things.noted == ["rows has ended"]


def test_cancelled_by_asyncio_a_call_raises_its_cancelled_error(things):
    @things.syncer
    async def cancelled():
        asyncio.current_task().cancel("from within")
        await asyncio.sleep(0)

    async def main():
        with pytest.raises(asyncio.CancelledError, match="from within"):
            await cancelled.aio()

    trio.run(main)


def test_who_waits_is_told_when_the_syncer_is_closed():
    syncer = Syncify("to be closed")
    things = Things(syncer)

    async def call():
        with pytest.raises(ClosedError):
            await things.sleep.aio()
        with pytest.raises(ClosedError):
            await things.value.aio(1)

    async def main():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(call)
            while not things.begun.acquire(False):
                await trio.sleep(0.001)
            await trio.to_thread.run_sync(syncer.close)

    trio.run(main)
    assert things.noted == ["sleep has ended"]


def test_ctrl_c_cancels_and_is_raised_after_the_cleanup(script):
    program = script("""
        import asyncio, os, signal, trio
        from syncify import syncify

        @syncify
        async def sleep():
            os.kill(os.getpid(), signal.SIGINT)
            try:
                await asyncio.sleep(1000)
            finally:
                await asyncio.sleep(0.01)
                print("cleaned", flush=True)

        async def main():
            try:
                await sleep.aio()
            finally:
                print("task has ended", flush=True)

        for _ in range(3):
            try:
                trio.run(main)
            except BaseException as error:
                while isinstance(error, BaseExceptionGroup):
                    [error] = error.exceptions
                print(type(error).__name__, flush=True)
    """)
    assert program.end() == (0, "cleaned\ntask has ended\nKeyboardInterrupt\n" * 3, "")


def test_ctrl_c_ends_the_exit_of_what_was_cancelled_before(script):
    program = script("""
        import asyncio, os, signal, trio
        from contextlib import asynccontextmanager
        from syncify import syncify

        @syncify
        @asynccontextmanager
        async def session():
            try:
                yield
            finally:
                await asyncio.sleep(0.01)
                print("not cancelled", flush=True)
                os.kill(os.getpid(), signal.SIGINT)
                await asyncio.Event().wait()

        async def main():
            with trio.CancelScope() as scope:
                async with session.aio():
                    scope.cancel()
                    await trio.sleep_forever()

        try:
            trio.run(main)
        except BaseException as error:
            while isinstance(error, BaseExceptionGroup):
                [error] = error.exceptions
            print(type(error).__name__)
    """)
    assert program.end() == (0, "not cancelled\nKeyboardInterrupt\n", "")


def test_ctrl_c_at_any_moment_is_raised_once_and_loses_nothing(script):
    program = script("""
        import asyncio, random, signal, sys, trio
        from syncify import syncify

        sys.unraisablehook = lambda unraisable: None
        begun = ended = 0

        @syncify
        async def job():
            global begun, ended
            begun += 1
            try:
                await asyncio.sleep(0)
            finally:
                ended += 1

        async def main():
            while True:
                await job.aio()

        signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(signal.SIGINT))
        for _ in range(300):
            try:
                # Again, since Python swallows what is raised in a finalizer.
                signal.setitimer(signal.ITIMER_REAL, random.uniform(0.0001, 0.003), 0.1)
                trio.run(main)
            except BaseException as error:
                signal.setitimer(signal.ITIMER_REAL, 0)
                while isinstance(error, BaseExceptionGroup):
                    [error] = error.exceptions
                assert type(error) is KeyboardInterrupt
        while ended < begun:
            syncify.run(asyncio.sleep(0))
        assert begun == ended > 300, (begun, ended)
        print(syncify)
    """)
    assert program.end() == (0, "<Syncify 'syncify', 0 calls in flight>\n", "")


# What is not to be.


def test_trio_is_not_imported(script):
    program = script("""
        import asyncio, sys
        from syncify import syncify

        @syncify
        async def f():
            return 1

        assert f() == asyncio.run(f.aio()) == f.submit().result() == 1
        print("trio" in sys.modules)
    """)
    assert program.end() == (0, "False\n", "")


def test_a_blocking_call_in_a_trio_task_works_and_warns(things):
    quiet, strict = Syncify("quiet", blocking="allow"), Syncify("strict", blocking="error")

    async def main():
        with pytest.warns(BlockingCallWarning, match=r"await .*value\.aio") as caught:
            assert things.value(1) == 1
        assert [warning.filename for warning in caught] == [__file__]
        with pytest.warns(BlockingCallWarning):
            assert list(things.rows(2)) == [0, 1]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert quiet.run(asyncio.sleep(0, 1)) == 1
            assert await trio.to_thread.run_sync(things.value, 2) == 2
        with pytest.raises(BlockingCallWarning):
            Things(strict).value(1)

    trio.run(main)


def test_time_limits_for_plain_code_are_refused():
    async def main():
        with pytest.raises(RuntimeError, match="async code"), timeout(1):
            pass

    trio.run(main)


def test_where_nothing_runs_it_says_so(things):
    with pytest.raises(RuntimeError, match="neither an asyncio event loop nor Trio runs"):
        things.value.aio(1).send(None)
    with pytest.raises(RuntimeError, match="neither an asyncio event loop nor Trio runs"):
        things.rows.aio(1).asend(None).send(None)


def test_trio_as_a_guest_of_asyncio(things):
    async def guest():
        with trio.move_on_after(0.01):
            await things.sleep.aio()
        return await things.value.aio(1), [row async for row in things.rows.aio(2)]

    async def host():
        done = asyncio.get_running_loop().create_future()
        trio.lowlevel.start_guest_run(
            guest,
            run_sync_soon_threadsafe=asyncio.get_running_loop().call_soon_threadsafe,
            done_callback=done.set_result,
        )
        outcome = await done
        return outcome.unwrap(), await things.value.aio(2)

    assert asyncio.run(host()) == ((1, [0, 1]), 2)
    assert things.noted == ["sleep has ended", "rows has ended"]
