"""Does everything at once, at random, and checks that nothing is lost and nothing is left over.

Threads, other event loops, signals, forks, closes, cancels, time limits and faults work on the same few syncers. Each
call is entered in a ledger before it is made, and crossed off with its outcome. It goes in rounds of a second or two,
each with fresh syncers. At the end of a round

- every call has had exactly one outcome, and one that may be;
- every coroutine that has begun has ended;
- no task, thread, file descriptor, call in flight, object of the library or zombie is left.

What is done follows from the seed, which is printed; when it is done does not. For Linux and macOS.

    make stress                                          two minutes
    make stress ARGS="--seconds 3600 --seed 7"
    make stress ARGS="--seconds 10 --seed 7 --first 42"  from round 42 on, to see again what has failed there
"""

import argparse
import asyncio
import collections
import concurrent.futures
import contextlib
import contextvars
import faulthandler
import gc
import inspect
import logging
import os
import re
import signal
import sys
import threading
import time
import traceback
import types
import warnings
import weakref
from random import Random, randrange

from syncify import ClosedError, DeadlockError, Syncify, timeout

try:
    import uvloop
except ImportError:  # it has no release for the newest Python yet
    uvloop = None

FACTORIES = [asyncio.new_event_loop, *([uvloop.new_event_loop] if uvloop else [])]
PATIENCE = 8  # seconds for what takes milliseconds; a child, which has to say what is left, gets thrice that
FDS, THREADS = ("/proc/self/fd", "/proc/self/task") if os.path.exists("/proc/self/fd") else ("/dev/fd", None)


class Expected(Exception):
    """What a coroutine raises."""


class Strike(BaseException):
    """What a signal handler raises."""


FAULT = "fault"  # the argument of exceptions that are to be reported to the exception handler of a loop
RAISES = {"raise": Expected, "exit": SystemExit, "interrupt": KeyboardInterrupt}
KINDS = {
    DeadlockError: "deadlock",
    ClosedError: "closed",
    Strike: "interrupt",
    TimeoutError: "timeout",
    asyncio.CancelledError: "cancelled",
    concurrent.futures.CancelledError: "cancelled",
}


class Watchdog(threading.Thread):
    """Ends the program, with the stacks of all threads, when no call has come to its end for so long."""

    SECONDS = 30
    moved = time.monotonic()

    def run(self):
        while True:
            still = time.monotonic() - Watchdog.moved
            if still < 2:
                faulthandler.dump_traceback_later(self.SECONDS, exit=True)
            elif still > self.SECONDS - 2:
                os.write(2, f"\nNothing has moved for {still:.0f} s. {self.name}\n".encode())
            time.sleep(1)


class Entry:
    """A call in the ledger."""

    def __init__(self, what, n, allowed):
        self.what, self.n, self.allowed = what, n, allowed
        self.outcomes = []

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        if error is not None:
            self.raised(error)
        return True

    def cross_off(self, outcome):
        self.outcomes.append(outcome)
        Watchdog.moved = time.monotonic()

    def returned(self, value, expected):
        self.cross_off("value" if value == expected else f"a wrong value, {value!r} instead of {expected!r}")

    def raised(self, error):
        kind = next((name for kind, name in KINDS.items() if isinstance(error, kind)), None)
        if isinstance(error, tuple(RAISES.values())) and error.args == (self.n,):
            kind = "raised"
        # Of what is not expected it is of interest how it came about.
        self.cross_off(kind if kind in self.allowed else "".join(traceback.format_exception(error)))

    def done(self, future):
        with self:
            self.returned(future.result(), self.n + 1)

    def complaints(self):
        if len(self.outcomes) == 1 and self.outcomes[0] in self.allowed:
            return []
        outcomes = "\n".join(self.outcomes) or "no outcome"
        return [f"{self.what} with {self.n} may end with {sorted(self.allowed)}, and had: {outcomes}"]


