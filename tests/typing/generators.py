"""What a type checker makes of decorated async generators. Checked, not run: `make types`."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from typing import Generic, Self, TypeVar, assert_type

from syncify import syncify

S = TypeVar("S")
T = TypeVar("T")
U = TypeVar("U")

number, text = int("1"), str(1)  # no literals, whose types some checkers would keep


@syncify
async def rows(key: str, *, limit: int = 3) -> AsyncIterator[bytes]:
    yield key.encode() * limit


@syncify
async def talk(key: str, *, limit: int = 3) -> AsyncGenerator[bytes, int]:
    assert_type((yield key.encode() * limit), int)


@syncify
async def listen(key: str) -> AsyncGenerator[bytes]:
    yield key.encode()


assert_type(rows("x"), Generator[bytes, None, None])
assert_type(rows("x", limit=1), Generator[bytes, None, None])
assert_type(rows.aio("x", limit=1), AsyncGenerator[bytes, None])
assert_type(next(rows("x")), bytes)
assert_type(list(rows(key="x")), list[bytes])
assert_type(talk("x"), Generator[bytes, int, None])
assert_type(talk.aio("x"), AsyncGenerator[bytes, int])
assert_type(talk("x").send(1), bytes)
assert_type(listen("x"), Generator[bytes, None, None])
assert_type(listen.aio("x"), AsyncGenerator[bytes, None])


async def iterates() -> None:
    async for row in rows.aio("x"):
        assert_type(row, bytes)
    assert_type(await talk.aio("x").asend(1), bytes)
    talk.aio("x").asend("1")  # error
    async for _ in rows("x"):  # error
        pass


as_callable: Callable[[str], Iterator[bytes]] = rows
as_async: Callable[[str], AsyncIterator[bytes]] = rows.aio

# Wrong arguments are errors in both forms.
rows(1)  # error
rows("x", 1)  # error
rows.aio(1)  # error
rows.aio("x", 1)  # error
talk(limit=1)  # error
talk("x").send("1")  # error

# It returns at once, so there is nothing to submit, and nothing to await.
rows.submit("x")  # error


async def awaits() -> None:
    await rows.aio("x")  # error


# With prefetch they are the same.


@syncify(prefetch=8)
async def ahead(key: str, *, limit: int = 3) -> AsyncIterator[bytes]:
    yield key.encode() * limit


@syncify(prefetch=8)
async def talk_ahead(key: str) -> AsyncGenerator[bytes, int]:
    yield key.encode()


@syncify(prefetch=8)
async def listen_ahead(key: str) -> AsyncGenerator[bytes]:
    yield key.encode()


assert_type(ahead("x", limit=1), Generator[bytes, None, None])
assert_type(ahead.aio("x", limit=1), AsyncGenerator[bytes, None])
assert_type(talk_ahead("x"), Generator[bytes, int, None])
assert_type(talk_ahead.aio("x"), AsyncGenerator[bytes, int])
assert_type(listen_ahead("x"), Generator[bytes, None, None])
assert_type(listen_ahead.aio("x"), AsyncGenerator[bytes, None])

ahead(1)  # error
ahead.aio("x", 1)  # error
ahead.submit("x")  # error


@syncify(prefetch=8)  # error
async def nothing_to_prefetch(key: str) -> bytes:
    return key.encode()


@syncify(prefetch=8)  # error
def not_async(key: str) -> Iterator[bytes]:
    yield key.encode()


@syncify  # error
def not_async_either(key: str) -> Iterator[bytes]:
    yield key.encode()


syncify(prefetch="8")  # error
syncify(prefetch=8, context_manager=True)  # error
syncify(rows, prefetch=8)  # error
syncify()  # error


# A type variable of the function is one of its calls.


@syncify
async def repeat(x: T) -> AsyncIterator[T]:
    yield x


@syncify
async def pair(x: T, y: U) -> AsyncGenerator[T, U]:
    yield x


@syncify(prefetch=8)
async def repeat_ahead(x: T) -> AsyncIterator[T]:
    yield x


# Pyrefly loses them where the function is below the decorator.
assert_type(repeat(number), Generator[int, None, None])  # error: pyrefly
assert_type(repeat(text), Generator[str, None, None])  # error: pyrefly
assert_type(repeat.aio(number), AsyncGenerator[int, None])  # error: pyrefly
assert_type(pair(number, text), Generator[int, str, None])  # error: pyrefly
assert_type(pair.aio(number, text), AsyncGenerator[int, str])  # error: pyrefly
assert_type(repeat_ahead(text), Generator[str, None, None])  # error: pyrefly
assert_type(repeat_ahead.aio(text), AsyncGenerator[str, None])  # error: pyrefly
repeat()  # error


class Client:
    @syncify
    async def rows(self, key: str, *, limit: int = 3) -> AsyncIterator[bytes]:
        yield key.encode() * limit

    @syncify(prefetch=8)
    async def talk(self, key: str) -> AsyncGenerator[bytes, int]:
        yield key.encode()

    @syncify
    @classmethod
    async def all(cls, size: int) -> AsyncIterator["Client"]:
        yield cls()

    @syncify(prefetch=8)
    @classmethod
    async def all_talk(cls, size: int) -> AsyncGenerator["Client", int]:
        yield cls()

    @syncify
    @staticmethod
    async def lengths(text: str) -> AsyncIterator[int]:
        yield len(text)

    @syncify(prefetch=8)
    @staticmethod
    async def lengths_talk(text: str) -> AsyncGenerator[int, int]:
        yield len(text)

    def uses_itself(self) -> None:
        assert_type(self.rows("x"), Generator[bytes, None, None])
        assert_type(self.all(1), Generator[Client, None, None])

    @syncify
    async def iterates_itself(self) -> AsyncIterator[bytes]:
        async for row in self.rows.aio("x"):
            yield row
        async for client in self.all.aio(1):
            assert_type(client, Client)
        async for length in self.lengths.aio("x"):
            assert_type(length, int)


class Child(Client):
    @syncify
    async def rows(self, key: str, *, limit: int = 3) -> AsyncIterator[bytes]:  # error: pyright
        # Pyright compares the types of the two `self`, too.
        async for row in super().rows.aio(key, limit=limit):
            assert_type(row, bytes)
            yield row


client = Client()

assert_type(client.rows("x"), Generator[bytes, None, None])
assert_type(client.rows("x", limit=2), Generator[bytes, None, None])
assert_type(client.rows.aio("x", limit=2), AsyncGenerator[bytes, None])
assert_type(Client.rows(client, "x"), Generator[bytes, None, None])
assert_type(Client.rows(self=client, key="x"), Generator[bytes, None, None])
assert_type(Client.rows.aio(client, "x"), AsyncGenerator[bytes, None])
assert_type(Child().rows("x"), Generator[bytes, None, None])
assert_type(client.talk("x"), Generator[bytes, int, None])
assert_type(client.talk.aio("x"), AsyncGenerator[bytes, int])
assert_type(Client.talk(client, "x"), Generator[bytes, int, None])
assert_type(Client.talk.aio(client, "x"), AsyncGenerator[bytes, int])
assert_type(Client.all(1), Generator[Client, None, None])
assert_type(client.all(1), Generator[Client, None, None])
assert_type(Child.all(1), Generator[Client, None, None])
assert_type(Client.all.aio(1), AsyncGenerator[Client, None])
assert_type(client.all.aio(1), AsyncGenerator[Client, None])
assert_type(Client.all_talk(1), Generator[Client, int, None])
assert_type(client.all_talk(1), Generator[Client, int, None])
assert_type(Client.all_talk.aio(1), AsyncGenerator[Client, int])
assert_type(Client.lengths("x"), Generator[int, None, None])
assert_type(client.lengths("x"), Generator[int, None, None])
assert_type(Client.lengths.aio("x"), AsyncGenerator[int, None])
assert_type(client.lengths.aio("x"), AsyncGenerator[int, None])
assert_type(Client.lengths_talk("x"), Generator[int, int, None])
assert_type(client.lengths_talk("x"), Generator[int, int, None])
assert_type(client.lengths_talk.aio("x"), AsyncGenerator[int, int])

bound_as_callable: Callable[[str], Iterator[bytes]] = client.rows

client.rows(1)  # error
client.rows("x", 2)  # error
client.rows.aio(1)  # error
client.rows.aio("x", 2)  # error
client.talk()  # error
client.talk.aio()  # error
Client.rows("x", "x")  # error
Client.all("x")  # error
client.all.aio("x")  # error
Client.lengths(1)  # error
client.lengths.aio(1)  # error
client.rows.submit("x")  # error
Client.all.submit(1)  # error
client.lengths.submit("x")  # error


class Table(Generic[T]):
    def __init__(self, row: T) -> None:
        self.row = row

    @syncify
    async def rows(self, limit: int) -> AsyncIterator[T]:
        yield self.row

    @syncify(prefetch=8)
    async def talk(self, limit: int) -> AsyncGenerator[T, int]:
        yield self.row


table = Table("x")

assert_type(table.rows(1), Generator[str, None, None])
assert_type(table.rows.aio(1), AsyncGenerator[str, None])
assert_type(table.talk(1), Generator[str, int, None])
assert_type(Table(1).talk.aio(1), AsyncGenerator[int, int])
table.rows("x")  # error


# What one of the checkers does not see. These lines fail once it does.


class Generics:
    @syncify
    async def repeat(self, x: T) -> AsyncIterator[T]:
        yield x

    @syncify
    @classmethod
    async def repeat_of_class(cls, x: T) -> AsyncIterator[T]:
        yield x

    @syncify
    @staticmethod
    async def repeat_static(x: T) -> AsyncIterator[T]:
        yield x

    @syncify
    async def themselves(self) -> AsyncIterator[Self]:
        yield self

    @syncify
    @staticmethod
    async def of_object(x: object) -> AsyncIterator[object]:
        yield x


generics = Generics()

# Through the class all is well; but ty takes a static method that would take a class for a class method.
assert_type(Generics.repeat(generics, number), Generator[int, None, None])  # error: pyrefly
assert_type(Generics.repeat.aio(generics, number), AsyncGenerator[int, None])  # error: pyrefly
assert_type(Generics.of_object(1), Generator[object, None, None])  # error: ty

# Mypy loses the type variables of a bound method, too.
assert_type(generics.repeat(number), Generator[int, None, None])  # error: mypy, pyrefly
assert_type(generics.repeat.aio(number), AsyncGenerator[int, None])  # error: mypy, pyrefly
assert_type(Generics.repeat_of_class(number), Generator[int, None, None])  # error: mypy, pyrefly

# Mypy does not bind a method whose `self` has a type variable for a type, which is what `Self` makes of it.
assert_type(generics.themselves(), Generator[Generics, None, None])  # error: mypy

# Nobody knows the type variables of a generic class where the method is taken from the class.
assert_type(Table.rows(table, 1), Generator[str, None, None])  # error

# Nobody knows that a method is static, so one that would take the instance is bound; by mypy not if it is generic.
assert_type(Generics.repeat_static(number), Generator[int, None, None])  # error: pyright, pyrefly, ty
assert_type(generics.repeat_static(number), Generator[int, None, None])  # error: pyright, pyrefly, ty
generics.of_object(1)  # error
