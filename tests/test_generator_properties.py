"""Random generators and context managers under random consumers: the same natively and in each of our ways."""

import asyncio
import contextlib
import contextvars
import gc
import itertools
import logging
import warnings

import hypothesis.strategies as st
import pytest
from conftest import LOOP_FACTORIES
from hypothesis import HealthCheck, assume, given, reject, settings

from syncify import Syncify

variable = contextvars.ContextVar("variable", default=0)


@pytest.fixture(scope="module", params=LOOP_FACTORIES)
def syncer(request):
    """One that no other test has left anything in."""
    return Syncify(f"alone-{request.param}", loop_factory=LOOP_FACTORIES[request.param])


@pytest.fixture(autouse=True)
def _collected():
    """Programs that ignore GeneratorExit leave garbage that complains. It is not to do so in another test.

    Nor in this one: asyncio closes those that are alive at the end of its loop once more. They know that they have been
    closed, and say so by StopAsyncIteration, which asyncio logs.
    """

    def is_of_interest(record):
        return not (record.exc_info and record.exc_info[0] is StopAsyncIteration)

    logger = logging.getLogger("asyncio")
    logger.addFilter(is_of_interest)
    yield
    gc.collect()
    logger.removeFilter(is_of_interest)


def test_one_that_is_closed_twice_is_no_fault_of_ours():
    async def rows():
        for _ in range(2):
            with contextlib.suppress(GeneratorExit):
                yield

    async def main():
        await anext(left)
        with pytest.raises(RuntimeError, match="ignored GeneratorExit"):
            await left.aclose()

    left = rows()
    asyncio.run(main())


class Custom(Exception):
    pass


class Fatal(BaseException):
    pass


RAISED = [ValueError, Custom, Fatal, asyncio.CancelledError, SystemExit, StopAsyncIteration, StopIteration]
THROWN = [ValueError, Custom, Fatal, asyncio.CancelledError, SystemExit, GeneratorExit]
CAUGHT = [ValueError, Exception, BaseException, GeneratorExit, asyncio.CancelledError]

values = st.integers(0, 9) | st.none()

# What a generator does.
steps = st.deferred(
    lambda: st.one_of(
        st.tuples(st.just("yield"), values),
        st.tuples(st.just("yield"), values),  # more often than the others
        st.tuples(st.just("await"), st.integers(0, 3)),
        st.tuples(st.just("raise"), st.sampled_from(RAISED), values),
        st.tuples(st.just("return")),
        st.tuples(st.just("set"), st.integers(1, 9)),
        st.tuples(st.just("get")),
        st.tuples(st.just("repeat"), programs),
        st.tuples(st.just("catch"), programs, st.sampled_from(CAUGHT), programs),
        st.tuples(st.just("finally"), programs, programs),
        st.tuples(st.just("reset"), programs),
        st.tuples(st.just("timeout"), programs),
        st.tuples(st.just("group"), programs),
        st.tuples(st.just("nested"), programs),
        st.tuples(st.just("entered"), programs, programs),
    )
)
programs = st.lists(steps, max_size=4)

# What its consumer does, until it has ended; then it is closed.
requests = st.lists(
    st.one_of(
        st.just(("next",)),
        st.just(("next",)),
        st.tuples(st.just("send"), st.integers(0, 9)),
        st.tuples(st.just("throw"), st.sampled_from(THROWN), values),
        st.just(("close",)),
    ),
    max_size=8,
)

# One that goes on when it is closed is closed again when it is collected, and that Python reports.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

config = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def build(program, bridge, bridge_manager):
    """Return an async generator function that does what the program says, and tells its argument what it sees."""
    names = dict(globals())
    numbers = itertools.count()

    def name(value):
        names[result := f"_{next(numbers)}"] = value
        return result

    def block(program):
        return ["    " + line for step in program for line in lines(*step)] or ["    pass"]

    def lines(kind, *rest):
        yield f"see({kind!r}, asyncio.current_task() is task)"
        if kind == "yield":
            yield f"see('received', (yield {rest[0]!r}))"
        elif kind == "await":
            yield from [f"for _ in range({rest[0]}):", "    await asyncio.sleep(0)"]
        elif kind == "raise":
            yield f"raise {name(rest[0])}({rest[1]!r})"
        elif kind == "return":
            yield "return"
        elif kind == "set":
            yield f"variable.set({rest[0]})"
        elif kind == "get":
            yield "see(variable.get())"
        elif kind == "repeat":
            yield from ["for _ in range(3):", *block(rest[0])]
        elif kind == "catch":
            yield from ["try:", *block(rest[0])]
            yield from [f"except {name(rest[1])} as error:", "    see('caught', chain(error))", *block(rest[2])]
        elif kind == "finally":
            yield from ["try:", *block(rest[0]), "finally:", *block(rest[1])]
        elif kind == "reset":
            token = name(None)
            yield from [f"{token} = variable.set('set')", "try:", *block(rest[0]), "finally:"]
            yield f"    variable.reset({token})"
        elif kind == "timeout":
            yield from ["async with asyncio.timeout(100):", *block(rest[0])]
        elif kind == "group":
            yield from ["async with asyncio.TaskGroup() as group:", "    group.create_task(asyncio.sleep(0))"]
            yield from block(rest[0])
        elif kind == "nested":
            nested = bridge(build(rest[0], bridge, bridge_manager))
            yield from [
                f"async with contextlib.aclosing({name(nested)}(see)) as nested:",
                "    async for item in nested:",
            ]
            yield "        yield item"
        elif kind == "entered":
            manager = bridge_manager(build(rest[0], bridge, bridge_manager))
            yield from [f"async with {name(manager)}(see) as value:", "    see('entered', value)", *block(rest[1])]

    source = ["async def rows(see):", "    task = asyncio.current_task()", *block(program), "    if False: yield"]
    with warnings.catch_warnings(action="ignore"):  # there are some that return in a `finally`
        try:
            exec("\n".join(source), names)
        except SyntaxError:  # too many nested blocks
            reject()
    return names["rows"]


def build_native(program):
    return build(program, lambda rows: rows, contextlib.asynccontextmanager)


def build_bridged(syncer, program):
    return build(program, lambda rows: syncer(rows).aio, lambda rows: syncer(contextlib.asynccontextmanager(rows)).aio)


def chain(error):
    """The exception and those that led to it, without the messages of Python's own."""
    links = []
    while error is not None:
        if isinstance(error, BaseExceptionGroup):
            links.append((type(error), [chain(member) for member in error.exceptions]))
        elif isinstance(error, (RuntimeError, TypeError, AttributeError)):
            links.append(type(error))
        elif isinstance(error, StopAsyncIteration | StopIteration):
            links.append("stop")
        else:
            links.append((type(error), error.args))
        if isinstance(error, GeneratorExit):
            break  # what was going on where it was closed is no business of the generator
        error = error.__context__
    return links


# The consumers: each tells what came of its requests, and what the generator has seen by then.


def consume(rows, requests, seen):
    trace = []
    begun = False
    for kind, *args in [*requests, ("close",)]:
        try:
            if kind == "next":
                value = next(rows)
            elif kind == "send":
                value = rows.send(*args)
            elif kind == "throw":
                value = rows.throw(args[0](args[1]))
            else:
                value = rows.close()
        except BaseException as error:
            trace.append(chain(error))
            if not begun and kind == "send":
                continue  # it goes on
            break
        trace.append(value)
        if kind == "close":
            break
        begun = True
    if trace[-1:] != [[RuntimeError]] or kind != "close":  # it has ignored GeneratorExit
        for _ in range(2):
            with pytest.raises(StopIteration):
                next(rows)
    return trace, seen.copy()


