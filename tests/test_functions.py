"""What can be decorated, and the three ways to call it."""

import asyncio
import functools
import inspect
import types
from unittest.mock import AsyncMock

import pytest

from syncify import Syncify, syncify


async def add(a, b=1, *rest, scale=1, **more):
    """Add."""
    await asyncio.sleep(0)
    return (a + b + sum(rest)) * scale + sum(more.values())


def test_every_way_to_call_gives_the_result(syncer, call):
    assert call(syncer(add), 1, 2, 3, scale=2, extra=100) == 112


def test_a_coroutine_that_never_suspends(syncer, call):
    @syncer
    async def f():
        return 1

    assert call(f) == 1


def test_a_coroutine_that_suspends_often(syncer, call):
    @syncer
    async def f():
        for _ in range(100):
            await asyncio.sleep(0)
        return "done"

    assert call(f) == "done"


def test_objects_cross_by_identity(syncer, call):
    @syncer
    async def same(*args, **kwargs):
        return args, kwargs

    thing = [object()]
    args, kwargs = call(same, thing, key=thing)
    assert args[0] is thing
    assert kwargs["key"] is thing


def test_the_call_form(call, syncer):
    assert syncer(add)(1) == 2


def test_the_default_syncer():
    assert isinstance(syncify, Syncify)
    assert syncify(add)(1) == 2


def test_a_partial(syncer, call):
    assert call(syncer(functools.partial(add, 1, scale=3)), 2) == 9
    assert call(syncer(functools.partial(functools.partial(add, 1), 2))) == 3


def test_a_bound_method(syncer, call):
    class Counter:
        def __init__(self):
            self.n = 0

        async def up(self, by):
            self.n += by
            return self.n

    counter = Counter()
    up = syncer(counter.up)
    assert call(up, 2) == 2
    assert call(up, by=2) == 4


def test_an_object_with_an_async_call(syncer, call):
    class Double:
        async def __call__(self, x):
            return 2 * x

    assert call(syncer(Double()), 4) == 8
    assert call(syncer(functools.partial(Double(), 4))) == 8


def test_an_async_mock(syncer, call):
    mock = AsyncMock(return_value=5)
    assert call(syncer(mock), 1) == 5
    mock.assert_awaited_once_with(1)


@pytest.mark.skipif(not hasattr(inspect, "markcoroutinefunction"), reason="new in Python 3.12")
def test_a_function_marked_as_a_coroutine_function_runs_on_the_loop(syncer, call):
    async def inner():
        return asyncio.get_running_loop()

    loops = []

    @inspect.markcoroutinefunction
    def marked():
        loops.append(asyncio.get_running_loop())
        return inner()

    assert call(syncer(marked)) is syncer.get_loop()
    assert loops == [syncer.get_loop()]


@pytest.mark.parametrize(
    "name", ["self", "fn", "function", "name", "timeout", "args", "kwargs", "background", "raw", "context"]
)
def test_a_parameter_of_any_name_reaches_the_function(syncer, call, name):
    namespace: dict = {}
    exec(f"async def f({name}): return {name}", namespace)
    assert call(syncer(namespace["f"]), **{name: 7}) == 7


def test_aio_is_lazy(syncer):
    started = []

    @syncer
    async def f():
        started.append(True)

    coroutine = f.aio()
    assert isinstance(coroutine, types.CoroutineType)
    syncer.run(asyncio.sleep(0))
    assert not started
    syncer.run(coroutine)
    assert started


def test_a_coroutine_of_aio_that_is_not_awaited_says_so(syncer):
    async def forgotten():
        pass

    with pytest.warns(RuntimeWarning, match="forgotten' was never awaited"):
        syncer(forgotten).aio()


def test_submit_does_not_wait(syncer):
    @syncer
    async def f():
        await go.wait()
        return "done"

    go = asyncio.Event()
    future = f.submit()
    assert not future.done()
    syncer.get_loop().call_soon_threadsafe(go.set)
    assert future.result(10) == "done"


