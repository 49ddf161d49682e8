"""A decorated function looks like the function that it wraps."""

import asyncio
import copy
import doctest
import functools
import importlib
import inspect
import pickle
import pydoc
import re
import sys
import typing
import weakref

import pytest
from conftest import WITHOUT_DEBUG

from syncify import syncify


@syncify
async def fetch(key: str, *, limit: int = 3) -> list[str]:
    """Fetch it."""
    return [key] * limit


class Client:
    @syncify
    async def rows(self, n: int) -> typing.AsyncIterator[int]:
        yield n

    @syncify
    async def get(self, key: "str") -> "Client":
        """Get it."""
        return self

    @syncify
    @classmethod
    async def make(cls, size: int) -> "Client":
        """Make one."""
        return cls()

    @syncify
    @staticmethod
    async def size(text: str) -> int:
        """Size it."""
        return len(text)


def test_name_doc_and_module():
    assert (fetch.__name__, fetch.__qualname__, fetch.__doc__) == ("fetch", "fetch", "Fetch it.")
    assert fetch.__module__ == Client.get.__module__ == __name__
    for function, name, doc in [
        (Client.get, "get", "Get it."),
        (Client().get, "get", "Get it."),
        (Client.make, "make", "Make one."),
        (Client.size, "size", "Size it."),
        (Client.get.aio, "get", "Get it."),
        (Client().get.aio, "get", "Get it."),
    ]:
        assert (function.__name__, function.__qualname__, function.__doc__) == (name, f"Client.{name}", doc)


def test_signatures():
    expected = "(key: str, *, limit: int = 3) -> list[str]"
    assert str(inspect.signature(fetch)) == str(inspect.signature(fetch.aio)) == expected
    assert str(inspect.signature(fetch.__wrapped__)) == expected
    assert list(inspect.signature(Client.get).parameters) == ["self", "key"]
    assert list(inspect.signature(Client().get).parameters) == ["key"]
    assert list(inspect.signature(Client().get.aio).parameters) == ["key"]
    assert list(inspect.signature(Client.make).parameters) == ["size"]
    assert list(inspect.signature(Client.make.aio).parameters) == ["size"]
    assert list(inspect.signature(Client.size).parameters) == ["text"]


def test_annotations():
    assert fetch.__annotations__ == {"key": str, "limit": int, "return": list[str]}
    assert typing.get_type_hints(fetch) == fetch.__annotations__


def test_annotations_are_there_whoever_has_asked_for_those_of_its_class():
    for function in fetch, rows, Client().get, Client.make, Client.size, Client().rows, Client.__dict__["make"]:
        own = function.__annotations__
        assert inspect.get_annotations(type(function)) == type(function).__annotations__ == {}
        assert typing.get_type_hints(type(function)) == {}
        assert function.__annotations__ is own
        assert "return" in own


def test_annotations_can_be_replaced():
    @syncify
    async def f(x: int) -> int:
        return x

    f.__annotations__ = {"x": str}
    assert f.__annotations__ == typing.get_type_hints(f) == {"x": str}
    with pytest.raises(AttributeError):
        Client().get.__annotations__ = {}
    assert f(1) == 1


def test_only_aio_is_a_coroutine_function():
    for function in fetch, Client.get, Client().get, Client.make, Client.size:
        assert not inspect.iscoroutinefunction(function)
        assert inspect.iscoroutinefunction(function.aio)
        assert callable(function)


def test_frameworks_that_look_through_wrappers_see_no_coroutine_function():
    for function in fetch, Client().get, Client.make, Client.size:
        plain = inspect.unwrap(function)
        assert inspect.isroutine(plain)
        assert not inspect.iscoroutinefunction(plain)
        assert inspect.iscoroutinefunction(inspect.unwrap(function.aio))


def test_wrapped_makes_the_raw_coroutine():
    coroutine = fetch.__wrapped__("x")
    assert inspect.iscoroutine(coroutine)
    with pytest.raises(StopIteration) as stop:
        coroutine.send(None)
    assert stop.value.value == ["x"] * 3


