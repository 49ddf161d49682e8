"""The hand-off between callers and loop: every interleaving of its steps, in a world of a few actors."""

import asyncio
import re
from collections import deque
from types import SimpleNamespace

import pytest
from interleavings import Code, Coroutine, Interrupt, World, explore, run, told

from syncify import ClosedError, _call, _callers, _exit, _handoff, _life, _loop, _shutdown, _threads, _wakeup

SOURCES = [
    _threads.in_a_thread,
    _threads.start,
    _threads.Done,
    _wakeup._take,
    _handoff.Handoff,
    _life.Life,
    _loop.BackgroundLoop,
    _loop._run,
    _shutdown.abort,
    _call.Call,
    _callers.BlockingCall,
    _exit._after_fork_in_child,
]
SUSPEND = "the coroutine awaits something"
FOR_EVER = float("inf")
world = None  # the one that is being explored


def nothing():
    pass


class Lock:
    """As `threading.Lock`."""

    def __init__(self):
        self.held = False
        self.steps_elapsed = 0
        self.tag = world.register(self, "lock")

    def fields(self):
        return self.held, self.steps_elapsed

    def locked(self):
        yield self.tag
        return self.held

    def acquire(self, blocking=None, timeout=-1):
        if blocking is not None or self.held:
            return self.steps(timeout)
        self.held = True  # a new one, which nobody else knows yet
        return True

    def steps(self, timeout):
        yield "now"
        until = world.now + timeout if timeout >= 0 else FOR_EVER
        if until < FOR_EVER:
            world.until = max(world.until, until)
            yield self.tag + "="
        if until == FOR_EVER or self.held:

            def is_over():
                # In a forked child, one of the steps elapses in which it waits.
                elapsed = timeout == FOR_EVER and world.process > self.steps_elapsed
                return elapsed or not self.held or world.now >= until

            yield self.tag + "=" if until == FOR_EVER else "everything", is_over
            if self.held or world.now >= until:
                self.steps_elapsed += 1
                return False
        self.held = True
        yield ""  # a signal handler may raise when it has been acquired
        return True

    def release(self):
        yield self.tag + "="
        if not self.held:
            raise RuntimeError("release unlocked lock")
        self.held = False


class Loop:
    """An event loop, with what matters: a queue, and a selector that sleeps until somebody writes to its socket."""

    def __init__(self):
        self.ready = deque()
        self.woken = self.closed = self.stopping = self.broken = False
        self.counter = False  # of what wakes it without a Handle
        self._default_executor = self  # there is one
        self.tag = world.register(self, "loop")

    def fields(self):
        return self.ready, self.woken, self.counter, self.closed, self.stopping, self.broken

    def call_soon(self, callback, *args, context=None):
        yield "ready="
        self.ready.append((callback, args))

    def call_soon_threadsafe(self, callback, *args, context=None):
        yield "closed"
        if self.closed:
            raise RuntimeError("Event loop is closed")
        yield "ready="
        self.ready.append((callback, args))
        yield "woken="
        self.woken = True

    def make_wakeup(self, callback, *args):
        def count():
            yield "counter="
            self.counter = True

        if not world.code.counts:
            return lambda: self.call_soon_threadsafe(callback, *args)
        self.reader = lambda: world.code.names["_take"](self, callback, *args)
        return count

    def run_forever(self):
        while (yield "stopping") or not self.stopping:
            if self.broken:
                raise ValueError("there is no selector")
            yield "ready="
            yield "woken=", (None if self.ready or self.counter else lambda: self.woken or self.counter)
            self.woken = False
            yield "counter"
            yield "ready="
            if self.counter:
                self.ready.append((self.reader, ()))
            waiting = len(self.ready)
            while waiting:
                waiting -= 1
                callback, args = self.ready.popleft()
                try:
                    yield from run(callback(*args))
                except Exception as error:
                    world.fault(f"a callback of the loop raised {error!r}")
        self.stopping = False

    def stop(self):
        yield "stopping="
        self.stopping = True

    def is_closed(self):
        return self.closed

    def close(self):
        yield "closed="
        self.closed = True
        yield "ready="
        self.ready.clear()


