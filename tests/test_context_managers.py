"""What `@asynccontextmanager` makes, and whatever else is one, entered and left from anywhere as contextlib does."""

import asyncio
import contextlib
import contextvars
import functools
import gc
import inspect
import itertools
import os
import signal
import sys
import textwrap
import threading
import traceback
import weakref
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager

import anyio
import pytest
from test_interrupt import PRELUDE, STRUCK

from syncify import BlockingCallWarning, DeadlockError, Syncify

try:
    import uvloop
except ImportError:
    uvloop = None


HANDLED = "handled where the statement is"
SUPPRESSED = "the body raised, and nothing came of it"


def _with(syncer, function, body, *args, handled=False, **kwargs):
    if not handled:
        with function(*args, **kwargs) as value:
            return body(value)
        return SUPPRESSED
    try:
        raise KeyError(HANDLED)
    except KeyError:
        with function(*args, **kwargs) as value:
            return body(value)
        return SUPPRESSED


def _async_with(runner):
    """Each of these returns what the body returns, and raises what leaves the statement, the very object."""

    def use(syncer, function, body, *args, handled=False, **kwargs):
        async def statement():
            try:
                if not handled:
                    async with function.aio(*args, **kwargs) as value:
                        return body(value), None
                    return SUPPRESSED, None
                try:
                    raise KeyError(HANDLED)
                except KeyError:
                    async with function.aio(*args, **kwargs) as value:
                        return body(value), None
                    return SUPPRESSED, None
            except BaseException as error:  # some would be something else outside of a coroutine, or end its loop
                return None, error

        result, error = runner(syncer, statement())
        if error is None:
            return result
        context = error.__context__
        try:
            raise error
        finally:
            error.__context__ = context  # as it was where it left the statement
            del error

    return use


def _native(function, body, *args, **kwargs):
    """What happens without this library."""

    class Native:
        aio = staticmethod(function)

    return _async_with(lambda syncer, coroutine: asyncio.run(coroutine))(None, Native, body, *args, **kwargs)


def _run_on(loop_factory):
    def run(syncer, coroutine):
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            return runner.run(coroutine)

    return run


WAYS = {
    "blocking": _with,
    "another loop": _async_with(_run_on(asyncio.new_event_loop)),
    "the own loop": _async_with(lambda syncer, coroutine: syncer.run(coroutine)),
} | ({"a uvloop": _async_with(_run_on(uvloop.new_event_loop))} if uvloop else {})


@pytest.fixture(params=WAYS)
def way(request):
    return request.param


@pytest.fixture
def use(way, syncer):
    """`use(session, body, 1)` is `with session(1) as value: return body(value)`, or the like."""

    def use(function, body, *args, **kwargs):
        return WAYS[way](syncer, function, body, *args, **kwargs)

    use.way = way
    return use


# What contextlib does.


class Custom(BaseException):
    pass


def stop_in_a_runtime_error():
    """What the body of a generator makes of a StopIteration, and contextlib has to tell from its own."""
    try:
        raise StopIteration("inner")
    except StopIteration as stop:
        raise RuntimeError("generator raised StopIteration") from stop


def raiser(error_type, *args):
    def body(value):
        raise error_type(*args)

    body.__name__ = f"raise_{error_type.__name__}"
    return body


def pending(value):
    """Raises with a context of its own."""
    try:
        raise KeyError("context")
    except KeyError:
        raise ValueError("body")  # noqa: B904


def caused(value):
    raise ValueError("body") from KeyError("cause")


def noted(value):
    error = ValueError("body")
    error.add_note("note")
    raise error


def nothing(value):
    return value


BODIES = [
    nothing,
    raiser(ValueError, "body"),
    raiser(KeyboardInterrupt, "body"),
    raiser(SystemExit, 3),
    raiser(GeneratorExit, "body"),
    raiser(asyncio.CancelledError, "body"),
    raiser(StopIteration, "body"),
    raiser(StopAsyncIteration, "body"),
    raiser(RuntimeError, "body"),
    raiser(Custom, "body"),
    raiser(TimeoutError, "body"),
    raiser(ExceptionGroup, "body", [ValueError("inner")]),
    raiser(AssertionError),
    lambda value: stop_in_a_runtime_error(),
    pending,
    caused,
    noted,
]


@asynccontextmanager
async def cleans_up(log):
    await asyncio.sleep(0)
    try:
        yield log
    finally:
        await asyncio.sleep(0)
        log.append("left")


@asynccontextmanager
async def records(log):
    try:
        yield
    except BaseException as error:
        log.append(describe(error))
        raise


@asynccontextmanager
async def suppresses(log):
    try:
        yield "value"
    except Exception as error:
        await asyncio.sleep(0)
        log.append(describe(error))


@asynccontextmanager
async def suppresses_all(log):
    try:
        yield
    except BaseException as error:
        await asyncio.sleep(0)
        log.append(describe(error))


@asynccontextmanager
async def translates(log):
    try:
        yield
    except BaseException as error:
        raise LookupError("translated") from error


@asynccontextmanager
async def hides(log):
    try:
        yield
    except BaseException:
        raise LookupError("translated") from None


@asynccontextmanager
async def fails_in_its_cleanup(log):
    try:
        yield
    finally:
        await asyncio.sleep(0)
        raise LookupError("cleanup")


@asynccontextmanager
async def raises_the_same_again(log):
    try:
        yield
    except BaseException as error:
        await asyncio.sleep(0)
        raise error


@asynccontextmanager
async def fails_before_it_yields(log):
    await asyncio.sleep(0)
    raise LookupError("enter")
    yield


@asynccontextmanager
async def is_interrupted_before_it_yields(log):
    raise KeyboardInterrupt
    yield


@asynccontextmanager
async def does_not_yield(log):
    log.append("entered")
    return
    yield


@asynccontextmanager
async def yields_twice(log):
    try:
        yield 1
    except BaseException:
        log.append("caught")
    yield 2


@asynccontextmanager
async def catches_an_error_of_its_own_at_the_end(log):
    yield
    try:
        raise KeyError("own")
    except KeyError:
        await asyncio.sleep(0)
        raise LookupError("at the end")  # noqa: B904


@asynccontextmanager
async def raises_what_leaves_a_coroutine_as_something_else(log):
    try:
        yield
    finally:
        raise StopAsyncIteration("cleanup")