def test_a_copy_is_a_function_too():
    assert copy.copy(fetch)("a") == copy.deepcopy(fetch)("a") == ["a"] * 3


def test_it_can_be_a_key_and_weakly_referenced():
    assert {fetch: 1}[fetch] == 1
    assert weakref.ref(fetch)() is fetch


@pytest.mark.parametrize("form", ["itself", "aio"])
def test_source(form):
    functions = [fetch, Client.get, Client().get, Client.make, Client.size, rows, wrapped]
    if form == "itself":
        functions += [partial, called]  # natively these have none
    for function in functions:
        source = inspect.getsource(function if form == "itself" else function.aio)
        assert f"async def {FIRST.get(function, function.__name__)}(" in source


def twice(function):
    @functools.wraps(function)
    async def wrapper(*args, **kwargs):
        return [await function(*args, **kwargs) for _ in range(2)]

    return wrapper


@syncify
async def rows(n: int) -> typing.AsyncIterator[int]:
    """Give rows.

    >>> list(rows(2))
    [0, 1]
    """
    for row in range(n):
        yield row


@syncify
@twice
async def wrapped(x: int) -> int:
    return x


def test_help_shows_it_as_a_function():
    for function, first in [
        (fetch, "fetch(key: str, *, limit: int = 3) -> list[str]"),
        (rows, "rows(n: int)"),
        (Client.get, "get(self, key: "),
        (Client().get, "get(key: "),
        (Client.make, "make(size: int)"),
        (Client.size, "size(text: str) -> int"),
    ]:
        assert inspect.isroutine(function)
        _, _, shown, doc, *_ = pydoc.render_doc(function, renderer=pydoc.plaintext).split("\n")
        assert shown.startswith(first)
        assert doc.strip() == (function.__doc__ or "").split("\n")[0]


def test_doctests_in_it_are_found():
    finder = doctest.DocTestFinder(exclude_empty=True)
    [test] = [test for test in finder.find(sys.modules[__name__]) if test.name == "test_introspection.rows"]
    assert doctest.DocTestRunner().run(test) == doctest.TestResults(failed=0, attempted=1)


def test_decorators_above_it():
    @functools.lru_cache
    @syncify
    async def cached(x):
        return [x]

    assert cached(1) is cached(1)

    @functools.wraps(fetch)
    def wrapper(*args, **kwargs):
        return fetch(*args, **kwargs)

    assert wrapper("b") == ["b"] * 3
    assert wrapper.__name__ == "fetch"


def test_decorators_below_it():
    def twice(function):
        @functools.wraps(function)
        async def wrapper(*args, **kwargs):
            return [await function(*args, **kwargs) for _ in range(2)]

        return wrapper

    @syncify
    @twice
    async def one(x: int) -> int:
        return x

    assert one(4) == [4, 4]
    assert str(inspect.signature(one)) == "(x: int) -> int"


def test_wrappers_around_it_look_like_it():
    f = fetch.aio
    for function, is_async in (fetch, False), (Client().get, False), (rows, False), (f, True):

        @functools.wraps(function)
        def plain(*args, **kwargs):
            return function(*args, **kwargs)  # noqa: B023

        @functools.wraps(function)
        async def in_async(*args, **kwargs):
            return function(*args, **kwargs)  # noqa: B023

        for wrapper in plain, in_async:
            assert inspect.signature(wrapper) == inspect.signature(function)
            assert (wrapper.__name__, wrapper.__doc__) == (function.__name__, function.__doc__)
            assert typing.get_type_hints(wrapper) == typing.get_type_hints(function)
            assert wrapper.__wrapped__ == function
            assert inspect.iscoroutinefunction(inspect.unwrap(wrapper)) == is_async
        assert not inspect.iscoroutinefunction(plain)
        assert inspect.iscoroutinefunction(in_async)


