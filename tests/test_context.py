"""The caller's context variables are seen inside; what is set inside stays inside."""

import asyncio
import contextvars
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partialmethod

import pytest

from syncify import Syncify
from syncify._callers import AwaitedCall, BlockingCall, _SubmittedCall

variable = contextvars.ContextVar("variable", default="default")


async def read_and_set(value):
    before = variable.get()
    variable.set(value)
    await asyncio.sleep(0)
    assert variable.get() == value
    return before


def test_the_callers_value_is_seen_and_kept(syncer):
    f = syncer(read_and_set)

    def caller():
        variable.set("mine")
        assert f("inside") == "mine"
        assert f.submit("inside").result() == "mine"
        assert variable.get() == "mine"

    async def main():
        variable.set("mine")
        assert await f.aio("inside") == "mine"
        assert variable.get() == "mine"

    contextvars.Context().run(caller)
    asyncio.run(main())


def test_on_its_own_loop_the_context_is_the_callers_own_as_natively(syncer):
    f = syncer(read_and_set)

    async def main():
        variable.set("mine")
        assert await f.aio("inside") == "mine"
        assert variable.get() == "inside"

    syncer.run(main())


def test_calls_see_nothing_of_each_other(syncer):
    f = syncer(read_and_set)

    def caller(i):
        variable.set(i)
        return [f(-1), f(-1), variable.get()] == [i, i, i]

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(lambda i: contextvars.copy_context().run(caller, i), range(200)))
    assert f("x") == "default"


def test_a_token_is_reset_across_awaits(syncer, call):
    @syncer
    async def f():
        token = variable.set("a")
        await asyncio.sleep(0)
        variable.reset(token)
        return variable.get()

    assert call(f) == "default"


def test_the_loops_own_thread_keeps_no_context_of_its_first_caller():
    seen = []

    class Recording(asyncio.SelectorEventLoop):
        def run_forever(self):
            seen.append(variable.get())
            super().run_forever()

    def first():
        variable.set("first")
        Syncify("context-of-the-thread", loop_factory=Recording).get_loop()

    contextvars.Context().run(first)
    assert seen == ["default"]


def test_a_given_context_can_be_entered_as_soon_as_the_caller_is_told(syncer, monkeypatch):
    """Though the loop goes on with its turn for a while."""

    def wake_and_linger(self, wake):
        wake(self)
        time.sleep(0.01)

    for call in BlockingCall, AwaitedCall, _SubmittedCall:
        monkeypatch.setattr(call, "wake", partialmethod(wake_and_linger, call.wake))
    context = contextvars.Context()
    for _ in range(3):
        assert syncer.run(read_and_set("kept"), context=context) in ("default", "kept")
        assert context.run(variable.get) == "kept"
        assert syncer.run.submit(read_and_set("kept"), context=context).result() == "kept"
        assert context.run(variable.get) == "kept"
        assert asyncio.run(syncer.run.aio(read_and_set("kept"), context=context)) == "kept"
        assert context.run(variable.get) == "kept"


def test_run_in_a_given_context(syncer):
    context = contextvars.Context()
    assert syncer.run(read_and_set("kept"), context=context) == "default"
    assert context[variable] == "kept"
    assert syncer.run.submit(read_and_set("kept again"), context=context).result() == "kept"
    assert context[variable] == "kept again"
    assert asyncio.run(syncer.run.aio(read_and_set("and again"), context=context)) == "kept again"
    assert context[variable] == "and again"
    assert variable.get() == "default"

    async def on_its_own_loop():
        return await syncer.run.aio(read_and_set("last"), context=context)

    assert syncer.run(on_its_own_loop()) == "and again"
    assert context[variable] == "last"


def test_a_context_that_is_entered_is_an_error_and_no_hang(syncer):
    def inside():
        with pytest.raises(RuntimeError, match="already entered"):
            syncer.run(read_and_set("x"), context=context)
        with pytest.raises(RuntimeError, match="already entered"):
            syncer.run.submit(read_and_set("x"), context=context).result(10)

    context = contextvars.copy_context()
    context.run(inside)
    assert syncer.run(read_and_set("x"), context=context) == "default"

    async def main():
        await syncer.run.aio(read_and_set("x"), context=context)

    # Its own task runs in it, and so it is entered now.
    context = contextvars.copy_context()
    with asyncio.Runner() as runner, pytest.raises(RuntimeError, match="already entered"):
        runner.run(main(), context=context)


def test_a_context_that_is_entered_before_the_start_is_an_error_and_no_hang(loop_factory):
    """With a task factory, or on Python 3.11, the task enters it later, where nobody would see the error."""

    def make_loop():
        loop = loop_factory()
        loop.set_task_factory(lambda loop, coroutine, **kwargs: asyncio.Task(coroutine, loop=loop, **kwargs))
        return loop

    async def hold():
        held.set()
        go.wait()

    def inside():
        go.set()
        with pytest.raises(RuntimeError, match="already entered"):
            future.result(10)

    syncer = Syncify("lazy", loop_factory=make_loop)
    held, go = threading.Event(), threading.Event()
    context = contextvars.copy_context()
    syncer.run.submit(hold())
    held.wait(10)
    future = syncer.run.submit(asyncio.sleep(0), context=context)
    context.run(inside)
