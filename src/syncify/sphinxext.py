"""A Sphinx extension: autodoc shows decorated functions in both of their forms.

In `conf.py`:

```python
extensions = ["sphinx.ext.autodoc", "syncify.sphinxext"]
```
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Generator, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Any, get_args, get_origin

from sphinx.application import Sphinx
from sphinx.util.inspect import signature, stringify_signature

from ._factories import Factory
from ._wrapper import BoundWrapper, Wrapper

__all__ = ("setup",)


def setup(app: Sphinx) -> dict[str, Any]:
    """Let Sphinx know of this; it is Sphinx that calls it."""
    app.setup_extension("sphinx.ext.autodoc")
    app.connect("autodoc-process-signature", _show_blocking_form)
    app.connect("autodoc-process-docstring", _add_async_form, priority=900)  # after those that rewrite docstrings
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _show_blocking_form(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, args: str | None, returns: str | None
) -> tuple[str, str] | None:
    """Autodoc takes one argument too many from class methods; and types are those of the async function."""
    return _format(app, what, obj, blocking=True) if isinstance(obj, Wrapper | BoundWrapper) else None


def _add_async_form(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    if not isinstance(obj, Wrapper | BoundWrapper) or what not in ("function", "method"):
        return
    module = name.rpartition(".")[0]
    while module and module not in sys.modules:
        module = module.rpartition(".")[0]
    args, returns = _format(app, what, obj, blocking=False)
    lines += [
        "",
        f".. py:{what}:: {name.removeprefix(module + '.')}.aio{args}{returns and ' -> ' + returns}",
        f"   :module: {module}",
        *([] if _is_manager(obj) else ["   :async:"]),
        *(f"   :{option}:" for option in ("no-index", "no-index-entry") if options.get(option.replace("-", "_"))),
        "",
    ]


def _is_manager(obj: Any) -> bool:
    """Tell whether what it returns is for `with`, where it returns at once."""
    is_factory = isinstance(obj, Factory) or isinstance(getattr(obj, "__func__", None), Factory)
    return is_factory and not inspect.isasyncgenfunction(obj.aio)


def _format(app: Sphinx, what: str, obj: Any, *, blocking: bool) -> tuple[str, str]:
    """Write arguments and return type as autodoc does."""
    made = signature(obj, type_aliases=app.config.autodoc_type_aliases)
    unbound = what == "method" and isinstance(obj, Wrapper) and obj._syncify_binds
    made = made.replace(
        parameters=list(made.parameters.values())[unbound:],
        return_annotation=_adapt(obj, made.return_annotation, blocking),
    )
    options = {
        "show_annotation": app.config.autodoc_typehints in ("signature", "both"),
        "unqualified_typehints": app.config.autodoc_typehints_format == "short",
    }
    args = stringify_signature(made, show_return_annotation=False, **options)
    return args, stringify_signature(made, **options).removeprefix(args).removeprefix(" -> ")


def _adapt(obj: Any, annotation: Any, blocking: bool) -> Any:
    """Make of what the async function is said to return what one of the forms does."""
    origin, args = get_origin(annotation) or annotation, get_args(annotation)
    made: Any = origin
    if _is_manager(obj):
        if origin in (AsyncIterator, AsyncIterable, AsyncGenerator):
            made, args = AbstractAsyncContextManager, args[:1]
        if blocking and made is AbstractAsyncContextManager:
            made = AbstractContextManager
    elif blocking and inspect.isasyncgenfunction(obj.aio):
        if origin is AsyncGenerator:
            made, args = Generator, args and (*args, None)
        elif origin in (AsyncIterator, AsyncIterable):
            made = Iterator
    if made is origin:
        return annotation
    return made[args] if args else made
