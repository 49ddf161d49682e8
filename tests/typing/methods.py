"""What a type checker makes of decorated methods. Checked, not run: `make types`."""

# pyright: reportUnnecessaryTypeIgnoreComment=true

from concurrent.futures import Future
from typing import assert_type

from syncify import syncify


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

    def uses_itself(self) -> None:
        assert_type(self.get("x"), bytes)

    @syncify
    async def awaits_itself(self) -> None:
        assert_type(await self.get.aio("x"), bytes)
        assert_type(await self.make.aio(1), Client)
        assert_type(await self.measure.aio("x"), int)


class Child(Client):
    @syncify
    async def get(self, key: str, *, limit: int = 3) -> bytes:  # pyright: ignore[reportIncompatibleVariableOverride]
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

client.get(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
client.get("x", 2)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
client.get.submit()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
Client.make("x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
client.measure(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