class Service:
    """A syncer, and what it has to offer. All that begins there is noted until it ends."""

    def __init__(self, current, name, random, mortal=False):
        factory = random.choice(FACTORIES)
        self.mortal = mortal  # whether it may be closed while it is in use

        def make_loop():
            loop = factory()
            loop.set_exception_handler(current.note_report)
            return loop

        async def job(n, pauses=0, end="value"):
            with current.noted(f"job({n}, {pauses}, {end})"):
                try:
                    for _ in range(pauses):
                        await asyncio.sleep(0)
                    if end == "thread":
                        await asyncio.to_thread(time.sleep, 0.0005)
                    if end in RAISES:
                        raise RAISES[end](n)
                    if end in ("never", "stubborn"):
                        await asyncio.sleep(3600)
                except asyncio.CancelledError:
                    if end != "stubborn":
                        raise
                finally:
                    await asyncio.sleep(0)
                return n + 1

        async def chain(n, path):
            """Go on to other syncers. The path tells where and how."""
            with current.noted(f"chain({n}, {path})"):
                await asyncio.sleep(0)
                if not path:
                    return n + 1
                (index, how), *rest = path
                following = current.services[index].chain
                if how == "block":
                    return following(n, rest)
                if how == "await":
                    return await following.aio(n, rest)
                if how == "submit":
                    return await asyncio.wrap_future(following.submit(n, rest))
                return await asyncio.to_thread(following, n, rest)

        async def rows(n, count):
            with current.noted(f"rows({n})"):
                try:
                    for item in range(n, n + count):
                        if item % 2:
                            await asyncio.sleep(0)
                        yield item
                finally:
                    await asyncio.sleep(0)

        async def view(n, count):
            return rows(n, count) if n % 2 else Items(n, count)

        @contextlib.asynccontextmanager
        async def session(n):
            with current.noted(f"session({n})"):
                try:
                    await asyncio.sleep(0)
                    yield n
                finally:
                    await asyncio.sleep(0)

        self.syncer = syncer = Syncify(name, loop_factory=make_loop, blocking="allow", stuck_after=PATIENCE)
        self.job, self.chain, self.view, self.session = map(syncer, (job, chain, view, session))
        self.rows, self.ahead = syncer(rows), syncer(prefetch=3)(rows)


class Items:
    def __init__(self, n, count):
        self.items = iter(range(n, n + count))

    def __aiter__(self):
        return self

    async def __anext__(self):
        await asyncio.sleep(0)
        for item in self.items:
            return item
        raise StopAsyncIteration


class Actor(threading.Thread):
    """Does one of its acts after the other, drawn at random, until the round is over."""

    also = frozenset()  # how else any of its calls may end

    def __init__(self, current, number=0):
        super().__init__(name=f"{type(self).__name__}-{number}", daemon=True)
        self.round = current
        self.acts = [getattr(self, name) for name in dir(self) if name.startswith("do_")]

    def run(self):
        try:
            self.play()
        except BaseException:
            self.round.failures.append(f"{self.name} has ended: {traceback.format_exc()}")

    def play(self):
        for random in self.randoms():
            self.random = random
            random.choice(self.acts)()

    def randoms(self):
        """Give each act a source of randomness of its own: what comes later is not to depend on how it has ended."""
        number = 0
        while not self.round.over.is_set():
            yield Random(f"{self.round.name}/{self.name}/{number}")
            number += 1

    def draw(self, random=None):
        """Draw a service, and a number to recognize the result by."""
        random = random or self.random
        return random.choice(self.round.services), random.randrange(10**6)

    def draw_path(self, random):
        """Draw the way of a chain, and how it may end.

        In orderly rounds, loops only ever wait for later ones. In others they may wait for each other, and that has to
        be noticed: only blocking and awaiting are, so there are no other ways to get on then.
        """
        services, ways = self.round.services, ["block", "await"]
        if self.round.orderly:
            indices = sorted(random.sample(range(len(services)), random.randint(1, len(services))))
            ways += ["submit", "thread"]
        else:
            indices = random.choices(range(len(services)), k=random.randint(1, 4))
        path = [(index, random.choice(ways)) for index in indices]
        circles = not self.round.orderly and any(how == "block" for _, how in path[1:])
        return path, [services[index] for index in indices], {"value", "deadlock"} if circles else {"value"}

    def enter(self, what, n, allowed, *services):
        """Enter a call in the ledger."""
        closed = {"closed"} if any(service.mortal for service in services) else set()
        self.entry = Entry(f"{self.name}: {what}", n, {*allowed} | self.also | closed)
        self.round.entries.append(self.entry)
        return self.entry

    def try_it(self, what, services, n, allowed, expected, function, *args):
        """Make a blocking call."""
        with self.enter(what, n, allowed, *services) as entry:
            entry.returned(self.make(function, *args), expected)

    def make(self, function, *args):
        return function(*args)


