"""A class that inherits from SyncContextManager has a `with`, and its `async with` runs on the background loop."""

import abc
import asyncio
import contextlib
import copy
import dataclasses
import functools
import gc
import pickle
import sys
import threading
import traceback
import weakref

import pytest

from syncify import BlockingCallWarning, DeadlockError, SyncContextManager, Syncify

try:
    import uvloop
except ImportError:
    uvloop = None

module_syncer = Syncify("test-mixin")


def blocking(syncer, manager, body):
    with manager as value:
        return body(value)


def _async_with(run):
    def use(syncer, manager, body):
        async def main():
            async with manager as value:
                return body(value)

        return run(syncer, main())

    return use


def _run_on(loop_factory):
    def run(syncer, coroutine):
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            return runner.run(coroutine)

    return run


WAYS = {
    "blocking": blocking,
    "another loop": _async_with(_run_on(asyncio.new_event_loop)),
    "the own loop": _async_with(lambda syncer, coroutine: syncer.run(coroutine)),
} | ({"a uvloop": _async_with(_run_on(uvloop.new_event_loop))} if uvloop else {})


@pytest.fixture(params=WAYS)
def way(request):
    return request.param


@pytest.fixture
def use(way, syncer):
    """`use(manager, body)` is `with manager as value: return body(value)`, or the like."""
    return lambda manager, body: WAYS[way](syncer, manager, body)


def nothing(value):
    return value


class Plain:
    """The class as it would be without this library, which notes where it runs."""

    def __init__(self):
        self.log = []

    def note(self, what):
        self.log.append((what, asyncio.get_running_loop(), asyncio.current_task()))

    async def __aenter__(self):
        await asyncio.sleep(0)
        self.note("enter")
        return self

    async def __aexit__(self, *exc_info):
        await asyncio.sleep(0)
        self.note("exit")


@pytest.fixture
def cls(syncer):
    class Session(SyncContextManager, Plain, syncer=syncer):
        pass

    return Session


def test_enter_and_exit_run_on_the_loop_in_one_task(syncer, use, cls):
    manager = cls()
    assert use(manager, nothing) is manager
    assert [what for what, _, _ in manager.log] == ["enter", "exit"]
    assert {loop for _, loop, _ in manager.log} == {syncer.get_loop()}
    assert len({task for _, _, task in manager.log}) == 1


def test_on_the_own_loop_it_is_the_callers_task(syncer, cls):
    async def main():
        async with cls() as manager:
            pass
        assert {task for _, _, task in manager.log} == {asyncio.current_task()}

    syncer.run(main())


def test_a_method_is_called_from_within(syncer, way):
    class Client(SyncContextManager, Plain, syncer=syncer):
        @syncer
        async def ask(self):
            return asyncio.get_running_loop()

    async def main():
        async with Client() as client:
            return await client.ask.aio()

    if way == "blocking":
        with Client() as client:
            assert client.ask() is syncer.get_loop()
    else:
        run = syncer.run if way == "the own loop" else asyncio.run
        assert run(main()) is syncer.get_loop()


def test_exceptions_go_in_and_out_as_the_very_objects(syncer, use):
    body_error, exit_error, given = ValueError("body"), KeyError("exit"), []

    class Session(SyncContextManager, syncer=syncer):
        def __init__(self, answer):
            self.answer = answer

        async def __aenter__(self):
            await asyncio.sleep(0)
            if self.answer == "refuse":
                raise exit_error

        async def __aexit__(self, exc_type, exc, tb):
            await asyncio.sleep(0)
            given.append((exc_type, exc, tb is exc.__traceback__))
            if self.answer == "raise":
                raise exit_error
            return self.answer

    def body(value):
        raise body_error

    assert use(Session([1]), body) is None
    for answer in False, None, 0:
        with pytest.raises(ValueError, match="body") as raised:
            use(Session(answer), body)
        assert raised.value is body_error
    with pytest.raises(KeyError) as raised:
        use(Session("raise"), body)
    assert raised.value is exit_error
    assert raised.value.__context__ is body_error
    assert given == [(ValueError, body_error, True)] * 5
    with pytest.raises(KeyError) as raised:
        use(Session("refuse"), body)
    assert raised.value is exit_error
    assert len(given) == 5


