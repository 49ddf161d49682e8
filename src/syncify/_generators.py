"""How an async generator that runs on the background loop is iterated from elsewhere."""

from __future__ import annotations

import contextvars
import functools
import sys
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from sys import modules
from types import TracebackType
from typing import Any, TypeVar

from ._callers import BlockingCall, awaited, find_loop
from ._conversation import Conversation, Hold, end_cancelled, end_interrupted, release
from ._deadlock import check_blocking, refuse_deadlock
from ._errors import ClosedError
from ._leaving import Departure
from ._loop import BackgroundLoop
from ._running import running_loop
from ._traceback import shorten
from ._trio import current_trio_task

__all__ = ("SyncGenerator", "make_async_generator")

Y = TypeVar("Y")
S = TypeVar("S")

FORM = "async for ... in {}.aio(...)"  # what async code is to write instead of a blocking loop


class Iteration(Conversation):
    """The life of an async generator, in one task."""

    __slots__ = ("rows",)

    def __init__(self, background: BackgroundLoop, name: str, rows: AsyncGenerator[Any, Any]) -> None:
        super().__init__(background, name)
        self.rows = rows

    async def throw(self, error: BaseException) -> Any:
        try:
            return await self.rows.athrow(error)
        finally:
            del error  # its traceback holds this frame

    async def close(self) -> None:
        self.ended = True
        await self.rows.aclose()


class SyncGenerator(Generator[Y, S, None]):
    """An async generator as a generator, for plain code. Its first step starts it, in a task of its own."""

    __slots__ = (
        "__weakref__",
        "_background",
        "_departure",
        "_finished",
        "_hold",
        "_name",
        "_rows",
        "_running",
        "_thread",
    )

    def __init__(self, background: BackgroundLoop, rows: AsyncGenerator[Y, S], name: str, begun: bool = False) -> None:
        self._background = background
        self._rows = rows
        self._name = name
        self._hold: Hold[Iteration] | None = None  # of its conversation, which begins with its first step
        self._running: dict[None, object] = {}  # who is in it: one, or nobody
        self._thread = 0  # which has resumed it last
        self._departure = Departure(self)
        self._finished = False
        if begun:
            self._hold = Hold(self._start())

    def __iter__(self) -> SyncGenerator[Y, S]:
        self._departure.note_loop(sys._getframe(1))
        return self

    def send(self, value: Any = None, /) -> Y:
        """Resume it, and wait for its next item."""
        if running_loop() is not None or "trio" in modules:
            check_blocking(self._background, self._name, FORM)
        if self._finished:
            raise StopIteration
        if value is not None and self._hold is None:
            raise TypeError("can't send non-None value to a just-started generator")
        try:
            return self._resume(self._rows.asend, value)
        except BaseException as error:
            raise shorten(error)  # noqa: B904 - the same exception

    __next__ = send  # pyright: ignore[reportAssignmentType]

    def throw(self, typ: Any, val: Any = None, tb: TracebackType | None = None, /) -> Y:
        """Raise an exception where it is suspended, and wait for its next item."""
        if running_loop() is not None or "trio" in modules:
            check_blocking(self._background, self._name, FORM)
        error = _exception(typ, val, tb)
        try:
            if self._finished or self._hold is None:
                self._finished = True
                raise error
            return self._resume(self._hold.conversation.throw, error)
        except BaseException as raised:
            raise shorten(raised)  # noqa: B904 - the same exception
        finally:
            del error, typ, val, tb  # the traceback holds this frame

    def close(self) -> None:
        """Raise GeneratorExit where it is suspended, and wait for its end."""
        if self._finished or self._hold is None:
            self._finished = True
            return
        refuse_deadlock(self._background, f"close() of {self._name}()", FORM.format(self._name))
        try:
            self._resume(self._hold.conversation.throw, GeneratorExit(), ends=True)
        except (GeneratorExit, StopIteration, ClosedError):  # it was closed with its loop
            return
        except BaseException as error:
            raise shorten(error)  # noqa: B904 - the same exception
        raise RuntimeError("generator ignored GeneratorExit")

    def _start(self) -> Iteration:
        return Iteration(self._background, self._name, self._rows)

    def _resume(self, step: Callable[[Any], Awaitable[Y]], argument: Any, ends: bool = False) -> Y:
        call = None
        running, token = self._running, object()
        try:
            # One operation, which tells two threads apart that come at the same moment.
            if running.setdefault(None, token) is not token and not (
                self._hold is not None and self._hold.conversation.belongs_elsewhere
            ):
                raise ValueError("generator already executing")
            try:
                self._thread = threading.get_ident()
                if self._hold is None:
                    self._hold = Hold(self._start())
                call = BlockingCall(self._background, step, (argument,), {}, None, self._hold.conversation)
                del step, argument  # which may be an exception, whose traceback comes to hold this frame
                call.wait(ends)
            except BaseException as interrupt:
                self._finished = True
                if self._hold is not None:
                    end_interrupted(self._hold.conversation, call, interrupt)
                raise
        finally:
            # Nothing is called here, so that no signal handler strikes before it is done.
            if None in running and running[None] is token:
                self._running = {}
        if call.error is not None:
            self._finished = True
            if isinstance(call.error, StopAsyncIteration):
                raise StopIteration
            try:
                raise call.take_error()
            finally:
                call.keep_context()
        return call.value  # type: ignore[no-any-return]

    def __reduce__(self) -> Any:
        raise TypeError(f"{self!r} cannot be copied or pickled")

    def __repr__(self) -> str:
        return f"<syncified generator {self._name} at {id(self):#x}>"

    def __del__(self) -> None:
        # All that is not closed here is released by the hold. That goes after this, and so sees to it as well if a
        # signal handler raises in here.
        hold: Hold[Iteration] | None = getattr(self, "_hold", None)  # an interrupt may have struck while this was made
        if hold is None or self._finished or hold.conversation.over or hold.conversation.belongs_elsewhere:
            return
        if (
            threading.get_ident() == self._thread
            and running_loop() is not self._background.loop
            and self._departure.is_to_be_waited_for(sys._getframe())
        ):
            try:
                contextvars.Context().run(self.close)  # with no time limit, since nobody could catch its TimeoutError
            finally:
                release(hold.conversation)  # of one that has ignored that


