"""The default executor of a background loop: what `asyncio.to_thread` runs in."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import os
import queue
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

__all__ = ("DaemonExecutor",)

P = ParamSpec("P")
R = TypeVar("R")

_MOST_THREADS = min(32, (os.cpu_count() or 1) + 4)  # as many as asyncio has


class DaemonExecutor(ThreadPoolExecutor):
    """Its threads do not keep the process from ending.

    Python waits for those of a `ThreadPoolExecutor` without limit, long before any code of ours is asked. Here who
    shuts the loop down waits for them, as long as there is time. asyncio accepts nothing but a `ThreadPoolExecutor`, of
    which this has the interface and nothing else.
    """

    def __init__(self) -> None:
        super().__init__(1)  # never used
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._counting = threading.Lock()
        self._idle = 0
        self._daemons = 0
        self._running: dict[Future[Any], str] = {}  # and their names
        self._doing: dict[int, Future[Any]] = {}  # by the idents of the threads
        self._closed = False

    def submit(self, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        if self._closed:
            raise RuntimeError("cannot schedule new futures after shutdown")
        future: Future[R] = Future()
        work = functools.partial(self._do, future, function, args, kwargs)
        self._running[future] = _name_of(function)
        if sys.is_finalizing() or not self._have_thread():
            work()  # no other thread is going to
        else:
            self._work.put(work)
        return future

    def _have_thread(self) -> bool:
        """See to it that there is an idle thread, or that all there may be are busy."""
        with self._counting:
            if self._idle <= 0 and self._daemons < _MOST_THREADS:
                try:
                    name = f"syncify-to-thread-{self._daemons}"
                    threading.Thread(target=self._serve, name=name, daemon=True, **_no_context()).start()
                except RuntimeError:  # the interpreter is shutting down
                    if not self._daemons:
                        return False
                else:
                    self._daemons += 1
                    self._idle += 1
            self._idle -= 1
            return True

    def _serve(self) -> None:
        while (work := self._work.get()) is not None:
            work()
            del work  # and with it the arguments, before the next comes
            with self._counting:
                self._idle += 1

    def _do(self, future: Future[Any], function: Callable[..., Any], args: Any, kwargs: Any) -> None:
        self._doing[threading.get_ident()] = future
        try:
            if future.set_running_or_notify_cancel():
                try:
                    result = function(*args, **kwargs)
                except BaseException as error:
                    future.set_exception(error)
                else:
                    future.set_result(result)
        finally:
            self._running.pop(future, None)
            self._doing.pop(threading.get_ident(), None)
            del future, function, args, kwargs  # an exception's traceback holds this frame

    def excuse(self) -> None:
        """Do not wait for this thread, which is itself going to wait for the end, if it is one of these."""
        future = self._doing.get(threading.get_ident())
        if future is not None:
            self._running.pop(future, None)

    async def join(self) -> None:
        """Wait until all work is done."""
        while self._running:
            await asyncio.gather(*map(asyncio.wrap_future, list(self._running)), return_exceptions=True)

    def names(self) -> list[str]:
        """What is being done, by the names of the functions."""
        return list(self._running.values())

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        # asyncio, too, calls this in a thread and with a limit, so there is nobody here who could wait for ever.
        self._closed = True
        for future in list(self._running):
            if cancel_futures:
                future.cancel()
        with self._counting:
            for _ in range(self._daemons):
                self._work.put(None)


def _name_of(function: Any) -> str:
    while isinstance(function, functools.partial) and function.args:  # to_thread makes one of `context.run`
        function = function.args[0]
    return getattr(function, "__qualname__", repr(function))


def _no_context() -> dict[str, Any]:
    """An argument for threads that live long. By themselves they may keep the context of who has started them."""
    return {"context": contextvars.Context()} if sys.version_info >= (3, 14) else {}