@pytest.mark.parametrize("args", [(), (1, 2)])
def test_wrong_arguments_raise_the_functions_own_error(syncer, call, args):
    @syncer
    async def one(x):
        pass

    with pytest.raises(TypeError, match=r"one\(\) (missing 1 required|takes 1) positional argument"):
        call(one, *args)


def test_attributes_of_the_user_stay_the_users(syncer):
    async def f():
        return 1

    f.kept = "yes"  # type: ignore[attr-defined]
    g = syncer(f)
    assert g.kept == "yes"
    for name in (
        "fn",
        "function",
        "raw",
        "syncer",
        "background",
        "loop",
        "_fn",
        "_raw",
        "_background",
        "_loop",
        "call",
        "run",
    ):
        setattr(g, name, None)
        assert getattr(g, name) is None
    assert g() == 1
    assert g.submit().result() == 1
    with pytest.raises(AttributeError):
        g.aio = None
    with pytest.raises(AttributeError, match="no_such"):
        g.no_such  # noqa: B018


def test_a_task_factory_of_the_loop_is_used(loop_factory):
    seen = []

    def factory(loop, coroutine, **kwargs):
        seen.append(kwargs.get("name"))
        return asyncio.Task(coroutine, loop=loop, **kwargs)

    def make_loop():
        loop = loop_factory()
        loop.set_task_factory(factory)
        return loop

    syncer = Syncify("with-a-task-factory", loop_factory=make_loop)
    assert syncer(add)(1) == 2
    assert len(seen) == 1


def test_tasks_bear_the_name_of_the_function(syncer):
    @syncer
    async def f():
        await asyncio.sleep(0)
        return asyncio.current_task().get_name()

    assert f().endswith("<locals>.f")
    assert syncer.run(f.aio()) == "run"


def test_the_loop_awaits_nothing_more_after_the_call(syncer, call):
    @syncer
    async def f():
        await asyncio.sleep(0)

    @syncer
    async def tasks():
        return asyncio.all_tasks() - {asyncio.current_task()}

    call(f)
    assert syncer.run(asyncio.sleep(0)) is None
    assert tasks() == set()


def test_aio_without_a_running_loop_is_an_error_that_names_the_function(syncer):
    coroutine = syncer(add).aio(1)
    with pytest.raises(
        RuntimeError, match=r"add\.aio\(\) was awaited where neither an asyncio event loop nor Trio runs"
    ):
        coroutine.send(None)


def test_a_method_made_of_any_async_callable(syncer, call):
    class Pair:
        async def __call__(self, *args):
            return args

    assert call(syncer(types.MethodType(Pair(), 1)), 2) == (1, 2)
    assert call(syncer(types.MethodType(functools.partial(add, 1), 2))) == 3


def test_objects_that_lie_about_themselves_are_refused_with_the_usual_text(syncer):
    from unittest.mock import Mock, call

    class Mute:
        def __repr__(self):
            raise ValueError

        def __getattr__(self, name):
            raise ValueError

    class Yes:
        def __getattr__(self, name):
            return self

        def __call__(self):
            pass

    for liar in Mute(), Yes(), call, Mock(), Mock(spec=print), Mock(spec=lambda: None):
        with pytest.raises(TypeError, match=r"^Syncify can only be applied to async functions"):
            syncer(liar)


def test_an_attribute_of_the_function_does_not_hide_submit(syncer):
    async def f():
        return 1

    f.submit = None  # type: ignore[attr-defined]
    assert syncer(f).submit().result() == 1


@pytest.mark.skipif(not hasattr(inspect, "markcoroutinefunction"), reason="new in Python 3.12")
def test_a_marked_function_is_not_called_when_its_future_was_cancelled_before_the_start(syncer):
    called = []

    @syncer
    @inspect.markcoroutinefunction
    def marked():
        called.append(True)
        return asyncio.sleep(0)

    async def main():
        marked.submit().cancel()  # from the loop itself, so it cannot have started
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    syncer.run(main())
    assert not called


def test_the_mark_of_asyncio_is_not_the_wrappers():
    async def f():
        pass

    f._is_coroutine = asyncio.coroutines._is_coroutine
    assert not hasattr(syncify(f), "_is_coroutine")