def _exception(typ: Any, val: Any, tb: TracebackType | None) -> BaseException:
    """What the arguments of `throw` mean: an exception, or its class and arguments."""
    if isinstance(typ, BaseException):
        if val is not None:
            raise TypeError("instance exception may not have a separate value")
        error = typ
    elif isinstance(typ, type) and issubclass(typ, BaseException):
        if isinstance(val, typ):
            error = val
        else:
            error = typ() if val is None else typ(*val) if isinstance(val, tuple) else typ(val)
    else:
        raise TypeError(
            f"exceptions must be classes or instances deriving from BaseException, not {type(typ).__name__}"
        )
    return error if tb is None else error.with_traceback(tb)


def make_async_generator(
    background: BackgroundLoop, raw: Callable[..., AsyncGenerator[Y, S]]
) -> Callable[..., AsyncGenerator[Y, S]]:
    """Return the async generator function for callers on any loop."""

    async def aio(*args: Any, **kwargs: Any) -> AsyncGenerator[Y, S]:
        loop = find_loop(raw)
        rows = raw(*args, **kwargs)
        step: Callable[[Any], Awaitable[Y]]
        throw: Callable[[BaseException], Awaitable[Y]]
        if loop is background.loop:
            conversation = None
            step, throw = functools.partial(_begin, rows), rows.athrow
        else:
            hold = Hold(Iteration(background, raw.__qualname__, rows))
            conversation = hold.conversation
            step, throw = rows.asend, conversation.throw
        argument: Any = None
        leaving = False
        while True:
            if conversation is None:
                # In the caller's own task.
                if running_loop() is not background.loop:
                    raise RuntimeError(
                        f"{raw.__qualname__}.aio() was begun on the background loop, and has to be iterated there"
                    )
                try:
                    value = await step(argument)
                except StopAsyncIteration:
                    return
                except BaseException as error:
                    raise shorten(error)  # noqa: B904 - the same exception
                finally:
                    argument = None  # it may be an exception, and its traceback holds this frame
            else:
                loop = find_loop(raw)
                call = awaited(loop, background, step, (argument,), {}, None, conversation, ends=leaving)
                argument = None
                try:
                    await call
                except ClosedError:
                    if leaving:
                        return  # it was closed with its loop
                    raise
                if call.error is not None:
                    if isinstance(call.error, StopAsyncIteration) or (leaving and isinstance(call.error, ClosedError)):
                        return
                    await end_cancelled(conversation, call)
                    try:
                        raise call.take_error()
                    finally:
                        call.keep_context()
                value = call.value
                del call
            try:
                argument = yield value
                step = rows.asend
            except BaseException as error:
                if (
                    conversation is not None
                    and isinstance(error, GeneratorExit)
                    and running_loop() in (None, background.loop)
                    and current_trio_task() is None
                ):
                    # Nothing can be awaited: it is collected where its loop does not run any more. The hold is next.
                    raise
                leaving = isinstance(error, GeneratorExit)
                if conversation is not None and background.loop is None and conversation.over:
                    raise  # it was closed with its loop, and what is thrown into a closed generator comes back
                step, argument = throw, error
                if error.__traceback__ is not None:
                    # Without this frame: the generator may keep the exception while it is parked, and then the loop
                    # would hold, by this frame, what tells it that nobody iterates any more.
                    error.__traceback__ = error.__traceback__.tb_next

    functools.update_wrapper(aio, raw)
    return aio


def _begin(rows: AsyncGenerator[Y, Any], argument: None) -> Awaitable[Y]:
    """Return the first step, and spare the loop from finalizing this generator.

    It finalizes the one that iterates over it. If the garbage collector finds both, they would be finalized at once.
    """
    hooks = sys.get_asyncgen_hooks()
    sys.set_asyncgen_hooks(None, _leave_alone)
    try:
        return rows.asend(argument)
    finally:
        sys.set_asyncgen_hooks(*hooks)


def _leave_alone(rows: AsyncGenerator[Any, Any]) -> None:
    pass