class Plain:
    """One that contextlib has no part in."""

    def __init__(self, log):
        self.log = log

    async def __aenter__(self):
        await asyncio.sleep(0)
        return self

    async def __aexit__(self, exc_type, exc, tb):
        await asyncio.sleep(0)
        self.log.append((exc_type, None if exc is None else describe(exc), tb is None))


class Truthy(Plain):
    async def __aexit__(self, exc_type, exc, tb):
        return [1]


class Falsy(Plain):
    async def __aexit__(self, exc_type, exc, tb):
        return 0


class BoolRaises(Plain):
    async def __aexit__(self, exc_type, exc, tb):
        return self

    def __bool__(self):
        raise LookupError("no bool")


class FailsToEnter(Plain):
    async def __aenter__(self):
        raise LookupError("enter")


class FailsToLeave(Plain):
    async def __aexit__(self, exc_type, exc, tb):
        await asyncio.sleep(0)
        raise LookupError("leave")


class LeavesWith(Plain):
    """Raises the very exception that it is given, as some do instead of returning False."""

    async def __aexit__(self, exc_type, exc, tb):
        if exc is not None:
            raise exc


class LeavesWithStop(Plain):
    async def __aexit__(self, exc_type, exc, tb):
        raise StopAsyncIteration("leave")


CONTEXTLIBS = [
    cleans_up,
    records,
    suppresses,
    suppresses_all,
    translates,
    hides,
    fails_in_its_cleanup,
    raises_the_same_again,
    fails_before_it_yields,
    is_interrupted_before_it_yields,
    does_not_yield,
    yields_twice,
    catches_an_error_of_its_own_at_the_end,
    raises_what_leaves_a_coroutine_as_something_else,
]
CLASSES = [Plain, Truthy, Falsy, BoolRaises, FailsToEnter, FailsToLeave, LeavesWith, LeavesWithStop]

HARNESS = {"use", "statement", "_with", "_native", "outcome"}


def frames(error):
    """Names and lines of the frames of this file that are not how it makes its calls."""
    return [
        (frame.name, frame.lineno)
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename == __file__ and frame.name not in HARNESS
    ]


def describe(error, seen=()):
    """All that can be told of an exception and of those behind it."""
    if error is None:
        return None
    if any(error is other for other in seen):
        return "the same again"
    seen = (*seen, error)
    return (
        type(error),
        str(error),
        frames(error),
        error.__suppress_context__,
        getattr(error, "__notes__", None),
        describe(error.__cause__, seen),
        describe(error.__context__, seen),
    )


def outcome(use, function, body, handled):
    """What comes of a `with` statement: its value or its exception, whether that is the body's, and what was logged."""
    log, raised = [], []

    def run(value):
        try:
            return body(value)
        except BaseException as error:
            raised.append(error)
            raise

    try:
        value = use(function, run, log, handled=handled)
    except BaseException as error:
        return any(error is other for other in raised), describe(error), log
    return value if isinstance(value, str | int) else type(value), log


@functools.cache
def native_outcome(function, body, handled):
    return outcome(_native, function, body, handled)


@pytest.mark.parametrize("function", CONTEXTLIBS, ids=lambda function: function.__name__)
def test_it_does_what_contextlib_does(syncer, use, function):
    decorated = syncer(function)
    for body, handled in itertools.product(BODIES, [False, True]):
        assert outcome(use, decorated, body, handled) == native_outcome(function, body, handled), body


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_a_declared_one_of_any_class_does_what_it_does_natively(syncer, use, cls):
    decorated = syncer(context_manager=True)(cls)
    for body, handled in itertools.product(BODIES, [False, True]):
        assert outcome(use, decorated, body, handled) == native_outcome(cls, body, handled), body


def test_the_body_gets_the_very_object_and_the_manager_the_very_exception(syncer, use):
    yielded, error, caught = object(), ValueError("body"), []

    @syncer
    @asynccontextmanager
    async def session():
        try:
            yield yielded
        except ValueError as other:
            caught.append(other)
            raise

    def body(value):
        assert value is yielded
        raise error

    with pytest.raises(ValueError, match="body") as raised:
        use(session, body)
    assert raised.value is error
    assert caught == [error]


def test_a_traceback_shows_the_users_frames_and_one_of_this_library_at_most(syncer, use):
    @syncer
    @asynccontextmanager
    async def session():
        await asyncio.sleep(0)
        yield
        await fails()

    async def fails():
        await asyncio.sleep(0)
        raise LookupError

    with pytest.raises(LookupError) as raised:
        use(session, nothing)
    names = [
        (os.path.basename(os.path.dirname(frame.filename)), frame.name)
        for frame in traceback.extract_tb(raised.value.__traceback__)
    ]
    assert names[-2:] == [("tests", "session"), ("tests", "fails")]
    assert sum(package == "syncify" for package, _ in names) <= 1
    assert not any(package in ("asyncio", "futures") for package, _ in names[2:])


# What may be decorated.


class Methods:
    """A class with one of each kind, whose context managers tell what they were given."""

    def __init__(self, syncer):
        def of_contextlib(kind):
            @asynccontextmanager
            async def open(*args, **kwargs):  # noqa: A001
                """Open it."""
                await asyncio.sleep(0)
                yield (*args, kwargs)

            return kind(open)

        def declared(kind):
            def open(*args, **kwargs):  # noqa: A001
                """Open it."""
                return contextlib.nullcontext((*args, kwargs))

            return kind(open)

        class Store:
            session = syncer(of_contextlib(lambda function: function))
            class_session = syncer(of_contextlib(classmethod))
            static_session = syncer(of_contextlib(staticmethod))
            outer_static_session = staticmethod(syncer(of_contextlib(lambda function: function)))
            declared_session = syncer(context_manager=True)(declared(lambda function: function))
            declared_class_session = syncer(context_manager=True)(declared(classmethod))
            declared_static_session = syncer(context_manager=True)(declared(staticmethod))

        self.cls = Store
        self.store = Store()


