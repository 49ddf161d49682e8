"""Decorated methods of every kind."""

import abc
import asyncio
import functools
import gc
import weakref
from dataclasses import dataclass
from typing import Protocol, runtime_checkable
from unittest.mock import ANY

import pytest

from syncify import syncify


class Base:
    kind = "base"

    def __init__(self, x=1):
        self.x = x

    @syncify
    async def get(self, add=0):
        """Get."""
        await asyncio.sleep(0)
        return self.x + add

    @syncify
    @classmethod
    async def make(cls, x=5):
        return cls(x)

    @syncify
    @staticmethod
    async def double(x):
        return 2 * x


class Child(Base):
    kind = "child"

    @syncify
    async def get(self, add=0):
        return 100 + await super().get.aio(add)

    @syncify
    @classmethod
    async def make(cls, x=6):
        made = await super().make.aio(x)
        made.x += 1000
        return made

    @syncify
    @staticmethod
    async def double(x):
        return 1 + await Base.double.aio(x)


def in_every_way(method, *args):
    """The results of a blocking call, a submitted one, and one from another loop."""

    async def main():
        return await method.aio(*args)

    return [method(*args), method.submit(*args).result(), asyncio.run(main())]


def test_an_instance_method():
    assert in_every_way(Base(2).get, 3) == [5, 5, 5]


def test_an_instance_method_through_the_class():
    assert in_every_way(Base.get, Base(2), 3) == [5, 5, 5]


@pytest.mark.parametrize("on", [Child, Child()])
def test_a_classmethod_gets_the_class_whether_called_on_it_or_on_an_instance(on):
    for made in in_every_way(on.make, 1):
        assert type(made) is Child
        assert made.x == 1001


@pytest.mark.parametrize("on", [Base, Base()])
def test_a_staticmethod_on_the_class_and_on_an_instance(on):
    assert in_every_way(on.double, 4) == [8, 8, 8]


def test_an_override_calls_super():
    assert in_every_way(Child(2).get, 3) == [105, 105, 105]
    assert in_every_way(Child.double, 4) == [9, 9, 9]


def test_a_staticmethod_above_the_decorator():
    class C:
        @staticmethod
        @syncify
        async def f(x):
            return x

    assert in_every_way(C.f, 1) == in_every_way(C().f, 1) == [1, 1, 1]


def test_bound_methods_compare_and_hash_as_native_ones():
    a, b = Base(), Base()
    assert a.get == a.get
    assert hash(a.get) == hash(a.get)
    assert a.get != b.get
    assert a.get != a.make
    assert a.get.__self__ is a
    assert a.get.__func__ is Base.get
    assert Child.make == Child().make
    assert Child.make.__self__ is Child
    assert a.get != 3


def test_bound_methods_look_like_the_function():
    method = Base().get
    assert (method.__name__, method.__qualname__, method.__doc__) == ("get", "Base.get", "Get.")
    assert Base.get.__doc__ == "Get."
    assert "Base.get of <" in repr(method)
    assert "Base.get at" in repr(Base.get)
    assert Base.__dict__["make"].__name__ == "make"
    assert "Base.make at" in repr(Base.__dict__["make"])


def test_abstract_methods():
    class A(abc.ABC):
        @syncify
        @abc.abstractmethod
        async def below(self): ...

        @abc.abstractmethod
        @syncify
        async def above(self): ...

        @syncify
        @classmethod
        @abc.abstractmethod
        async def of_class(cls): ...

        @syncify
        @staticmethod
        @abc.abstractmethod
        async def static(): ...

    assert A.__abstractmethods__ == {"below", "above", "of_class", "static"}
    with pytest.raises(TypeError, match="abstract"):
        A()

    class B(A):
        @syncify
        async def below(self):
            return 1

        @syncify
        async def above(self):
            return 2

        @syncify
        @classmethod
        async def of_class(cls):
            return 3

        @syncify
        @staticmethod
        async def static():
            return 4

    b = B()
    assert [b.below(), b.above(), b.of_class(), b.static()] == [1, 2, 3, 4]