async def consume_async(rows, requests, seen):
    trace = []
    begun = False
    for kind, *args in [*requests, ("close",)]:
        try:
            if kind == "next":
                value = await anext(rows)
            elif kind == "send":
                value = await rows.asend(*args)
            elif kind == "throw":
                value = await rows.athrow(args[0](args[1]))
            else:
                value = await rows.aclose()
        except BaseException as error:
            trace.append(chain(error))
            if not begun and kind == "send":
                continue
            break
        trace.append(value)
        if kind == "close":
            break
        begun = True
    if trace[-1:] != [[RuntimeError]] or kind != "close":
        for _ in range(2):
            with pytest.raises(StopAsyncIteration):
                await anext(rows)
    return trace, seen.copy()


def comparable(outcome):
    """What is told of it: all, but for a generator that is left behind alive, which somebody closes at some time.

    Those that do not stop when they are told to are errors to Python and to contextlib.
    """
    trace, seen = outcome
    return trace if "RuntimeError" in repr(outcome) else (trace, seen)


class See(list):
    def __call__(self, *what):
        self.append(what)


def natively(program, requests):
    async def main():
        seen = See()
        return await consume_async(build_native(program)(seen), requests, seen)

    return asyncio.run(main())


def blocking(syncer, program, requests):
    seen = See()
    return consume(syncer(build_bridged(syncer, program))(seen), requests, seen)


def other_loop(syncer, program, requests):
    async def main():
        seen = See()
        return await consume_async(syncer(build_bridged(syncer, program)).aio(seen), requests, seen)

    return asyncio.run(main())


def own_loop(syncer, program, requests):
    async def main():
        seen = See()
        return await consume_async(syncer(build_bridged(syncer, program)).aio(seen), requests, seen)

    return syncer.run(main())


def returned(syncer, program, requests):
    """A coroutine returns it."""

    @syncer
    async def get(seen):
        return build_bridged(syncer, program)(seen)

    seen = See()
    return consume(get(seen), requests, seen)


def assert_nothing_in_flight(syncer):
    for number in range(1000):
        if repr(syncer).endswith(" 0 calls in flight>"):
            return
        syncer.run(asyncio.sleep(0))
        if number % 100 == 99:
            gc.collect()  # an exception may hold the frame that holds a generator
    pytest.fail(repr(syncer))


@pytest.mark.parametrize("way", [blocking, other_loop, own_loop, returned])
@config
@given(program=programs, requests=requests)
def test_a_generator_does_the_same_for_every_consumer(way, syncer, program, requests):
    assert comparable(way(syncer, program, requests)) == comparable(natively(program, requests))
    assert_nothing_in_flight(syncer)


@config
@given(program=programs, n=st.sampled_from([1, 2, 3, 64]))
def test_a_prefetched_generator_does_the_same(syncer, program, n):
    requests = [("next",)] * 300  # until it ends
    expected = natively(program, requests)
    assume(len(expected[0]) <= 300)
    seen = See()
    rows = syncer(prefetch=n)(build_bridged(syncer, program))(seen)
    assert comparable(consume(rows, requests, seen)) == comparable(expected)
    assert_nothing_in_flight(syncer)


@config
@given(program=programs, n=st.sampled_from([1, 2, 3, 64]), taken=st.integers(0, 5), pause=st.integers(0, 3))
def test_a_prefetched_generator_that_is_left_early_has_given_the_same(syncer, program, n, taken, pause):
    seen = See()
    rows = syncer(prefetch=n)(build_bridged(syncer, program))(seen)
    trace = []
    try:
        for _ in range(taken):
            trace.append(next(rows))
            for _ in range(pause):
                syncer.run(asyncio.sleep(0))
    except BaseException as error:
        trace.append(chain(error))
    with contextlib.suppress(BaseException):
        rows.close()
        with pytest.raises(StopIteration):
            next(rows)
        left = seen.copy()
        syncer.run(asyncio.sleep(0))
        assert seen == left  # nothing runs any more
    expected, _ = natively(program, [("next",)] * taken)
    assert trace == expected[: len(trace)]
    assert len(trace) >= min(taken, len(expected) - 1)
    del rows
    assert_nothing_in_flight(syncer)