def test_methods_of_each_kind_are_bound_as_they_would_be(syncer, use):
    methods = Methods(syncer)
    store, cls = methods.store, methods.cls

    def given(function, *args):
        return use(function, lambda value: value, *args, key="word")

    end = {"key": "word"}
    for name in "session", "declared_session":
        assert given(getattr(store, name), 1) == (store, 1, end)
        assert given(getattr(cls, name), store, 1) == (store, 1, end)
    for name in "class_session", "declared_class_session":
        assert given(getattr(store, name), 1) == (cls, 1, end)
        assert given(getattr(cls, name), 1) == (cls, 1, end)
    for name in "static_session", "outer_static_session", "declared_static_session":
        assert given(getattr(store, name), 1) == (1, end)
        assert given(getattr(cls, name), 1) == (1, end)


def test_functions_of_each_kind_can_be_decorated(syncer, use):
    @asynccontextmanager
    async def of_contextlib(x):
        yield x

    def declared(x):
        return contextlib.nullcontext(x)

    class Call:
        def __call__(self, x):
            return contextlib.nullcontext(x)

    of_any_class = syncer(context_manager=True)
    for function, args in [
        (syncer(of_contextlib), [1]),
        (syncer(functools.partial(of_contextlib, 1)), []),
        (of_any_class(of_contextlib), [1]),
        (of_any_class(declared), [1]),
        (of_any_class(functools.partial(declared, 1)), []),
        (of_any_class(contextlib.nullcontext), [1]),
        (of_any_class(lambda x: contextlib.nullcontext(x)), [1]),
        (of_any_class(Call()), [1]),
        (of_any_class(Call().__call__), [1]),
    ]:
        assert use(function, lambda value: value, *args) == 1, function


def test_names_and_signature_are_those_of_the_function(syncer):
    @syncer
    @asynccontextmanager
    async def session(x: int, *, y: str = "a"):
        """Open it."""
        yield

    @syncer(context_manager=True)
    def declared(x: int, *, y: str = "a"):
        """Open it."""

    for function in session, session.aio, declared, declared.aio:
        assert str(inspect.signature(function)) == "(x: int, *, y: str = 'a')"
        assert function.__doc__ == "Open it."
        assert not inspect.iscoroutinefunction(function)
        assert not inspect.isasyncgenfunction(function)
    assert session.__name__ == session.aio.__name__ == "session"
    assert session.__module__ == __name__


def test_what_is_made_is_what_the_standard_library_calls_a_context_manager(syncer):
    session = syncer(cleans_up)
    assert isinstance(session([]), contextlib.AbstractContextManager)
    assert not isinstance(session([]), contextlib.AbstractAsyncContextManager)
    assert isinstance(session.aio([]), contextlib.AbstractAsyncContextManager)
    assert not isinstance(session.aio([]), contextlib.AbstractContextManager)


def test_wrong_arguments_raise_at_the_call(syncer):
    session = syncer(cleans_up)
    for function in session, session.aio:
        with pytest.raises(TypeError, match=r"cleans_up\(\) (missing 1|takes 1)"):
            function()
        with pytest.raises(TypeError, match="unexpected keyword argument 'what'"):
            function([], what=1)


def test_wrong_arguments_of_a_declared_one_raise_when_it_is_entered_at_the_latest(syncer, use):
    entered = []

    @syncer(context_manager=True)
    def session(x):
        return contextlib.nullcontext(x)

    with pytest.raises(TypeError, match="missing 1 required"):
        use(session, entered.append)
    assert not entered


def test_a_declared_function_is_called_on_the_loop(syncer, use):
    """So that it may make what asks for the running loop."""

    @syncer(context_manager=True)
    def session():
        return contextlib.nullcontext(asyncio.get_running_loop())

    assert use(session, lambda loop: loop) is syncer.get_loop()


def test_what_is_refused_at_the_decoration_and_why(syncer):
    of_any_class = syncer(context_manager=True)

    async def coroutine_function():
        pass

    async def async_generator():
        yield

    @contextlib.contextmanager
    def of_plain_code():
        yield

    class Session(Plain):
        pass

    for function in coroutine_function, async_generator, staticmethod(async_generator), classmethod(async_generator):
        with pytest.raises(TypeError, match="@asynccontextmanager"):
            of_any_class(function)
    for what in 1, None, "session", contextlib.nullcontext():
        with pytest.raises(TypeError):
            of_any_class(what)
    with pytest.raises(TypeError, match="SyncContextManager"):
        syncer(Session)
    with pytest.raises(TypeError, match="context_manager=True"):
        syncer(lambda: Session([]))
    with pytest.raises(TypeError):
        syncer(of_plain_code)
    for function in cleans_up, staticmethod(cleans_up), classmethod(cleans_up):
        with pytest.raises(TypeError, match="prefetch"):
            syncer(prefetch=1)(function)
    with pytest.raises(TypeError, match="prefetch"):
        syncer(prefetch=1, context_manager=True)(Plain)


def test_what_has_been_decorated_is_refused(syncer):
    async def coroutine_function():
        pass

    async def async_generator():
        yield

    for function in coroutine_function, async_generator, cleans_up:
        for decorator in syncer, syncer(context_manager=True):
            with pytest.raises(TypeError, match="already"):
                decorator(syncer(function))


class NoExit:
    entered = False

    async def __aenter__(self):
        type(self).entered = True

    __enter__ = __exit__ = None


class OnlyInTheInstance:
    def __init__(self):
        self.__aenter__ = self.__aexit__ = Plain([]).__aenter__


@pytest.mark.parametrize("cls", [object, NoExit, OnlyInTheInstance])
def test_what_is_no_async_context_manager_is_not_entered(syncer, use, cls):
    declared = syncer(context_manager=True)(lambda: cls())
    with pytest.raises(TypeError, match="async context manager"):
        use(declared, lambda value: None)
    assert not NoExit.entered


# Reuse, nesting, stacks.


@pytest.mark.parametrize("kind", [cleans_up, suppresses, Plain])
def test_used_a_second_time_it_does_what_it_would_natively(syncer, way, kind):
    decorated = syncer(kind) if kind is not Plain else syncer(context_manager=True)(kind)

    def twice(use, function):
        log = []

        class Once:
            manager = None

            def __call__(self):
                self.manager = self.manager or function(log)
                return self.manager

        once = Once()
        once.aio = once
        outcomes = []
        for _ in range(2):
            try:
                outcomes.append(type(use(once, lambda value: value)))
            except BaseException as error:
                outcomes.append((type(error), str(error)))
        return outcomes, log

    native = twice(_native, kind)
    ours = twice(
        lambda function, body: WAYS[way](syncer, function, body), decorated if way == "blocking" else decorated.aio
    )
    assert ours == native


