"""The errors and warnings of the public interface."""

from __future__ import annotations

__all__ = ("BlockingCallWarning", "ClosedError", "DeadlockError")


class DeadlockError(RuntimeError, AssertionError):
    """A blocking call that could never have returned was refused.

    Raised at once when code on a background loop calls, blocking, a function that would have to run on that very loop,
    or `Syncify.run`: the loop would wait for itself. Nothing has been started then, so the call may be repeated as
    `await f.aio(...)`, which is what the message says. `result()` and `exception()` of a submitted call raise it, too,
    where they would have to wait without a time limit; that call goes on.

    ```python
    >>> from syncify import DeadlockError, syncify
    >>> @syncify
    ... async def inner():
    ...     return 1
    >>> @syncify
    ... async def outer():
    ...     return inner()  # should have been: await inner.aio()
    >>> try:
    ...     outer()
    ... except DeadlockError as error:
    ...     print(error)
    Deadlock detected: inner() was called on the background loop 'syncify', which would have to run it while it waits \
for it. Write `await inner.aio(...)` instead.

    ```
    """


class ClosedError(RuntimeError):
    """A call came to a syncer that is closed, or was in flight when that was closed.

    Raised after `Syncify.close`, or when the background loop has come to an end by itself: its selector has failed, or
    other code has closed it. Then the message tells what has happened, and `__cause__` is the failure. There is no way
    back: make another `Syncify`. What was in flight has been cancelled.

    While the interpreter shuts down and no thread can be started any more, `await f.aio(...)` and `f.submit(...)` raise
    it, too, if the loop is not running already; a blocking call still gives its result.

    ```python
    >>> from syncify import ClosedError, Syncify
    >>> with Syncify("short") as syncer:
    ...     @syncer
    ...     async def one():
    ...         return 1
    ...     one()
    1
    >>> try:
    ...     one()
    ... except ClosedError as error:
    ...     print(error)
    The syncer 'short' is closed.

    ```
    """


class BlockingCallWarning(RuntimeWarning):
    """A blocking call stalls the event loop that runs in the same thread.

    The call works, but nothing else on that loop moves until it returns. `await f.aio(...)` lets the loop go on. The
    warning comes once for each place, at the caller's own line, and never in IPython, where a loop always runs.
    `Syncify(blocking="allow")` silences it for all functions of one syncer. `Syncify(blocking="error")` raises it, with
    nothing started; `warnings.filterwarnings` does either for one place.
    """