def read(loop, size):
    yield "counter="
    if not loop.counter:
        raise BlockingIOError
    loop.counter = False


class Task:
    """Runs a coroutine, which yields SUSPEND when it awaits something and other things when it makes a step."""

    def __init__(self, coroutine, loop):
        coroutine.task = self
        self.coroutine = coroutine.steps
        world.tasks.append(self)
        self.loop = loop
        self.over = False
        self.callbacks = []
        self.tag = world.register(self, "task")

    def fields(self):
        return self.coroutine, self.over, self.callbacks

    def go_on(self, error=None):
        while not self.over:
            try:
                step = self.coroutine.send(None) if error is None else self.coroutine.throw(error)
            except (StopIteration, asyncio.CancelledError, Closed):
                yield "over="
                self.over = True
                for callback in self.callbacks:
                    yield from self.loop.call_soon(callback, self)
                return
            error = None
            if step is SUSPEND:
                return
            yield step

    def cancel(self, message=None):
        yield "over"
        if self.over:
            return False
        yield from self.loop.call_soon(self.go_on, asyncio.CancelledError())
        return True

    def add_done_callback(self, callback, context=None):
        self.callbacks.append(callback)

    def get_loop(self):
        return self.loop

    def done(self):
        return self.over


class Closed(BaseException):
    """In place of GeneratorExit, which the explorer needs for itself."""


def create_task(coroutine, loop, context, name):
    task = Task(coroutine, loop)
    yield from task.go_on() if world.eager else loop.call_soon(task.go_on)
    return task


def schedule_task(coroutine, loop):
    task = Task(coroutine, loop)
    yield from loop.call_soon(task.go_on)
    return task


def close_coroutine(task, context):
    return task.go_on(Closed())


def shut_down(calls, *others):
    """What of the real one concerns callers: it is over when their tasks are."""

    def steps():
        for task in [*calls, *others[0]]:
            if not task.over:
                task.callbacks.append(lambda task: made.task.go_on())
                yield SUSPEND

    made = Coroutine(steps())
    return made


class suppress:  # noqa: N801
    def __init__(self, *kinds):
        self.kinds = kinds

    def __enter__(self):
        pass

    def __exit__(self, kind, error, traceback):
        return kind is not None and issubclass(kind, self.kinds) and kind is not GeneratorExit


def monotonic():
    yield "now"
    return world.now


def current():
    return world.actor.name


NAMES = {
    **vars(_threads),
    **vars(_handoff),
    **vars(_shutdown),
    **vars(_life),
    **vars(_loop),
    **vars(_call),
    **vars(_callers),
    **vars(_exit),
    "create_task": create_task,
    "close_coroutine": close_coroutine,
    "shut_down": shut_down,
    "_ENDED": (asyncio.CancelledError, Closed),
    "STEP": FOR_EVER,
    "DaemonExecutor": lambda: SimpleNamespace(shutdown=lambda: None),
    "Watch": lambda call: SimpleNamespace(look=lambda until=None: None),
    "name_rest": lambda loop, executor: ["rest"],
    "running_loop": lambda: None,
    "get_timeout": lambda: SimpleNamespace(get_deadline=lambda: world.deadlines.get(current())),
    "lose_calls_of_this_thread": lambda: lose_calls(),
    "os": SimpleNamespace(getpid=lambda: world.process, read=read),
    "sys": SimpleNamespace(is_finalizing=lambda: False),
    "Lock": Lock,
    "time": SimpleNamespace(monotonic=monotonic),
    "threading": SimpleNamespace(
        Lock=Lock, RLock=Lock, get_ident=current, main_thread=lambda: SimpleNamespace(ident="main")
    ),
    "main_has_ended": lambda: False,
    "forget_the_main_thread": nothing,
    "_thread": SimpleNamespace(
        start_new_thread=lambda target, args: world.add(
            f"helper {len(world.actors)} of {current()}", target(*args), may_stay=True
        )
    ),
    "contextlib": SimpleNamespace(suppress=suppress),
    "asyncio": SimpleNamespace(
        CancelledError=asyncio.CancelledError,
        Task=schedule_task,
        all_tasks=lambda loop: set(),  # of users
        get_running_loop=lambda: world.background.life.loop,
    ),
    "make_wakeup": lambda loop, context, callback, *args: loop.make_wakeup(callback, *args),
    "weakref": SimpleNamespace(ref=lambda each: lambda: each, WeakSet=set),
    "shorten": lambda error: error,
    "context_of": lambda error: None,
}


