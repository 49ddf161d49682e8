"""Every interleaving of a few threads in the library's own code. No real thread runs, and nothing is left to luck.

The source of the classes that threads share is taken as it is and rewritten: each method becomes a generator that
yields before every access to a field which others may change, and at the end of every `try`. A call of such a method
becomes a `yield from`. So a thread, here called an actor, is a generator: it can be stopped at each of its steps,
looked at, and struck by an exception as by a signal handler. What the code stands on is made of the same stuff: locks,
an event loop with its queue and its selector, tasks. Who has to wait yields the condition that he waits for. The only
clock is one that an actor may set. So the steps of a long wait never elapse, and cannot save what a wake-up has missed.

`explore` goes through all schedules, depth first. A generator cannot be copied, so it comes back to a state by taking
the same steps again, from the beginning. A state is the shared objects, with the position and the local variables of
each actor; one that has been seen before is not gone on from.
"""

import ast
import builtins
import inspect
import linecache
import random
import sys
import textwrap
from collections import deque
from contextlib import closing
from pathlib import Path
from types import FunctionType, GeneratorType, MethodType

CHANGED_IN_PLACE = {"incoming": "incoming", "calls": "calls", "in_flight": "calls"}  # and what they are the same as
ALONE = {"_lock"}  # assigned before anybody else comes to know the object


class Stepped(ast.NodeTransformer):
    """Makes generators of functions, which yield the name of a field before they touch it; and "=", to change it."""

    def __init__(self, fields):
        self.fields = fields  # that are ever assigned
        self.owner = None  # the class

    def block(self, statements):
        made = []
        for statement in statements:
            new = self.visit(statement)
            made += new if isinstance(new, list) else [new]
        return made

    def generic_visit(self, node):
        for field, value in ast.iter_fields(node):
            if isinstance(value, ast.AST):
                setattr(node, field, self.visit(value))
            elif isinstance(value, list) and value and isinstance(value[0], ast.stmt):
                setattr(node, field, self.block(value))
            elif isinstance(value, list):
                value[:] = [self.visit(each) if isinstance(each, ast.AST) else each for each in value]
        return node

    def visit_ClassDef(self, node):
        self.owner = node.name
        node.body = [
            self.visit(each) if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef) else each for each in node.body
        ]
        return node

    def visit_FunctionDef(self, node):
        node.returns = None  # annotations are evaluated, and may not be there
        for argument in ast.walk(node.args):
            if isinstance(argument, ast.arg):
                argument.annotation = None
        decorators = [ast.unparse(each) for each in node.decorator_list]
        if decorators in ([], ["staticmethod"]) and node.name != "__init__":  # others cannot be called in that way
            node.body = self.block(node.body)
        return node

    def visit_AsyncFunctionDef(self, node):
        node = self.visit_FunctionDef(ast.copy_location(ast.FunctionDef(**dict(ast.iter_fields(node))), node))
        node.decorator_list.append(ast.Name("coroutine", ast.Load()))
        return node

    def visit_Attribute(self, node):
        self.generic_visit(node)
        if not self.yields_at(node):
            return node
        change = "=" if node.attr in CHANGED_IN_PLACE else ""
        return written(f"((yield {self.label(node) + change!r}), HOLE)[1]", node, HOLE=node)

    def visit_Call(self, node):
        self.generic_visit(node)
        if isinstance(node.func, ast.Name) and hasattr(builtins, node.func.id):
            names = [each.value for each in node.args if isinstance(each, ast.Constant) and each.value in self.fields]
            return written(f"((yield {names[0]!r}), HOLE)[1]", node, HOLE=node) if names else node  # getattr, hasattr
        return written("(yield from _called) if type(_called := HOLE) is GeneratorType else _called", node, HOLE=node)

    def visit_Await(self, node):
        return written("(yield from HOLE.steps)", node, HOLE=self.visit(node.value))

    def visit_Lambda(self, node):  # there cannot be a yield in it
        return node

    visit_GeneratorExp = visit_ListComp = visit_Lambda  # noqa: N815

    def yields_at(self, node):
        return isinstance(node, ast.Attribute) and (node.attr in self.fields or node.attr in CHANGED_IN_PLACE)

    def label(self, node):
        """The name of a field. That of a `life` is not taken for one of other objects with the same name."""
        owner = ast.unparse(node.value)
        of_life = owner == "life" or (owner == "self" and self.owner == "Life")
        return CHANGED_IN_PLACE.get(node.attr) or ("life." if of_life else "") + node.attr

    def before(self, target):
        made = []
        for each in filter(self.yields_at, ast.walk(target)):
            made += written(f"yield {self.label(each) + '='!r}", target.parent)
        return made

    def store(self, node, targets, value):
        """One store after another, each of them a step."""
        made = written("_value = HOLE", node, HOLE=value)
        for target in targets:
            target.parent = node
            made += [*self.before(target), *written("HOLE = _value", node, HOLE=target)]
        return [*made, *written("del _value", node)]

    def visit_Assign(self, node):
        return self.store(node, node.targets, self.visit(node.value))

    def visit_AnnAssign(self, node):
        return self.store(node, [node.target], self.visit(node.value)) if node.value is not None else node

    def visit_AugAssign(self, node):
        read = written(ast.unparse(node.target), node)[0].value
        value = ast.copy_location(ast.BinOp(self.visit(read), node.op, self.visit(node.value)), node)
        return self.store(node, [node.target], value)

    def visit_Delete(self, node):
        node.targets[0].parent = node
        return [*self.before(node.targets[0]), node]

    def visit_For(self, node):
        """With a list of what is still to come. That is part of the state, and an iterator cannot be looked into."""
        rest = f"_rest_{node.lineno}"
        made = written(
            f"{rest} = list(HOLE)\nwhile {rest}: HOLES = {rest}.pop(0)", node, HOLE=node.iter, HOLES=node.target
        )
        made[0].value = self.visit(made[0].value)
        made[1].body += self.block(node.body)
        return made

    def visit_Return(self, node):
        if not isinstance(node.value, ast.ListComp):
            return self.generic_visit(node)
        [loop] = node.value.generators
        source = "_made = []\nfor HOLES in OVER:\n    if TEST: _made.append(HOLE)\nreturn _made"
        names = {"HOLES": loop.target, "OVER": loop.iter, "TEST": loop.ifs[0], "HOLE": node.value.elt}
        return self.block(written(source, node, **names))

    def visit_With(self, node):
        if not isinstance(node.items[0].context_expr, ast.Attribute):
            return self.generic_visit(node)
        source = "_with = HOLE\n_with.acquire(True)\ntry: pass\nfinally: _with.release()"
        made = written(source, node, HOLE=node.items[0].context_expr)
        made[2].body = node.body
        return self.block(made)

    def visit_Try(self, node):
        self.generic_visit(node)
        node.body += written("yield ''", node.body[-1])  # a signal handler may raise between here and the next line
        # What is not needed any more is closed, and has to let itself be closed.
        if node.handlers:
            node.handlers[:0] = written("try: pass\nexcept GeneratorExit: raise", node)[0].handlers
        if node.finalbody:
            last = written("if not isinstance(exception(), GeneratorExit): pass", node)
            last[0].body, node.finalbody = node.finalbody, last
        return node