def test_what_can_be_entered_again_can_be_entered_again(syncer, use):
    """One object, which is a lock."""
    lock = asyncio.Lock()
    session = syncer(context_manager=True)(lambda: lock)
    for _ in range(2):
        assert use(session, lambda value: lock.locked())
        assert not lock.locked()


def test_one_manager_may_be_entered_twice_at_a_time_if_it_can(syncer):
    class Reentrant:
        depth = 0

        async def __aenter__(self):
            self.depth += 1
            await asyncio.sleep(0)
            return self.depth

        async def __aexit__(self, *exc_info):
            self.depth -= 1

    session = syncer(context_manager=True)(Reentrant)
    manager = session()
    with manager as first:
        with manager as second:
            assert (first, second) == (1, 2)
        with manager as second:
            assert second == 2

    async def main():
        manager = session.aio()
        async with manager as first, manager as second:
            assert (first, second) == (1, 2)

    asyncio.run(main())
    syncer.run(main())


def test_each_thread_leaves_what_it_has_entered_in_a_manager_they_share(syncer):
    tasks = []

    class Shared:
        async def __aenter__(self):
            return asyncio.current_task()

        async def __aexit__(self, *exc_info):
            tasks.append((exc_info[1].args[0], asyncio.current_task()))
            return True

    manager = syncer(context_manager=True)(Shared)()
    barrier = threading.Barrier(3)

    def thread():
        with manager as task:
            barrier.wait(20)
            raise ValueError(task)

    threads = [threading.Thread(target=thread) for _ in range(3)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(20)
    assert len({entered for entered, _ in tasks}) == 3
    assert all(entered is left for entered, left in tasks)


def test_left_without_having_been_entered_it_says_so(syncer):
    session = syncer(cleans_up)
    with pytest.raises(RuntimeError, match="has not been entered"):
        session([]).__exit__(None, None, None)
    with pytest.raises(RuntimeError, match="has not been entered"):
        asyncio.run(session.aio([]).__aexit__(None, None, None))
    manager = session([])
    with manager:
        pass
    with pytest.raises(RuntimeError, match="has been left already"):
        manager.__exit__(None, None, None)


def test_nested_ones_are_left_in_reverse_and_see_what_those_within_make_of_an_error(syncer, use):
    log = []

    @syncer
    @asynccontextmanager
    async def session(name, error=None):
        try:
            await asyncio.sleep(0)
            yield name
        except BaseException as caught:
            log.append((name, repr(caught)))
            if error:
                raise error from None
            raise

    def body(value):
        use(session, inner, "inner", KeyError("inner"))

    def inner(value):
        raise ValueError("body")

    # The own loop cannot be entered twice, so there the inner one is in the same coroutine.
    async def on_the_own_loop():
        async with session.aio("outer"), session.aio("inner", KeyError("inner")):
            raise ValueError("body")

    with pytest.raises(KeyError, match="inner"):
        if use.way == "blocking":
            use(session, body, "outer")
        elif use.way == "the own loop":
            syncer.run(on_the_own_loop())
        else:
            asyncio.run(on_the_own_loop())
    assert log == [("inner", "ValueError('body')"), ("outer", "KeyError('inner')")]


def test_an_exit_stack_takes_them(syncer, way):
    log = []

    @syncer
    @asynccontextmanager
    async def session(name):
        try:
            yield name
        except ValueError as error:
            log.append((name, str(error)))
            if name == 2:
                raise KeyError("other") from error
            raise
        except KeyError as error:
            log.append((name, error.args[0]))

    def in_plain_code():
        with ExitStack() as stack:
            assert [stack.enter_context(session(i)) for i in range(4)] == [0, 1, 2, 3]
            raise ValueError("body")

    async def in_async_code():
        async with AsyncExitStack() as stack:
            assert [await stack.enter_async_context(session.aio(i)) for i in range(4)] == [0, 1, 2, 3]
            raise ValueError("body")

    if way == "blocking":
        in_plain_code()
    elif way == "the own loop":
        syncer.run(in_async_code())
    else:
        asyncio.run(in_async_code())
    # The first two see nothing: the second has suppressed what the third has made of it.
    assert log == [(3, "body"), (2, "body"), (1, "other")]


def test_an_exit_stack_itself_can_be_declared(syncer, use):
    log = []
    stack = syncer(context_manager=True)(AsyncExitStack)

    def body(stack):
        stack.callback(log.append, "left")
        assert not log
        raise LookupError

    with pytest.raises(LookupError):
        use(stack, body)
    assert log == ["left"]


def test_as_a_decorator_it_is_entered_anew_for_each_call(syncer, way):
    log = []

    @syncer
    @asynccontextmanager
    async def session(name):
        log.append(("enter", name))
        try:
            yield
        except ValueError:
            log.append("suppressed")
        log.append(("exit", name))

    @session("plain")
    def plain(x):
        log.append(x)
        if x is None:
            raise ValueError
        return x

    @session.aio("async")
    async def in_async_code(x):
        log.append(x)
        if x is None:
            raise ValueError
        return x

    def call(x):
        if way == "blocking":
            return plain(x)
        if way == "the own loop":
            return syncer.run(in_async_code(x))
        return asyncio.run(in_async_code(x))

    name = "plain" if way == "blocking" else "async"
    assert not log
    assert [call(1), call(None), call(2)] == [1, None, 2]
    around = [("enter", name)], [("exit", name)]
    assert log == [
        *around[0], 1, *around[1], *around[0], None, "suppressed", *around[1], *around[0], 2, *around[1],
    ]  # fmt: skip


# One task and one context from enter to exit.


def test_enter_and_exit_run_on_the_loop_in_one_task_and_one_context(syncer, use, way):
    variable = contextvars.ContextVar("variable", default="default")
    tasks = []

    @syncer
    @asynccontextmanager
    async def session():
        tasks.append(asyncio.current_task())
        assert asyncio.get_running_loop() is syncer.get_loop()
        assert variable.get() == "of the caller"
        token = variable.set("inner")
        await asyncio.sleep(0)
        try:
            yield
        finally:
            await asyncio.sleep(0)
            assert variable.get() == "inner"
            variable.reset(token)
            tasks.append(asyncio.current_task())
            assert asyncio.get_running_loop() is syncer.get_loop()

    def body(value):
        # Natively, which it is on the own loop, the context is that of the caller.
        assert variable.get() == ("inner" if way == "the own loop" else "of the caller")

    def call():
        variable.set("of the caller")
        use(session, body)
        use(session, body)

    contextvars.copy_context().run(call)
    assert tasks[0] is tasks[1] is not None
    assert tasks[2] is tasks[3] is not tasks[0]


@pytest.mark.parametrize("kind", ["contextlib", "class"])
def test_a_time_limit_that_it_holds_strikes_in_the_body_and_is_what_leaves_the_statement(syncer, use, way, kind):
    """On the own loop the body itself, which does not await, cannot be struck: there it is struck at its exit."""
    left = threading.Event()

    @asynccontextmanager
    async def of_contextlib():
        try:
            async with asyncio.timeout(0.001):
                yield
                await asyncio.Event().wait()
        finally:
            left.set()

    class Session:
        async def __aenter__(self):
            self.timeout = asyncio.timeout(0.001)
            await self.timeout.__aenter__()

        async def __aexit__(self, *exc_info):
            left.set()
            if exc_info[0] is None:
                await asyncio.sleep(1000)
            await self.timeout.__aexit__(*exc_info)

    session = syncer(of_contextlib) if kind == "contextlib" else syncer(context_manager=True)(Session)

    def body(value):
        if way != "the own loop":
            assert left.wait(20)

    if kind == "contextlib" or way != "the own loop":
        with pytest.raises(TimeoutError):
            use(session, body)


def test_a_failing_task_group_that_it_holds_is_left_at_once(syncer, use, way):
    left = threading.Event()
    fail = asyncio.Event()

    @syncer
    @asynccontextmanager
    async def session():
        async def child():
            await fail.wait()
            raise LookupError("child")

        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(child())
                yield
        finally:
            left.set()

    def body(value):
        if way == "the own loop":
            fail.set()
        else:
            syncer.get_loop().call_soon_threadsafe(fail.set)
            assert left.wait(20)
        raise KeyError("body")

    # Natively the task group has both. Here the body's error comes when the group is gone.
    with pytest.raises((ExceptionGroup, KeyError)) as raised:
        use(session, body)
    if way == "the own loop":
        assert [type(error) for error in raised.value.exceptions] == [KeyError]
    else:
        assert [type(error) for error in raised.value.exceptions] == [LookupError]
        chain = [error := raised.value]
        while error := error.__context__:
            chain.append(error)
        assert [type(error) for error in chain] == [ExceptionGroup, asyncio.CancelledError, KeyError]


@pytest.mark.parametrize("way", [way for way in WAYS if way != "the own loop"])  # there it is the caller's own task
@pytest.mark.parametrize("suppress", [True, False])
def test_what_comes_of_a_cancellation_in_the_body_is_told_at_its_end(syncer, use, suppress):
    left, given = threading.Event(), []

    class Session:
        async def __aenter__(self):
            return asyncio.current_task()

        async def __aexit__(self, exc_type, exc, tb):
            given.append((exc_type, exc.args))
            await asyncio.sleep(0)
            left.set()
            return suppress

    def body(task):
        syncer.get_loop().call_soon_threadsafe(task.cancel, "message")
        assert left.wait(20)
        return "body"

    session = syncer(context_manager=True)(Session)
    if suppress:
        assert use(session, body) == "body"
    else:
        with pytest.raises(asyncio.CancelledError, match="message"):
            use(session, body)
    assert given == [(asyncio.CancelledError, ("message",))]


def test_anyio_cancel_scopes_and_task_groups_enter_and_exit(syncer, use):
    log = []

    @syncer
    @asynccontextmanager
    async def session():
        async def child():
            try:
                await anyio.sleep_forever()
            finally:
                log.append("cancelled")

        async with anyio.create_task_group() as group:
            group.start_soon(child)
            with anyio.CancelScope() as scope, anyio.move_on_after(1000):
                await anyio.lowlevel.checkpoint()
                yield group
                scope.cancel()
                await anyio.sleep_forever()
            assert scope.cancelled_caught
            group.cancel_scope.cancel()

    use(session, lambda group: None)
    assert log == ["cancelled"]


# On a loop where one should not block.


def test_on_the_loop_itself_plain_with_is_refused_and_nothing_is_entered(syncer):
    session, entered = syncer(cleans_up), []

    async def main():
        manager = session(entered)
        with pytest.raises(DeadlockError, match=r"`async with cleans_up\.aio\(\.\.\.\)`"), manager:
            raise AssertionError("entered")
        await asyncio.sleep(0)
        return manager

    manager = syncer.run(main())
    assert not entered
    with manager as value:  # not spent
        assert value is entered
    assert entered == ["left"]


def test_on_the_loop_itself_it_cannot_be_left_but_elsewhere_still_can(syncer):
    log = []
    manager = syncer(cleans_up)(log)
    manager.__enter__()

    async def main():
        with pytest.raises(DeadlockError, match="async with"):
            manager.__exit__(None, None, None)

    syncer.run(main())
    assert not log
    manager.__exit__(None, None, None)
    assert log == ["left"]


def test_on_another_loop_it_warns_at_the_line_of_the_with_statement(syncer, loop_factory):
    session, log = syncer(cleans_up), []

    async def main():
        with session(log):
            return inspect.currentframe().f_lineno - 1

    with pytest.warns(BlockingCallWarning) as caught, asyncio.Runner(loop_factory=loop_factory) as runner:
        line = runner.run(main())
    assert {(w.filename, w.lineno) for w in caught} == {(__file__, line)}
    assert "`async with cleans_up.aio(...)`" in str(caught[0].message)
    assert log == ["left"]


def test_on_another_loop_it_is_an_error_if_the_syncer_says_so():
    strict = Syncify("strict", blocking="error")
    session, log = strict(cleans_up), []

    async def main():
        with pytest.raises(BlockingCallWarning), session(log):
            raise AssertionError("entered")

    asyncio.run(main())
    assert not log


def test_on_another_loop_it_is_silent_if_the_syncer_says_so(other_syncer):
    session, log = other_syncer(cleans_up), []

    async def main():
        with session(log):
            pass

    asyncio.run(main())
    assert log == ["left"]


def test_async_with_is_for_a_task_of_a_loop(syncer):
    coroutine = syncer(cleans_up).aio([]).__aenter__()
    with pytest.raises(RuntimeError, match="neither an asyncio event loop nor Trio runs"):
        coroutine.send(None)


# Cancellation.


class Stages:
    """An async context manager that waits at one stage, and answers the cancellation that comes there."""

    def __init__(self, stage, answer):
        self.stage = stage
        self.answer = answer
        self.log = []
        self.waits = threading.Event()

    async def wait(self, stage):
        if stage != self.stage:
            await asyncio.sleep(0)
            return
        try:
            self.waits.set()
            await asyncio.Event().wait()
        except asyncio.CancelledError as error:
            self.log.append((stage, "cancelled", error.args))
            for _ in range(3):
                await asyncio.sleep(0)
            self.log.append((stage, "cleaned"))
            if self.answer == "swallows":
                return
            if self.answer == "uncancels":
                asyncio.current_task().uncancel()
                return
            if self.answer == "fails":
                raise LookupError("cleanup") from None
            raise

    @asynccontextmanager
    async def session(self):
        await self.wait("enter")
        try:
            yield self
        except BaseException as error:
            self.log.append(("body raised", repr(error)))
            raise
        finally:
            await self.wait("exit")
            self.log.append("left")

    async def use(self, manager):
        try:
            async with manager as value:
                assert value is self
                await self.wait("body")
                self.log.append("body done")
        except BaseException as error:
            self.log.append(repr(error))
        self.log.append(asyncio.current_task().cancelling())

    async def cancelled(self, manager):
        task = asyncio.create_task(self.use(manager))
        while not self.waits.is_set():
            await asyncio.sleep(0)
        task.cancel("message")
        await task
        return self.log


@pytest.mark.parametrize("answer", ["raises", "swallows", "uncancels", "fails"])
@pytest.mark.parametrize("stage", ["enter", "body", "exit"])
def test_cancelling_a_task_in_async_with_does_what_it_does_natively(syncer, loop_factory, stage, answer):
    native = Stages(stage, answer)
    expected = asyncio.run(native.cancelled(native.session()))
    for run in syncer.run, _run_on(loop_factory):
        stages = Stages(stage, answer)
        coroutine = stages.cancelled(syncer(stages.session).aio())
        assert (run(coroutine) if run == syncer.run else run(syncer, coroutine)) == expected


class Told:
    """A context manager whose `stage` ends when it is told to."""

    def __init__(self, syncer, stage):
        self.waits = threading.Event()
        self.log = []
        event = asyncio.Event()

        async def wait(here):
            if here == stage:
                self.waits.set()
                await event.wait()

        @asynccontextmanager
        async def session():
            await wait("enter")
            try:
                yield
            except BaseException as error:
                self.log.append(repr(error))
                raise
            finally:
                await wait("exit")
                self.log.append("left")

        async def end():
            event.set()
            for _ in range(3):
                await asyncio.sleep(0)

        self.aio = syncer(session).aio
        self.end = syncer(end)


@pytest.mark.parametrize("stage", ["enter", "exit"])
def test_a_cancel_that_comes_too_late_is_not_lost_and_what_was_entered_is_left(syncer, loop_factory, stage):
    """It has been entered or left, but the task that awaits this does not know yet."""
    told = Told(syncer, stage)

    async def main():
        async def use():
            async with told.aio():
                told.log.append("body")

        task = asyncio.create_task(use())
        while not told.waits.is_set():
            await asyncio.sleep(0)
        told.end.submit().result()  # blocks this loop, so that it cannot have been told
        task.cancel("late")
        with pytest.raises(asyncio.CancelledError, match="late"):
            await task
        assert told.log == (["GeneratorExit()", "left"] if stage == "enter" else ["body", "left"])

    _run_on(loop_factory)(syncer, main())


@pytest.mark.parametrize("stage", ["enter", "exit"])
def test_a_cancel_that_meets_the_end_of_a_stage_is_not_lost_and_leaves_nothing_entered(syncer, stage):
    """Sent before the end of the stage, and found after it on the background loop."""

    @syncer
    async def hold_the_loop():
        await told.end.aio()  # so the other ends at the next turn, and what comes meanwhile is too late
        held.set()
        go.wait()

    async def main():
        async def use():
            async with told.aio():
                told.log.append("body")
                if stage == "enter":
                    await asyncio.Event().wait()

        task = asyncio.create_task(use())
        while not told.waits.is_set():
            await asyncio.sleep(0)
        holder = hold_the_loop.submit()
        held.wait()
        assert task.cancel("late")
        await asyncio.sleep(0)
        go.set()
        holder.result()
        with pytest.raises(asyncio.CancelledError, match="late"):
            await task
        assert told.log.count("left") == 1
        assert task.cancelling() == 1

    for _ in range(5):
        held, go, told = threading.Event(), threading.Event(), Told(syncer, stage)
        asyncio.run(main())


def test_a_time_limit_around_the_statement_waits_for_the_cleanup(syncer, loop_factory):
    stages = Stages("enter", "raises")
    session = syncer(stages.session)

    async def main():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001), session.aio():
                raise AssertionError("entered")
        assert stages.log == [("enter", "cancelled", stages.log[0][2]), ("enter", "cleaned")]
        assert asyncio.current_task().cancelling() == 0

    _run_on(loop_factory)(syncer, main())