def test_it_looks_like_a_wrapper_below_it():
    async def inner(x: int, *, y: str = "") -> bool:
        """Do it."""
        return True

    @syncify
    @functools.wraps(inner)
    async def wraps(*args, **kwargs):
        return await inner(*args, **kwargs)

    async def updated(*args, **kwargs):
        return await inner(*args, **kwargs)

    for function in wraps, syncify(functools.update_wrapper(updated, inner)):
        assert str(inspect.signature(function)) == str(inspect.signature(function.aio)) == str(inspect.signature(inner))
        assert (function.__name__, function.__doc__) == ("inner", "Do it.")
        assert typing.get_type_hints(function) == {"x": int, "y": str, "return": bool}
        assert function(1) is asyncio.run(function.aio(1)) is True
        assert not inspect.iscoroutinefunction(inspect.unwrap(function))
        assert inspect.unwrap(function.aio) is inner


def test_wraps_above_it():
    async def inner(x: int) -> int:
        """Inner."""
        return x

    @functools.wraps(inner)
    @syncify
    async def outer(*args, **kwargs):
        return args, kwargs

    assert outer(1, y=2) == asyncio.run(outer.aio(1, y=2)) == ((1,), {"y": 2})
    assert (outer.__name__, outer.__doc__) == ("inner", "Inner.")
    assert str(inspect.signature(outer)) == "(x: int) -> int"
    assert not inspect.iscoroutinefunction(inspect.unwrap(outer))


def test_the_plain_function_behind_it_has_the_users_parameters():
    async def f(a, b=1, /, c=2, *args: int, d, e: str = "5", **rest):
        return a, b, c, args, d, e, rest

    async def g(a, /):
        return a

    async def h(*, a=1, b):
        return a, b

    for function in f, g, h:
        plain = inspect.unwrap(syncify(function))
        assert inspect.signature(plain) == inspect.signature(function)
        assert inspect.getfullargspec(plain) == inspect.getfullargspec(function)
    plain = inspect.unwrap(syncify(f))
    with pytest.raises(StopIteration) as stop:
        plain(1, 2, 3, 4, d=5, x=6).send(None)
    assert stop.value.value == (1, 2, 3, (4,), 5, "5", {"x": 6})
    with pytest.raises(TypeError, match="missing 1 required positional argument"):
        plain(a=1, d=2)


def test_the_module_of_a_bound_method_is_that_of_its_function():
    for function in Client().get, Client().rows, Client.make, Client.get, Client.size:
        assert function.__module__ == __name__
        assert inspect.getmodule(function) is sys.modules[__name__]
    assert type(Client().get).__module__ == "syncify._functions"


def test_a_docstring_is_inherited():
    class Base:
        @syncify
        async def get(self):
            """Get it."""

        @syncify
        async def rows(self):
            """Give rows."""
            yield

    class Derived(Base):
        @syncify
        async def get(self):
            pass

        @syncify
        async def rows(self):
            yield

    assert inspect.getdoc(Derived.get) == "Get it."
    assert inspect.getdoc(Derived.rows) == "Give rows."
    assert Derived.get.__doc__ is None


