"""A traceback shows the caller's line, one frame of the library, and every frame of the user."""

import asyncio
import os
import traceback
from concurrent.futures import ThreadPoolExecutor

import pytest

import syncify as package
from syncify import Syncify

LIBRARY = os.path.dirname(package.__file__)


def frames_of(error):
    """The names of the functions in the traceback; the library's own are shown as one word."""
    return [
        "LIBRARY" if frame.filename.startswith(LIBRARY) else frame.name
        for frame in traceback.extract_tb(error.__traceback__)
    ]


def user_and_library(error):
    frames = frames_of(error)
    return frames[frames.index("LIBRARY") :]


async def deep(n, suspends=True):
    if n:
        await deep(n - 1, suspends)
    if suspends:
        await asyncio.sleep(0)
    raise ValueError("deep")


@pytest.mark.parametrize("suspends", [False, True])
def test_one_frame_of_the_library_then_the_users(syncer, call, suspends):
    with pytest.raises(ValueError, match="deep") as caught:
        call(syncer(deep), 2, suspends)
    assert user_and_library(caught.value) == ["LIBRARY", "deep", "deep", "deep"]


def test_exactly_three_frames_for_a_raise_one_level_deep(syncer):
    f = syncer(deep)
    try:
        f(0)
    except ValueError as error:
        assert frames_of(error) == ["test_exactly_three_frames_for_a_raise_one_level_deep", "LIBRARY", "deep"]
    try:
        f.submit(0).result()
    except ValueError as error:
        assert frames_of(error) == ["test_exactly_three_frames_for_a_raise_one_level_deep", "LIBRARY", "deep"]


def test_exactly_three_frames_from_async_code(syncer):
    f = syncer(deep)

    async def main():
        try:
            await f.aio(0)
        except ValueError as error:
            return frames_of(error)

    assert asyncio.run(main()) == ["main", "LIBRARY", "deep"]
    assert syncer.run(main()) == ["main", "LIBRARY", "deep"]


def test_a_method_a_classmethod_and_a_staticmethod(syncer):
    class C:
        @syncer
        async def method(self):
            await deep(0)

        @syncer
        @classmethod
        async def of_class(cls):
            await deep(0)

        @syncer
        @staticmethod
        async def static():
            await deep(0)

    for f, name in (C().method, "method"), (C.of_class, "of_class"), (C.static, "static"):
        with pytest.raises(ValueError, match="deep") as caught:
            f()
        assert user_and_library(caught.value) == ["LIBRARY", name, "deep"]


def test_run(syncer):
    with pytest.raises(ValueError, match="deep") as caught:
        syncer.run(deep(1))
    assert user_and_library(caught.value) == ["LIBRARY", "deep", "deep"]
    with pytest.raises(ValueError, match="deep") as caught:
        syncer.run.submit(deep(1)).result()
    assert user_and_library(caught.value) == ["LIBRARY", "deep", "deep"]
    with pytest.raises(ValueError, match="deep") as caught:
        asyncio.run(syncer.run.aio(deep(1)))
    assert user_and_library(caught.value) == ["LIBRARY", "deep", "deep"]


def test_frames_of_nested_calls_are_cut(syncer, call):
    raises = syncer(deep)

    @syncer
    async def middle():
        await raises.aio(0)

    @syncer
    async def outer():
        await asyncio.wait_for(middle.aio(), 10)

    with pytest.raises(ValueError, match="deep") as caught:
        call(outer)
    assert user_and_library(caught.value) == ["LIBRARY", "outer", "middle", "deep"]


def test_frames_of_calls_through_another_syncer_are_cut(syncer, other_syncer, call):
    raises = other_syncer(deep)

    @syncer
    async def middle():
        await raises.aio(0)

    @syncer
    async def blocks():
        raises(0)

    for f in middle, blocks:
        with pytest.raises(ValueError, match="deep") as caught:
            call(f)
        assert user_and_library(caught.value) == ["LIBRARY", f.__name__, "deep"]


def test_what_asyncio_itself_raised_still_shows_where(syncer, call):
    @syncer
    async def f():
        async with asyncio.timeout(0):
            await asyncio.sleep(1)

    with pytest.raises(TimeoutError) as caught:
        call(f)
    frames = user_and_library(caught.value)
    assert frames[:2] == ["LIBRARY", "f"]
    assert frames[-1] == "__aexit__"


def test_wrong_arguments_show_the_callers_line_and_no_more(syncer):
    f = syncer(deep)
    try:
        f()
    except TypeError as error:
        assert frames_of(error) == ["test_wrong_arguments_show_the_callers_line_and_no_more", "LIBRARY"]