def test_a_traceback_has_the_users_frames_and_few_of_the_library(syncer, use):
    class Session(SyncContextManager, syncer=syncer):
        async def __aenter__(self):
            await fails()

        async def __aexit__(self, *exc_info):
            pass

    async def fails():
        await asyncio.sleep(0)
        raise LookupError

    with pytest.raises(LookupError) as raised:
        use(Session(), nothing)
    frames = traceback.extract_tb(raised.value.__traceback__)
    assert [frame.name for frame in frames][-2:] == ["__aenter__", "fails"]
    assert sum("syncify/_" in frame.filename.replace("\\", "/") for frame in frames) <= 2


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError])
def test_base_exceptions_of_a_body_come_to_exit_and_go_on(syncer, error):
    given = []

    class Session(SyncContextManager, syncer=syncer):
        async def __aenter__(self):
            pass

        async def __aexit__(self, exc_type, exc, tb):
            await asyncio.sleep(0)
            given.append(exc)

    raised = error("body")
    with pytest.raises(error) as caught, Session():
        raise raised
    assert caught.value is raised
    assert given == [raised]


# Classes.


def test_super_is_called_in_the_same_task(syncer, use):
    log = []

    class Base(SyncContextManager, syncer=syncer):
        async def __aenter__(self):
            log.append(("base enter", asyncio.current_task()))
            return "base"

        async def __aexit__(self, *exc_info):
            await asyncio.sleep(0)
            log.append(("base exit", asyncio.current_task()))
            return True

    class Derived(Base):
        async def __aenter__(self):
            log.append(("enter", asyncio.current_task()))
            return await super().__aenter__(), "derived"

        async def __aexit__(self, *exc_info):
            log.append(("exit", asyncio.current_task()))
            return await super().__aexit__(*exc_info)

    class Last(Derived):
        pass

    def body(value):
        assert value == ("base", "derived")
        raise ValueError  # which the base suppresses

    assert use(Last(), body) is None
    assert [what for what, _ in log] == ["enter", "base enter", "exit", "base exit"]
    assert len({task for _, task in log}) == 1


def test_a_class_that_inherits_has_the_syncer_of_its_base_or_another(syncer, other_syncer, way):
    class Base(SyncContextManager, Plain, syncer=syncer):
        pass

    class Same(Base):
        pass

    class Other(Base, syncer=other_syncer):
        pass

    for cls, expected in (Base, syncer), (Same, syncer), (Other, other_syncer), (Base, syncer):
        manager = cls()
        WAYS[way](expected, manager, nothing)
        assert {loop for _, loop, _ in manager.log} == {expected.get_loop()}


@pytest.mark.parametrize("first", ["the mixin", "the class"])
def test_the_mixin_may_stand_before_or_after_a_class(syncer, use, first):
    if first == "the mixin":

        class Session(SyncContextManager, Plain, syncer=syncer):
            pass
    else:

        class Session(Plain, SyncContextManager, syncer=syncer):
            pass

    manager = Session()
    use(manager, nothing)
    assert [(what, loop) for what, loop, _ in manager.log] == [
        ("enter", syncer.get_loop()),
        ("exit", syncer.get_loop()),
    ]


def test_methods_are_looked_up_in_the_order_that_the_class_has(syncer, use):
    """A class that just adds the mixin does not come between another and its base."""

    class Special(Plain):
        async def __aenter__(self):
            await super().__aenter__()
            return "special"

    class Session(SyncContextManager, Plain, syncer=syncer):
        pass

    class SpecialSession(Session, Special):
        pass

    manager = SpecialSession()
    assert use(manager, nothing) == "special"
    assert [what for what, _, _ in manager.log] == ["enter", "exit"]


def test_arguments_of_the_class_statement_and_init_subclass_of_others_are_kept(syncer):
    seen = []

    class Registers:
        def __init_subclass__(cls, *, name, **kwargs):
            super().__init_subclass__(**kwargs)
            seen.append((cls.__name__, name))

    class Session(SyncContextManager, Registers, syncer=syncer, name="first"):
        pass

    class Second(Session, name="second"):
        pass

    assert seen == [("Session", "first"), ("Second", "second")]


def test_abstract_methods_stay_abstract(syncer, use):
    class Base(SyncContextManager, abc.ABC, syncer=syncer):
        @abc.abstractmethod
        async def __aenter__(self): ...

        @abc.abstractmethod
        async def __aexit__(self, *exc_info): ...

    class Session(Base, Plain):
        __aenter__ = Plain.__aenter__
        __aexit__ = Plain.__aexit__

    with pytest.raises(TypeError, match="abstract"):
        Base()
    manager = Session()
    assert use(manager, nothing) is manager


