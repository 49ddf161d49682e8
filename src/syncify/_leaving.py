"""Tells whether a generator goes away because its consumer leaves a loop over it, or because somebody drops it."""

import dis
import sys
import weakref
from types import CodeType, FrameType

__all__ = ("Departure",)


class Departure:
    """Knows, when a generator is finalized, whether its consumer is to wait for its cleanup.

    Who leaves a loop, by `break`, `return` or an exception, is to find the cleanup done in the next statement. Who
    deletes or replaces a name, an attribute or an item is not to wait, nor is the thread in which the garbage collector
    happens to run. To Python all of these are the same: the last reference goes. So look at where that happens.
    """

    __slots__ = ("_loop", "_reference")

    def __init__(self, generator: object) -> None:
        # Weak references to what the collector finds in a cycle are cleared before finalizers are called, and not when
        # the last reference goes. From Python 3.15 on that is true only of those that have a callback.
        self._reference = weakref.ref(generator, _do_nothing)
        self._loop: tuple[CodeType, int] | None = None  # code and place of the last loop over it

    def note_loop(self, frame: FrameType) -> None:
        """Note that the frame is about to begin a loop over it."""
        self._loop = frame.f_code, frame.f_lasti

    def is_from_loop(self) -> bool:
        """To be asked in the finalizer."""
        if self._reference() is None:
            return False
        try:
            frame = sys._getframe(2)
        except ValueError:  # the interpreter is shutting down
            return False
        code, place = frame.f_code, frame.f_lasti
        if not dis.opname[code.co_code[place]].startswith(("DELETE_", "STORE_")):
            return True
        # In the body of the loop that cannot have been the last reference, since the loop has one. So the statement has
        # raised, and the loop is being left.
        return self._loop is not None and self._loop[0] is code and place in _body_of_loop(code, self._loop[1])


def _body_of_loop(code: CodeType, start: int) -> range:
    for instruction in dis.get_instructions(code):
        if instruction.offset >= start and instruction.opname == "FOR_ITER":
            return range(instruction.offset, instruction.argval)
    return range(0)


def _do_nothing(reference: object) -> None:
    pass
