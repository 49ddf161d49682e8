"""Fixtures that let one test state a promise for every kind of loop and caller."""

import asyncio
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from syncify import Syncify

try:
    import uvloop
except ImportError:  # it has no release for the newest Python yet
    uvloop = None

LOOP_FACTORIES = {"asyncio": asyncio.new_event_loop} | ({"uvloop": uvloop.new_event_loop} if uvloop else {})


@pytest.fixture(params=LOOP_FACTORIES)
def loop_factory(request: pytest.FixtureRequest) -> Callable[[], asyncio.AbstractEventLoop]:
    """Makes the loops of callers."""
    return LOOP_FACTORIES[request.param]


@pytest.fixture(scope="session", params=LOOP_FACTORIES)
def syncer(request: pytest.FixtureRequest) -> Syncify:
    """A syncer for each kind of background loop."""
    return Syncify(f"test-{request.param}", loop_factory=LOOP_FACTORIES[request.param])


@pytest.fixture(scope="session")
def other_syncer() -> Syncify:
    return Syncify("test-other", blocking="allow")


def blocking(syncer: Syncify, function: Any, /, *args: Any, **kwargs: Any) -> Any:
    return function(*args, **kwargs)


def submit(syncer: Syncify, function: Any, /, *args: Any, **kwargs: Any) -> Any:
    return function.submit(*args, **kwargs).result()


def aio(syncer: Syncify, function: Any, /, *args: Any, **kwargs: Any) -> Any:
    """From another loop."""
    return _await_on(asyncio.new_event_loop, function, args, kwargs)


def aio_on_uvloop(syncer: Syncify, function: Any, /, *args: Any, **kwargs: Any) -> Any:
    return _await_on(uvloop.new_event_loop, function, args, kwargs)


def _await_on(loop_factory: Any, function: Any, args: Any, kwargs: Any) -> Any:
    async def main() -> tuple[Any, BaseException | None]:
        try:
            return await function.aio(*args, **kwargs), None
        except BaseException as error:
            return None, error

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        result, error = runner.run(main())
    if error is None:
        return result
    context = error.__context__
    try:
        raise error
    finally:
        if error.__context__ is not context:
            error.__context__ = context  # as it was where it was awaited
        del error  # its traceback holds this frame


def aio_on_own_loop(syncer: Syncify, function: Any, /, *args: Any, **kwargs: Any) -> Any:
    return syncer.run(function.aio(*args, **kwargs))


WAYS = {way.__name__: way for way in (blocking, submit, aio, aio_on_own_loop, *([aio_on_uvloop] if uvloop else []))}


@pytest.fixture(params=WAYS)
def call(request: pytest.FixtureRequest, syncer: Syncify) -> Callable[..., Any]:
    """Calls a function of `syncer` in each of the ways there are: `call(f, 1)` gives what `f(1)` gives."""
    way = WAYS[request.param]
    return lambda function, /, *args, **kwargs: way(syncer, function, *args, **kwargs)


class Script:
    """A Python program in a process of its own."""

    def __init__(self, code: str, *options: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-u", "-X", "faulthandler", *options, "-c", textwrap.dedent(code)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def line(self) -> str:
        """Wait for the next line that it prints."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().rstrip("\n")

    def end(self) -> tuple[int, str, str]:
        """Wait for its end, and return its exit code, the rest of its output and its errors."""
        out, err = self.process.communicate(timeout=50)
        return self.process.returncode, out, err


@pytest.fixture
def script() -> Iterator[Callable[..., Script]]:
    """Starts programs, and lets none of them outlive the test."""
    scripts: list[Script] = []

    def start(code: str, *options: str) -> Script:
        scripts.append(Script(code, *options))
        return scripts[-1]

    yield start
    for running in scripts:
        running.process.kill()
        running.process.communicate()
