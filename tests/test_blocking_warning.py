"""A blocking call that stalls somebody else's loop works, and warns at the caller's own line."""

import asyncio
import inspect
import warnings

import pytest
from conftest import WITHOUT_DEBUG

from syncify import BlockingCallWarning, Syncify


async def echo(x):
    return x


class Client:
    def __init__(self, syncer):
        type(self).get = syncer(echo_method)


async def echo_method(self, x):
    return x


def line():
    return inspect.currentframe().f_back.f_lineno


@pytest.fixture
def on_a_loop(loop_factory):
    def run(function):
        async def main():
            return function()

        with asyncio.Runner(loop_factory=loop_factory) as runner:
            return runner.run(main())

    return run


def test_it_warns_at_the_callers_own_line(syncer, on_a_loop):
    f = syncer(echo)
    client = Client(syncer)

    def calls():
        return [
            (f(1), line()),
            (client.get(1), line()),
            (syncer.run(echo(1)), line()),
        ]

    with pytest.warns(BlockingCallWarning) as caught:
        results = on_a_loop(calls)
    assert [result for result, _ in results] == [1, 1, 1]
    assert [(w.filename, w.lineno) for w in caught] == [(__file__, number) for _, number in results]
    assert [str(w.message).split(" blocks ")[0] for w in caught] == ["echo()", "echo_method()", "run()"]
    assert "`await echo.aio(...)`" in str(caught[0].message)


def test_it_warns_once_per_place(script):
    program = script(
        """
        import asyncio
        from syncify import syncify

        @syncify
        async def f():
            pass

        async def main():
            for _ in range(3):
                f()
            f()

        asyncio.run(main())
    """,
        env=WITHOUT_DEBUG,
    )
    code, out, err = program.end()
    assert (code, out) == (0, "")
    assert err.count("BlockingCallWarning: f() blocks the event loop") == 2


def test_no_warning_where_no_loop_runs(syncer):
    assert syncer(echo)(1) == 1  # warnings are errors here


def test_no_warning_for_the_other_forms(syncer, on_a_loop):
    f = syncer(echo)

    async def main():
        future = f.submit(1)
        return await f.aio(1) + await asyncio.wrap_future(future)

    assert asyncio.run(main()) == 2


def test_allow(on_a_loop):
    f = Syncify("allow", blocking="allow")(echo)
    assert on_a_loop(lambda: f(1)) == 1


def test_error(on_a_loop):
    syncer = Syncify("error", blocking="error")
    started = []

    @syncer
    async def f():
        started.append(True)

    with pytest.raises(BlockingCallWarning, match=r"f\(\) blocks the event loop that runs in this thread"):
        on_a_loop(f)
    syncer.run(asyncio.sleep(0))
    assert not started
    assert f() is None
    assert started


def test_a_filter_makes_it_an_error(syncer, on_a_loop):
    started = []

    @syncer
    async def f():
        started.append(True)

    with warnings.catch_warnings():
        warnings.simplefilter("error", BlockingCallWarning)
        with pytest.raises(BlockingCallWarning):
            on_a_loop(f)
    syncer.run(asyncio.sleep(0))
    assert not started


def test_a_blocking_call_from_another_syncers_loop_warns_too(syncer):
    other = Syncify("warns")
    f = other(echo)

    @syncer
    async def g():
        return f(1)

    with pytest.warns(BlockingCallWarning, match=r"echo\(\) blocks"):
        assert g() == 1


def test_ipython_is_quiet(script):
    program = script(
        """
        from IPython.core.interactiveshell import InteractiveShell

        cell = [
            "import asyncio",
            "from syncify import syncify",
            "async def one(): return 1",
            "asyncio.get_running_loop()",
            "print(syncify(one)(), syncify.run(one()))",
            "await asyncio.sleep(0)",
        ]
        InteractiveShell.instance().run_cell("\\n".join(cell)).raise_error()
    """,
        env=WITHOUT_DEBUG,  # where asyncio complains that a cell takes long
    )
    assert program.end() == (0, "1 1\n", "")


def test_as_an_error_it_is_raised_whatever_the_filters_say():
    syncer = Syncify("error", blocking="error")

    async def main():
        with pytest.raises(BlockingCallWarning):
            syncer(asyncio.sleep)(0)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        asyncio.run(main())


def test_it_is_a_runtime_warning():
    assert issubclass(BlockingCallWarning, RuntimeWarning)


def test_an_error_is_one_in_ipython_too(script):
    program = script(
        """
        from IPython.core.interactiveshell import InteractiveShell

        cell = [
            "from syncify import BlockingCallWarning, Syncify",
            "async def one(): return 1",
            "try: Syncify('strict', blocking='error')(one)()",
            "except BlockingCallWarning: print('raised')",
            "import asyncio; await asyncio.sleep(0)",
        ]
        InteractiveShell.instance().run_cell("\\n".join(cell)).raise_error()
    """,
        env=WITHOUT_DEBUG,
    )
    assert program.end() == (0, "raised\n", "")


def test_ipython_that_is_only_imported_silences_nothing(script):
    program = script(
        """
        import asyncio
        import IPython
        from syncify import syncify

        async def main():
            syncify(asyncio.sleep)(0)

        asyncio.run(main())
    """,
        env=WITHOUT_DEBUG,
    )
    code, out, err = program.end()
    assert (code, out) == (0, "")
    assert "BlockingCallWarning: sleep() blocks" in err