def written(source, where, **holes):
    """These statements, or this expression, with nodes in the place of names, as if written there."""
    made = ast.parse(source).body
    for statement in made:
        for each in ast.walk(statement):
            if hasattr(each, "lineno"):
                each.lineno = each.end_lineno = where.lineno

    class Fill(ast.NodeTransformer):
        def visit_Name(self, name):
            node = holes.get(name.id, name)
            if node is not name and isinstance(name.ctx, ast.Store):
                node = ast.copy_location(ast.parse(ast.unparse(node) + " = 0").body[0].targets[0], where)
            return node

    made = [Fill().visit(statement) for statement in made]
    return made[0].value if isinstance(made[0], ast.Expr) and isinstance(where, ast.expr) else made


class Code:
    """The classes and functions in `sources`, rewritten, among other names. A change is a pair of texts."""

    def __init__(self, sources, names, changes=()):
        trees = []
        found = dict.fromkeys(changes, 0)
        for each in sources:
            lines, first = inspect.getsourcelines(each)
            text = textwrap.dedent("".join(lines))
            for old, new in changes:
                found[old, new] += text.count(old)
                text = text.replace(old, new)
            trees.append((ast.increment_lineno(ast.parse(text), first - 1), Path(inspect.getsourcefile(each))))
        assert set(found.values()) <= {1}, f"to be found once: {found}"
        assigned = set()
        functions = ast.FunctionDef | ast.AsyncFunctionDef
        for function in [each for tree, _ in trees for each in ast.walk(tree) if isinstance(each, functions)]:
            if function.name not in ("__init__", "reset"):
                fields = [each for each in ast.walk(function) if isinstance(each, ast.Attribute)]
                assigned |= {each.attr for each in fields if not isinstance(each.ctx, ast.Load)}
        assigned = {field for field in assigned - ALONE if not field.startswith("__")}
        self.names = {**names, "GeneratorType": GeneratorType, "coroutine": coroutine}
        self.names["exception"] = lambda: sys.exc_info()[1]
        for tree, path in trees:
            tree = ast.fix_missing_locations(Stepped(assigned).visit(tree))
            exec(compile(tree, str(path), "exec"), self.names)


