"""Decorated functions and syncers are pickled and copied, and share one loop in the new process."""

import asyncio
import copy
import functools
import gc
import multiprocessing
import os
import pickle
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

import cloudpickle
import pytest

from syncify import ClosedError, SyncContextManager, Syncify, syncify

PICKLERS = {"pickle": pickle.dumps, "in Python": pickle._dumps, "cloudpickle": cloudpickle.dumps}

own = Syncify("pickled", blocking="allow", stuck_after=7, exit_timeout=8)


@own
async def double(x):
    return 2 * x


@own(prefetch=2)
async def rows(n):
    for row in range(n):
        yield row


@own
@asynccontextmanager
async def session(name):
    yield name


class Client:
    def __init__(self, base=0):
        self.base = base

    @own
    async def add(self, x):
        return self.base + x

    @own
    @classmethod
    async def make(cls, base):
        return cls(base)

    @own
    @staticmethod
    async def measure(text):
        return len(text)


async def raw(x):
    return 3 * x


triple = own(raw)
triple_partial = own(functools.partial(raw, 5))


def again(thing, dumps=pickle.dumps):
    return pickle.loads(dumps(thing))


def in_new_process(thing, code):
    """Unpickle what cloudpickle makes of it in a process that cannot import this module, and return what is printed."""
    program = "import pickle, sys, asyncio\nthing = pickle.load(sys.stdin.buffer)\n" + textwrap.dedent(code)
    run = subprocess.run(
        [sys.executable, "-c", program],
        input=cloudpickle.dumps(thing),
        capture_output=True,
        check=False,
        timeout=50,
        cwd="/",
    )
    assert run.stderr.decode() == ""
    return run.stdout.decode().split()


@pytest.mark.parametrize("dumps", PICKLERS.values(), ids=PICKLERS)
def test_what_can_be_imported_is_pickled_by_reference(dumps):
    for thing in double, rows, session, Client.add, Client.measure:
        assert again(thing, dumps) is thing
    assert again(Client.make, dumps) == Client.make
    bound = again(Client(5).add, dumps)
    assert bound(1) == 6
    assert bound.__func__ is Client.add


class Renamed:
    async def _get(self, x):
        return x

    get = own(_get)


@pytest.mark.parametrize("again", [again, copy.copy], ids=["pickled", "copied"])
def test_a_bound_method_of_another_name_stays_what_it_is(again):
    method = again(Renamed().get)
    assert method(1) == 1
    assert type(method.__func__) is type(Renamed.get)
    assert type(method.__self__) is Renamed


def test_a_class_with_a_with_of_its_own_goes_by_value():
    class Connection(SyncContextManager, syncer=own):
        async def __aenter__(self):
            print("entered")
            return self

        async def __aexit__(self, *exc_info):
            print("left")

        @own
        async def get(self):
            return 7

    assert in_new_process(Connection, "with thing() as c: print(c.get())") == ["entered", "7", "left"]
    assert in_new_process(Connection().get, "print(thing())") == ["7"]


@pytest.mark.parametrize("dumps", PICKLERS.values(), ids=PICKLERS)
def test_a_function_that_was_decorated_under_another_name_is_made_anew_of_the_one_that_is_imported(dumps):
    for thing, args, result in (triple, (2,), 6), (triple_partial, (), 15):
        made = again(thing, dumps)
        assert made(*args) == result
        assert made._syncify_background is own._background
    assert again(triple, dumps).__wrapped__.__globals__ is raw.__globals__


def test_copies_are_the_same():
    @own
    async def local():
        return 1

    for thing in double, rows, session, local, triple, Client.__dict__["make"], own, syncify:
        assert copy.copy(thing) is thing
        assert copy.deepcopy([thing])[0] is thing
    client = Client([1])
    assert copy.copy(client.add) == client.add
    assert copy.deepcopy(client.add).__self__ is not client


def test_what_is_local_is_refused_by_pickle_as_natively():
    @own
    async def local():
        return 1

    with pytest.raises((AttributeError, pickle.PicklingError), match="local"):
        pickle.dumps(local)


def make_local():
    base = 10

    @own
    async def factorial(n: int = 3) -> int:
        """Calls itself."""
        return 1 if n == 0 else n * await factorial.aio(n - 1)

    factorial.note = "mine"

    @own(prefetch=2)
    async def rows(n):
        for row in range(n):
            yield base + row

    @own
    async def sent():
        yield (yield base)

    @own
    @asynccontextmanager
    async def session(name):
        yield name, base

    class Declared:
        async def __aenter__(self):
            return base + 1

        async def __aexit__(self, *error):
            pass

    class Local:
        def __init__(self, base):
            self.base = base

        @own
        async def add(self, x):
            return self.base + x

        @own
        @classmethod
        async def make(cls, base):
            return cls(base)

        @own
        @staticmethod
        async def measure(text):
            return len(text)

    return factorial, rows, sent, session, own(context_manager=True)(Declared), Local, Local(7).add, Local.make


