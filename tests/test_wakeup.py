"""How another thread wakes a loop."""

import asyncio
import gc
import os
import sys
import threading

import pytest

from syncify import Syncify

counted = pytest.mark.skipif(not hasattr(os, "eventfd"), reason="loops are woken by call_soon_threadsafe there")


class Derived(asyncio.SelectorEventLoop):
    """Woken by `call_soon_threadsafe`, which it may have changed."""


@pytest.mark.parametrize("factory", [asyncio.SelectorEventLoop, Derived])
def test_every_wake_up_is_noticed(factory):
    """In the thread of the loop, that is, and not because it is awake for something else."""
    with Syncify("woken", loop_factory=factory) as syncer:

        @syncer
        async def add(x):
            return x + 1

        total = 0
        for _ in range(10_000):
            total = add(total)
        assert total == 10_000


@counted
def test_the_loop_of_asyncio_makes_no_handle_for_a_call(monkeypatch):
    made = []
    with Syncify("woken") as syncer:
        add = syncer(asyncio.sleep)
        add(0)
        real = asyncio.BaseEventLoop.call_soon_threadsafe

        def call_soon_threadsafe(loop, *args, **kwargs):
            made.append(args)
            return real(loop, *args, **kwargs)

        monkeypatch.setattr(asyncio.BaseEventLoop, "call_soon_threadsafe", call_soon_threadsafe)
        for _ in range(100):
            add(0)
        monkeypatch.undo()
    assert made == []


@counted
def test_a_counter_is_closed_when_nobody_can_write_to_it_any_more():
    """Not with the loop: a thread may be about to write, to a number that may be that of another file by then."""
    syncer = Syncify("woken")
    syncer.get_loop()
    wakeup = syncer._background.wakeup
    counter = wakeup.args[0]
    syncer.close()
    assert os.fstat(counter)
    wakeup()  # harmless
    number = int(counter)
    del syncer, wakeup, counter
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(number)


@counted
def test_a_loop_for_which_there_is_no_counter_left_is_an_error_and_closed(monkeypatch):
    def eventfd(*args):
        raise OSError(24, "Too many open files")

    loops = []

    def factory():
        loops.append(asyncio.new_event_loop())
        return loops[-1]

    syncer = Syncify("woken", loop_factory=factory)
    monkeypatch.setattr(os, "eventfd", eventfd)
    with pytest.raises(OSError, match="Too many open files"):
        syncer.get_loop()
    assert loops[0].is_closed()
    monkeypatch.undo()
    assert syncer.run(asyncio.sleep(0, "goes on")) == "goes on"
    syncer.close()


def test_without_counters_a_loop_is_woken_as_others_are(monkeypatch):
    monkeypatch.delattr(os, "eventfd", raising=False)
    with Syncify("woken") as syncer:
        assert syncer.run(asyncio.sleep(0, "result")) == "result"


def test_what_is_posted_on_the_loop_itself_comes_before_what_it_is_to_call_afterwards():
    seen = []
    with Syncify("woken") as syncer:

        @syncer
        async def call():
            seen.append("call")

        async def main():
            future = call.submit()
            asyncio.get_running_loop().call_soon(seen.append, "callback")
            await asyncio.wrap_future(future)

        syncer.run(main())
    if sys.version_info >= (3, 12):  # before, a task takes one turn more to begin
        assert seen == ["call", "callback"]
    else:
        assert sorted(seen) == ["call", "callback"]


@counted
def test_a_call_that_nobody_holds_is_not_collected_before_the_loop_takes_it():
    """The loop holds what has been posted, and that its owner; nobody else does."""
    done = threading.Event()
    go = threading.Event()

    async def block():
        held.set()
        go.wait()

    async def tell():
        done.set()

    held = threading.Event()
    syncer = Syncify("dropped")
    syncer.run.submit(block())
    held.wait()
    syncer(tell).submit()
    del syncer
    gc.collect()
    go.set()
    assert done.wait(20)
