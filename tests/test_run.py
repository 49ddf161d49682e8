"""`run` takes any awaitable, in all three ways."""

import asyncio
import functools
import gc
import inspect

import pytest

from syncify import BlockingCallWarning, DeadlockError, Syncify


@pytest.fixture
def run(call, syncer):
    return functools.partial(call, syncer.run)


async def echo(x):
    await asyncio.sleep(0)
    return x


class Awaitable:
    def __await__(self):
        yield from asyncio.sleep(0).__await__()
        return "custom"


def test_a_coroutine(run):
    assert run(echo(1)) == 1


def test_an_object_with_await(run):
    assert run(Awaitable()) == "custom"


def test_a_future_and_a_task_of_the_loop(run, syncer):
    async def make():
        future = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(future.set_result, "future")
        return future, asyncio.create_task(echo("task"))

    future, task = syncer.run(make())
    assert run(future) == "future"
    assert run(task) == "task"


def test_a_future_of_another_loop_is_asyncios_own_error(run):
    loop = asyncio.new_event_loop()
    with pytest.raises(RuntimeError, match="attached to a different loop"):
        run(loop.create_future())
    loop.close()


def test_an_aio_coroutine(run, syncer, other_syncer):
    assert run(syncer(echo).aio(1)) == 1
    assert run(other_syncer(echo).aio(1)) == 1


@pytest.mark.parametrize("what", [None, 3, "x", [echo]])
def test_what_is_not_awaitable(run, what):
    with pytest.raises(TypeError, match=r"run\(\) takes an awaitable, got"):
        run(what)


def test_a_function_that_was_not_called(run):
    with pytest.raises(TypeError, match=r"got <function echo .*>; call it first: run\(f\(\.\.\.\)\)"):
        run(echo)


def test_the_forms_of_run(syncer):
    assert not inspect.iscoroutinefunction(syncer.run)
    assert inspect.iscoroutinefunction(syncer.run.aio)
    assert list(inspect.signature(syncer.run).parameters) == ["awaitable", "context"]
    assert repr(syncer.run) == f"<run of {syncer.name!r}>"


def test_on_its_own_loop_aio_runs_in_the_callers_task(syncer):
    async def inner():
        return asyncio.current_task()

    async def main():
        return await syncer.run.aio(inner()) is asyncio.current_task()

    assert syncer.run(main())


def test_a_refused_coroutine_does_not_complain_that_nobody_awaited_it(syncer):
    """Warnings are errors here, those in finalizers too."""

    async def on_the_own_loop():
        with pytest.raises(DeadlockError):
            syncer.run(echo(1))

    syncer.run(on_the_own_loop())

    strict = Syncify("strict", blocking="error")

    async def on_another_loop():
        with pytest.raises(BlockingCallWarning):
            strict.run(echo(1))

    asyncio.run(on_another_loop())

    failing = Syncify("failing", loop_factory=lambda: 1 / 0)
    for run in failing.run, failing.run.submit, lambda coroutine: asyncio.run(failing.run.aio(coroutine)):
        with pytest.raises(ZeroDivisionError):
            run(echo(1))


def test_a_future_cancelled_before_the_start_does_not_complain_either(syncer):
    async def main():
        syncer.run.submit(echo(1)).cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    syncer.run(main())


def test_a_cancelled_run_waits_for_the_cleanup(syncer, loop_factory):
    log = []

    async def job():
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.001)
            log.append("cleaned")

    async def main():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await syncer.run.aio(job())
        assert log == ["cleaned"]

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main())


def test_what_is_no_context(run):
    coroutine = echo(1)
    with pytest.raises(TypeError, match=r"takes a contextvars\.Context, got 'x'"):
        run(coroutine, context="x")


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_a_coroutine_refused_by_an_exit_does_not_complain_either(error):
    def factory():
        raise error

    failing = Syncify("failing", loop_factory=factory)
    for run in failing.run, failing.run.submit:
        with pytest.raises(error):
            run(asyncio.sleep(0))
    gc.collect()
