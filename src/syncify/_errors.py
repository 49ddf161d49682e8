"""The errors and warnings of the public interface."""

__all__ = ("BlockingCallWarning", "DeadlockError")


class DeadlockError(RuntimeError, AssertionError):
    """A blocking call that could never have returned was refused.

    Raised at once when a decorated function is called, blocking, by code that runs on the very loop that would have to
    run it: the loop would wait for itself. Nothing has been started when this is raised, so the call may be repeated as
    `await f.aio(...)`, which is what the message says.

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


class BlockingCallWarning(RuntimeWarning):
    """A blocking call stalls the event loop that runs in the same thread.

    The call works, but nothing else on that loop moves until it returns. `await f.aio(...)` lets the loop go on.
    `Syncify(blocking="allow")` silences the warning for all functions of one syncer, `Syncify(blocking="error")` makes
    it an exception; `warnings.filterwarnings` does either for one place.
    """