class Model(World):
    relative = frozenset({"drained", "_value"})

    def zero(self):
        return self.background._drained

    def __init__(self, code, eager=True, running=True):
        global world
        world = self
        super().__init__()
        self.code = code
        self.eager = eager
        self.deadlines = {}  # by the names of actors, what timeout() has set
        self.until = 0  # when the last of those who wait wants to be woken
        self.opened = False
        self.process = 0  # how often it was forked
        self.calls = []
        self.tasks = []
        self.background = code.Background()
        code.names.update(_AT_ONCE=256, living=lambda: [self.background], _of_parents=[])
        if running:
            self.background.life = self.background._start_thread()
            self.background.loop = self.background.life.loop

    def close(self):
        super().close()
        for task in self.tasks:
            task.coroutine.close()

    def caller(self, name, kind, allowed="value", **options):
        call = self.code.Call(self.background, kind, name, allowed.split())
        self.calls.append(call)
        self.add(name, call.trip(), **options)

    def fault(self, what):
        self.violation = self.violation or what

    def look(self):
        if self.able():
            return
        for actor in self.actors:
            if actor.begun and not actor.over and not actor.may_stay:
                self.fault(f"waits for ever: {actor.name}")
        if all(actor.begun for actor in self.actors):
            self.look_at_end()

    def look_at_end(self):
        if self.background.incoming:
            self.fault("left in `incoming`")
        if self.background.closed and self.background.life is not None:
            self.fault("the loop goes on for ever")
        for call in self.calls:
            if call.left is None:
                continue
            ended = not hasattr(call, "args")
            if ended and call.wakes != 1 and not self.process and call.outcome != "Interrupt":
                self.fault(f"woken {call.wakes} times: {call.tag}")
            if call.outcome not in call.allowed:
                self.fault(f"{call.tag} got {call.outcome}")