@config
@given(program=programs)
def test_a_loop_over_it_gets_the_same(syncer, program):
    async def main(rows):
        items = []
        try:
            async for item in rows:
                items.append(item)
        except BaseException as error:
            items.append(chain(error))
        return items

    def plain(rows):
        items = []
        try:
            for item in rows:
                items.append(item)
        except BaseException as error:
            items.append(chain(error))
        return items

    def run(consumer, rows):
        seen = See()
        return comparable((consumer(rows(seen)), seen))

    expected = run(lambda rows: asyncio.run(main(rows)), build_native(program))
    function = syncer(build_bridged(syncer, program))
    assert run(plain, function) == expected
    assert run(plain, syncer(prefetch=2)(build_bridged(syncer, program))) == expected
    assert run(lambda rows: asyncio.run(main(rows)), function.aio) == expected
    assert run(lambda rows: syncer.run(main(rows)), function.aio) == expected
    assert_nothing_in_flight(syncer)


# Context managers.


def enter(manager, error, seen, again):
    trace = []
    for _ in range(1 + again):
        try:
            with manager as value:
                trace.append(value)
                if error is not None:
                    raise error
            trace.append("left")
        except BaseException as raised:
            trace.append((chain(raised), raised is error))
    return trace, seen.copy()


async def enter_async(manager, error, seen, again):
    trace = []
    for _ in range(1 + again):
        try:
            async with manager as value:
                trace.append(value)
                if error is not None:
                    raise error
            trace.append("left")
        except BaseException as raised:
            trace.append((chain(raised), raised is error))
    return trace, seen.copy()


def enter_natively(make, make_error, again):
    seen = See()
    return asyncio.run(enter_async(make(seen), make_error(), seen, again))


def enter_blocking(syncer, function, make_error, again):
    seen = See()
    return enter(function(seen), make_error(), seen, again)


def enter_on_other_loop(syncer, function, make_error, again):
    seen = See()
    return asyncio.run(enter_async(function.aio(seen), make_error(), seen, again))


def enter_on_own_loop(syncer, function, make_error, again):
    seen = See()
    return syncer.run(enter_async(function.aio(seen), make_error(), seen, again))


bodies = st.none() | st.tuples(st.sampled_from([*RAISED, GeneratorExit]), values)
# One that yields once and is left in some way is what a context manager is; all others are errors to contextlib.
once = st.builds(
    lambda before, around, after, result: [*before, *around([("yield", result)]), *after],
    programs,
    st.one_of(
        st.just(lambda body: body),
        st.builds(lambda final: lambda body: [("finally", body, final)], programs),
        st.builds(
            lambda kind, handler: lambda body: [("catch", body, kind, handler)], st.sampled_from(CAUGHT), programs
        ),
        st.sampled_from(["timeout", "group", "reset"]).map(lambda kind: lambda body: [(kind, body)]),
    ),
    programs,
    values,
)


@pytest.mark.parametrize("way", [enter_blocking, enter_on_other_loop, enter_on_own_loop])
@config
@given(program=once | programs, body=bodies, again=st.booleans())
def test_a_context_manager_does_the_same_for_every_caller(way, syncer, program, body, again):
    def make_error():
        return None if body is None else body[0](body[1])

    make = contextlib.asynccontextmanager(build_bridged(syncer, program))
    make_native = contextlib.asynccontextmanager(build_native(program))
    expected = enter_natively(make_native, make_error, again)
    assert comparable(way(syncer, syncer(make), make_error, again)) == comparable(expected)
    declared = syncer(context_manager=True)(make)
    assert comparable(way(syncer, declared, make_error, again)) == comparable(expected)
    assert_nothing_in_flight(syncer)