class Blocks(Actor):
    """Makes blocking calls."""

    def do_call(self):
        service, n = self.draw()
        pauses, end = self.random.randrange(3), self.random.choice(["value", "value", "thread", *RAISES])
        allowed = ["raised" if end in RAISES else "value"]
        self.try_it(f"call {end}", [service], n, allowed, n + 1, service.job, n, pauses, end)

    def do_limited(self):
        service, n = self.draw()
        end = self.random.choice(["never", "stubborn", "value"])
        allowed = ["timeout"] if end == "never" else ["timeout", "value"]
        self.try_it(f"limited {end}", [service], n, allowed, n + 1, self.in_time, service.job, n, 3, end)

    def in_time(self, function, *args):
        with timeout(self.random.uniform(0, 5e-3)):
            return function(*args)

    def do_run(self):
        service, n = self.draw()
        coroutine = service.job.__wrapped__(n, 1)
        self.try_it("run", [service], n, ["value"], n + 1, service.syncer.run, coroutine)
        if inspect.getcoroutinestate(coroutine) == "CORO_CREATED":  # struck before run() had it
            coroutine.close()

    def do_chain(self):
        path, services, allowed = self.draw_path(self.random)
        n = self.random.randrange(10**6)
        call = services[0].chain, n, path[1:]
        if self.random.random() < 0.3:
            call = self.in_time, *call
            allowed.add("timeout")
        self.try_it(f"chain {path}", services, n, allowed, n + 1, *call)

    def do_circle(self):
        n, count = self.random.randrange(10**6), len(self.round.services)
        first, second = sorted(self.random.sample(range(count), 2))
        ways = [[(first, "block")], [(second, "block"), (first, "block")], [(second, "block"), (first, "await")]]
        path, services = self.random.choice(ways), (self.round.services[first], self.round.services[second])
        self.try_it(f"circle {path}", services, n, ["deadlock"], None, services[0].chain, n, path)


class Iterates(Actor):
    """Iterates over generators and views, and leaves them in every way there is."""

    def do_rows(self):
        service, n = self.draw()
        source = self.random.choice([service.rows, service.ahead, service.view])
        ways = [(list, 9), (self.drop, 2), (self.leave, 2)]
        if source != service.view:
            ways.append((self.close_early, 2))
        if source == service.rows:  # prefetched, it cannot be thrown into
            ways.append((self.throw, None))
        way, count = self.random.choice(ways)
        limit = self.random.choice([None, None, self.random.uniform(0, 5e-3)])

        def use():
            with timeout(limit):
                return way(source(n, 9))

        allowed = ["raised" if count is None else "value", "value" if limit is None else "timeout"]
        self.try_it(f"rows {way.__name__}", [service], n, allowed, [*range(n, n + (count or 0))], use)

    def drop(self, rows):
        return [next(rows), next(rows)]

    def close_early(self, rows):
        items = self.drop(rows)
        rows.close()
        return items

    def leave(self, rows):
        for item in rows:
            return [item, next(rows)]
        return None

    def throw(self, rows):
        rows.throw(Expected(next(rows)))


class Enters(Actor):
    """Enters context managers, and leaves them or does not."""

    def do_session(self):
        service, n = self.draw()
        way = self.random.choice([self.stay, self.fail_in, self.enter_only])
        allowed = ["raised" if way == self.fail_in else "value"]
        self.try_it(f"session {way.__name__}", [service], n, allowed, n, way, service, n)

    def stay(self, service, n):
        with service.session(n) as value:
            service.job(n)
        return value

    def fail_in(self, service, n):
        with service.session(n):
            raise Expected(n)

    def enter_only(self, service, n):
        return service.session(n).__enter__()


