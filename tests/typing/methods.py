"""What a type checker makes of decorated methods. Checked, not run: `make types`."""

from concurrent.futures import Future
from typing import Self, TypeVar, assert_type

from syncify import syncify

T = TypeVar("T")

number, text = int("1"), str(1)  # no literals, whose types some checkers would keep


class Client:
    @syncify
    async def get(self, key: str, *, limit: int = 3) -> bytes:
        return key.encode() * limit

    @syncify
    @classmethod
    async def make(cls, size: int) -> "Client":
        return cls()

    @syncify
    @staticmethod
    async def measure(text: str) -> int:
        return len(text)

    @syncify
    async def same(self, x: T) -> T:
        return x

    @syncify
    async def itself(self) -> Self:
        return self

    @syncify
    @classmethod
    async def another(cls) -> Self:
        return cls()

    @syncify
    async def all_of_them(self) -> list[Self]:
        return [self]

    def uses_itself(self) -> None:
        assert_type(self.get("x"), bytes)

    @syncify
    async def awaits_itself(self) -> None:
        assert_type(await self.get.aio("x"), bytes)
        assert_type(await self.make.aio(1), Client)
        assert_type(await self.measure.aio("x"), int)


class Child(Client):
    @syncify
    async def get(self, key: str, *, limit: int = 3) -> bytes:  # error: pyright
        # Pyright compares the types of the two `self`, too.
        return await super().get.aio(key, limit=limit)


client = Client()

assert_type(client.get("x"), bytes)
assert_type(client.get("x", limit=2), bytes)
assert_type(client.get.submit("x"), Future[bytes])
assert_type(Client.get(client, "x"), bytes)
assert_type(Client.make(1), Client)
assert_type(client.make(1), Client)
assert_type(Client.make.submit(1), Future[Client])
assert_type(Client.measure("x"), int)
assert_type(client.measure("x"), int)
assert_type(client.measure.submit("x"), Future[int])
assert_type(Child().get("x"), bytes)

client.get(1)  # error
client.get("x", 2)  # error
client.get.submit()  # error
Client.make("x")  # error
client.measure(1)  # error

# Mypy and pyrefly lose the type variables of methods that they bind. Mypy takes one that returns Self, when it is asked
# of the class, for a class method.
assert_type(client.same(number), int)  # error: mypy, pyrefly
assert_type(client.same.submit(text), Future[str])  # error: mypy, pyrefly
assert_type(Client.same(client, number), int)  # error: pyrefly
assert_type(client.itself(), Client)
assert_type(Child().itself(), Child)
assert_type(Child().itself.submit(), Future[Child])
assert_type(Client.itself(client), Client)  # error: mypy
assert_type(Client.another(), Client)
assert_type(Child.another(), Child)
assert_type(Child().another(), Child)
assert_type(client.itself().itself().get("x"), bytes)
assert_type(Child().all_of_them(), list[Child])


async def of_async_code() -> None:
    assert_type(await client.itself.aio(), Client)
    assert_type(await Child().itself.aio(), Child)
    assert_type(await Child.another.aio(), Child)
    assert_type(await Child().all_of_them.aio(), list[Child])
    await client.itself.aio(1)  # error
