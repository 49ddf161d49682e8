"""A blocking call on the background loop itself raises at once, and names what to write instead."""

import asyncio
import threading

import pytest

from syncify import BlockingCallWarning, DeadlockError, Syncify


def test_the_error_names_the_function_and_the_form_to_use(syncer):
    class Client:
        @syncer
        async def get(self):
            pass

        @syncer
        async def calls_get(self):
            with pytest.raises(DeadlockError) as caught:
                self.get()
            return str(caught.value)

    message = Client().calls_get()
    assert message.startswith("Deadlock detected: ")
    assert "Client.get()" in message
    assert "`await " in message
    assert "Client.get.aio(...)`" in message
    assert repr(syncer.name) in message


def test_it_is_a_runtime_error_and_an_assertion_error():
    assert issubclass(DeadlockError, RuntimeError)
    assert issubclass(DeadlockError, AssertionError)


def test_nothing_has_been_started(syncer):
    """Warnings are errors here: a coroutine left behind would make one."""
    started = []

    @syncer
    async def inner():
        started.append(True)

    @syncer
    async def outer():
        with pytest.raises(DeadlockError):
            inner()
        with pytest.raises(DeadlockError):
            syncer.run(asyncio.sleep(0))
        await asyncio.sleep(0)

    outer()
    assert not started


def test_in_plain_code_under_async_code(syncer):
    @syncer
    async def inner():
        pass

    def plain():
        inner()

    @syncer
    async def outer():
        plain()

    with pytest.raises(DeadlockError, match=r"inner\(\)"):
        outer()


def test_in_a_callback_of_the_loop(syncer):
    @syncer
    async def inner():
        pass

    caught = []

    def callback():
        try:
            inner()
        except DeadlockError as error:
            caught.append(error)
        called.set()

    called = threading.Event()
    syncer.get_loop().call_soon_threadsafe(callback)
    assert called.wait(10)
    assert len(caught) == 1


def test_the_running_loop_decides_and_no_name_of_a_thread(syncer):
    """A thread of the same name is not the thread of the loop, and neither is that of another syncer of that name."""

    @syncer
    async def f():
        return 1

    results = []
    thread = threading.Thread(target=lambda: results.append(f()), name=syncer.name)
    thread.start()
    thread.join(10)
    assert results == [1]

    namesake = Syncify(syncer.name)

    @namesake
    async def calls():
        return f()

    with pytest.warns(BlockingCallWarning):
        assert calls() == 1


def test_a_thread_started_by_the_loop_may_block(syncer):
    @syncer
    async def inner():
        return 1

    @syncer
    async def outer():
        return await asyncio.to_thread(inner)

    assert outer() == 1


def test_a_caught_deadlock_leaves_everything_usable(syncer):
    @syncer
    async def inner():
        return 1

    @syncer
    async def outer():
        try:
            return inner()
        except DeadlockError:
            return await inner.aio()

    assert outer() == 1


def test_a_method_taken_from_its_class_is_named_with_it(syncer):
    class Client:
        @syncer
        async def get(self):
            pass

    async def main():
        with pytest.raises(DeadlockError, match=r"Client\.get\(\) was called"):
            Client.get(Client())

    syncer.run(main())


def test_where_blocking_is_allowed_it_is_a_deadlock_all_the_same():
    syncer = Syncify("allow", blocking="allow")

    @syncer
    async def inner():
        pass

    @syncer
    async def outer():
        inner()

    with pytest.raises(DeadlockError):
        outer()


def test_the_name_of_a_local_function_is_given_as_it_can_be_written(syncer):
    @syncer
    async def inner():
        pass

    @syncer
    async def outer():
        inner()

    with pytest.raises(DeadlockError, match=r"^Deadlock detected: inner\(\) was .* Write `await inner\.aio\(\.\.\.\)`"):
        outer()


def test_exception_of_a_submitted_call_names_itself(syncer):
    async def main():
        with pytest.raises(DeadlockError, match=r": exception\(\) of a submitted call"):
            syncer.run.submit(asyncio.sleep(0)).exception()

    syncer.run(main())
