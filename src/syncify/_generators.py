"""How an async generator that runs on the background loop is iterated from elsewhere."""

import dis
import functools
import sys
import threading
import weakref
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from types import TracebackType
from typing import Any, TypeVar

from ._callers import AwaitedCall, BlockingCall
from ._conversation import Conversation, Hold, end_interrupted, release
from ._deadlock import check_blocking, refuse_deadlock
from ._loop import BackgroundLoop, running_loop
from ._traceback import shorten

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
        return await self.rows.athrow(error)

    async def close(self) -> None:
        self.ended = True
        await self.rows.aclose()


class SyncGenerator(Generator[Y, S, None]):
    """An async generator as a generator, for plain code. Its first step starts it, in a task of its own."""

    __slots__ = (
        "__weakref__",
        "_background",
        "_conversation",
        "_finished",
        "_name",
        "_rows",
        "_running",
        "_self",
        "_thread",
    )

    def __init__(self, background: BackgroundLoop, rows: AsyncGenerator[Y, S], name: str) -> None:
        self._background = background
        self._rows = rows
        self._name = name
        self._conversation: Iteration | None = None
        self._finished = False
        self._running = False
        self._thread = 0  # which has resumed it last
        self._self = weakref.ref(self, _do_nothing)

    def send(self, value: Any = None, /) -> Y:
        """Resume it, and wait for its next item."""
        if running_loop() is not None:
            check_blocking(self._background, self._name, FORM)
        if self._finished:
            raise StopIteration
        if value is not None and self._conversation is None:
            raise TypeError("can't send non-None value to a just-started generator")
        try:
            return self._resume(self._rows.asend, value)
        except BaseException as error:
            raise shorten(error)  # noqa: B904 - the same exception

    __next__ = send  # pyright: ignore[reportAssignmentType]

    def throw(self, typ: Any, val: Any = None, tb: TracebackType | None = None, /) -> Y:
        """Raise an exception where it is suspended, and wait for its next item."""
        if running_loop() is not None:
            check_blocking(self._background, self._name, FORM)
        error = _exception(typ, val, tb)
        try:
            if self._finished or self._conversation is None:
                self._finished = True
                raise error
            return self._resume(self._conversation.throw, error)
        except BaseException as raised:
            raise shorten(raised)  # noqa: B904 - the same exception
        finally:
            del error  # its traceback holds this frame

    def close(self) -> None:
        """Raise GeneratorExit where it is suspended, and wait for its end."""
        if self._finished or self._conversation is None:
            self._finished = True
            return
        refuse_deadlock(self._background, f"close() of {self._name}()", FORM.format(self._name))
        try:
            self._resume(self._conversation.throw, GeneratorExit())
        except (GeneratorExit, StopIteration):
            return
        except BaseException as error:
            raise shorten(error)  # noqa: B904 - the same exception
        raise RuntimeError("generator ignored GeneratorExit")

    def _start(self) -> Iteration:
        return Iteration(self._background, self._name, self._rows)

    def _resume(self, step: Callable[[Any], Awaitable[Y]], argument: Any) -> Y:
        if self._running:
            raise ValueError("generator already executing")
        call = None
        try:
            self._running = True
            self._thread = threading.get_ident()
            if self._conversation is None:
                self._conversation = self._start()
            call = BlockingCall(self._background, step, (argument,), {}, None, self._conversation)
            call.wait()
        except BaseException as interrupt:
            self._finished = True
            if self._conversation is not None:
                end_interrupted(self._conversation, call, interrupt)
            raise
        finally:
            self._running = False
        if call.error is not None:
            self._finished = True
            if isinstance(call.error, StopAsyncIteration):
                raise StopIteration
            try:
                raise call.take_error()
            finally:
                call.keep_context()
        return call.value  # type: ignore[no-any-return]

    def __repr__(self) -> str:
        return f"<syncified generator {self._name} at {id(self):#x}>"

    def __del__(self) -> None:
        conversation = self._conversation
        if conversation is None or conversation.over:
            return
        try:
            if not self._finished and self._is_left():
                self.close()
        finally:
            release(conversation)

    def _is_left(self) -> bool:
        """Tell, when it goes away, whether the consumer leaves a loop over it, and so is to wait for its cleanup.

        Nobody is to wait who has just deleted or replaced a name for it, or in whose thread the garbage collector runs.
        """
        try:
            consumer = sys._getframe(2)
        except ValueError:  # the interpreter is shutting down
            return False
        instruction = dis.opname[consumer.f_code.co_code[consumer.f_lasti]]
        return (
            threading.get_ident() == self._thread
            and running_loop() is not self._background.loop
            and not instruction.startswith(("DELETE_", "STORE_"))
            # Weak references to what is found in a cycle are cleared before its finalizer is called, and not when the
            # last reference goes; of late only those that have a callback.
            and self._self() is not None
        )


def _do_nothing(reference: object) -> None:
    pass


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
        loop = running_loop()
        if loop is None:
            raise RuntimeError(f"{aio.__qualname__}.aio() was iterated where no asyncio event loop runs")
        rows = raw(*args, **kwargs)
        conversation = None
        throw: Callable[[BaseException], Awaitable[Y]] = rows.athrow
        if loop is not background.loop:
            hold = Hold(Iteration(background, aio.__qualname__, rows))
            conversation = hold.conversation
            throw = conversation.throw
        step: Callable[[Any], Awaitable[Y]] = rows.asend
        argument: Any = None
        while True:
            if conversation is None:
                # In the caller's own task.
                try:
                    value = await step(argument)
                except StopAsyncIteration:
                    return
                except BaseException as error:
                    raise shorten(error)  # noqa: B904 - the same exception
                finally:
                    argument = None  # it may be an exception, and its traceback holds this frame
            else:
                loop = running_loop()
                assert loop is not None
                call = AwaitedCall(loop, background, step, (argument,), {}, None, conversation)
                argument = None
                await call
                if call.error is not None:
                    if isinstance(call.error, StopAsyncIteration):
                        return
                    if conversation.open:  # a cancellation has come when the step was done
                        await AwaitedCall(loop, background, conversation.close, (), {}, None, conversation)
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
                step, argument = throw, error

    functools.update_wrapper(aio, raw)
    return aio