class Submits(Actor):
    """Submits calls, and waits for them, cancels them or forgets them."""

    def do_submit(self):
        (service, n), random = self.draw(), self.random
        end = random.choice(["value", "thread", "never", "stubborn", *RAISES])
        cancel = end in ("never", "stubborn") or random.random() < 0.3
        after = random.choice([0, random.uniform(0, 1e-3)])
        allowed = {"raised" if end in RAISES else "value"} | ({"cancelled"} if cancel else set())
        raw, run = service.job.__wrapped__, service.syncer.run
        submit = random.choice([service.job.submit, lambda *args: run.submit(raw(*args))])
        entry = self.enter(f"submit {end}", n, allowed, service)
        try:
            future = submit(n, 2, end)
        except ClosedError as error:
            entry.raised(error)
            return
        future.add_done_callback(entry.done)
        if not cancel and random.random() < 0.1:
            with contextlib.suppress(SystemExit):  # when it is done already
                future.add_done_callback(lambda _: sys.exit(FAULT))
        time.sleep(after)
        if cancel:
            future.cancel()
        elif random.random() < 0.7:
            concurrent.futures.wait([future])


class Awaits(Actor):
    """Runs an event loop of its own, where tasks await, block, and are cancelled."""

    also = frozenset(["cancelled"])

    def play(self):
        factory = Random(f"{self.round.name}/{self.name}").choice(FACTORIES)
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.get_loop().set_exception_handler(self.round.note_report)
            runner.run(self.main())

    async def main(self):
        for random in self.randoms():
            acts = random.choices(self.acts, k=random.randint(1, 6))
            tasks = [asyncio.create_task(act(Random(random.random()))) for act in acts]
            for task in tasks:
                for _ in range(random.choice([0, 1, 5])):
                    await asyncio.sleep(0)
                if random.random() < 0.3:
                    task.cancel()
            await asyncio.wait(tasks)

    async def do_await(self, random):
        service, n = self.draw(random)
        end = random.choice(["value", "thread", *RAISES])
        with self.enter(f"await {end}", n, ["raised" if end in RAISES else "value"], service) as entry:
            entry.returned(await service.job.aio(n, random.randrange(3), end), n + 1)

    async def do_block(self, random):
        service, n = self.draw(random)
        with self.enter("block", n, ["value"], service) as entry:
            entry.returned(service.job(n, random.randrange(3)), n + 1)

    async def do_limited(self, random):
        service, n = self.draw(random)
        with self.enter("limited", n, ["timeout"], service) as entry:
            async with asyncio.timeout(random.uniform(0, 5e-3)):
                entry.returned(await service.job.aio(n, 0, "never"), None)

    async def do_chain(self, random):
        (_, n), (path, services, allowed) = self.draw(random), self.draw_path(random)
        with self.enter(f"chain {path}", n, allowed, *services) as entry:
            entry.returned(await services[0].chain.aio(n, path[1:]), n + 1)

    async def do_rows(self, random):
        service, n = self.draw(random)
        limit, close = random.choice([2, 9]), random.random() < 0.5
        with self.enter("rows", n, ["value"], service) as entry:
            rows, items = service.rows.aio(n, 9), []
            async with contextlib.aclosing(rows) if close else contextlib.nullcontext():
                async for item in rows:
                    items.append(item)
                    if len(items) == limit:
                        break
            entry.returned(items, [*range(n, n + limit)])

    async def do_session(self, random):
        service, n = self.draw(random)
        with self.enter("session", n, ["value"], service) as entry:
            async with service.session.aio(n) as value:
                await asyncio.sleep(0)
            entry.returned(value, n)


class Faults(Actor):
    """Stops the loops, and has callbacks raise on them."""

    def do_fault(self):
        service, _ = self.draw()
        error, stop = self.random.choice([Expected, SystemExit, KeyboardInterrupt])(FAULT), self.random.random() < 0.3

        def throw():
            raise error

        with contextlib.suppress(RuntimeError):  # it is closed
            loop = service.syncer.get_loop()
            loop.call_soon_threadsafe(loop.stop if stop else throw)
        time.sleep(self.random.uniform(0, 0.01))


