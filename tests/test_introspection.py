"""A decorated function looks like the function that it wraps."""

import copy
import functools
import inspect
import pickle
import typing
import weakref

import pytest

from syncify import syncify


@syncify
async def fetch(key: str, *, limit: int = 3) -> list[str]:
    """Fetch it."""
    return [key] * limit


class Client:
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


def test_source():
    assert "async def fetch" in inspect.getsource(fetch.aio)


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


def test_a_class_method_looks_like_a_native_one():
    make = Client.__dict__["make"]
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