def test_names_and_docstrings_are_kept(syncer):
    class Session(SyncContextManager, syncer=syncer):
        async def __aenter__(self):
            """Enter it."""

        async def __aexit__(self, *exc_info):
            """Leave it."""

    assert Session.__aenter__.__doc__ == "Enter it."
    assert Session.__aexit__.__qualname__.endswith("Session.__aexit__")
    assert isinstance(Session(), contextlib.AbstractContextManager)
    assert isinstance(Session(), contextlib.AbstractAsyncContextManager)


def test_what_is_wrong_with_a_class_statement(syncer):
    with pytest.raises(TypeError, match=r"class Session\(SyncContextManager, syncer=syncify\)"):

        class Session(SyncContextManager):
            pass

    for wrong in "syncer", Syncify, object():
        with pytest.raises(TypeError, match="instance of Syncify"):

            class Other(SyncContextManager, syncer=wrong):
                pass


def test_a_class_without_the_methods_cannot_be_entered(syncer):
    class Session(SyncContextManager, syncer=syncer):
        pass

    with pytest.raises(TypeError), Session():
        raise AssertionError("entered")


@dataclasses.dataclass
class Data(SyncContextManager, syncer=module_syncer):
    name: str
    entered: list = dataclasses.field(default_factory=list)

    async def __aenter__(self):
        await asyncio.sleep(0)
        self.entered.append(asyncio.current_task())
        return self.name

    async def __aexit__(self, *exc_info):
        self.entered.append(asyncio.current_task())


@dataclasses.dataclass(slots=True)
class Slots(SyncContextManager, syncer=module_syncer):
    name: str
    entered: list = dataclasses.field(default_factory=list)

    __aenter__ = Data.__aenter__
    __aexit__ = Data.__aexit__


@dataclasses.dataclass(frozen=True, slots=True)
class Frozen(SyncContextManager, syncer=module_syncer):
    name: str
    entered: list = dataclasses.field(default_factory=list)

    async def __aenter__(self):
        await asyncio.sleep(0)
        self.entered.append(asyncio.current_task())
        return self.name

    async def __aexit__(self, *exc_info):
        self.entered.append(asyncio.current_task())


@pytest.fixture(params=[Data, Slots, Frozen])
def data(request):
    return request.param


def test_dataclasses(data, way):
    one, other = data("name"), data("name")
    assert WAYS[way](module_syncer, one, nothing) == "name"
    assert len(one.entered) == 2
    assert len(set(one.entered)) == 1
    one.entered.clear()
    # What was entered and left is still equal, and has its fields and nothing more.
    assert one == other
    assert repr(one) == f"{data.__name__}(name='name', entered=[])"
    assert dataclasses.asdict(one) == {"name": "name", "entered": []}
    assert dataclasses.replace(one, name="else").name == "else"


@pytest.mark.parametrize("when", ["before", "entered", "after"])
@pytest.mark.parametrize("how", ["copy", "deepcopy", "pickle"])
def test_a_copy_has_not_been_entered_and_is_entered_by_itself(data, how, when):
    def copied(value):
        return pickle.loads(pickle.dumps(value)) if how == "pickle" else getattr(copy, how)(value)

    one = data("name")
    if when == "before":
        other = copied(one)
    else:
        one.__enter__()
        one.entered.clear()  # tasks cannot be copied
        if when == "entered":
            other = copied(one)
        one.__exit__(None, None, None)
        one.entered.clear()
        if when == "after":
            other = copied(one)
    assert other == one
    with pytest.raises(RuntimeError, match="has not been entered"):
        other.__exit__(None, None, None)
    assert not one.entered and not other.entered
    with other as name:
        assert name == "name"


@pytest.mark.parametrize("when", ["entered", "after"])
def test_one_that_was_entered_and_its_copy_are_left_each_for_itself(when):
    class Session(SyncContextManager, syncer=module_syncer):
        def __init__(self):
            self.log = []

        async def __aenter__(self):
            pass

        async def __aexit__(self, *exc_info):
            self.log.append(exc_info[1])

    one = Session()
    if when == "after":
        with one:
            pass
    else:
        one.__enter__()
    other = copy.copy(one)
    other.log = []
    one.log.clear()
    if when == "after":
        one.__enter__()
    other.__enter__()
    error = ValueError()
    one.__exit__(ValueError, error, None)
    assert (one.log, other.log) == ([error], [])
    other.__exit__(None, None, None)
    assert (one.log, other.log) == ([error], [None])


# Several at once.


