"""A Griffe extension: pages made by mkdocstrings show decorated functions in both of their forms.

In `mkdocs.yml`:

```yaml
plugins:
- mkdocstrings:
    handlers:
      python:
        options:
          extensions: [syncify.griffeext]
```

Griffe reads the source and imports nothing, so a decorator is one if its name leads to `syncify`, or to where the
source says `Syncify(...)`.
"""

from __future__ import annotations

import ast
from typing import Any

import griffe

__all__ = ("SyncifyExtension",)

_SYNCERS = {"syncify.syncify", "flyte.syncify.syncify"}
_CLASSES = {"syncify.Syncify", "flyte.syncify.Syncify"}
_MANAGERS = {"contextlib.asynccontextmanager"}
_BLOCKING = {"AsyncIterator": "Iterator", "AsyncIterable": "Iterator", "AsyncGenerator": "Generator"}


class SyncifyExtension(griffe.Extension):
    """Gives decorated functions the signatures of both forms, `f(...)` and `f.aio(...)`, as overloads."""

    def on_package(self, *, pkg: griffe.Module, loader: griffe.GriffeLoader, **kwargs: Any) -> None:
        """Find the decorated functions of a package that has been loaded."""
        self._visit(pkg, loader)

    def _visit(self, parent: griffe.Module | griffe.Class, loader: griffe.GriffeLoader) -> None:
        for member in parent.members.values():
            if isinstance(member, griffe.Function):
                if any(_is_syncer(decorator.value, loader) for decorator in member.decorators):
                    _show(member)
            elif isinstance(member, griffe.Module | griffe.Class):
                self._visit(member, loader)


def _path(expression: Any) -> str:
    return expression if isinstance(expression, str) else expression.canonical_path


def _is_syncer(decorator: str | griffe.Expr, loader: griffe.GriffeLoader) -> bool:
    function = decorator.function if isinstance(decorator, griffe.ExprCall) else decorator  # @syncify(prefetch=8)
    path = _path(function)
    if path in _SYNCERS:
        return True
    try:
        found = loader.modules_collection[path]
        value = found.value if found.is_attribute else None
    except (KeyError, griffe.GriffeError):  # another package, which has not been loaded
        return False
    return isinstance(value, griffe.ExprCall) and _path(value.function) in _CLASSES


def _show(function: griffe.Function) -> None:
    blocking, for_async, prefix = function.returns, function.returns, "await "
    name, item = _name(function.returns), getattr(function.returns, "slice", None)
    is_decorated = any(_path(decorator.value) in _MANAGERS for decorator in function.decorators)
    if is_decorated or "async" not in function.labels:  # it makes a context manager
        prefix = ""
        if is_decorated:
            item = item.elements[0] if isinstance(item, griffe.ExprTuple) else item
            for_async = _of("AbstractAsyncContextManager", item)
        if is_decorated or name in ("AbstractAsyncContextManager", "AsyncContextManager"):
            blocking = _of("AbstractContextManager", item)
    elif _is_generator(function):
        prefix = ""
        if isinstance(item, griffe.ExprTuple):  # of an AsyncGenerator
            item = griffe.ExprTuple([*item.elements, "None"], implicit=True)
        if name in _BLOCKING:
            blocking = _of(_BLOCKING[name], item)
    function.labels.discard("async")  # as it is called first of all, it is not
    function.returns = blocking
    if not function.overloads:  # those that the user has written say more
        function.overloads = [
            _form(function, function.name, blocking),
            _form(function, f"{prefix}{function.name}.aio", for_async),
        ]


def _form(function: griffe.Function, name: str, returns: str | griffe.Expr | None) -> griffe.Function:
    return griffe.Function(name, parameters=function.parameters, returns=returns, parent=function.parent)


def _is_generator(function: griffe.Function) -> bool:
    """Tell whether there is a `yield` in it that is its own."""
    source = function.source
    if source[:1].isspace():  # a method, of which not every line has to be indented
        source = f"if True:\n{source}"
    functions = (
        node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )
    pending = list(ast.iter_child_nodes(next(functions)))
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Yield):
            return True
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
            pending += ast.iter_child_nodes(node)
    return False


def _name(expression: str | griffe.Expr | None) -> str:
    return "" if expression is None else _path(expression).rpartition(".")[2]


def _of(name: str, item: str | griffe.Expr | None) -> griffe.Expr:
    generic = griffe.ExprName(name)
    return generic if item is None else griffe.ExprSubscript(generic, item)
