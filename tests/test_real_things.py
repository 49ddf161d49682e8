"""What SDKs hold open: a streaming HTTP response, a session of the Model Context Protocol. The servers are real."""

import asyncio
import contextlib
import itertools
import os
import sys

import httpx
import pytest
from conftest import LOOP_FACTORIES, Script
from mcp.client.session import ClientSession
from mcp.client.stdio import StdioServerParameters, stdio_client

from syncify import SyncContextManager


@pytest.fixture(params=[*LOOP_FACTORIES, "the own loop"])
def run(request, syncer):
    """Runs what async code does."""
    if request.param not in LOOP_FACTORIES:
        return syncer.run

    def run(coroutine):
        with asyncio.Runner(loop_factory=LOOP_FACTORIES[request.param]) as runner:
            return runner.run(coroutine)

    return run


# A response of a server that sends three lines, and then ends it, or keeps it open and tells when the client is gone.

HTTP_SERVER = """
    import asyncio, socket, uvicorn

    async def app(scope, receive, send):
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for n in range(3):
            await send({"type": "http.response.body", "body": b"%d\\n" % n, "more_body": True})
        if scope["path"].startswith("/endless"):
            assert (await receive())["type"] == "http.disconnect"
            print(scope["path"], "disconnected")
        else:
            await send({"type": "http.response.body", "body": b"end\\n"})

    listener = socket.create_server(("127.0.0.1", 0))
    print("http://127.0.0.1:%d" % listener.getsockname()[1])
    config = uvicorn.Config(app, lifespan="off", log_level="warning", loop="asyncio", http="h11", ws="none")
    uvicorn.Server(config).run(sockets=[listener])
"""
LINES = ["0", "1", "2"]


class HttpServer:
    def __init__(self):
        self._script = Script(HTTP_SERVER)
        self.url = self._script.line()
        self._numbers = itertools.count()

    def endless(self):
        """A path that nobody else asks for."""
        return f"/endless/{next(self._numbers)}"

    def wait_for_disconnect(self, path):
        assert self._script.line() == f"{path} disconnected"

    def stop(self):
        self._script.process.kill()
        self._script.process.communicate()


@pytest.fixture(scope="module")
def server():
    server = HttpServer()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def sdk(server, syncer):
    return make_sdk(server, syncer)


def make_sdk(server, syncer):
    """What somebody might write for this server."""

    def http_client():
        return httpx.AsyncClient(base_url=server.url, trust_env=False)

    class Sdk(SyncContextManager, syncer=syncer):
        async def __aenter__(self):
            self.client = await http_client().__aenter__()
            return self

        async def __aexit__(self, *exc_info):
            await self.client.__aexit__(*exc_info)

        @syncer
        async def get(self, path):
            return (await self.client.get(path)).text.split()

        @syncer
        async def stream(self, path):
            async with self.client.stream("GET", path) as response:
                async for line in response.aiter_lines():
                    yield line

        @syncer
        @staticmethod
        async def lines(path):
            async with http_client() as client, client.stream("GET", path) as response:
                async for line in response.aiter_lines():
                    yield line

        @syncer
        @staticmethod
        @contextlib.asynccontextmanager
        async def response(path):
            async with http_client() as client, client.stream("GET", path) as response:
                yield response.aiter_lines()

    return Sdk


def test_a_response_is_read_by_a_for_loop(sdk):
    assert list(sdk.lines("/")) == [*LINES, "end"]


def test_a_response_is_read_by_an_async_for_loop(sdk, run):
    async def main():
        return [line async for line in sdk.lines.aio("/")]

    assert run(main()) == [*LINES, "end"]


def test_the_server_sees_that_a_for_loop_was_broken_off(server, sdk):
    path = server.endless()
    lines = []
    for line in sdk.lines(path):
        lines.append(line)
        if len(lines) == 3:
            break
    assert lines == LINES
    server.wait_for_disconnect(path)


def test_the_server_sees_that_an_async_for_loop_was_broken_off(server, sdk, run):
    path = server.endless()

    async def main():
        async with contextlib.aclosing(sdk.lines.aio(path)) as lines:
            async for line in lines:
                if line == LINES[-1]:
                    break

    run(main())
    server.wait_for_disconnect(path)


def test_the_server_sees_that_the_time_for_a_line_was_over(server, sdk, run):
    path = server.endless()

    async def main():
        lines = sdk.lines.aio(path)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(None) as scope:
                assert [await anext(lines) for _ in LINES] == LINES
                scope.reschedule(asyncio.get_running_loop().time())
                await anext(lines)

    run(main())
    server.wait_for_disconnect(path)


def test_a_response_is_held_open_by_with(server, sdk):
    path = server.endless()
    with sdk.response(path) as lines:
        assert [next(lines) for _ in LINES] == LINES
    server.wait_for_disconnect(path)


def test_a_response_is_held_open_by_async_with(server, sdk, run):
    path = server.endless()

    async def main():
        async with sdk.response.aio(path) as lines:
            assert [await anext(lines) for _ in LINES] == LINES

    run(main())
    server.wait_for_disconnect(path)