class ModelCode(Code):
    def __init__(self, *changes, counts=False):
        super().__init__(SOURCES, NAMES, changes)
        self.counts = counts  # whether loops are woken by a counter

        class Life(self.names["Life"]):
            def __init__(self, *args):
                super().__init__(*args)
                self.tag = world.register(self, "life")

            def fields(self):
                return self.ending, self.fault, self.in_flight

        class Background(self.names["BackgroundLoop"]):
            tag = "background"

            def __init__(self):
                self.name = self.tag
                self.closed = False
                self._say_closed = ClosedError
                for _ in self.reset():
                    pass
                world.objects.append(self)

            def fields(self):
                return (
                    *(self.loop, self.life, self.closing is None, self.incoming),
                    *(self._woken - self._drained, self._more, self.calls),
                )

            def _start_thread(self):
                life = Life(Loop(), self.calls)
                for _ in self.set_wakeup(life.loop):
                    pass
                world.add(f"thread of the {life.loop.tag}", names["_run"](life, lambda: self), may_stay=True)
                return life

            def report(self, message, error):
                pass

        class Call(self.names["BlockingCall"]):
            __slots__ = ("allowed", "begins", "coroutine", "kind", "left", "outcome", "runs", "tag", "wakes")

            def __init__(self, background, kind, name, allowed):
                super().__init__(background, self.make, (), {})
                self.tag = name
                self.kind = kind
                self.coroutine, self.runs = None, False
                self.wakes = self.begins = 0
                self.outcome = self.left = None
                self.allowed = allowed
                world.objects.append(self)

            def __hash__(self):  # the order of a set must not change
                return self.tag.encode()[-1]

            def fields(self):
                fields = "args _task _begun _unbegun abandoned started done value error verdict"
                mine = "wakes begins outcome left runs"
                return [getattr(self, field, "deleted") for field in (fields + " " + mine).split()]

            def make(self):
                """Return what was handed in, always the same."""
                if self.coroutine is None:
                    self.coroutine = HandedIn(self)
                return self.coroutine

            def run(self):
                yield "left"
                yield "runs="
                self.begins += 1
                if self.begins > 1 or self.left == "not started":
                    world.fault("began, though its caller had been told that it never would")
                self.runs = True
                value = yield from self.kind()
                yield "runs="
                self.runs = False
                return value

            def wake(self):
                self.wakes += 1
                if self.wakes > 1:
                    world.fault("woken twice")
                return super().wake()

            def trip(self):
                """What the caller does: as a decorated function."""
                try:
                    yield from self.wait()
                    yield "error"
                    if self.error is not None:
                        raise (yield from run(self.take_error()))
                    self.outcome = self.value
                except GeneratorExit:
                    raise
                except BaseException as error:
                    self.outcome = type(error).__name__
                world.by_name[self.tag].strikes = 0
                self.left = "started"
                if self.outcome != "value":
                    yield "started"
                    if not self.started:
                        yield "left="
                        self.left = "not started"

        names = self.names

        class HandedIn(Coroutine):
            def __init__(self, call):
                super().__init__(call.run())
                self.call = call

            def close(self):
                yield "runs="
                if self.call.runs:
                    world.fault("closed while it runs, by who does not run it")

        self.Life, self.Background, self.Call = Life, Background, Call


# What a coroutine does.


def returns():
    return "value"
    yield ""


def waits():
    yield SUSPEND


def waits_in_the_parent():
    yield from returns() if world.process else waits()
    return "value"


def ignores():
    while True:
        try:
            yield SUSPEND
        except asyncio.CancelledError:
            pass


def keep_the_loop():
    yield "opened", lambda: world.opened


# What others do.


def close(model):
    yield from model.background.close(None)


def close_and_wait(model):
    yield from model.background.close(None)
    yield from model.background.wait_for_end(None)


def give_up(model):
    """As `close`, when the time for it is over, and a call is being started, or is under way."""
    life = model.background.life
    yield "everything", lambda: model.calls[0].started
    yield "closing="
    model.background.closing = ClosedError
    yield from model.background.give_up(life)


def close_with_no_time_left(model):
    yield "closing="
    model.background.closing = ClosedError
    yield from model.background.wait_for_end(0)


def give_up_and_again(model):
    """As `close`, when the time for it is over, and somebody waits. A second one, if that was interrupted."""
    life = model.background.life
    try:
        yield "everything", lambda: model.by_name["a"].condition is not None
        yield "closing="
        model.background.closing = ClosedError
        yield from model.background.wait_for_end(0)
    except Interrupt:
        yield "closing="
        model.background.closing = ClosedError
        yield "life"
        if model.background.life is life:
            yield from model.background.give_up(life)


def take_away(model):
    """The least that an end of the loop consists of, when somebody waits."""
    yield "everything", lambda: model.by_name["a"].condition is not None
    yield "closing="
    model.background.closing = ClosedError
    yield "loop="
    model.background.loop = None


def post_and_turn_away(model):
    try:
        yield "everything", lambda: model.background.loop is None
        yield from model.background.post(nothing)
    except Interrupt:
        yield "everything", lambda: model.background.loop is None
        yield from model.background.post(nothing)


