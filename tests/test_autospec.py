"""`unittest.mock` makes mocks of decorated functions, and of classes with such methods, that check their arguments."""

import asyncio
import copy
import inspect
import pickle
import sys
from contextlib import asynccontextmanager
from unittest.mock import ANY, MagicMock, Mock, NonCallableMock, create_autospec, patch

import pytest

from syncify import syncify


@syncify
async def fetch(key, *, limit=3):
    return [key] * limit


@syncify
async def rows(first, last=9):
    yield first


@syncify
@asynccontextmanager
async def opened(name):
    yield name


class Client:
    @syncify
    async def get(self, key, default=None):
        return key

    @syncify
    async def rows(self, first):
        yield first

    @syncify
    @classmethod
    async def make(cls, size):
        return cls()

    @syncify
    @staticmethod
    async def measure(text):
        return len(text)


async def items(rows):
    return [row async for row in rows]


def call(function, *args, **kwargs):
    result = function(*args, **kwargs)
    return asyncio.run(result) if inspect.iscoroutine(result) else result


def is_refused(function, *args, **kwargs):
    with pytest.raises(TypeError, match="argument"):
        call(function, *args, **kwargs)
    return True


def test_of_a_function():
    mocked = create_autospec(fetch, return_value=["a"])
    assert mocked("x", limit=1) == ["a"]
    mocked.assert_called_once_with(key="x", limit=1)
    assert is_refused(mocked)
    assert is_refused(mocked, "x", 1)
    assert is_refused(mocked, "x", size=1)


def test_aio_of_a_function():
    mocked = create_autospec(fetch)
    mocked.aio.return_value = ["a"]
    assert call(mocked.aio, "x") == ["a"]
    mocked.aio.assert_awaited_once_with(key="x")
    assert is_refused(mocked.aio, "x", 1)


@pytest.mark.parametrize(("function", "name"), [(rows, "first"), (opened, "name")])
def test_of_a_function_that_returns_at_once(function, name):
    mocked = create_autospec(function)
    for form in mocked, mocked.aio:
        call(form, "x")
        form.assert_called_once_with(**{name: "x"})
        assert is_refused(form)
        assert is_refused(form, 1, 2, 3)


def test_what_the_mocks_return_can_be_used_as_what_they_stand_for():
    mocked = create_autospec(rows)
    mocked.return_value = [1, 2]
    assert list(mocked(1)) == [1, 2]
    mocked.aio.return_value.__aiter__.return_value = [1, 2]
    assert asyncio.run(items(mocked.aio(1))) == [1, 2]
    with create_autospec(opened, return_value=opened("x"))("y") as name:
        assert name == "x"


MOCKS = {
    "the instance of a mocked class": lambda: create_autospec(Client)(),
    "of a class, for its instances": lambda: create_autospec(Client, instance=True),
    "of an instance": lambda: create_autospec(Client()),
}


@pytest.mark.parametrize("make", MOCKS.values(), ids=MOCKS)
def test_of_methods(make):
    mocked = make()
    mocked.get.aio.return_value = "y"
    assert call(mocked.get.aio, "z") == "y"
    mocked.get.aio.reset_mock()
    for method in mocked.get, mocked.get.aio:
        call(method, "x")
        method.assert_called_once_with(key="x")
        call(method, "x", 1)
        method.assert_called_with("x", default=1)
        assert is_refused(method)
        assert is_refused(method, "x", size=1)
        assert is_refused(method, 1, 2, 3, 4)
    for method in mocked.rows, mocked.rows.aio:
        call(method, 1)
        method.assert_called_once_with(first=1)
        assert is_refused(method, 1, 2, 3)
    for method in mocked.make, mocked.make.aio, mocked.measure, mocked.measure.aio:
        call(method, 1)
        method.assert_called_once_with(1)
        assert is_refused(method)
        assert is_refused(method, 1, 2)


def test_of_methods_through_the_class():
    mocked = create_autospec(Client)
    for method in mocked.get, mocked.get.aio:
        call(method, mocked(), "x")
        method.assert_called_once_with(ANY, "x")
        assert is_refused(method, 1, 2, 3, 4)
    for method in mocked.make, mocked.make.aio, mocked.measure, mocked.measure.aio:
        call(method, 1)
        assert is_refused(method)


