"""Threads that come to one object at the same moment, as without the GIL they may between any two operations."""

import asyncio
import collections
import sys
import threading

import pytest

from syncify import SyncContextManager, Syncify, timeout
from syncify._context_managers import Stays
from syncify._deadline import _Timeout
from syncify._generators import SyncGenerator
from syncify._loop import BackgroundLoop


def read_together(monkeypatch, cls, name, thing):
    """Let two threads wait for each other after they have read this attribute of one object for the first time."""
    slot = cls.__dict__[name]
    together, come = threading.Barrier(2), set()

    class Waiting:
        def __get__(self, instance, owner=None):
            value = slot.__get__(instance, owner)
            thread = threading.current_thread()
            if instance is thing and thread.name == "together" and thread not in come:
                come.add(thread)
                together.wait()
            return value

        def __set__(self, instance, value):
            slot.__set__(instance, value)

    monkeypatch.setattr(cls, name, Waiting())


def in_two_threads(function):
    """What two threads get of it: values, and the exceptions."""
    got = []

    def call():
        try:
            got.append(function())
        except BaseException as error:
            got.append(error)

    threads = [threading.Thread(target=call, name="together", daemon=True) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    return sorted(got, key=lambda each: isinstance(each, BaseException))


@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize("options", [{}, {"prefetch": 2}])
def test_one_of_two_threads_gets_into_a_generator(monkeypatch, options, begun):
    gate = asyncio.Event()

    async def count():
        for number in range(6):
            if number == begun:
                await gate.wait()  # until the other has been told
            yield number

    rows = Syncify("one-of-two")(**options)(count)() if options else Syncify("one-of-two")(count)()
    loop = rows._background.get_loop()
    assert not begun or next(rows) == 0
    read_together(monkeypatch, SyncGenerator, "_running", rows)

    def step():
        try:
            return next(rows)
        except ValueError:
            loop.call_soon_threadsafe(gate.set)
            raise

    value, error = in_two_threads(step)
    assert value == begun
    assert isinstance(error, ValueError)
    assert "already executing" in str(error)
    assert list(rows) == list(range(begun + 1, 6))


def test_an_item_that_another_thread_takes_is_not_given_twice():
    @Syncify("taken")(prefetch=4)
    async def count():
        for number in range(4):
            await asyncio.sleep(0)
            yield number

    taken = []

    class Items(collections.deque):
        def __bool__(self):
            if len(self) and not taken and sys._getframe(1).f_code.co_name == "_answer_consumer":
                thread = threading.Thread(target=lambda: taken.append(next(rows)))
                thread.start()
                thread.join()
                return True
            return len(self) > 0

    rows = count()
    rows._items = Items()
    assert [next(rows), *rows] == [1, 2, 3]
    assert taken == [0]


class Nobody:
    """A caller, at the comparison with whom another thread is faster."""

    def __init__(self, entries, rest):
        self.entries, self.rest = entries, rest

    def __eq__(self, other):
        self.entries[:] = self.rest
        return False

    __hash__ = None


def test_who_leaves_ends_a_stay_of_his_own_whatever_others_do():
    stays = Stays()
    stays.add("mine")
    [mine] = entries = stays._entries
    others = [(None, "of others")] * 2
    entries[:] = [*others, mine, others[0], (Nobody(entries, [mine, others[0]]), "last")]
    assert stays.take() == "mine"
    assert entries == others[:1]


def test_what_others_have_left_is_not_left_again():
    stays = Stays()
    entries = stays._entries
    entries.append((Nobody(entries, [(None, "the other")]), "gone"))
    assert stays.take() == "the other"
    entries.append((Nobody(entries, []), "gone"))
    with pytest.raises(RuntimeError, match="has been left already"):
        stays.take()


def test_threads_that_enter_one_object_leave_their_own_stays():
    syncer = Syncify("stays")

    class Shared(SyncContextManager, syncer=syncer):
        def __init__(self):
            self.open = 0

        async def __aenter__(self):
            self.open += 1
            return self

        async def __aexit__(self, *exc_info):
            self.open -= 1

    shared = Shared()

    def use():
        for _ in range(300):
            with shared:
                pass

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=use) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert shared.open == 0
    assert shared._syncify_stays._entries == []


def test_one_of_two_threads_enters_a_timeout(monkeypatch):
    limit = timeout(20)
    read_together(monkeypatch, _Timeout, "_lock", limit)

    def enter():
        with limit:
            return "entered"

    value, error = in_two_threads(enter)
    assert value == "entered"
    assert isinstance(error, RuntimeError)
    assert "can be entered once" in str(error)


def test_a_loop_that_another_thread_has_driven_to_its_end_is_not_ended_again(monkeypatch):
    monkeypatch.setattr(BackgroundLoop, "exiting", True)
    background = BackgroundLoop("driven")
    background.start_for_blocking_call()
    driving = background._driving

    class Driving:
        def acquire(self, *args):
            if threading.current_thread().name == "late":  # it has just seen that there is a loop to drive
                background.end(SystemExit, None)
                first = threading.Thread(target=lambda: background.drive(lambda: False))
                first.start()
                first.join()
            return driving.acquire(*args)

        def release(self):
            driving.release()

    background._driving = Driving()
    got = []
    late = threading.Thread(target=lambda: got.append(background.drive(lambda: True)), name="late")
    late.start()
    late.join()
    assert got == [False]


def test_at_exit_nothing_is_forgotten_when_another_thread_makes_a_syncer(script):
    run = script(
        """
        import asyncio, weakref
        from syncify import Syncify, _loop, syncify

        class Changing(weakref.WeakSet):
            once = True

            def __iter__(self):
                if Changing.once:
                    Changing.once = False
                    raise RuntimeError("Set changed size during iteration")
                return super().__iter__()

        @syncify
        async def work(begun):
            try:
                begun.set()
                await asyncio.Event().wait()
            finally:
                print("cleaned up")

        import threading
        begun = threading.Event()
        work.submit(begun)
        begun.wait()
        _loop._all = Changing(_loop._all)
        """
    )
    assert run.end() == (0, "cleaned up\n", "")
