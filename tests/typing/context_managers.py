"""What a type checker makes of decorated context managers and of the mixin. Checked, not run: `make types`."""

# Pyright would have AsyncGenerator below asynccontextmanager, and not AsyncIterator, which most people write.
# pyright: reportDeprecated=false

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager, ExitStack, asynccontextmanager
from types import TracebackType
from typing import Self, TypeVar, assert_type

from syncify import SyncContextManager, Syncify, syncify

T = TypeVar("T")

number, text = int("1"), str(1)  # no literals, whose types some checkers would keep


@syncify
@asynccontextmanager
async def session(url: str, *, retries: int = 3) -> AsyncIterator[bytes]:
    yield url.encode() * retries


@syncify
@asynccontextmanager
async def generated(url: str) -> AsyncGenerator[bytes]:
    yield url.encode()


@syncify
@asynccontextmanager
async def generated_in_full(url: str) -> AsyncGenerator[bytes, None]:
    yield url.encode()


@syncify
@asynccontextmanager
async def holding(x: T) -> AsyncIterator[T]:
    yield x


assert_type(session("x").__enter__(), bytes)
assert_type(session("x").__exit__(None, None, None), bool | None)

with session("x", retries=1) as entered, generated("x") as entered_generated, generated_in_full("x") as entered_in_full:
    assert_type(entered, bytes)
    assert_type(entered_generated, bytes)
    assert_type(entered_in_full, bytes)

# Pyrefly loses the type variables of a function below `@syncify`.
with holding(number) as held_int, holding(text) as held_str:
    assert_type(held_int, int)  # error: pyrefly
    assert_type(held_str, str)  # error: pyrefly

with ExitStack() as stack:
    assert_type(stack.enter_context(session("x")), bytes)


async def enters() -> None:
    async with session.aio("x", retries=1) as s, generated.aio("x") as g, holding.aio(number) as h:
        assert_type(s, bytes)
        assert_type(g, bytes)
        assert_type(h, int)  # error: pyrefly
    async with session("x"):  # error
        pass
    with session.aio("x"):  # error
        pass
    await session.aio("x")  # error


as_callable: Callable[[str], AbstractContextManager[bytes]] = session
as_async: Callable[[str], AbstractAsyncContextManager[bytes]] = session.aio


# Like those of contextlib, they are decorators as well, which leave the function as it is.


@session("x")
def decorated(x: int) -> str:
    return str(x)


@session.aio("x")
async def async_decorated(x: int) -> str:
    return str(x)


assert_type(decorated(1), str)


async def calls() -> None:
    assert_type(await async_decorated(1), str)


@session.aio("x")  # error
def not_async(x: int) -> str:
    return str(x)


# Wrong arguments are errors in both forms.
session(1)  # error
session("x", 1)  # error
session.aio(1)  # error
session.aio("x", 1)  # error
holding()  # error
session.submit("x")  # error


# Declared by the decorator: a function that returns a context manager of some class, or that class.


class Suppressing:
    def __init__(self, size: int) -> None: ...

    async def __aenter__(self) -> bytes:
        return b""

    async def __aexit__(self, *exc_info: object) -> bool:
        return True


class Plain:
    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None: ...


@syncify(context_manager=True)
def abstract(size: int) -> AbstractAsyncContextManager[bytes]:
    return Suppressing(size)


@syncify(context_manager=True)
def suppressing(size: int) -> Suppressing:
    return Suppressing(size)


@syncify(context_manager=True)
def plain(size: int) -> Plain:
    return Plain()


@syncify(context_manager=True)
def returning(x: T) -> AbstractAsyncContextManager[T]:
    raise NotImplementedError


of_class = syncify(context_manager=True)(Suppressing)
of_plain_class = syncify(context_manager=True)(Plain)

with abstract(1) as a, suppressing(1) as b, plain(1) as c, returning(text) as d, of_class(1) as e:
    assert_type(a, bytes)
    assert_type(b, bytes)
    assert_type(c, Plain)
    assert_type(d, str)  # error: pyrefly
    assert_type(e, bytes)

