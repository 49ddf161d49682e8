"""How a thread waits for another one."""

import threading

import pytest

from syncify._threads import Done


@pytest.mark.parametrize("struck", [False, True])
def test_all_who_wait_go_on_when_it_is_set(struck):
    """A signal may have struck one of them when it had acquired the lock, which it does not release then."""

    def wait():
        while not done.is_set:
            done.wait(0.01)

    done = Done()
    threads = [threading.Thread(target=wait) for _ in range(4)]
    for thread in threads:
        thread.start()
    done.wait(0.001)
    assert not done.is_set
    done.set()
    if struck:
        done._lock.acquire(False)
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    done.wait(1000)
    assert done.is_set


def test_each_who_waits_lets_the_next_go_on():
    def wait():
        barrier.wait()
        done.wait(1000)

    done, barrier = Done(), threading.Barrier(5)
    threads = [threading.Thread(target=wait) for _ in range(4)]
    for thread in threads:
        thread.start()
    barrier.wait()
    threading.Event().wait(0.05)  # until most of them wait
    done.set()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
