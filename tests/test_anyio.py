"""Callers use anyio on asyncio, with another loop than the background loop, and so does what they call."""

import asyncio

import anyio
import pytest


@pytest.fixture
def noted():
    return []


@pytest.fixture(params=["shielded", "shielded outside", "not shielded"])
def cleanup(request, noted):
    """What a coroutine does at its end. It awaits several times."""

    async def awaits():
        for _ in range(10):
            await asyncio.sleep(0.001)
        noted.append("cleaned")

    async def shielded():
        with anyio.CancelScope(shield=True):
            await awaits()

    async def shielded_outside():
        with anyio.CancelScope(shield=True), anyio.CancelScope():
            await awaits()

    async def not_shielded():
        with anyio.CancelScope():
            await awaits()

    return {"shielded": shielded, "shielded outside": shielded_outside, "not shielded": not_shielded}[request.param]


def test_a_cleanup_under_a_shield_is_not_cancelled_again(syncer, noted, cleanup):
    @syncer
    async def sleep():
        try:
            await asyncio.sleep(1000)
        finally:
            await cleanup()

    async def main():
        with anyio.move_on_after(0.01) as scope:
            await sleep.aio()
        assert scope.cancelled_caught
        assert asyncio.current_task().cancelling() == 0
        await anyio.sleep(0.001)

    anyio.run(main)
    assert noted == ([] if cleanup.__name__ == "not_shielded" else ["cleaned"])


def test_in_a_stream_and_in_a_context_manager_as_well(syncer, noted):
    @syncer
    async def rows():
        try:
            yield 1
            await asyncio.sleep(1000)
        finally:
            with anyio.CancelScope(shield=True):
                await asyncio.sleep(0.001)
                await asyncio.sleep(0.001)
                noted.append("rows")

    async def main():
        with anyio.move_on_after(0.01) as scope:
            async for row in rows.aio():
                noted.append(row)
        assert scope.cancelled_caught

    anyio.run(main)
    assert noted == [1, "rows"]


def test_what_is_under_a_shield_is_cancelled_when_it_leaves_that(syncer, noted):
    @syncer
    async def sleep():
        with anyio.CancelScope(shield=True):
            await asyncio.sleep(0.02)
            noted.append("shielded")
        await asyncio.sleep(1000)

    async def main():
        with anyio.move_on_after(0.005) as scope:
            await sleep.aio()
        assert scope.cancelled_caught

    anyio.run(main)
    assert noted == ["shielded"]


def test_what_is_shielded_to_its_end_returns_its_value(syncer, noted):
    @syncer
    async def shielded():
        with anyio.CancelScope(shield=True):
            for _ in range(10):
                await asyncio.sleep(0.001)
            return "value"

    async def main():
        with anyio.move_on_after(0.005) as scope:
            assert await shielded.aio() == "value"
            noted.append("went on")
            await anyio.sleep(1000)
        assert scope.cancelled_caught
        assert noted == ["went on"]
        assert asyncio.current_task().cancelling() == 0

    anyio.run(main)


def test_a_native_cancellation_is_not_held_back_by_a_shield(syncer, noted):
    """Nor is it natively."""

    @syncer
    async def sleep():
        with anyio.CancelScope(shield=True):
            try:
                await asyncio.sleep(1000)
            finally:
                noted.append("cancelled")

    async def main():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await sleep.aio()

    anyio.run(main)
    assert noted == ["cancelled"]


def test_task_groups_on_both_sides(syncer):
    @syncer
    async def gather(number):
        results = []

        async def add(x):
            await anyio.sleep(0)
            results.append(x)

        async with anyio.create_task_group() as group:
            for x in range(number):
                group.start_soon(add, x)
        return sorted(results)

    async def main():
        results = []

        async def call(number):
            results.append(await gather.aio(number))

        async with anyio.create_task_group() as group:
            for number in range(5):
                group.start_soon(call, number)
        assert sorted(results) == [[*range(number)] for number in range(5)]

    anyio.run(main)