with of_plain_class() as f:
    assert_type(f, Plain)

assert_type(abstract(1).__exit__(None, None, None), bool | None)
assert_type(suppressing(1).__exit__(None, None, None), bool)
assert_type(of_class(1).__exit__(None, None, None), bool)
plain(1).__exit__(None, None, None)


async def enters_declared() -> None:
    async with abstract.aio(1) as a, suppressing.aio(1) as b, plain.aio(1) as c, returning.aio(text) as d:
        assert_type(a, bytes)
        assert_type(b, bytes)
        assert_type(c, Plain)
        assert_type(d, str)  # error: pyrefly
    async with of_class.aio(1) as e, of_plain_class.aio() as f:
        assert_type(e, bytes)
        assert_type(f, Plain)


abstract("x")  # error
abstract.aio("x")  # error
of_class()  # error
of_class.aio("x")  # error
of_plain_class(1)  # error
abstract.submit(1)  # error


@syncify(context_manager=True)  # error
def no_context_manager(size: int) -> int:
    return size


@syncify(context_manager=True)  # error
async def coroutine(size: int) -> Suppressing:
    return Suppressing(size)


@syncify(context_manager=True)  # error
async def generator(size: int) -> AsyncIterator[Suppressing]:
    yield Suppressing(size)


@syncify(prefetch=8)  # error
@asynccontextmanager
async def nothing_to_prefetch(size: int) -> AsyncIterator[int]:
    yield size


syncify(context_manager=True)(int)  # error
syncify(context_manager=False)  # error


# What comes after a `with` that always raises or returns can be reached if the exit returns a bool, and only then. Ty
# does not look at that.


def after_suppressing() -> int:  # error: mypy, pyright, pyrefly
    with suppressing(1):
        return 1


async def after_async_suppressing() -> int:  # error: mypy, pyright, pyrefly
    async with suppressing.aio(1):
        return 1


def after_class() -> int:  # error: mypy, pyright, pyrefly
    with of_class(1):
        return 1


def after_session() -> int:
    with session("x"):
        return 1


async def after_async_session() -> int:
    async with session.aio("x"):
        return 1


def after_abstract() -> int:
    with abstract(1):
        return 1


def after_plain() -> int:
    with plain(1):
        return 1


async def after_async_plain() -> int:
    async with plain.aio(1):
        return 1


# In classes.


class Client:
    @syncify
    @asynccontextmanager
    async def session(self, url: str, *, retries: int = 3) -> AsyncIterator[bytes]:
        yield url.encode() * retries

    @syncify
    @classmethod
    @asynccontextmanager
    async def connected(cls, url: str) -> AsyncGenerator["Client"]:
        yield cls()

    @syncify
    @staticmethod
    @asynccontextmanager
    async def measured(text: str) -> AsyncIterator[int]:
        yield len(text)

    @syncify(context_manager=True)
    def declared(self, size: int) -> Suppressing:
        return Suppressing(size)

    @syncify(context_manager=True)
    @classmethod
    def declared_of_class(cls, size: int) -> AbstractAsyncContextManager["Client"]:
        raise NotImplementedError

    @syncify(context_manager=True)
    @staticmethod
    def declared_static(text: str) -> Plain:
        return Plain()

    def uses_itself(self) -> None:
        with self.session("x") as s, self.connected("x") as c, self.measured("x") as m:
            assert_type(s, bytes)
            assert_type(c, Client)
            assert_type(m, int)


client = Client()

assert_type(client.session("x", retries=1).__enter__(), bytes)
assert_type(Client.session(client, "x").__enter__(), bytes)
assert_type(Client.connected("x").__enter__(), Client)
assert_type(client.connected("x").__enter__(), Client)
assert_type(Client.measured("x").__enter__(), int)
assert_type(client.measured("x").__enter__(), int)
assert_type(client.declared(1).__enter__(), bytes)
assert_type(client.declared(1).__exit__(None, None, None), bool)
assert_type(Client.declared(client, 1).__enter__(), bytes)
assert_type(Client.declared_of_class(1).__enter__(), Client)
assert_type(client.declared_of_class(1).__enter__(), Client)
assert_type(Client.declared_static("x").__enter__(), Plain)
assert_type(client.declared_static("x").__enter__(), Plain)


