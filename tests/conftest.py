"""Fixtures that let one test state a promise for every kind of loop and caller."""

import asyncio
import gc
import logging
import math
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from syncify import Syncify

if sys.flags.dev_mode:
    sys.modules["uvloop"] = None  # type: ignore[assignment]  # it has bugs of its own there, and crashes

try:
    import uvloop
except ImportError:  # it has no release for the newest Python yet
    uvloop = None


def pytest_configure() -> None:
    """Let programs be interrupted also where the tests run in a shell's background, which has SIGINT ignored."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    """Spare the many collections that tests ask for all that was there before."""
    gc.collect()
    gc.freeze()


def new_event_loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    loop.slow_callback_duration = math.inf  # in debug modes callbacks that collect garbage are slow, for example
    return loop


LOOP_FACTORIES = {"asyncio": new_event_loop} | ({"uvloop": uvloop.new_event_loop} if uvloop else {})


@pytest.fixture(autouse=True)
def _nothing_is_logged(request: pytest.FixtureRequest) -> Iterator[None]:
    """What goes wrong on a loop is logged, where no test would see it. A test that expects that asks for `caplog`."""
    records: list[str] = []
    handler = logging.Handler(logging.WARNING)

    def emit(record: logging.LogRecord) -> None:
        # In debug modes all takes long: asyncio names callbacks that do, and so do we, when a flood of calls is made.
        if not (sys.flags.dev_mode and ("Executing" in record.msg or "seconds to begin" in record.msg)):
            records.append(record.getMessage())

    handler.emit = emit  # type: ignore[method-assign]
    loggers = [logging.getLogger(name) for name in ("asyncio", "syncify")]
    for logger in loggers:
        logger.addHandler(handler)
    yield
    for logger in loggers:
        logger.removeHandler(handler)
    if "caplog" not in request.fixturenames:
        assert records == []


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


DEBUG_MODES = "PYTHONDEVMODE", "PYTHONASYNCIODEBUG", "PYTHONWARNINGS"
# For programs in which debug modes find fault with what the test is about: a callback that takes long, for example.
WITHOUT_DEBUG = {name: value for name, value in os.environ.items() if name not in DEBUG_MODES}


# `-u` alone makes a write of the text and one of the line's end, and between them another process may print.
LINE_BY_LINE = "import sys; sys.stdout.reconfigure(line_buffering=True, write_through=False)\n"


class Script:
    """A Python program in a process of its own."""

    def __init__(self, code: str, *options: str, env: dict[str, str] | None = None) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-u", "-X", "faulthandler", *options, "-c", LINE_BY_LINE + textwrap.dedent(code)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=env,
        )

    def line(self) -> str:
        """Wait for the next line that it prints."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().rstrip("\n")

    def end(self, seconds: float = 50) -> tuple[int, str, str]:
        """Wait for its end, and return its exit code, the rest of its output and its errors."""
        out, err = self.process.communicate(timeout=seconds)
        return self.process.returncode, out, err


@pytest.fixture
def script() -> Iterator[Callable[..., Script]]:
    """Starts programs, and lets none of them outlive the test."""
    scripts: list[Script] = []

    def start(code: str, *options: str, **kwargs: Any) -> Script:
        scripts.append(Script(code, *options, **kwargs))
        return scripts[-1]

    yield start
    for running in scripts:
        running.process.kill()
        running.process.communicate()