# Dropped without having been left.


class Dropped:
    """A context manager that tells how it ends."""

    def __init__(self, syncer, error=None):
        self.log = []
        self.left = threading.Event()

        @syncer
        @asynccontextmanager
        async def session():
            task = asyncio.current_task()
            try:
                yield
            except BaseException as caught:
                await asyncio.sleep(0)
                self.log.append(type(caught))
                if error is not None:
                    raise error from None
                raise
            finally:
                self.log.append((threading.current_thread().name, asyncio.current_task() is task))
                self.left.set()

        self.session = session


def test_dropped_in_plain_code_it_is_left_on_the_loop_soon(syncer):
    dropped = Dropped(syncer)
    manager = dropped.session()
    manager.__enter__()
    del manager
    assert dropped.left.wait(20)
    assert dropped.log == [GeneratorExit, (syncer.name, True)]


def test_dropped_in_async_code_it_is_left_on_the_loop_soon(syncer, loop_factory):
    dropped = Dropped(syncer)

    async def main():
        manager = dropped.session.aio()
        await manager.__aenter__()
        del manager
        assert dropped.left.wait(20)

    _run_on(loop_factory)(syncer, main())
    assert dropped.log == [GeneratorExit, (syncer.name, True)]


def test_dropped_on_the_loop_itself_it_is_left_without_blocking_it(syncer):
    dropped = Dropped(syncer)
    managers = [dropped.session()]
    managers[0].__enter__()

    async def main():
        managers.clear()
        async with asyncio.timeout(20):
            while not dropped.left.is_set():
                await asyncio.sleep(0)

    syncer.run(main())
    assert dropped.log == [GeneratorExit, (syncer.name, True)]