async def enters_methods() -> None:
    async with client.session.aio("x") as a, Client.session.aio(client, "x") as b:
        assert_type(a, bytes)
        assert_type(b, bytes)
    async with Client.connected.aio("x") as c, client.connected.aio("x") as d:
        assert_type(c, Client)
        assert_type(d, Client)
    async with Client.measured.aio("x") as e, client.measured.aio("x") as f:
        assert_type(e, int)
        assert_type(f, int)
    async with client.declared.aio(1) as g, Client.declared_of_class.aio(1) as h, client.declared_static.aio("x") as i:
        assert_type(g, bytes)
        assert_type(h, Client)
        assert_type(i, Plain)


client.session(1)  # error
client.session.aio("x", 1)  # error
Client.connected(1)  # error
client.connected.aio(1)  # error
client.measured(1)  # error
client.declared("x")  # error
Client.declared_of_class.aio("x")  # error
client.declared_static(1)  # error
client.session.submit("x")  # error


# The mixin.


class Connection(SyncContextManager, syncer=syncify):
    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None: ...


class ChildConnection(Connection): ...


class OtherSyncer(Connection, syncer=Syncify("other")): ...


class Cursor(SyncContextManager, syncer=syncify):
    async def __aenter__(self) -> int:
        return 1

    async def __aexit__(self, *exc_info: object) -> bool:
        return True


class Perhaps(SyncContextManager, syncer=syncify):
    async def __aenter__(self) -> bytes:
        return b""

    async def __aexit__(self, *exc_info: object) -> bool | None: ...


class NoEnter(SyncContextManager, syncer=syncify):
    async def __aexit__(self, *exc_info: object) -> None: ...


class NoExit(SyncContextManager, syncer=syncify):
    async def __aenter__(self) -> Self:
        return self


class NotAsync(SyncContextManager, syncer=syncify):
    def __aenter__(self) -> int:
        return 1

    async def __aexit__(self, *exc_info: object) -> None: ...


with Connection() as connection, ChildConnection() as child, OtherSyncer() as other, Cursor() as cursor:
    assert_type(connection, Connection)
    assert_type(child, ChildConnection)
    assert_type(other, OtherSyncer)
    assert_type(cursor, int)

with Perhaps() as perhaps:
    assert_type(perhaps, bytes)

assert_type(Cursor().__exit__(None, None, None), bool)
assert_type(Perhaps().__exit__(None, None, None), bool | None)


async def enters_connection() -> None:
    async with Connection() as connection, ChildConnection() as child, Cursor() as cursor:
        assert_type(connection, Connection)
        assert_type(child, ChildConnection)
        assert_type(cursor, int)


as_manager: AbstractContextManager[Connection] = Connection()
as_async_manager: AbstractAsyncContextManager[Connection] = Connection()


def after_connection() -> int:
    with Connection():
        return 1


async def after_async_connection() -> int:
    async with Connection():
        return 1


def after_perhaps() -> int:
    with Perhaps():
        return 1


async def after_async_cursor() -> int:  # error: mypy, pyright, pyrefly
    async with Cursor():
        return 1


# Pyright looks for the bool where `__exit__` is defined, and there it is a type variable. This fails once it does not.
def after_cursor() -> int:  # error: mypy, pyrefly
    with Cursor():
        return 1


with NoEnter():  # error
    pass
with NoExit():  # error
    pass
with NotAsync():  # error
    pass


class WrongSyncer(SyncContextManager, syncer="syncify"):  # error
    ...


class NoSyncer(SyncContextManager, syncer=Syncify):  # error
    ...