def test_names_of_a_module_are_looked_up_where_the_user_has_written_them(tmp_path, monkeypatch):
    """Also behind a decorator of another module, whose wrapper has that module's globals."""
    (tmp_path / "decorators_elsewhere.py").write_text(
        "import functools\n\n"
        "def elsewhere(function):\n"
        "    @functools.wraps(function)\n"
        "    async def wrapper(*args, **kwargs):\n"
        "        return await function(*args, **kwargs)\n"
        "    return wrapper\n"
    )
    (tmp_path / "with_text_annotations.py").write_text(
        "from __future__ import annotations\n"
        "from collections.abc import AsyncIterator\n"
        "from contextlib import asynccontextmanager\n"
        "from decorators_elsewhere import elsewhere\n"
        "from syncify import syncify\n\n"
        "class Item: ...\n\n"
        "@syncify\n@elsewhere\nasync def f(item: Item) -> Item:\n    return item\n\n"
        "@syncify\nasync def g(item: Item) -> Item:\n    return item\n\n"
        "@syncify\n@asynccontextmanager\nasync def opened(item: Item) -> AsyncIterator[Item]:\n    yield item\n\n"
        "class C:\n    @syncify\n    @elsewhere\n    async def f(self, item: Item) -> Item:\n        return item\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("with_text_annotations")
    try:
        for function in module.f, module.g, module.opened, module.C.f, module.C().f:
            for form in function, function.aio:
                assert typing.get_type_hints(form)["item"] is module.Item
                assert inspect.signature(form).parameters["item"].annotation == "Item"
            evaluated = inspect.signature(function, eval_str=True)
            assert evaluated.parameters["item"].annotation is module.Item
    finally:
        del sys.modules["with_text_annotations"], sys.modules["decorators_elsewhere"]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="syntax of Python 3.12")
def test_type_parameters():
    made = {"syncify": syncify}
    exec("@syncify\nasync def first[T](items: list[T]) -> T:\n    return items[0]\n", made)
    first = made["first"]
    assert [each.__name__ for each in first.__type_params__] == ["T"]
    assert first.__type_params__ == first.aio.__type_params__
    assert first([3]) == 3


def test_only_aio_is_an_async_generator_function():
    for function in rows, Client().rows, Client.rows:
        for plain in function, inspect.unwrap(function), function.__call__:
            assert not inspect.isasyncgenfunction(plain)
            assert not inspect.iscoroutinefunction(plain)
        assert inspect.isasyncgenfunction(function.aio)
        assert inspect.isasyncgenfunction(inspect.unwrap(function.aio))


def test_ipython_shows_and_completes_it(script):
    program = script(
        """
        from IPython.core.interactiveshell import InteractiveShell

        shell = InteractiveShell.instance(colors="nocolor")
        shell.Completer.use_jedi = False
        cell = [
            "from syncify import syncify",
            "@syncify",
            "async def fetch(key: str, *, limit: int = 3) -> list[str]:",
            "    'Fetch it.'",
            "@syncify",
            "async def rows(first: int):",
            "    'Give rows.'",
            "    yield first",
            "class Client:",
            "    @syncify",
            "    async def get(self, key: str) -> str:",
            "        'Get it.'",
            "client = Client()",
        ]
        shell.run_cell("\\n".join(cell)).raise_error()
        for name in "fetch", "rows", "client.get":
            shown = shell.object_inspect_mime(name)["text/plain"].split("\\n")
            print([line for line in shown if line.startswith(("Signature:", "Docstring:"))])
            print([text for text in shell.complete(name + ".a")[1] if "_" not in text])
        """,
        env=WITHOUT_DEBUG,
    )
    code, out, err = program.end()
    assert (code, err) == (0, "")
    assert [re.sub(" +", " ", line) for line in out.splitlines()] == [
        "['Signature: fetch(key: str, *, limit: int = 3) -> list[str]', 'Docstring: Fetch it.']",
        "['.aio']",
        "['Signature: rows(first: int)', 'Docstring: Give rows.']",
        "['.aio']",
        "['Signature: client.get(key: str) -> str', 'Docstring: Get it.']",
        "['.aio']",
    ]


def test_type_hints_are_looked_up_where_the_function_was_written():
    assert typing.get_type_hints(Client.get) == {"key": str, "return": Client}


def test_a_mark_of_the_function_is_not_the_wrappers():
    @syncify
    @getattr(inspect, "markcoroutinefunction", lambda function: function)
    async def marked():
        return 1

    assert not inspect.iscoroutinefunction(marked)
    assert inspect.iscoroutinefunction(marked.aio)
    assert marked() == 1


def test_a_class_method_is_copied_as_itself():
    make = Client.__dict__["make"]
    assert copy.copy(make) is copy.deepcopy(make) is make