def test_dropped_in_a_cycle_it_is_left_when_that_is_collected(syncer):
    dropped = Dropped(syncer)
    manager = dropped.session()
    manager.__enter__()
    manager.cycle = manager
    del manager
    gc.collect()
    assert dropped.left.wait(20)
    assert dropped.log == [GeneratorExit, (syncer.name, True)]


def test_an_error_in_the_cleanup_of_a_dropped_one_is_told_to_the_loop():
    syncer, told, reported = Syncify("reports"), threading.Event(), []

    def handler(loop, context):
        reported.append(context["exception"])
        told.set()

    syncer.get_loop().set_exception_handler(handler)
    error = ValueError("cleanup")
    dropped = Dropped(syncer, error)
    manager = dropped.session()
    manager.__enter__()
    del manager
    assert told.wait(20)
    assert reported == [error]


def test_one_that_is_never_entered_leaves_nothing_behind(syncer, recwarn):
    session, log = syncer(cleans_up), []
    for function in session, session.aio, syncer(context_manager=True)(Plain):
        function(log)
    gc.collect()
    assert not log
    assert not recwarn.list


def test_nothing_is_kept_of_what_has_been_left(syncer, use):
    """With one of contextlib it would be, natively too: its frames make a cycle with the exception of the body."""

    class Error(Exception):
        pass

    class Session:
        def __init__(self, argument):
            kept.append(weakref.ref(self))

        async def __aenter__(self):
            return self

        async def __aexit__(self, *exc_info):
            await asyncio.sleep(0)
            return True

    def body(value):
        error = Error()
        kept.append(weakref.ref(error))
        try:
            raise error
        finally:
            del error, value

    def argument():
        pass

    kept = [weakref.ref(argument)]
    gc.disable()
    try:
        assert use(syncer(context_manager=True)(Session), body, argument) == SUPPRESSED
        del argument
        syncer.run(asyncio.sleep(0))  # the loop has let go of the last call
        assert [reference() for reference in kept] == [None] * 3
    finally:
        gc.enable()