def test_what_is_local_is_pickled_by_value_by_cloudpickle():
    printed = in_new_process(
        make_local(),
        """
        import inspect
        factorial, rows, sent, session, declared, Local, add, make = thing
        print(factorial(4), asyncio.run(factorial.aio(3)), factorial.note, factorial.__name__, factorial.__qualname__)
        print(str(inspect.signature(factorial)).replace(" ", ""), factorial.__doc__.replace(" ", "-"))
        print(*rows(2))
        generator = sent()
        print(next(generator), generator.send(5))
        with session("x") as entered, declared() as also:
            print(*entered, also)
        print(Local(1).add(2), Local.make(3).add(2), Local(0).make(3).add(1), Local.measure("abc"))
        print(Local(1).measure("a"), add(1), make(2).add(1), add.submit(3).result())
        wrappers = [factorial, rows, sent, session, declared, Local.add, Local.measure, add.__func__]
        print(len({wrapper._syncify_background for wrapper in wrappers}), wrappers[0]._syncify_background.name)
        """,
    )
    expected = """24 6 mine factorial make_local.<locals>.factorial (n:int=3)->int Calls-itself. 10 11 10 5 x 10 11
        3 5 4 3 1 8 3 10 1 pickled"""
    assert printed == expected.split()


MAIN = """
import asyncio, multiprocessing, pickle, subprocess, sys
import cloudpickle
from syncify import Syncify

own = Syncify("of main")

@own
async def factorial(n):
    return 1 if n == 0 else n * await factorial.aio(n - 1)

class Client:
    @own
    async def name(self):
        return own.name

if __name__ == "__main__":
    load = "import pickle, sys; f, g, own = pickle.load(sys.stdin.buffer); print(f(4), g(), own, own.run(f.aio(2)))"
    data = cloudpickle.dumps((factorial, Client().name, own))
    print(subprocess.run([sys.executable, "-c", load], input=data, capture_output=True, check=True).stdout.decode())
    assert pickle.loads(pickle.dumps(factorial)) is factorial
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        print(*pool.map(factorial, range(5)), pool.apply(Client().name))
"""


def test_what_is_of_main_goes_by_value_with_cloudpickle_and_by_reference_to_a_spawned_process(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(MAIN)
    run = subprocess.run([sys.executable, program], capture_output=True, text=True, check=False, timeout=50)
    assert run.stderr == ""
    assert run.stdout.split("\n") == [
        "24 of main <Syncify 'of main', 0 calls in flight> 2",
        "",
        "1 1 2 6 24 of main",
        "",
    ]


def test_a_module_that_is_registered_with_cloudpickle_goes_by_value():
    module = sys.modules[__name__]
    cloudpickle.register_pickle_by_value(module)
    try:
        printed = in_new_process(
            [double, Client(3).add, rows],
            "print(thing[0](4), thing[1](5), *thing[2](2), 'test_pickling' in sys.modules)",
        )
    finally:
        cloudpickle.unregister_pickle_by_value(module)
    assert printed == ["8", "8", "0", "1", "False"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_forked_workers_find_them():
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.map(double, range(4)) == [0, 2, 4, 6]
        assert pool.map(Client(2).add, range(2)) == [2, 3]


# Syncers.


def test_a_syncer_is_found_by_its_name():
    assert again(own) is own
    assert again(syncify) is syncify
    assert again([own, own.run])[0] is own


def test_the_oldest_that_lives_is_found():
    first, second = Syncify("of one name"), Syncify("of one name")
    assert again(second) is first
    data = pickle.dumps(second)
    first.close()
    assert pickle.loads(data) is second
    del first, second
    gc.collect()
    made = pickle.loads(data)
    assert made.run(asyncio.sleep(0, "works")) == "works"
    assert pickle.loads(data) is made


def test_where_there_is_none_one_is_made_with_the_same_options():
    def make_loop():
        loop = asyncio.SelectorEventLoop()
        loop.made_here = True
        return loop

    syncer = Syncify("with options", loop_factory=make_loop, blocking="error", stuck_after=None, exit_timeout=3)
    printed = in_new_process(
        syncer,
        """
        background = thing._background
        print(background.blocking, background.stuck_after, background.exit_timeout, thing.get_loop().made_here)
        print(thing.name.replace(" ", "-"))
        """,
    )
    assert printed == ["error", "None", "3", "True", "with-options"]


def test_a_syncer_that_nobody_has_kept_is_found_by_what_it_has_decorated():
    function = Syncify("dropped")(raw)
    background = function._syncify_background
    gc.collect()
    data = pickle.dumps(function)
    assert pickle.loads(data)._syncify_background is background
    assert function(1) == 3


def test_many_threads_that_unpickle_at_once_make_one():
    for number in range(20):
        syncer = Syncify(f"at once {number}")
        data = pickle.dumps([syncer, syncer(raw)])
        del syncer
        gc.collect()
        barrier = threading.Barrier(4)

        def load(data=data, barrier=barrier):
            barrier.wait()
            return pickle.loads(data)

        with ThreadPoolExecutor(4) as pool:
            loaded = [future.result() for future in [pool.submit(load) for _ in range(4)]]
        assert len({id(syncer) for syncer, _ in loaded}) == 1
        assert {function._syncify_background for _, function in loaded} == {loaded[0][0]._background}


def test_a_closed_syncer_is_made_anew():
    syncer = Syncify("closed before")
    function = syncer(raw)
    data = pickle.dumps(function)
    syncer.close()
    with pytest.raises(ClosedError):
        function(1)
    assert pickle.loads(data)(1) == 3


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_fork_while_another_thread_unpickles_keeps_no_child_waiting(script):
    program = script(
        """
        import os, pickle, threading
        from syncify import Syncify, _loop
        own = Syncify("own")
        data = pickle.dumps(own)
        held, go = threading.Event(), threading.Event()

        def hold():
            with _loop._finding:
                held.set()
                go.wait()

        thread = threading.Thread(target=hold)
        thread.start()
        held.wait()
        child = os.fork()
        if not child:
            os._exit(pickle.loads(data) is own)
        go.set()
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        """,
        "-Wignore::DeprecationWarning",
    )
    assert program.end() == (0, "1\n", "")