def tick(model):
    """Time passes once at any moment, and then again for who waits that it does."""
    yield "now="
    model.now = 1
    while True:
        yield "now=", lambda: model.until > model.now
        model.now = model.until


def open_(model):
    yield "opened="
    model.opened = True


def break_loop(model):
    def broken():
        model.background.life.loop.broken = True

    yield from model.background.life.loop.call_soon_threadsafe(broken)


def fork(model):
    """What there is in the child: this thread, and what the others have left."""
    for actor in model.actors:
        actor.over = actor.over or (actor.begun and actor is not model.actor)
    model.process += 1
    # What is still to be seen: none of what the others had.
    here = "background", "late", model.actor.name, f"lock of {model.actor.name} "
    model.objects = [each for each in model.objects if each.tag in here or each.tag.startswith(here[-1])]
    model.calls = [call for call in model.calls if call.tag in (model.actor.name, "late")]
    yield from run(model.code.names["_after_fork_in_child"]())


def lose_calls():
    """Those of this thread."""
    for call in world.calls:
        if call.tag == current() and hasattr(call, "_lock"):
            yield from call.lose()


def fork_in_handler(actor):
    for _ in fork(world):
        pass
    return actor.at, actor.condition


def fork_and_go_on(model):
    yield "everything"
    yield from fork(model)


# The worlds. `late` comes when nobody else has anything left to do, and has to be served as if nothing had been.


def two_callers(code):
    model = Model(code)
    model.caller("a", returns)
    model.caller("b", returns)
    return model


def taken_one_at_a_time(code):
    model = Model(code)
    code.names["_AT_ONCE"] = 1

    def post():
        for _ in range(3):
            yield from model.background.post(nothing)

    model.add("a", post())
    return model


def interrupted_twice(code):
    model = Model(code)
    model.caller("a", waits, "Interrupt", strikes=2, may_stay=True)
    model.caller("late", returns, last=True)
    return model


def interrupted_before_the_task_begins(code):
    model = Model(code, eager=False)
    model.caller("a", waits, "Interrupt", strikes=1, may_stay=True)
    model.caller("late", returns, last=True)
    return model


def interrupted_as_it_ends(code):
    model = Model(code)
    model.caller("a", returns, "Interrupt value", strikes=1)
    model.caller("late", returns, last=True)
    return model


def timed_out(code):
    model = Model(code)
    model.deadlines["a"] = 1
    model.caller("a", waits, "TimeoutError")
    model.add("clock", tick(model), may_stay=True)
    model.caller("late", returns, last=True)
    return model


def timed_out_as_it_ends(code):
    model = Model(code)
    model.deadlines["a"] = 1
    model.caller("a", returns, "TimeoutError value")
    model.add("clock", tick(model), may_stay=True)
    model.caller("late", returns, last=True)
    return model


def closed(code):
    model = Model(code)
    model.caller("a", returns, "value ClosedError")
    model.add("closer", close(model))
    return model


def closed_while_it_starts(code):
    model = Model(code, running=False)
    model.add("helper", model.background._start_once(model.background._start_thread))
    model.add("closer", close_and_wait(model))
    model.caller("late", returns, "ClosedError", last=True)
    return model


def given_up(code, kind=returns, outcomes="value ClosedError"):
    model = Model(code)
    model.caller("a", kind, outcomes)
    model.add("closer", give_up(model))
    return model


def given_up_while_ignored(code):
    return given_up(code, ignores, "ClosedError")


def given_up_while_kept(code):
    """By a callback of somebody else, which comes to its end when all others have."""
    model = Model(code)
    model.background.life.loop.ready.append((keep_the_loop, ()))
    model.caller("a", returns, "ClosedError")
    model.add("closer", close_with_no_time_left(model))
    model.add("opener", open_(model), last=True)
    return model