def test_one_that_is_still_there_when_the_program_ends_ends_in_silence(script):
    running = script("""
        from contextlib import asynccontextmanager
        from syncify import syncify

        @syncify
        @asynccontextmanager
        async def session():
            yield "entered"

        manager = session()
        print(manager.__enter__())
    """)
    assert running.end() == (0, "entered\n", "")


# What is yielded.


def test_an_async_iterator_that_is_yielded_can_be_iterated(syncer, way):
    class Numbers:
        extra = "attribute"

        def __init__(self):
            self.left = 3

        def __aiter__(self):
            return self

        async def __anext__(self):
            assert asyncio.get_running_loop() is syncer.get_loop()
            await asyncio.sleep(0)
            if not self.left:
                raise StopAsyncIteration
            self.left -= 1
            return self.left

    @syncer
    @asynccontextmanager
    async def numbers():
        yield Numbers()

    @syncer
    @asynccontextmanager
    async def generator():
        async def rows():
            assert asyncio.get_running_loop() is syncer.get_loop()
            for i in 2, 1, 0:
                yield i

        async with contextlib.aclosing(rows()) as values:
            yield values

    async def main():
        async with numbers.aio() as values:
            assert values.extra == "attribute"
            assert [value async for value in values] == [2, 1, 0]
        async with generator.aio() as values:
            assert inspect.isasyncgen(values)
            assert [value async for value in values] == [2, 1, 0]

    if way == "blocking":
        with numbers() as values:
            assert values.extra == "attribute"
            assert list(values) == [2, 1, 0]
        with generator() as values:
            assert list(values) == [2, 1, 0]
    elif way == "the own loop":
        syncer.run(main())
    else:
        _run_on(uvloop.new_event_loop if way == "a uvloop" else asyncio.new_event_loop)(syncer, main())


# Interrupts: real signals in a process of its own.

SESSION = """
    from contextlib import asynccontextmanager

    async def stage(name, stuck, how):
        if name != stuck:
            return
        try:
            print("waits", flush=True)
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            print("cancelled", flush=True)
            if how == "stuck":
                await released.wait()
            await asyncio.sleep(0.01)
            print("cleaned", flush=True)
            if how == "fail":
                raise ValueError("in the cleanup")
            if how == "raise":
                raise

    released = asyncio.Event()
    left = threading.Event()

    @syncer
    @asynccontextmanager
    async def session(stuck, how="raise", suppress=()):
        await stage("enter", stuck, how)
        try:
            yield
        except suppress:
            print("suppressed", flush=True)
        except BaseException as error:
            print("body raised", type(error).__name__, flush=True)
            raise
        finally:
            await stage("exit", stuck, how)
            await asyncio.sleep(0)
            print("left", flush=True)
            left.set()
"""


@pytest.fixture(params=["asyncio", "uvloop"])
def program(request, script):
    if sys.platform == "win32":
        pytest.skip("sends POSIX signals")
    if request.param == "uvloop":
        pytest.importorskip("uvloop")
    prelude = PRELUDE.format(short_steps=False, uvloop=request.param == "uvloop") + textwrap.dedent(SESSION)
    return lambda code: script(prelude + textwrap.dedent(code))


def interrupt(running, *lines):
    for line in lines:
        assert running.line() == line
    running.process.send_signal(signal.SIGINT)