class Shared(SyncContextManager, syncer=module_syncer):
    """One that may be entered by several at once, and wants to be left in the task that entered it."""

    def __init__(self):
        self.left = []

    async def __aenter__(self):
        await asyncio.sleep(0)
        return asyncio.current_task()

    async def __aexit__(self, exc_type, exc, tb):
        await asyncio.sleep(0)
        self.left.append((exc.args[0], asyncio.current_task()))
        return True

    def check(self, times):
        assert len({entered for entered, _ in self.left}) == len(self.left) == times
        assert all(entered is left for entered, left in self.left)


def test_several_threads_are_in_one_object_each_in_a_task_of_its_own():
    shared, barrier = Shared(), threading.Barrier(4)

    def thread():
        barrier.wait(20)
        with shared as task:
            barrier.wait(20)
            raise ValueError(task)

    threads = [threading.Thread(target=thread) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(20)
    shared.check(4)


def test_threads_that_enter_a_new_object_at_one_instant_do_not_disturb_each_other():
    """Whatever the object notes for itself is made once."""
    shared, barrier, meeting = Shared(), threading.Barrier(2), threading.Barrier(2)
    errors = []

    def trace(frame, event, arg):
        # Where it is made. If but one comes here, all is well, and it waits in vain.
        if frame.f_code.co_name == "_syncify_stays":
            try:
                meeting.wait(0.2)
            except threading.BrokenBarrierError:
                pass

    def thread():
        sys.settrace(trace)
        try:
            with shared as task:
                sys.settrace(None)
                barrier.wait(20)
                raise ValueError(task)
        except BaseException as error:
            errors.append(error)
        finally:
            sys.settrace(None)

    threads = [threading.Thread(target=thread) for _ in range(2)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(20)
    assert not errors
    shared.check(2)


def test_several_tasks_are_in_one_object_each_in_a_task_of_its_own(loop_factory):
    shared = Shared()

    async def use(entered, go):
        async with shared as task:
            entered.set()
            await go.wait()
            raise ValueError(task)

    async def main():
        # Left in another order than entered.
        entered, go = [asyncio.Event() for _ in range(4)], [asyncio.Event() for _ in range(4)]
        tasks = [asyncio.create_task(use(*events)) for events in zip(entered, go, strict=True)]
        for event in entered:
            await event.wait()
        for i in 1, 3, 0, 2:
            go[i].set()
            await tasks[i]

    _run_on(loop_factory)(None, main())
    shared.check(4)


def test_plain_code_another_loop_and_the_own_loop_are_in_one_object_at_once():
    shared = Shared()
    entered, go = [threading.Event() for _ in range(3)], [threading.Event() for _ in range(3)]

    async def use(i):
        async with shared as task:
            entered[i].set()
            await asyncio.to_thread(go[i].wait, 20)
            raise ValueError(task)

    def plain():
        with shared as task:
            entered[2].set()
            go[2].wait(20)
            raise ValueError(task)

    threads = [
        threading.Thread(target=lambda: module_syncer.run(use(0))),
        threading.Thread(target=lambda: asyncio.run(use(1))),
        threading.Thread(target=plain),
    ]
    for each in threads:
        each.start()
    for event in entered:
        assert event.wait(20)
    for i in 1, 2, 0:
        go[i].set()
        threads[i].join(20)
    shared.check(3)


def test_one_thread_may_enter_it_again_within():
    shared = Shared()
    with shared as outer:
        with shared as inner:
            raise ValueError(inner)
        raise ValueError(outer)
    shared.check(2)


def test_what_another_thread_has_entered_can_be_left():
    shared = Shared()
    tasks = []
    thread = threading.Thread(target=lambda: tasks.append(shared.__enter__()))
    thread.start()
    thread.join(20)
    error = ValueError(tasks[0])
    assert shared.__exit__(ValueError, error, None)
    shared.check(1)


def test_it_can_be_used_again_when_it_was_left_and_when_entering_failed(syncer, use, way):
    class Session(SyncContextManager, syncer=syncer):
        fail = True

        async def __aenter__(self):
            if self.fail:
                raise LookupError
            return "entered"

        async def __aexit__(self, *exc_info):
            pass

    session = Session()
    with pytest.raises(LookupError):
        use(session, nothing)
    if way == "blocking":
        with pytest.raises(RuntimeError, match="has not been entered"):
            session.__exit__(None, None, None)
    session.fail = False
    assert [use(session, nothing) for _ in range(2)] == ["entered"] * 2


# Where one should not block, and cancellation.


def test_on_the_loop_itself_plain_with_is_refused(syncer, cls):
    manager = cls()

    async def main():
        with pytest.raises(DeadlockError, match=r"`async with Session\(\.\.\.\)`"), manager:
            raise AssertionError("entered")

    syncer.run(main())
    assert not manager.log


def test_on_another_loop_plain_with_warns_at_the_statement(cls, loop_factory):
    async def main():
        with cls():
            pass

    with pytest.warns(BlockingCallWarning, match=r"`async with Session\(\.\.\.\)`") as caught:
        _run_on(loop_factory)(None, main())
    assert {w.filename for w in caught} == {__file__}


def test_where_no_loop_runs_async_with_says_so(cls):
    coroutine = cls().__aenter__()
    with pytest.raises(RuntimeError, match="neither an asyncio event loop nor Trio runs"):
        coroutine.send(None)


@pytest.mark.parametrize("where", ["another loop", "the own loop"])
@pytest.mark.parametrize("stage", ["enter", "body", "exit"])
def test_cancelling_a_task_in_async_with_waits_for_the_cleanup(syncer, where, loop_factory, stage):
    log, waits = [], threading.Event()

    async def wait(here):
        if here == stage:
            try:
                waits.set()
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0)
                log.append(here)

    class Session(SyncContextManager, syncer=syncer):
        async def __aenter__(self):
            await wait("enter")

        async def __aexit__(self, *exc_info):
            await wait("exit")
            log.append("left")

    async def main():
        async def use():
            async with Session():
                await wait("body")

        task = asyncio.create_task(use())
        while not waits.is_set():
            await asyncio.sleep(0)
        task.cancel("message")
        with pytest.raises(asyncio.CancelledError, match="message"):
            await task
        return log

    run = syncer.run if where == "the own loop" else lambda coroutine: _run_on(loop_factory)(None, coroutine)
    assert run(main()) == {"enter": ["enter"], "body": ["body", "left"], "exit": ["exit"]}[stage]


def test_a_time_limit_that_it_holds_strikes_in_the_body(syncer):
    left = threading.Event()

    class Session(SyncContextManager, syncer=syncer):
        async def __aenter__(self):
            self.timeout = asyncio.timeout(0.001)
            await self.timeout.__aenter__()

        async def __aexit__(self, *exc_info):
            left.set()
            await self.timeout.__aexit__(*exc_info)

    with pytest.raises(TimeoutError), Session():
        assert left.wait(20)

    async def main():
        async with Session():
            assert left.wait(20)

    left.clear()
    with pytest.raises(TimeoutError):
        asyncio.run(main())


def test_one_that_was_left_is_collected(syncer, cls):
    manager = cls()
    with manager:
        manager.log.clear()
    reference = weakref.ref(manager)
    manager.log.clear()
    del manager
    syncer.run(asyncio.sleep(0))
    gc.collect()
    assert reference() is None


def test_a_wrapper_around_an_inherited_method_runs_on_the_loop(syncer, use, cls):
    loops = []

    def logged(method):
        @functools.wraps(method)
        async def wrapper(self, *exc_info):
            loops.append(asyncio.get_running_loop())
            return await method(self, *exc_info)

        return wrapper

    class Logged(cls):
        __aenter__ = logged(cls.__aenter__)
        __aexit__ = logged(cls.__aexit__)

    use(Logged(), nothing)
    assert loops == [syncer.get_loop()] * 2


@pytest.mark.parametrize("by", ["themselves", "another name"])
def test_decorated_methods_are_entered_and_left(syncer, use, by):
    log = []

    if by == "themselves":

        class Session(SyncContextManager, syncer=syncer):
            @syncer
            async def __aenter__(self):
                log.append(asyncio.get_running_loop())
                return "value"

            @syncer
            async def __aexit__(self, *exc_info):
                log.append(asyncio.get_running_loop())

    else:

        class Session(SyncContextManager, syncer=syncer):
            @syncer
            async def enter(self):
                log.append(asyncio.get_running_loop())
                return "value"

            @syncer
            async def leave(self, *exc_info):
                log.append(asyncio.get_running_loop())

            __aenter__, __aexit__ = enter, leave

    assert use(Session(), nothing) == "value"
    assert log == [syncer.get_loop()] * 2


def test_aexit_may_be_called_without_arguments_if_the_class_allows_it(syncer, loop_factory):
    log = []

    class Session(SyncContextManager, syncer=syncer):
        async def __aenter__(self):
            return self

        async def __aexit__(self, *exc_info):
            log.append((asyncio.get_running_loop(), any(exc_info)))

    async def main():
        session = Session()
        await session.__aenter__()
        await session.__aexit__()

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main())
    syncer.run(main())
    assert log == [(syncer.get_loop(), False)] * 2