def run(result):
    """What a call returns, if that is a generator at the end of its steps."""
    return (yield from result) if type(result) is GeneratorType else result


class Coroutine:
    def __init__(self, steps):
        self.steps = steps

    def close(self):
        self.steps.close()


def coroutine(function):
    return lambda *args: Coroutine(function(*args))


class Actor:
    def __init__(self, name, steps, strikes=0, handler=None, last=False, may_stay=False):
        self.name = name
        self.steps = steps
        self.strikes = strikes  # how many signals it may get
        self.struck_at = "everything" if handler else ""
        self.handler = handler or (lambda actor: actor.steps.throw(Interrupt()))
        self.last = last  # it begins when nobody else can go on
        self.may_stay = may_stay  # at the end, if it has not been struck
        self.at = ""  # the field that it is about to touch
        self.condition = None  # that it waits for
        self.frozen = None
        self.over = self.begun = False


class NewlyShared(BaseException):
    pass


class Interrupt(BaseException):
    """What a signal handler raises."""


class World:
    """The actors and the objects that they share, at one moment."""

    # Numbers that are only compared with each other, by the names of variables. States in which all of them are higher
    # by the same are the same.
    relative = frozenset()

    def __init__(self):
        self.actors, self.by_name = [], {}
        self.objects = []
        self.actor = None
        self.violation = None
        self.now = self.until = 0
        self.shared, self.touched = set(), set()  # the fields that actors have to stop at; who touches the others

    def add(self, *args, **kwargs):
        actor = Actor(*args, **kwargs)
        self.actors.append(actor)
        self.by_name[actor.name] = actor

    def close(self):
        """End what is still under way, from the outside in. The garbage collector would do it in any order."""
        for each in self.actors:
            each.steps.close()

    def register(self, thing, kind):
        """Name a shared object, in the same way in each schedule."""
        name = f"{kind} of {self.actor.name if self.actor else 'nobody'}"
        self.objects.append(thing)
        return f"{name} {sum(each.tag.startswith(name) for each in self.objects[:-1])}"

    def able(self):
        """Who can take a step. Empty if nobody can but those who begin last: then all others have what they get."""
        return [
            each
            for each in self.actors
            if not each.over and (each.begun or not each.last) and (each.condition is None or each.condition())
        ]

    def choices(self):
        """The steps that may come next."""
        steps = [(each.name, "goes on") for each in self.able()]
        steps += [(each.name, "is struck") for each in self.actors if each.strikes and each.begun and not each.over]
        return steps or [(each.name, "goes on") for each in self.actors if not each.begun]

    def take(self, choice):
        """Let an actor go on to where it touches something that is shared, or has to wait."""
        self.actor = actor = self.by_name[choice[0]]
        actor.begun = True
        actor.frozen = None
        try:
            if choice[1] == "is struck":
                actor.strikes -= 1
                actor.may_stay = False
                at = actor.handler(actor)
            else:
                at = actor.steps.send(None)
            while True:
                at, condition = at if type(at) is tuple else (at, None)
                field = at.rstrip("=")
                if field not in self.shared and (at, choice[0]) not in self.touched:
                    self.note(at, field)
                # A signal handler may raise anywhere.
                if field in self.shared or condition or actor.strikes:
                    break
                at = actor.steps.send(None)
            actor.at, actor.condition = at, condition
        except StopIteration:
            actor.over = True

    def note(self, at, field):
        """Find out what is shared: what two actors touch, of whom at least one changes it."""
        self.touched.add((at, self.actor.name))
        changed = {who for touched, who in self.touched if touched == field + "="}
        known = changed | {who for touched, who in self.touched if touched == field}
        if field and changed and len(known) > 1:
            raise NewlyShared(field)

    def state(self):
        World.current = self
        for each in self.actors:
            if each.frozen is None or each.frozen[0] != self.zero():
                each.frozen = self.zero(), each.over or frozen(each.steps), each.strikes
        actors = tuple(each.frozen[1:] for each in self.actors)
        things = tuple(sorted((each.tag, *map(frozen, each.fields())) for each in self.objects))
        return hash((actors, things, self.now, self.until))

    def are_independent(self, one, other):
        """Whether it makes no difference which of two choices comes first."""
        if one[0] == other[0]:
            return False
        a, b = (
            self.by_name[name].at if what == "goes on" else self.by_name[name].struck_at for name, what in (one, other)
        )
        return "everything" not in (a, b) and (a.rstrip("=") != b.rstrip("=") or a == b == a.rstrip("="))