class Closes(Actor):
    """Closes a syncer that is in use."""

    def __init__(self, current, number):
        super().__init__(current, number)
        self.service = current.services[number]

    def do_close(self):
        self.round.over.wait(self.random.uniform(0, self.round.seconds))
        syncer, both = self.service.syncer, self.random.random() < 0.3
        timeout = self.random.choice([None, None, PATIENCE, 1e-3, 0])
        if self.random.random() < 0.2:
            timeout = None
            with contextlib.suppress(RuntimeError, AttributeError):  # it is closed; or uvloop, which has no selector
                loop = syncer.get_loop()
                loop.call_soon_threadsafe(loop._selector.close)  # of which it dies
        self.round.may_abandon |= timeout in (1e-3, 0)
        other = threading.Thread(target=asyncio.run, args=[asyncio.to_thread(syncer.close)]) if both else self
        if both:
            other.start()
        self.try_it("close", [], 0, ["value"], None, syncer.close, timeout)
        if both:
            other.join()
        self.try_it("call when closed", [], 0, ["closed"], None, self.service.job, 0)


class Drops(Actor):
    """Makes syncers of its own, and drops them."""

    def do_drop(self):
        n, way = self.random.randrange(10**6), self.random.choice([self.use, self.in_flight, self.half, self.block])
        self.try_it(f"drop {way.__name__}", [], n, ["value"], n + 1, way, Service(self.round, "drop", self.random), n)

    def use(self, service, n):
        return service.job(n) if n % 2 else n + 1

    def in_flight(self, service, n):
        future = service.job.submit(n, 9)
        del service
        return future.result()

    def half(self, service, n):
        rows = service.rows(n, 2)
        del service
        return next(rows) and next(rows)

    def block(self, service, n):
        with service.syncer:
            return service.job(n)


class Forks(Actor):
    """Forks. The child does a short round of its own, and tells by its exit code what came of it."""

    def do_fork(self):
        (service, n), name = self.draw(), f"{self.round.name}/child-{self.random.randrange(10**6)}"
        self.child = 0
        self.try_it(f"fork {name}", [service], n, ["value"], [0, n, n + 1], self.fork, service, n, name)
        if self.child:
            self.try_it(f"child {name}", [], n, ["value"], 0, wait_for, self.child)

    def fork(self, service, n, name):
        rows, future = service.rows(n, 2), service.job.submit(n, 0, "never")
        try:
            items = [0, next(rows)]
            self.child = os.fork()
            if not self.child:
                be_child(name, service, future, rows)
            return [*items, *rows]
        finally:
            future.cancel()


def be_child(name, service, future, rows):
    code = 2
    try:
        signal.signal(signal.SIGALRM, signal.SIG_IGN)
        current = Round(name, is_child=True)
        actor = Actor(current)
        # What was under way goes on in the parent; what comes now has a loop of its own.
        for inherited in (lambda: future.result(PATIENCE), lambda: next(rows)):
            with contextlib.suppress(RuntimeError):  # of which ClosedError is a kind
                current.failures.append(f"inherited from the parent: {inherited()!r}")
        actor.try_it("call in the child", [service], 1, ["value"], 2, service.job, 1)
        service.syncer.close()
        if collects():
            current.play(0.2)
        code = current.tell()
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def wait_for(child):
    """Wait for its end, and return its exit code; when that takes too long, have it print its stacks."""
    patience = time.monotonic() + 3 * PATIENCE
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > patience:
            os.kill(child, signal.SIGABRT)
            patience += PATIENCE
        time.sleep(0.005)