def test_slots():
    class Slotted:
        __slots__ = ("x",)

        def __init__(self):
            self.x = 3

        @syncify
        async def get(self):
            return self.x

    assert in_every_way(Slotted().get) == [3, 3, 3]


@pytest.mark.parametrize("slots", [False, True])
def test_dataclasses(slots):
    @dataclass(slots=slots, frozen=True)
    class Point:
        x: int

        @syncify
        async def get(self) -> int:
            return self.x

    assert in_every_way(Point(4).get) == [4, 4, 4]
    assert Point(4) == Point(4)


def test_a_dataclass_field_may_hold_a_syncified_function():
    async def f():
        return 5

    @dataclass
    class Holder:
        call: object

    assert in_every_way(Holder(syncify(f)).call) == [5, 5, 5]


def test_protocols():
    @runtime_checkable
    class Gets(Protocol):
        @syncify
        async def get(self, add: int = 0) -> int: ...

    assert isinstance(Base(), Gets)
    assert not isinstance(object(), Gets)

    class Explicit(Gets):
        @syncify
        async def get(self, add: int = 0) -> int:
            return add

    assert in_every_way(Explicit().get, 2) == [2, 2, 2]


def test_what_does_not_bind_natively_does_not_bind():
    class Callable:
        async def __call__(self, *args):
            return args

    class C:
        bound = syncify(Callable().__call__)
        obj = syncify(Callable())

    assert C().bound(2) == (2,)
    assert C().obj(2) == (2,)


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of Python 3.13, since partials bind from 3.14 on
def test_a_partial_binds_where_it_does_natively():
    async def plain(*args):
        return args

    class C:
        partial = syncify(functools.partial(plain, 1))
        native = functools.partial(plain, 1)

    c = C()
    assert c.partial(2) == asyncio.run(c.native(2))


def test_a_property_may_return_a_bound_method():
    class C(Base):
        @property
        def fetch(self):
            return self.get

    assert C(3).fetch() == 3


def test_a_bound_method_holds_its_instance_no_longer_than_it_lives():
    base = Base()
    gone = weakref.ref(base)
    gc.disable()
    try:
        assert base.get() == 1
        base.get.submit().result()
        del base
        syncify.run(asyncio.sleep(0))
        syncify.run(asyncio.sleep(0))
        assert gone() is None
    finally:
        gc.enable()


def test_a_generic_class_and_a_method_assigned_later():
    class C:
        def __init__(self):
            self.x = 9

    async def get(self):
        return self.x

    C.get = syncify(get)
    assert in_every_way(C().get) == [9, 9, 9]


class Parent:
    @syncify
    async def get(self):
        pass


class Heir(Parent):
    @syncify
    async def get(self):
        pass

    def inherited(self):
        return super().get


def test_a_method_is_not_the_one_that_it_overrides():
    child = Heir()
    assert child.get != child.inherited()


def test_methods_of_instances_that_are_equal_are_not():
    @dataclass
    class Point:  # not hashable, either
        x: int

        @syncify
        async def get(self):
            return self.x

    a, b = Point(1), Point(1)
    assert a == b
    assert a.get != b.get
    assert len({a.get, a.get, b.get}) == 2


def test_a_method_leaves_it_to_the_other_to_be_equal():
    assert Parent().get == ANY


def test_a_bound_method_takes_no_attributes_as_a_native_one():
    with pytest.raises(AttributeError):
        Parent().get.x = 1


def test_a_subclass_of_classmethod():
    class C:
        @syncify
        @type("Sub", (classmethod,), {})
        async def f(cls):  # noqa: N805
            return cls

    assert C.f() is C().f() is C


def test_a_method_object_does_not_bind_again():
    async def f(*args):
        return args

    class C:
        pass

    import types

    C.f = syncify(types.MethodType(f, 1))
    assert C().f(2) == (1, 2)
