"""Tells, when a generator goes away, whether that is to be waited for."""

from __future__ import annotations

import dis
import weakref
from types import CodeType, FrameType

__all__ = ("Departure",)


class Departure:
    """Knows, when a generator is finalized, whether who drops it is to wait for its cleanup.

    Who leaves a loop or a function, by `break`, `return` or an exception, is to find the cleanup done in the next
    statement. Who deletes or replaces a name, an attribute or an item is not to wait, nor is the thread in which the
    garbage collector happens to run. To Python all of these are the same: the last reference goes. So look at where
    that happens.
    """

    __slots__ = ("_begin", "_reference")

    def __init__(self, generator: object) -> None:
        # Weak references to what the collector finds in a cycle are cleared before finalizers are called, and not when
        # the last reference goes. From Python 3.15 on that is true only of those that have a callback.
        self._reference = weakref.ref(generator, _do_nothing)
        self._begin: tuple[CodeType, int] | None = None  # code and place of the beginning of the last loop over it

    def note_loop(self, frame: FrameType) -> None:
        """Note that the frame is about to begin a loop over it."""
        self._begin = frame.f_code, frame.f_lasti

    def is_to_be_waited_for(self, finalizer: FrameType) -> bool:
        """To be asked by the finalizer, with its own frame."""
        frame = finalizer.f_back
        if frame is None or self._reference() is None:  # the interpreter is shutting down; or it is the collector
            return False
        code, place = frame.f_code, frame.f_lasti
        instruction = dis.opname[code.co_code[place]]
        if not instruction.startswith(("DELETE_", "STORE_")) or _ends_except(code, place):
            return True
        # In the body of the loop that cannot have been the last reference, since the loop has one. So the statement has
        # raised, and the loop is being left.
        return self._begin is not None and self._begin[0] is code and place in _body_of_loop(code, self._begin[1])


def _ends_except(code: CodeType, place: int) -> bool:
    """Tell whether this is the end of `except ... as name`, where Python sets the name to None, and deletes it.

    The traceback goes with the exception, and with it a function that was left before, which held the generator.
    """
    store, name, delete, deleted = code.co_code[place : place + 4]
    kind = dis.opname[store].removeprefix("STORE_")
    return dis.opname[delete] == f"DELETE_{kind}" and name == deleted


def _body_of_loop(code: CodeType, start: int) -> range:
    for instruction in dis.get_instructions(code):
        if instruction.offset >= start and instruction.opname == "FOR_ITER":
            return range(instruction.offset, instruction.argval)
    return range(0)


def _do_nothing(reference: object) -> None:
    pass