def test_system_exit(syncer, call):
    @syncer
    async def leaves(suspends):
        if suspends:
            await asyncio.sleep(0)
        raise SystemExit(3)

    for suspends in False, True:
        with pytest.raises(SystemExit) as caught:
            call(leaves, suspends)
        frames = user_and_library(caught.value)
        assert frames == ["LIBRARY", "leaves"]


def test_the_result_of_one_future_taken_by_many_threads(syncer):
    @syncer
    async def f():
        await deep(1)

    future = f.submit()

    def take(_):
        try:
            future.result()
        except ValueError as error:
            return error

    with ThreadPoolExecutor(8) as pool:
        errors = list(pool.map(take, range(50)))
    assert len({id(error) for error in errors}) == 1
    assert frames_of(errors[0])[-3:] == ["f", "deep", "deep"]


def test_a_traceback_that_the_user_holds_is_not_changed(syncer, other_syncer):
    held = []
    raises = other_syncer(deep)

    @syncer
    async def f():
        try:
            await raises.aio(1)
        except ValueError as error:
            held.append(error.__traceback__)
            raise

    with pytest.raises(ValueError, match="deep"):
        f()
    assert [frame.name for frame in traceback.extract_tb(held[0])] == ["f", "aio", "deep", "deep"]


def test_all_frames_on_demand(script):
    code = """
        import traceback
        from syncify import syncify

        @syncify
        async def f():
            raise ValueError

        try:
            f()
        except ValueError as error:
            print([frame.name for frame in traceback.extract_tb(error.__traceback__)])
    """
    os.environ["SYNCIFY_TRACEBACK"] = "full"
    try:
        full = script(code)
    finally:
        del os.environ["SYNCIFY_TRACEBACK"]
    assert full.end() == (0, "['<module>', '__call__', '_trip', 'f']\n", "")
    assert script(code).end() == (0, "['<module>', '__call__', 'f']\n", "")


def test_the_printed_traceback(script):
    code = """
        from syncify import syncify

        @syncify
        async def fetch():
            raise ValueError("no")

        fetch()
    """
    code_, out, err = script(code).end()
    assert (code_, out) == (1, "")
    assert err.count("_functions.py") == 1
    assert err.count("syncify") == 1
    assert err.count("asyncio") == 0


def test_a_syncer_of_its_own_name_is_no_library_frame():
    syncer = Syncify("asyncio")
    with pytest.raises(ValueError, match="deep") as caught:
        syncer(deep)(0)
    assert user_and_library(caught.value) == ["LIBRARY", "deep"]


@pytest.mark.parametrize("error", [ValueError, asyncio.CancelledError])
def test_frames_of_nested_calls_are_cut_on_the_own_loop_too(syncer, error):
    @syncer
    async def raises():
        raise error

    @syncer
    async def middle():
        await raises.aio()

    async def main():
        for awaitable in middle.aio(), syncer.run.aio(middle.aio()):
            try:
                await awaitable
            except error as caught:
                assert frames_of(caught) == ["main", "LIBRARY", "middle", "raises"]

    syncer.run(main())


def boom():
    raise ValueError


def test_frames_of_the_standard_library_between_the_users_are_cut(syncer, call):
    @syncer
    async def f():
        await asyncio.to_thread(boom)

    with pytest.raises(ValueError) as caught:  # noqa: PT011
        call(f)
    assert user_and_library(caught.value) == ["LIBRARY", "f", "boom"]


def test_frames_of_the_loop_between_the_users_are_cut(syncer, call):
    @syncer
    async def f():
        loop = asyncio.get_running_loop()
        await loop.connect_read_pipe(boom, None)

    with pytest.raises(ValueError) as caught:  # noqa: PT011
        call(f)
    assert user_and_library(caught.value) == ["LIBRARY", "f", "boom"]


def test_a_file_whose_name_begins_like_the_library_is_the_users(syncer):
    namespace: dict = {}
    exec(compile("async def plugin(): raise ValueError", LIBRARY + "_plugin.py", "exec"), namespace)
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        syncer(namespace["plugin"])()
    assert traceback.extract_tb(caught.value.__traceback__)[-1].name == "plugin"


def test_a_frame_before_one_that_was_cut_keeps_its_place(syncer, other_syncer):
    @other_syncer
    async def raises():
        raise ValueError

    @syncer
    async def f():
        try:
            await raises.aio()  # here
        except ValueError as error:
            kept = error
        raise kept  # and here

    with pytest.raises(ValueError) as caught:  # noqa: PT011
        f()
    again, first = (frame for frame in traceback.extract_tb(caught.value.__traceback__) if frame.name == "f")
    assert [again.line, first.line] == ["raise kept  # and here", "await raises.aio()  # here"]
    assert first.end_colno - first.colno == len("await raises.aio()")
