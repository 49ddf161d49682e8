"""How all that runs on a background loop is brought to its end."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import os
import sys
from collections.abc import Callable, Iterable
from typing import Any, Protocol, TypeAlias

from ._executor import DaemonExecutor

__all__ = ("InFlight", "Verdict", "abort", "close_coroutine", "name_rest", "quiet", "shut_down")

Verdict: TypeAlias = Callable[[], BaseException]  # makes what the callers are told


# In seconds: for the cleanup of calls that were cancelled by their callers just before the end.
_TIME_TO_CLEAN_UP = 1.0


class InFlight(Protocol):
    """What is known of a call, or of a conversation, that has begun and not ended."""

    verdict: BaseException  # set when it is to end; a caller whose coroutine is cancelled then gets this

    @property
    def name(self) -> str: ...

    @property
    def task(self) -> asyncio.Task[Any] | None: ...

    def abort(self, at_once: bool) -> asyncio.Task[Any] | None:
        """Have it end soon, and return the task to wait for. Runs on the loop.

        What is ending already and cleans up is not cancelled again: then this is not to be done at once.
        """
        ...

    def give_up(self) -> None:
        """Tell its caller the verdict, whatever becomes of the coroutine. Any thread may do so."""
        ...

    def bury(self) -> None:
        """Give it up, and close its coroutine, when the loop cannot run any more. For the thread of the loop."""
        ...

    def lose(self) -> None:
        """Tell its caller that this process has been forked, and the other one goes on with it."""
        ...


def abort(in_flight: Iterable[InFlight], verdict: Verdict) -> tuple[set[asyncio.Task[Any]], set[asyncio.Task[Any]]]:
    """Begin to end all of these, and return the tasks to wait for. Runs on the loop, in no task.

    Those in the second set have been cancelled before, by their callers, and are not cancelled now: they clean up, or
    have ignored it.
    """
    ending = [(each, not hasattr(each, "verdict"), _is_cancelled(each.task)) for each in list(in_flight)]
    for each, is_news, _ in ending:
        if is_news:
            each.verdict = verdict()  # before the first is aborted, whose end may be that of others
    tasks: tuple[set[asyncio.Task[Any]], set[asyncio.Task[Any]]] = set(), set()
    for each, is_news, is_cancelled in ending:
        task = each.abort(is_news and not is_cancelled)
        if task is not None:
            tasks[is_cancelled].add(task)
    return tasks


def _is_cancelled(task: asyncio.Task[Any] | None) -> bool:
    return task is not None and task.cancelling() > 0


async def shut_down(
    calls: set[asyncio.Task[Any]],
    cancelled: set[asyncio.Task[Any]],
    told: set[asyncio.Task[Any] | None],
    executor: DaemonExecutor,
    patience: float | None,
) -> None:
    """Wait for the tasks of calls, then cancel all others that run on this loop, and wait for their cleanup.

    That may take for ever. Who wants it to end at some time waits for no longer than that. `patience` is after how many
    seconds the others' turn comes, if one ignores its cancellation. Tasks that are `told` of the end already are not
    cancelled again.
    """
    loop = asyncio.get_running_loop()
    told.update(calls, [asyncio.current_task()])
    if calls:
        await asyncio.wait(calls, timeout=patience)
    if cancelled:
        # Those that still run then have ignored it, and are told like the others.
        await asyncio.wait(cancelled, timeout=_TIME_TO_CLEAN_UP if patience is None else patience)
    # Now that no call needs them any more, what users have left behind.
    while tasks := asyncio.all_tasks() - told:
        told.update(tasks)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks, timeout=patience)
        for task in tasks:
            if task.done() and not task.cancelled() and (error := task.exception()) is not None:
                report = {"message": "a task raised when it was cancelled at the end", "exception": error, "task": task}
                loop.call_exception_handler(report)
    if rest := asyncio.all_tasks() - {asyncio.current_task()}:
        await asyncio.wait(rest)
    await loop.shutdown_asyncgens()
    await executor.join()
    executor.shutdown()
    if not sys.is_finalizing():  # when no thread runs, which the next line would start one for
        with contextlib.suppress(RuntimeError):  # nor can one be started shortly before that
            await loop.shutdown_default_executor()  # another one, if the user has set one


def name_rest(loop: asyncio.AbstractEventLoop, executor: DaemonExecutor) -> list[str]:
    """The names of all that has not ended, for who does not wait any longer. Any thread may ask."""
    names = {f"{name}() in a thread" for name in executor.names()}
    for task in asyncio.all_tasks(loop):
        coroutine: Any = task.get_coro()
        if getattr(coroutine, "cr_code", None) is shut_down.__code__:
            continue
        # Tasks of ours bear the names of the functions that they are for.
        code = getattr(coroutine, "cr_code", None)
        ours = code is not None and code.co_filename.startswith(_HERE)
        names.add(f"{task.get_name() if ours else getattr(coroutine, '__qualname__', repr(coroutine))}()")
    return sorted(names)


_HERE = os.path.dirname(__file__)


def close_coroutine(task: Any, context: contextvars.Context) -> None:
    """Run the cleanup of a task's coroutine as far as that goes without a loop."""
    quiet(task)
    coroutine = task.get_coro()
    with contextlib.suppress(BaseException):  # when it goes no further, for example
        # As if it was cancelled, since to close it does not reach into an async generator that it awaits.
        context.run(coroutine.throw, asyncio.CancelledError())
    with contextlib.suppress(BaseException):
        context.run(coroutine.close)


def quiet(task: Any) -> None:
    """Let a task be collected while it is pending. asyncio has a flag for such a case, though with an underscore."""
    with contextlib.suppress(AttributeError):
        task._log_destroy_pending = False
