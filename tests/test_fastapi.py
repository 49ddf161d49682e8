"""An unmodified FastAPI takes decorated functions and methods, in each form, as routes and as dependencies."""

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import Annotated

import httpx
import pytest
from fastapi import Depends, FastAPI, Query
from fastapi.routing import APIRoute

from syncify import Syncify

own = Syncify("of the app")


def where() -> str:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return "no loop"
    return threading.current_thread().name


@own
async def add(a: int, b: int = 1) -> dict[str, object]:
    """Adds."""
    await asyncio.sleep(0)
    return {"sum": a + b, "ran in": where()}


@own
async def numbers(limit: Annotated[int, Query(le=5)] = 2) -> AsyncIterator[str]:
    left = limit
    try:
        yield f"up to {limit}, in {where()}"
    finally:
        await asyncio.sleep(0)
        closed.append(left)


closed: list[int] = []


class Store:
    def __init__(self, base: int) -> None:
        self.base = base

    @own
    async def get(self, key: str) -> str:
        return f"{key}{self.base}"

    @own
    @classmethod
    async def made(cls, base: int) -> int:
        return cls(base).base

    @own
    @staticmethod
    async def doubled(x: int) -> int:
        return 2 * x

    @own
    async def session(self, name: str = "main") -> AsyncIterator[str]:
        yield f"{name}{self.base}"
        closed.append(self.base)


@pytest.fixture(params=["itself", "aio"])
def client(request):
    """An app with a route for each kind of function, in one of its forms; of generators it knows those of `.aio`."""

    def form(function):
        return function if request.param == "itself" else function.aio

    app = FastAPI()
    store = Store(7)
    app.get("/add")(form(add))
    app.get("/get/{key}")(form(store.get))
    app.get("/made")(form(Store.made))
    app.get("/doubled")(form(store.doubled))

    @app.get("/depends")
    def depends(
        added: Annotated[dict[str, object], Depends(form(add))],
        given: Annotated[str, Depends(numbers.aio)],
        key: Annotated[str, Depends(form(store.get))],
        session: Annotated[str, Depends(store.session.aio)],
    ) -> list[object]:
        return [added, given, key, session, list(closed)]

    @app.get("/depends/async")
    async def depends_async(
        added: Annotated[dict[str, object], Depends(form(add))],
        given: Annotated[str, Depends(numbers.aio)],
        session: Annotated[str, Depends(store.session.aio)],
    ) -> list[object]:
        return [added, given, session, list(closed)]

    def get(path, **params):
        async def main():
            transport = httpx.ASGITransport(app=app)
            async with httpx.AsyncClient(transport=transport, base_url="http://app") as http:
                return await http.get(path, params=params)

        return asyncio.run(main())

    closed.clear()
    get.app = app
    return get


def test_routes(client):
    assert client("/add", a=2, b=3).json() == {"sum": 5, "ran in": "of the app"}
    assert client("/add", a=2).json() == {"sum": 3, "ran in": "of the app"}
    assert client("/get/k").json() == "k7"
    assert client("/made", base=4).json() == 4
    assert client("/doubled", x=4).json() == 8


def test_arguments_are_those_of_the_function(client):
    assert client("/add").status_code == 422
    assert client("/add", a="x").status_code == 422
    paths = client("/openapi.json").json()["paths"]
    parameters = {path: [each["name"] for each in of["get"].get("parameters", [])] for path, of in paths.items()}
    assert parameters["/add"] == ["a", "b"]
    assert parameters["/get/{key}"] == ["key"]
    assert parameters["/depends"] == ["a", "b", "limit", "key", "name"]
    assert paths["/add"]["get"]["description"] == "Adds."
    assert {route.name for route in client.app.routes if isinstance(route, APIRoute)} >= {"add", "get", "made"}


@pytest.mark.parametrize("path", ["/depends", "/depends/async"])
def test_dependencies(client, path):
    answer = client(path, a=1, key="k", limit=3).json()
    keys = ["k7"] if path == "/depends" else []
    assert answer == [{"sum": 2, "ran in": "of the app"}, "up to 3, in of the app", *keys, "main7", []]
    assert sorted(closed) == [3, 7]


def test_what_is_not_valid_does_not_reach_the_function(client):
    assert client("/depends", a=1, key="k", limit=6).status_code == 422
    assert closed == []
