"""`timeout`: one time limit for all blocking calls in a block."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from contextvars import ContextVar
from threading import Lock
from typing import Any

from ._deadlock import in_ipython
from ._trio import in_async_code

__all__ = ("get_timeout", "timeout")

_innermost: ContextVar[_Timeout | None] = ContextVar("syncify_timeout", default=None)
get_timeout: Callable[[], _Timeout | None] = _innermost.get  # the innermost in this context, which may be over


def timeout(seconds: float | None) -> AbstractContextManager[None]:
    """Limit the time of all blocking calls in a `with` block, together.

    The limit holds for every decorated function, step of a generator, enter and exit of a context manager, and
    `Syncify.run` that blocks in the block, also in the functions that are called there. It belongs to the thread and
    its context, as a context variable does; a copy of the context that outlives the block has no limit from it. In a
    block inside of another the nearer of the two ends counts.

    When the time is over, the coroutine that is waited for is cancelled, its cleanup is awaited, and the call raises
    TimeoutError. What the coroutine returns or raises instead of ending, the call returns or raises, as with
    `asyncio.timeout`. A call that has not begun by then, since something keeps the loop, raises at once. So does one
    that comes later; only what ends something, the exit of a context manager or the closing of a generator, is then
    still made, without a limit. Plain code is not interrupted.

    Args:
        seconds: The time, from now on; 0 or less is over at once. None sets no limit of its own.

    Returns:
        A context manager, to be entered once.

    Raises:
        TypeError: The time is no number.
        ValueError: The time is not a number of seconds (NaN).
        RuntimeError: By `with` in async code, where `asyncio.timeout` is the means; not in IPython, where a loop always
            runs. Or it has been entered before.
        TimeoutError: By the calls in the block.

    ```python
    >>> import asyncio
    >>> from syncify import syncify, timeout
    >>> @syncify
    ... async def slow():
    ...     await asyncio.sleep(100)
    >>> try:
    ...     with timeout(0.01):
    ...         slow()
    ... except TimeoutError:
    ...     print("too slow")
    too slow

    ```
    """
    if seconds is not None:
        if isinstance(seconds, bool) or not isinstance(seconds, int | float):
            raise TypeError(f"timeout() takes a number of seconds, or None, got {seconds!r}")
        if math.isnan(seconds):
            raise ValueError("timeout() takes a number of seconds, or None, got NaN")
    return _Timeout(seconds)


class _Exit:
    """Gives `with`, which looks it up before it enters, the `__exit__` of the lock."""

    def __get__(self, timeout: _Timeout | None, owner: object) -> Callable[..., None]:
        return _exit if timeout is None else timeout._lock.__exit__


def _exit(timeout: _Timeout, *error: Any) -> None:
    """What an ExitStack finds, which takes it from the class."""
    timeout._lock.__exit__(*error)


_ONCE = "a timeout() can be entered once; make another"


class _Timeout(AbstractContextManager[None]):
    """It holds while its lock is held, and what ends the block is the lock itself.

    A method in Python can be struck by a signal handler before its first line; the time limit would then stay for ever.
    """

    __slots__ = ("_ends", "_lock", "_outer", "_seconds")

    def __init__(self, seconds: float | None) -> None:
        self._seconds = seconds
        self._ends: float | None = None  # set when it is entered
        self._outer: _Timeout | None = None
        self._lock = Lock()

    def __enter__(self) -> None:
        if in_async_code() and not in_ipython():
            raise RuntimeError("timeout() limits blocking calls; in async code write `async with asyncio.timeout(...)`")
        if not self._lock.acquire(blocking=False):
            raise RuntimeError(_ONCE)
        try:
            if self._ends is not None:
                raise RuntimeError(_ONCE)
            self._outer = _find(get_timeout())
            self._ends = math.inf if self._seconds is None else time.monotonic() + self._seconds
            _innermost.set(self)
        except BaseException:  # of a signal handler: this is never going to be left
            self._lock.release()
            raise

    __exit__: Any = _Exit()

    def get_deadline(self) -> float | None:
        """The end of the time, by the clock of time.monotonic(), in seconds. None if there is none (any more)."""
        timeout = _find(self)
        if timeout is not self:
            _innermost.set(timeout)
        ends = math.inf
        while timeout is not None:
            assert timeout._ends is not None
            ends = min(ends, timeout._ends)
            timeout = _find(timeout._outer)
        return None if ends == math.inf else ends

    def __repr__(self) -> str:
        return f"<timeout of {self._seconds} seconds>"


def _find(timeout: _Timeout | None) -> _Timeout | None:
    """The first that has not been left, from this one outwards."""
    while timeout is not None and not timeout._lock.locked():
        timeout = timeout._outer
    return timeout