class Strikes(Blocks, Iterates, Enters, Forks):
    """The main thread, which a signal strikes at any microsecond of a call."""

    also = frozenset(["interrupt"])

    def play(self):
        before = signal.signal(signal.SIGALRM, self.handle)
        super().play()
        signal.signal(signal.SIGALRM, before)

    def do_fork(self):
        if not self.round.is_child and self.random.random() < 0.05:
            super().do_fork()

    def make(self, function, *args):
        if function in (self.fork, wait_for):
            return function(*args)
        self.way = self.random.choice(["raise", "raise", "pass", "call"])
        # A second interrupt is provided for. A third might strike what sees to that.
        entry, self.left, self.raised, caught = self.entry, self.random.randint(1, 2), 0, False
        signal.setitimer(signal.ITIMER_REAL, self.random.uniform(1e-6, self.random.choice([1e-4, 1e-3, 1e-2])))
        try:
            # In a context of its own: struck while it is entered, a block of timeout() is never left.
            return self.struck(contextvars.copy_context(), function, args)
        except Strike:
            caught = True
            raise
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            if caught != (self.raised > 0):
                self.round.failures.append(f"{entry.what}: raised {self.raised} interrupts, caught: {caught}")

    def struck(self, context, function, args):
        return context.run(function, *args)

    def handle(self, _, frame):
        places = []
        while frame is not None and frame.f_code is not Strikes.struck.__code__:
            places.append((frame.f_code, frame.f_lineno))
            frame = frame.f_back
        if frame is None or not self.left:
            return  # the call has ended
        if any(code.co_name in ("__del__", "note_unraisable") for code, _ in places):
            signal.setitimer(signal.ITIMER_REAL, 3e-5)  # later: Python cannot raise anything out of a finalizer
            return
        self.left -= 1
        self.entry.what += " struck in " + " < ".join(f"{code.co_qualname}:{line}" for code, line in places[:6])
        if self.left:
            signal.setitimer(signal.ITIMER_REAL, self.random.uniform(1e-6, 1e-3))
        if self.way == "raise":
            self.raised += 1
            raise Strike
        if self.way == "call":
            service, n = self.draw()
            with self.enter("call in a handler", n, ["value", "timeout"], service) as entry:
                entry.returned(service.job(n), n + 1)

    def note_unraisable(self, unraisable):
        if isinstance(unraisable.exc_value, Strike):
            self.raised -= 1  # of another kind of finalizer
        else:
            trace = "".join(traceback.format_exception(unraisable.exc_value))
            self.round.failures.append(f"{trace} in {unraisable.object}")


class Round:
    """A few syncers, and the actors that use them at once."""

    def __init__(self, name, is_child=False):
        self.name, self.is_child = name, is_child
        self.entries = []  # the ledger
        self.ongoing = {}  # what runs on the loops
        self.failures = []
        self.may_abandon = False
        self.over = threading.Event()
        random = Random(name)
        self.orderly = random.random() < 0.5
        self.services = [Service(self, f"syncer-{i}", random, mortal=random.random() < 0.3) for i in range(3)]

    @contextlib.contextmanager
    def noted(self, what):
        token = object()
        self.ongoing[token] = what
        try:
            yield
        finally:
            del self.ongoing[token]

    def note_report(self, loop, context):
        error = context.get("exception")
        if error is None or error.args != (FAULT,):
            self.failures.append(f"reported to {loop}: {context} {''.join(traceback.format_exception(error))}")

    def note_warning(self, message, *where, **kwargs):
        if not (self.may_abandon and "has abandoned" in str(message)):
            self.failures.append(f"warning {message!r} {where}")

    def play(self, seconds):
        self.seconds = seconds
        before = count_all()
        main, log = Strikes(self), logging.Handler()
        log.emit = lambda record: self.failures.append(f"logged: {record.getMessage()}")
        logging.getLogger().handlers[:] = [log]
        warnings.showwarning, sys.unraisablehook = self.note_warning, main.note_unraisable
        kinds = [Blocks, Iterates, Enters, Submits, Awaits, Faults, Drops]
        actors = [kind(self, number) for kind in kinds for number in range(1 if self.is_child else 2)]
        actors += [Closes(self, number) for number, service in enumerate(self.services) if service.mortal]
        actors += [threading.Timer(seconds, self.over.set), *([] if self.is_child else [Forks(self)])]
        for actor in actors:
            actor.start()
        main.run()
        for actor in actors:
            actor.join()
        self.wait_until_nothing_is_left(self.unfinished)
        for service in self.services:
            service.syncer.close(None)
        self.services.clear()
        sys.unraisablehook = sys.__unraisablehook__
        del actors, actor, main, service
        self.wait_until_nothing_is_left(lambda: [*(count_all() - before).items(), *zombies()])
        for entry in self.entries:
            self.failures += entry.complaints()

    def wait_until_nothing_is_left(self, look):
        Watchdog.moved = time.monotonic()
        patience = Watchdog.moved + PATIENCE
        while left := look():
            if time.monotonic() > patience:
                known = [(e.what, e.outcomes) for e in self.entries if any(f"({e.n}," in str(each) for each in left)]
                self.failures.append(f"left over: {left[:20]}, of {known[:20]}")
                return
            gc.collect()
            time.sleep(0.005)

    def unfinished(self):
        async def count_tasks():
            return len(asyncio.all_tasks()) - 1

        left = [*self.ongoing.values(), *(entry.what for entry in self.entries if not entry.outcomes)]
        for service in self.services:
            if not repr(service.syncer).endswith((" 0 calls in flight>", ", closed>", ", not started>")):
                left.append(repr(service.syncer))
            with contextlib.suppress(ClosedError):
                if tasks := service.syncer.run(count_tasks()):
                    left.append(f"{tasks} tasks on {service.syncer}")
        return left

    def tell(self):
        for text in self.failures[:10]:
            os.write(2, f"\nFAILED in {self.name!r} (seed/round): {text}\n".encode())
        return 1 if self.failures else 0


