"""A gRPC server and a Redis server on this machine, for the rows with clients."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path

NAMES = {"grpc": "BENCHMARK_GRPC", "redis": "BENCHMARK_REDIS"}  # of the variables, by the rows that need them

SERVER = """
import concurrent.futures, grpc

class Handler(grpc.GenericRpcHandler):
    def service(self, details):
        return grpc.unary_unary_rpc_method_handler(lambda request, context: request)

server = grpc.server(concurrent.futures.ThreadPoolExecutor(4), handlers=(Handler(),))
print(server.add_insecure_port("127.0.0.1:0"), flush=True)
server.start()
server.wait_for_termination()
"""


@contextmanager
def running(python: str = sys.executable) -> Generator[dict[str, str]]:
    """Start both, and yield the environment variables that tell where they are. What is missing is left out.

    On the last core that there is, so that a worker that is pinned to the first one does not share it with them.
    """
    found = {}
    core = max(os.sched_getaffinity(0))
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        if redis := shutil.which("redis-server"):
            path = Path(folder, "redis")
            command = [redis, "--port", "0", "--unixsocket", path, "--save", "", "--dir", folder]
            server = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
            stack.callback(server.kill)
            os.sched_setaffinity(server.pid, {core})
            assert server.stdout is not None
            while "eady to accept connections" not in (line := server.stdout.readline()):
                assert line, "the Redis server has ended"
            found[NAMES["redis"]] = str(path)
        server = stack.enter_context(subprocess.Popen([python, "-c", SERVER], stdout=subprocess.PIPE, text=True))
        stack.callback(server.kill)
        assert server.stdout is not None
        if port := server.stdout.readline().strip():
            os.sched_setaffinity(server.pid, {core})
            found[NAMES["grpc"]] = f"127.0.0.1:{port}"
        yield found