def test_ctrl_c_while_entering_cancels_that_and_waits_for_its_cleanup(program):
    running = program("""
        try:
            with session("enter"):
                print("body")
        except KeyboardInterrupt:
            print("raised")
        print(works(), syncer)
    """)
    interrupt(running, "waits")
    assert running.end() == (0, "cancelled\ncleaned\nraised\nworks <Syncify 's', 0 calls in flight>\n", "")


def test_ctrl_c_while_entering_undoes_what_was_entered_all_the_same(program):
    running = program("""
        try:
            with session("enter", "swallow"):
                print("body")
        except KeyboardInterrupt:
            print("raised")
        print(works(), syncer)
    """)
    interrupt(running, "waits")
    out = "cancelled\ncleaned\nbody raised GeneratorExit\nleft\nraised\nworks <Syncify 's', 0 calls in flight>\n"
    assert running.end() == (0, out, "")


def test_an_error_in_the_cleanup_is_the_context_of_the_interrupt(program):
    running = program("""
        for where in "enter", "exit":
            try:
                with session(where, "fail"):
                    pass
            except KeyboardInterrupt as error:
                print(repr(error.__context__), flush=True)
    """)
    interrupt(running, "waits")
    interrupt(running, "cancelled", "cleaned", "ValueError('in the cleanup')", "waits")
    assert running.end() == (0, "cancelled\ncleaned\nValueError('in the cleanup')\n", "")


def test_ctrl_c_in_the_body_is_thrown_in_where_it_yields(program):
    running = program("""
        try:
            with session(None):
                print("body", flush=True)
                while True:
                    time.sleep(0.001)  # a signal that comes just before a long sleep would not end it
        except KeyboardInterrupt:
            print("raised", flush=True)
        with session(None, suppress=KeyboardInterrupt):
            print("body", flush=True)
            while True:
                time.sleep(0.001)
        print("went on")
    """)
    interrupt(running, "body")
    interrupt(running, "body raised KeyboardInterrupt", "left", "raised", "body")
    assert running.end() == (0, "suppressed\nleft\nwent on\n", "")


def test_ctrl_c_while_leaving_cancels_that_and_waits_for_its_cleanup(program):
    running = program("""
        for how in "raise", "swallow":
            try:
                with session("exit", how):
                    print("body")
            except KeyboardInterrupt:
                print("raised", flush=True)
        print(works(), syncer)
    """)
    interrupt(running, "body", "waits")
    interrupt(running, "cancelled", "cleaned", "raised", "body", "waits")
    out = "cancelled\ncleaned\nleft\nraised\nworks <Syncify 's', 0 calls in flight>\n"
    assert running.end() == (0, out, "")


def test_a_second_ctrl_c_leaves_at_once_and_what_is_entered_later_is_undone(program):
    running = program("""
        try:
            with session("enter", "stuck"):
                print("body")
        except KeyboardInterrupt:
            print("raised", flush=True)
        print(works())
        syncer.get_loop().call_soon_threadsafe(released.set)
        assert left.wait(20)
    """)
    interrupt(running, "waits")
    interrupt(running, "cancelled")
    assert running.end() == (0, "raised\nworks\ncleaned\nbody raised GeneratorExit\nleft\n", "")


def test_a_second_ctrl_c_while_leaving_leaves_at_once(program):
    running = program("""
        try:
            with session("exit", "stuck"):
                print("body")
        except KeyboardInterrupt:
            print("raised", flush=True)
        print(works())
        syncer.get_loop().call_soon_threadsafe(released.set)
        assert left.wait(20)
    """)
    interrupt(running, "body", "waits")
    interrupt(running, "cancelled")
    assert running.end() == (0, "raised\nworks\ncleaned\nleft\n", "")


def test_a_second_ctrl_c_while_it_is_undone_leaves_at_once(program):
    running = program("""
        @syncer
        @asynccontextmanager
        async def stubborn():
            try:
                print("waits", flush=True)
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                pass
            try:
                yield
            finally:
                print("undoes", flush=True)
                await asyncio.Event().wait()

        try:
            with stubborn():
                print("body")
        except KeyboardInterrupt:
            print("raised", flush=True)
        print(works())
        os._exit(0)
    """)
    interrupt(running, "waits")
    interrupt(running, "undoes")
    assert running.end() == (0, "raised\nworks\n", "")


def test_ctrl_c_in_asyncio_run_cleans_up_too(program):
    running = program("""
        async def main(where):
            async def tick():
                while True:  # the loop of asyncio.run sleeps through a signal that comes just before it falls asleep
                    await asyncio.sleep(0.01)

            ticking = asyncio.create_task(tick())
            async with session.aio(where):
                pass

        for where in "enter", "exit":
            try:
                asyncio.run(main(where))
            except KeyboardInterrupt:
                print("raised", flush=True)
    """)
    interrupt(running, "waits")
    interrupt(running, "cancelled", "cleaned", "raised", "waits")
    assert running.end() == (0, "cancelled\ncleaned\nraised\n", "")


@pytest.mark.parametrize("times", [1, 2])
def test_interrupted_at_any_microsecond_whatever_has_been_entered_is_left(program, times):
    running = program(
        textwrap.dedent(STRUCK)
        + textwrap.dedent(f"""
        entered = exited = 0

        @syncer
        @asynccontextmanager
        async def counts(suspends):
            global entered, exited
            for _ in range(suspends):
                await asyncio.sleep(0)
            entered += 1
            try:
                yield
            finally:
                for _ in range(suspends):
                    try:
                        await asyncio.sleep(0)
                    except asyncio.CancelledError:
                        pass
                exited += 1

        def spin():
            while left:
                pass

        def target():
            try:
                while left:
                    with counts(0):
                        pass
                    with counts(1):
                        pass
            finally:
                spin()  # a loop right here makes Python 3.13.0 forget that the exception has been handled

        works()
        for _ in range(700):
            strike(target, {times}, 3e-4)
            assert works() == "works"
        for _ in range(5):
            works()
        assert entered == exited, (entered, exited, seed)
        assert repr(syncer) == "<Syncify 's', 0 calls in flight>", (syncer, seed)
        print("done", entered > 0)
    """)
    )
    assert running.end() == (0, "done True\n", "")