def test_the_server_sees_that_the_body_of_with_has_failed(server, sdk):
    path = server.endless()
    with pytest.raises(KeyError), sdk.response(path) as lines:
        raise KeyError(next(lines))
    server.wait_for_disconnect(path)


def test_the_server_sees_that_the_body_of_async_with_has_failed(server, sdk, run):
    path = server.endless()

    async def main():
        with pytest.raises(KeyError):
            async with sdk.response.aio(path) as lines:
                raise KeyError(await anext(lines))

    run(main())
    server.wait_for_disconnect(path)


def test_one_client_is_used_for_many_requests(server, sdk):
    path = server.endless()
    with sdk() as client:
        assert client.get("/") == [*LINES, "end"]
        endless = client.stream(path)
        assert next(endless) == "0"
        assert list(client.stream("/")) == [*LINES, "end"]
        assert next(endless) == "1"
        endless.close()
        server.wait_for_disconnect(path)
        assert client.get("/") == [*LINES, "end"]
    assert client.client.is_closed


def test_one_client_is_used_for_many_requests_of_async_code(server, sdk, run):
    path = server.endless()

    async def main():
        async with sdk() as client:
            assert await client.get.aio("/") == [*LINES, "end"]
            endless = client.stream.aio(path)
            assert await anext(endless) == "0"
            assert [line async for line in client.stream.aio("/")] == [*LINES, "end"]
            assert await anext(endless) == "1"
            await endless.aclose()
            assert await client.get.aio("/") == [*LINES, "end"]
        assert client.client.is_closed

    run(main())
    server.wait_for_disconnect(path)


# A session of the Model Context Protocol: task groups and cancel scopes of anyio, around a process.

MCP_SERVER = """
import os
from mcp.server.mcpserver import MCPServer

server = MCPServer("test")

@server.tool()
async def add(a: int, b: int) -> int:
    return a + b

@server.tool()
async def pid() -> int:
    return os.getpid()

server.run("stdio")
"""


@contextlib.asynccontextmanager
async def mcp_session():
    parameters = StdioServerParameters(command=sys.executable, args=["-c", MCP_SERVER])
    async with stdio_client(parameters) as streams, ClientSession(*streams) as session:
        await session.initialize()
        yield session


async def call_tool(session, name, **arguments):
    return (await session.call_tool(name, arguments)).structured_content["result"]


async def answers():
    """Asks what it is sent, in one session."""
    async with mcp_session() as session:
        answer = await call_tool(session, "pid")
        while question := (yield answer):
            answer = await call_tool(session, "add", **question)


def is_running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


asks_for_a_process = pytest.mark.skipif(sys.platform == "win32", reason="asks for a process as POSIX systems do")


@asks_for_a_process
def test_an_mcp_session_is_held_open_by_a_generator(syncer):
    rows = syncer(answers)()
    pid = next(rows)
    assert rows.send({"a": 1, "b": 2}) == 3
    assert rows.send({"a": 3, "b": 4}) == 7
    assert is_running(pid)
    with pytest.raises(StopIteration):
        next(rows)
    assert not is_running(pid)


@asks_for_a_process
def test_an_mcp_session_is_held_open_by_an_async_generator(syncer):
    async def main():
        rows = syncer(answers).aio()
        pid = await anext(rows)
        assert await rows.asend({"a": 1, "b": 2}) == 3
        assert await rows.asend({"a": 3, "b": 4}) == 7
        assert is_running(pid)
        with pytest.raises(StopAsyncIteration):
            await anext(rows)
        assert not is_running(pid)

    asyncio.run(main())


@asks_for_a_process
def test_an_mcp_session_is_held_open_by_with(syncer):
    ask = syncer(call_tool)
    with syncer(mcp_session)() as session:
        pid = ask(session, "pid")
        assert ask(session, "add", a=1, b=2) == 3
        assert [call.result() for call in [ask.submit(session, "add", a=n, b=4) for n in range(10)]] == [*range(4, 14)]
        assert is_running(pid)
    assert not is_running(pid)


@asks_for_a_process
def test_an_mcp_session_is_held_open_by_async_with(syncer):
    ask = syncer(call_tool).aio

    async def main():
        async with syncer(mcp_session).aio() as session:
            pid = await ask(session, "pid")
            assert await ask(session, "add", a=1, b=2) == 3
            assert await asyncio.gather(*(ask(session, "add", a=n, b=4) for n in range(10))) == [*range(4, 14)]
            assert is_running(pid)
        assert not is_running(pid)

    asyncio.run(main())


@asks_for_a_process
def test_an_mcp_session_is_left_with_an_error(other_syncer):
    ask = other_syncer(call_tool)
    with pytest.raises(ExceptionGroup) as caught, other_syncer(mcp_session)() as session:
        pid = ask(session, "pid")
        raise KeyError
    assert caught.group_contains(KeyError)
    assert not is_running(pid)