def test_a_bound_method_can_be_weakly_referenced():
    client = Client()
    method = client.get
    assert weakref.ref(method)() is method
    assert weakref.WeakMethod(method)() == method


def test_it_is_pickled_by_reference():
    assert pickle.loads(pickle.dumps(Client.size)) is Client.size
    assert pickle.loads(pickle.dumps(Client.get)) is Client.get


def test_a_bound_method_is_copied_and_pickled_as_a_native_one():
    client = Client()
    assert copy.copy(client.get) == client.get
    method = pickle.loads(pickle.dumps(client.get))
    assert type(method.__self__) is Client
    assert method.__func__ is Client.get
    assert pickle.loads(pickle.dumps(Client.make)) == Client.make


def test_methods_are_of_their_kind():
    kinds = {each.name: each.kind for each in inspect.classify_class_attrs(Client)}
    assert (kinds["get"], kinds["make"], kinds["size"]) == ("method", "class method", "static method")
    shown = pydoc.render_doc(Client, renderer=pydoc.plaintext)
    assert [line.split(" defined")[0].strip("| ") for line in shown.split("\n") if " defined here" in line][:3] == [
        "Methods",
        "Class methods",
        "Static methods",
    ]


def test_a_static_method_looks_like_a_native_one():
    size = Client.__dict__["size"]
    assert isinstance(size, staticmethod)
    assert size.__doc__ == "Size it."
    assert size.__func__ is Client.size is Client().size
    assert size.__get__(None, Client) is Client.size
    assert repr(size).startswith("<syncified static method Client.size at")
    assert copy.copy(size) is copy.deepcopy(size) is size
    assert weakref.ref(size)() is size


def test_it_has_all_its_forms_in_the_body_of_its_class():
    class Body:
        @syncify
        @staticmethod
        async def size(text: str) -> int:
            return len(text)

        sizes = size("a"), size.submit("ab").result(), inspect.iscoroutinefunction(size.aio)

    assert Body.sizes == (1, 2, True)


def test_a_class_method_looks_like_a_native_one():
    make = Client.__dict__["make"]
    assert isinstance(make, classmethod)
    assert make.__doc__ == "Make one."
    assert make.__func__ is Client.make.__func__
    assert make.__get__(Client()) == Client.make
    assert repr(make).startswith("<syncified class method Client.make at")
    assert weakref.ref(make)() is make


def test_wrapped_bears_name_and_doc():
    for function, name, doc in [(Client.get, "get", "Get it."), (Client().get, "get", "Get it.")]:
        plain = function.__wrapped__
        assert (plain.__name__, plain.__qualname__, plain.__doc__) == (name, f"Client.{name}", doc)


def test_a_missing_attribute_is_told_as_natively():
    with pytest.raises(AttributeError) as caught:
        Client.get.no_such  # noqa: B018
    assert (caught.value.name, caught.value.obj) == ("no_such", Client.get)


class Caller:
    """Calls."""

    async def __call__(self, x: int) -> int:
        return x


async def add(a: int, b: int = 1) -> int:
    """Add."""
    return a + b


def test_a_partial_bears_the_name_of_its_function_and_its_own_signature():
    for function in syncify(functools.partial(add, 1)), syncify(functools.partial(functools.partial(add, 1))):
        assert (function.__name__, function.__qualname__, function.__doc__) == ("add", "add", "Add.")
        assert function.__module__ == __name__
        assert str(inspect.signature(function)) == str(inspect.signature(function.aio)) == "(b: int = 1) -> int"


def test_a_callable_object_bears_the_name_of_its_class():
    function = syncify(Caller())
    assert (function.__name__, function.__qualname__, function.__doc__) == ("Caller", "Caller", "Calls.")
    assert function.__module__ == __name__
    assert str(inspect.signature(function)) == "(x: int) -> int"


partial, called = syncify(functools.partial(add, 1)), syncify(Caller())
FIRST = {called: "__call__"}  # what the source begins with, where it is not the name