def turned_away_and_interrupted(code):
    """By one who comes later, and finds what was posted."""
    model = Model(code)
    model.background.life.loop.ready.append((keep_the_loop, ()))
    model.caller("a", returns, "ClosedError")
    model.add("closer", take_away(model))
    model.add("b", post_and_turn_away(model), strikes=1)
    return model


def given_up_and_the_closer_interrupted(code):
    model = Model(code)
    model.background.life.loop.ready.append((keep_the_loop, ()))
    model.caller("a", returns, "ClosedError")
    model.add("closer", give_up_and_again(model), strikes=1)
    return model


def broken(code):
    model = Model(code)
    model.caller("a", returns, "value ClosedError")
    model.add("vandal", break_loop(model))
    model.caller("late", returns, "ClosedError", last=True)
    return model


def forked(code):
    model = Model(code)
    model.caller("a", returns)
    model.add("forker", fork_and_go_on(model))
    model.caller("late", returns, last=True)
    return model


def forked_in_a_handler(code):
    model = Model(code)
    model.caller("a", returns, "value RuntimeError", strikes=1, handler=fork_in_handler)
    model.caller("late", returns, last=True)
    return model


def forked_as_the_loop_starts(code):
    model = Model(code, running=False)
    model.add("a", model.background._start(), strikes=1, handler=fork_in_handler)
    model.caller("late", returns, last=True)
    return model


def forked_in_a_handler_while_it_waits(code):
    model = Model(code)
    model.caller("a", waits_in_the_parent, "value RuntimeError", strikes=1, handler=fork_in_handler, may_stay=True)
    model.caller("late", returns, last=True)
    return model


WORLDS = [
    *(two_callers, taken_one_at_a_time, interrupted_twice, interrupted_before_the_task_begins, interrupted_as_it_ends),
    *(timed_out, timed_out_as_it_ends, closed, closed_while_it_starts, given_up, given_up_while_ignored),
    *(given_up_while_kept, turned_away_and_interrupted, given_up_and_the_closer_interrupted),
    *(broken, forked, forked_as_the_loop_starts, forked_in_a_handler, forked_in_a_handler_while_it_waits),
]


@pytest.mark.parametrize("counts", [False, True], ids=["by a handle", "by a counter"])
@pytest.mark.parametrize("make", WORLDS, ids=lambda make: make.__name__)
def test_no_interleaving_loses_anything(make, counts):
    code = ModelCode(counts=counts)
    result = explore(lambda: make(code))
    assert result.violation is None, told(lambda: make(code), result)


POST = """\
                self.wakeup()
                self._woken = drained
"""
LOST = "waits for ever|left in `incoming`"