def test_of_the_functions_of_a_module():
    mocked = create_autospec(sys.modules[__name__])
    for function, name in (mocked.fetch, "key"), (mocked.rows, "first"), (mocked.opened, "name"):
        for form in function, function.aio:
            call(form, "x")
            form.assert_called_once_with(**{name: "x"})
            assert is_refused(form)
            assert is_refused(form, 1, 2, 3)
    call(mocked.Client().get, "x")
    mocked.Client().get.assert_called_once_with("x")


@pytest.mark.parametrize("kind", [Mock, MagicMock, NonCallableMock])
def test_with_decorated_functions_as_specification(kind):
    mocked = kind(spec=Client)
    mocked.get("x")
    mocked.get.assert_called_once_with("x")
    if kind is not NonCallableMock:
        mocked = kind(spec=fetch)
        mocked("x")
        mocked.assert_called_once_with(key="x")
        with pytest.raises(AttributeError):
            mocked.other  # noqa: B018


def test_in_the_place_of_a_function():
    with patch(f"{__name__}.fetch", autospec=True) as mocked:
        fetch("x")
        assert is_refused(fetch, "x", 1)
    mocked.assert_called_once_with("x")


def test_in_the_place_of_a_method():
    with patch.object(Client, "get", autospec=True) as mocked:
        Client().get("x")
        assert is_refused(Client().get, "x", size=1)
    mocked.assert_called_once_with("x")


@pytest.mark.parametrize("name", ["make", "measure"])
def test_in_the_place_of_a_class_or_static_method(name):
    with patch.object(Client, name, autospec=True) as mocked:
        mocked.aio.return_value = 2
        call(getattr(Client, name), 1)
        assert call(getattr(Client(), name).aio, 1) == 2
        assert is_refused(mocked.aio)
    mocked.assert_called_once_with(1)


def test_in_the_place_of_aio():
    client = create_autospec(Client, instance=True)
    client.get.aio.side_effect = lambda key: key * 2
    assert call(client.get.aio, "x") == "xx"


def test_only_to_a_mock_may_the_first_argument_be_missing():
    for function in Client.get, Client.get.aio, Client.get.__call__:
        signature = inspect.signature(function)
        assert signature.bind(None, "x").arguments == {"self": None, "key": "x"}
        assert is_refused(signature.bind, key="x")
        assert is_refused(signature.bind_partial, None, size=1)


def test_a_module_that_is_called_a_mock_is_no_mock():
    made = {"signature": inspect.signature(Client.get.aio), "__name__": "acme_mock"}
    exec("bound = signature.bind_partial(1, 'x').args", made)
    assert made["bound"] == (1, "x")
    with pytest.raises(TypeError, match="missing"):
        exec("signature.bind(key='x')", made)


def test_the_signature_of_call_is_as_any_other():
    expected = inspect.signature(fetch)
    assert str(expected) == "(key, *, limit=3)"
    for signature in inspect.signature(fetch.__call__), inspect.signature(Client.get.aio):
        for made in copy.copy(signature), pickle.loads(pickle.dumps(signature)), signature.replace():
            assert made == signature
            assert hash(made) == hash(signature)
            assert type(made) is inspect.Signature
            assert made.bind(1, key=2) if "self" in made.parameters else made.bind(1)
        if sys.version_info >= (3, 13):
            assert type(copy.replace(signature, parameters=[])) is inspect.Signature
    assert inspect.signature(fetch.__call__) == expected
    assert inspect.signature(Client().get.__call__) == inspect.signature(Client().get)


def test_call_can_be_called():
    assert fetch.__call__("a") == ["a"] * 3
    assert Client().get.__call__("a") == "a"


@pytest.mark.skipif(sys.version_info < (3, 14), reason="annotations are evaluated where they stand before")
def test_annotations_may_name_what_is_not_defined_yet():
    class Early:
        @syncify
        async def get(self, key: Later) -> Later:  # noqa: F821
            return key

    for function in Early.get, Early().get, Early.get.aio, Early.get.__call__:
        assert "key" in inspect.signature(function).parameters
    assert is_refused(create_autospec(Early, instance=True).get, 1, 2, 3)
