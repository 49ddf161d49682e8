"""Whatever a user calls his parameters and attributes, none of them is taken for one of the library's own."""

import ast
import asyncio
import inspect
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

import syncify as package
from syncify import syncify

SOURCE = Path(package.__file__).parent


def names_of_the_library():
    """Of its own parameters and variables, with which those of users could clash."""
    names = set()
    for module in "_functions", "_factories", "_generators", "_prefetch", "_context_managers", "_callers", "_call":
        for node in ast.walk(ast.parse((SOURCE / f"{module}.py").read_text())):
            if isinstance(node, ast.arg):
                names.add(node.arg)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                names.add(node.id)
    return sorted(names)


NAMES = names_of_the_library()


def test_there_are_names_to_clash_with():
    assert {"self", "args", "kwargs", "background", "raw", "context", "value"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_parameters(name):
    made = {}
    exec(f"async def f({name}, *, other=1):\n    return {name}, other\n", made)
    exec(f"async def rows({name}):\n    yield {name}\n", made)

    class Methods:
        f = syncify(staticmethod(made["f"]))

    async def items(rows):
        return [row async for row in rows]

    for f in syncify(made["f"]), Methods.f, Methods().f:
        assert f(**{name: 5}) == f.submit(**{name: 5}).result() == asyncio.run(f.aio(**{name: 5})) == (5, 1)
    for rows in syncify(made["rows"]), syncify(prefetch=2)(made["rows"]):
        assert list(rows(**{name: 5})) == asyncio.run(items(rows.aio(**{name: 5}))) == [5]
    with syncify(asynccontextmanager(made["rows"]))(**{name: 5}) as value:
        assert value == 5


@pytest.mark.parametrize("name", [name for name in NAMES if name != "__call__"])
def test_attributes(name):
    async def f(x):
        """Do it."""
        return x

    async def rows(x):
        yield x

    setattr(f, name, "mine")
    setattr(rows, name, "mine")
    for function in syncify(f), syncify(rows):
        assert getattr(function, name) == getattr(function.aio, name) == "mine"
        setattr(function, name, "other")
        assert getattr(function, name) == "other"
        assert list(function(3) if inspect.isasyncgenfunction(function.aio) else [function(3)]) == [3]


def test_attributes_with_the_names_of_the_forms_are_those_of_the_async_function():
    async def f(x):
        return x

    f.aio, f.submit = "mine", "mine as well"
    function = syncify(f)
    assert function.submit(1).result() == asyncio.run(function.aio(1)) == 1
    assert (function.aio.aio, function.aio.submit) == ("mine", "mine as well")
