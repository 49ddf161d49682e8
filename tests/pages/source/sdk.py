"""An SDK, of which pages are made."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from syncify import Syncify, syncify

syncer = Syncify("sdk")


@syncify
async def fetch(key: str, *, limit: int = 3) -> list[str]:
    """Fetch it.

    Args:
        key: Which.
        limit: How often.
    """
    return [key] * limit


@syncer
async def rows(first: int) -> AsyncIterator[int]:
    """Give rows."""
    yield first


@syncer(prefetch=3)
async def talk(first: int) -> AsyncGenerator[int, str]:
    """Talk."""
    yield first


@syncify
@asynccontextmanager
async def opened(name: str) -> AsyncIterator[str]:
    """Open it."""
    yield name


@syncer(context_manager=True)
def session(name: str) -> AbstractAsyncContextManager[str]:
    """Begin one."""
    return opened.aio(name)


async def native(x: int) -> int:
    """Do nothing."""
    return x


class Client:
    """A client."""

    @syncify
    async def get(self, key: str) -> str:
        """Get it.

        Returns:
            It.
        """
        return key

    @syncer
    async def rows(self, first: int) -> AsyncIterator[int]:
        """Give rows."""
        yield first

    @syncify
    @classmethod
    async def make(cls, size: int) -> int:
        """Make one."""
        return size

    @syncify
    @staticmethod
    async def measure(text: str) -> int:
        """Measure it."""
        return len(text)

    @syncer
    async def query(self) -> str:
        """Ask."""
        return """
in the first column
"""

    def plain(self, x: int) -> int:
        """Do nothing."""
        return x