def frozen(value, name=""):
    """What a state knows of a value."""
    kind = type(value)
    if kind is int and name in World.current.relative:
        return str(value - World.current.zero())
    if kind is int or kind is float:
        return str(value)  # -1 and -2 have the same hash
    if value is None or kind is bool or kind is str:
        return value
    if hasattr(value, "tag"):
        return value.tag
    if kind is GeneratorType:
        frames = []
        while value is not None and value.gi_frame is not None:
            frame = value.gi_frame
            known = [(name, frozen(each, name)) for name, each in sorted(frame.f_locals.items()) if name != "_called"]
            frames.append((id(frame.f_code), frame.f_lasti, *known))
            value = value.gi_yieldfrom
        return tuple(frames)
    if kind in (tuple, list, deque):
        return tuple(map(frozen, value))
    if kind is set:
        return frozenset(map(frozen, value))
    if kind is MethodType:
        return value.__func__.__qualname__, frozen(value.__self__)
    if kind is FunctionType:
        return value.__qualname__
    return kind.__name__


class Result:
    def __init__(self):
        self.states = self.replays = 0
        self.violation = None


def explore(make, most=100_000):
    """Go through all schedules of the worlds that `make` makes, up to the first violation.

    Actors have to stop only at what they share. What that is, the schedules show: begin with nothing, and begin again
    with one field more when two actors come to it.
    """
    shared, chance = set(), random.Random(0)
    samples = 100  # find most of it soon
    while True:
        try:
            while samples:
                samples -= 1
                with closing(replay(make, (), shared, set())) as world:
                    while (choices := world.choices()) and not world.violation:
                        world.take(chance.choice(choices))
            return _explore(make, shared, most)
        except NewlyShared as found:
            shared |= set(found.args)


def _explore(make, shared, most):
    """Of two choices that are independent, the second is not tried first: it sleeps until something depends on it."""
    touched = set()
    result, seen, todo = Result(), {}, [((), frozenset())]
    while todo:
        schedule, asleep = todo.pop()
        with closing(replay(make, schedule, shared, touched)) as world:
            while not world.violation:
                state = world.state()
                before = seen.get(state)
                if before is None:
                    world.look()
                    choices = [each for each in world.choices() if each not in asleep]
                    seen[state] = asleep
                else:
                    # What has slept here each time has to be tried now, if it does not sleep any more.
                    choices = [each for each in world.choices() if each in before and each not in asleep]
                    seen[state] = asleep & before
                if not choices or world.violation:
                    break
                others = []
                for choice in choices:
                    others.append((choice, frozenset(each for each in asleep if world.are_independent(each, choice))))
                    asleep |= {choice}
                todo += [((schedule, choice), still) for choice, still in others[1:]]
                choice, asleep = others[0]
                schedule = (schedule, choice)
                world.take(choice)
        result.replays += 1
        assert len(seen) < most, "more states than a test has time for"
        if world.violation:
            result.violation, result.schedule, result.shared = world.violation, schedule, shared
            break
    result.states = len(seen)
    return result


def replay(make, schedule, shared, touched, before=lambda world, choice: None):
    choices = []
    while schedule:
        schedule, choice = schedule
        choices.append(choice)
    world = make()
    world.shared, world.touched = shared, touched
    try:
        for choice in reversed(choices):
            before(world, choice)
            world.take(choice)
    except BaseException:
        world.close()
        raise
    return world


def told(make, result):
    """The schedule of a violation in words: who comes to which line."""
    lines = []

    def before(world, choice):
        steps = next(each.steps for each in world.actors if each.name == choice[0])
        place = "begins"
        while steps is not None:
            frame = steps.gi_frame
            if frame.f_lasti >= 0 and Path(frame.f_code.co_filename).parent.name == "syncify":
                place = linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip()
                place = f"{Path(frame.f_code.co_filename).stem}:{frame.f_lineno}  {place}"
            steps = steps.gi_yieldfrom
        lines.append(f"{choice[0]} {choice[1]}: {place}")

    replay(make, result.schedule, result.shared, set(), before).close()
    return "\n".join([*lines, result.violation])