# What is taken out, by which texts; in which world this does harm; and which.
MUTANTS = {
    "the counter is read when all has been taken": (
        [
            ("    try:\n        os.read", "    callback(*args)\n    try:\n        os.read"),
            ("        return\n    callback(*args)\n", "        return\n"),
        ],
        two_callers,
        LOST,
    ),
    "the note is left before the wake-up": (
        [(POST, "".join(reversed(POST.splitlines(keepends=True))))],
        interrupted_as_it_ends,
        LOST,
    ),
    "the loop counts after it has looked": (
        [
            ("            self._drained += 1\n            if self._more", "            if self._more"),
            ("waiting = len(self.incoming)\n", "waiting = len(self.incoming)\n            self._drained += 1\n"),
        ],
        two_callers,
        LOST,
    ),
    "a flag instead of a count": (
        [
            ("if self._woken != drained and", "if self._woken != 1 and"),
            ("self._woken = drained", "self._woken = 1"),
            (
                "            self._drained += 1\n            if self._more",
                "            self._woken = 0\n            if self._more",
            ),
        ],
        two_callers,
        LOST,
    ),
    "a flag, set before the wake-up": (
        [
            ("if self._woken != drained and", "if self._woken != 1 and"),
            (POST, "".join(reversed(POST.splitlines(keepends=True))).replace("= drained", "= 1")),
            (
                "            self._drained += 1\n            if self._more",
                "            self._woken = 0\n            if self._more",
            ),
        ],
        interrupted_as_it_ends,
        LOST,
    ),
    "the rest is not asked for": (
        [("loop.call_soon(self._drain, reference, held, True, context=self.context)", "pass")],
        taken_one_at_a_time,
        LOST,
    ),
    "who posts does not look whether the loop has gone": (
        [("        if self.loop is None:\n            try:", "        if False:\n            try:")],
        given_up_while_kept,
        LOST,
    ),
    "what is left is turned away before the loop is taken away, at its end": (
        [
            (
                "            self.loop = None  # first",
                "            self.turn_away()\n            self.loop = None  # first",
            ),
            ("            self.life = None\n            self.turn_away()\n", "            self.life = None\n"),
        ],
        closed,
        LOST,
    ),
    "what is left is turned away before the loop is taken away, when it is given up": (
        [
            ("        if self.life is life:\n", "        self.turn_away()\n        if self.life is life:\n"),
            ("            each.give_up()\n        self.turn_away()\n", "            each.give_up()\n"),
        ],
        given_up_while_kept,
        LOST,
    ),
    "who gives a loop up can be interrupted": (
        [("in_a_thread(lambda: self.give_up(life), 0)", "self.give_up(life)")],
        given_up_and_the_closer_interrupted,
        LOST,
    ),
    "who turns away what others have posted can be interrupted": (
        [("in_a_thread(self.turn_away, 0)", "self.turn_away()")],
        turned_away_and_interrupted,
        LOST,
    ),
    "who turns away does not count": (
        [("        self._drained += 1  # nobody is", "        # nobody is")],
        forked_in_a_handler,
        LOST,
    ),
    "who is in a call when a signal handler forks is not told": (
        [("    lose_calls_of_this_thread()\n", "")],
        forked_in_a_handler_while_it_waits,
        LOST,
    ),
    "who waits for a thread does not look whether it is here": (
        [("        if os.getpid() != process:\n            return False\n", "        pass\n")],
        forked_as_the_loop_starts,
        LOST,
    ),
    "two may end a call": (
        [("            del self.args\n", "            self.args  # noqa: B018\n")],
        given_up,
        "woken twice",
    ),
    "two may decide whether a call begins": (
        [("            del self._unbegun  # in one", "            self._unbegun  # noqa: B018")],
        given_up,
        "closed while it runs",
    ),
    "a call looks whether it was abandoned before it says that it has started": (
        [
            ("        self.started = True  # before", "        # before"),
            (
                "        background.calls.add(self)  #",
                "        self.started = True\n        background.calls.add(self)  #",
            ),
        ],
        timed_out,
        "began",
    ),
    "a call that was abandoned is started": (
        [("        if self.abandoned:\n            self.discard(asyncio.CancelledError())\n            return\n", "")],
        timed_out,
        "began",
    ),
    "who is interrupted waits though the call is done": (
        [("if self.started and not self.done and not lock", "if self.started and not lock")],
        interrupted_as_it_ends,
        LOST,
    ),
    "who is interrupted does not cancel": (
        [
            (
                "            self.abandoned = True\n            self.background.post(self._cancel_once)\n",
                "            self.abandoned = True\n",
            ),
        ],
        interrupted_twice,
        LOST,
    ),
    "who is interrupted twice tries to leave once": (
        [("been posted\n                self._leave()\n", "been posted\n")],
        interrupted_twice,
        "began",
    ),
    "who starts the loop does not look whether it was closed meanwhile": (
        [("                        self.end(self.closing", "                        (self.closing")],
        closed_while_it_starts,
        "for ever",
    ),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_each_of_these_lines_is_needed(name):
    changes, make, violation = MUTANTS[name]
    code = ModelCode(*changes, counts="counter" in name)
    result = explore(lambda: make(code))
    assert re.search(violation, result.violation or "")