SUSPENDED = types.AsyncGeneratorType, types.CoroutineType, asyncio.Future, asyncio.AbstractEventLoop, threading.Thread


def count_all():
    """Count what may be left over, by kinds."""
    gc.collect()
    counts = collections.Counter(f"thread {thread.name}" for thread in threading.enumerate())
    counts["threads"] = len(os.listdir(THREADS)) if THREADS else 0
    for fd in os.listdir(FDS):
        with contextlib.suppress(OSError):  # that of the listing itself
            counts["descriptor " + re.sub(r"\d+", "", os.readlink(f"{FDS}/{fd}") if THREADS else "")] += 1
    for kind in map(type, gc.get_objects()):
        if str(kind.__module__).startswith("syncify.") or issubclass(kind, SUSPENDED):
            counts[f"object {kind.__module__}.{kind.__qualname__}"] += 1
    return counts


def collects():
    """Tell whether garbage is collected: never in a child that was forked while another thread was just doing that."""
    garbage = type("Garbage", (), {})()
    garbage.itself, reference = garbage, weakref.ref(garbage)
    del garbage
    gc.collect()
    return reference() is None


def zombies():
    try:
        return [f"child {os.waitpid(-1, os.WNOHANG)}"]
    except ChildProcessError:
        return []


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=110)
    parser.add_argument("--seed", type=int, default=randrange(10**6))
    parser.add_argument("--first", type=int, default=1, help="the number of the first round")
    args = parser.parse_args()
    print(f"seed {args.seed}, Python {sys.version.split()[0]}, uvloop {uvloop and uvloop.__version__}", flush=True)
    faulthandler.enable()
    warnings.simplefilter("always")
    warnings.filterwarnings("ignore", ".*fork", DeprecationWarning)
    for factory in FACTORIES:  # what they open once, and keep
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(asyncio.to_thread(int))
    Watchdog(name=f"seed {args.seed}", daemon=True).start()
    outcomes, failed, number, begun = collections.Counter(), [], args.first, time.monotonic()
    while (elapsed := time.monotonic() - begun) < args.seconds and len(failed) < 3:
        gc.freeze()
        current = Round(f"{args.seed}/{number}")
        current.play(1)
        outcomes.update(outcome for entry in current.entries for outcome in entry.outcomes if outcome in entry.allowed)
        if current.tell():
            failed.append(number)
        if number % 10 == 0:
            counts = ", ".join(f"{count} {outcome}" for outcome, count in outcomes.most_common())
            print(f"{elapsed:5.0f} s, round {number}: {counts}", flush=True)
        number += 1
    verdict = f"FAILED in rounds {failed} of seed {args.seed}" if failed else "nothing lost, nothing left over"
    print(f"{number - args.first} rounds, {outcomes.total()} calls: {verdict}", flush=True)
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
