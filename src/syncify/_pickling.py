"""How what is decorated is pickled: by reference where it can be imported, and else by value."""

from __future__ import annotations

import sys
from typing import Any, Protocol

from ._frames import find_asker

__all__ = ("Recipe", "is_unpickled_by_value", "reduce")


class Recipe(Protocol):
    """How something was decorated. It can be pickled if what was decorated can be."""

    def restore(self, wrapper: Any, attributes: dict[str, Any]) -> None:
        """Make of a blank one what was pickled."""
        ...


def reduce(wrapper: Any, recipe: Recipe | None) -> str | tuple[Any, ...]:
    """Answer the question of `__reduce__`.

    By value it is first a blank, which has its contents later: a function may refer to itself, by its globals.
    """
    if _is_importable(wrapper) and not _is_wanted_by_value(wrapper.__module__):
        return wrapper.__qualname__  # type: ignore[no-any-return]
    return _make_blank, (type(wrapper),), (recipe, vars(wrapper)), None, None, _restore


def _is_importable(wrapper: Any) -> bool:
    found: Any = sys.modules.get(wrapper.__module__)
    for name in wrapper.__qualname__.split("."):
        found = getattr(found, name, None)
    return found is wrapper


def _is_wanted_by_value(module: str) -> bool:
    """Tell whether cloudpickle asks, or a copy of it, and would pickle a function of this module by value.

    It overrides that for functions alone. For other objects, it asks as pickle does; the caller's frame is all there is
    to tell the two from each other.
    """
    asker = find_asker(past=("pickle", "syncify._wrapper"))
    if not asker.get("__name__", "").endswith("cloudpickle"):
        return False
    registered: set[str] = asker.get("list_registry_pickle_by_value", set)()
    names = module.split(".")
    return module == "__main__" or any(".".join(names[:count]) in registered for count in range(1, len(names) + 1))


def is_unpickled_by_value() -> bool:
    """Tell whether a class is being made of which cloudpickle is going to set the attributes later."""
    name: str = find_asker(past=("abc", "types", "typing")).get("__name__", "")
    return name.endswith("cloudpickle")


def _make_blank(cls: Any) -> Any:
    return cls.__new__(cls)


def _restore(wrapper: Any, state: tuple[Recipe, dict[str, Any]]) -> None:
    recipe, attributes = state
    recipe.restore(wrapper, attributes)
