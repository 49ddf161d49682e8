"""What `inspect` and `unittest.mock` see of what is around a function: its parameters."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable
from inspect import Parameter
from types import FunctionType, MappingProxyType
from typing import Any

from ._frames import find_asker

__all__ = ("SignatureOf", "make_plain", "signature")


def signature(function: Callable[..., Any]) -> inspect.Signature:
    """Return the signature. Since Python 3.14 annotations may name what is not defined yet; such a name stays one."""
    try:
        return inspect.signature(function)
    except NameError:
        if sys.version_info >= (3, 14):
            import annotationlib

            return inspect.signature(function, annotation_format=annotationlib.Format.FORWARDREF)
        raise


class SignatureOf(inspect.Signature):
    """The signature of a function, made when somebody looks at it: that takes longer than all the rest of decorating.

    Mocks are checked against it, too. For `unittest.mock`, what is decorated is an object that can be called. Of such
    ones it believes, while it makes a mock of what they are attributes of, that they never bind, and that their
    `__call__` has a `self` still to come. So to it alone this shows another face.
    """

    __slots__ = ("_in_class", "_make")

    def __init__(self, make: Callable[[], inspect.Signature], in_class: bool = False) -> None:
        self._make = make
        self._in_class = in_class

    @property
    def parameters(self) -> MappingProxyType[str, inspect.Parameter]:
        return self._make().parameters

    @property
    def return_annotation(self) -> Any:
        return self._make().return_annotation

    def bind(self, /, *args: Any, **kwargs: Any) -> inspect.BoundArguments:
        made = self._make()
        if self._in_class and _is_for_mock():  # it cannot tell whether the call is one of an instance, or of the class
            try:
                return made.bind(None, *args, **kwargs)
            except TypeError:
                pass
        return made.bind(*args, **kwargs)

    def bind_partial(self, /, *args: Any, **kwargs: Any) -> inspect.BoundArguments:
        return self._make().bind_partial(*(() if _is_for_mock() else args), **kwargs)

    def replace(self, **changes: Any) -> inspect.Signature:  # type: ignore[override]
        made = self._make().replace(**changes)
        if not _is_for_mock():
            return made
        is_bound = len(made.parameters) < len(self.parameters)
        return SignatureOf(lambda: made, self._in_class and not is_bound)

    __replace__ = replace  # type: ignore[assignment]

    def __reduce__(self) -> Any:
        return self._make().__reduce__()


def _is_for_mock() -> bool:
    """Tell whether the method that has called this was called by `unittest.mock`, or by `inspect` on its behalf."""
    return find_asker(past=("inspect",)).get("__name__") in ("unittest.mock", "mock.mock")


_GIVEN = {
    Parameter.POSITIONAL_ONLY: "{0}",
    Parameter.POSITIONAL_OR_KEYWORD: "{0}",
    Parameter.VAR_POSITIONAL: "*{0}",
    Parameter.KEYWORD_ONLY: "{0}={0}",
    Parameter.VAR_KEYWORD: "**{0}",
}


def make_plain(raw: Any) -> Callable[..., Any]:
    """Return a function with the parameters of the raw one, and that calls it, but is not async.

    Frameworks look through wrappers to learn whether to await what they call; a wrapper of this library is not to be.
    Its parameters are written out, since `inspect` evaluates annotations of a function, if asked to, and not those of a
    signature.
    """
    shown = signature(raw)
    parameters = shown.parameters.values()
    bare = [
        each.replace(annotation=each.empty, default=each.empty if each.default is each.empty else None)
        for each in parameters
    ]
    made: dict[str, Any] = {}
    exec(
        f"def make(_syncify_raw):\n"
        f"    def unbridged{inspect.Signature(bare)}:\n"
        f"        return _syncify_raw({', '.join(_GIVEN[each.kind].format(each.name) for each in parameters)})\n"
        f"    return unbridged",
        made,
    )
    unbridged = made["make"](raw)
    code, written = unbridged.__code__, _find_function(raw)
    if written is not None:  # for who looks for the source
        code = code.replace(co_filename=written.__code__.co_filename, co_firstlineno=written.__code__.co_firstlineno)
    # With the globals of what the user has written, where the names in its annotations are looked up.
    plain = FunctionType(code, (written or raw).__globals__, closure=unbridged.__closure__)
    functools.update_wrapper(plain, raw)
    del plain.__dict__["__wrapped__"]
    keyword_only = Parameter.KEYWORD_ONLY
    with_default = [each for each in parameters if each.default is not each.empty]
    plain.__defaults__ = tuple(each.default for each in with_default if each.kind is not keyword_only)
    plain.__kwdefaults__ = {each.name: each.default for each in with_default if each.kind is keyword_only}
    plain.__annotations__ = {each.name: each.annotation for each in parameters if each.annotation is not each.empty}
    if shown.return_annotation is not shown.empty:
        plain.__annotations__["return"] = shown.return_annotation
    return plain


def _find_function(raw: Any) -> FunctionType | None:
    """Return the function that the user has written, behind wrappers, partials and callable objects."""
    while not isinstance(raw, FunctionType) or hasattr(raw, "__wrapped__"):
        for name in "__wrapped__", "__func__", "func":
            if hasattr(raw, name):
                raw = getattr(raw, name)
                break
        else:
            if not callable(raw) or not isinstance(type(raw).__call__, FunctionType):
                return None
            raw = type(raw).__call__
    return raw
