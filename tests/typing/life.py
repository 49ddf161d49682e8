"""What a type checker makes of the life of a syncer, and of time limits. Checked, not run: `make types`."""

from contextlib import AbstractContextManager
from typing import assert_type

from syncify import ClosedError, DeadlockError, Syncify, timeout

syncer = Syncify("typed", stuck_after=None, exit_timeout=2)
syncer.close()
syncer.close(timeout=1)
syncer.close(None)
assert_type(syncer.close(0.5), None)

with Syncify("block") as block:
    assert_type(block, Syncify)

assert_type(timeout(5), AbstractContextManager[None])
with timeout(0.5), timeout(None):
    pass

errors: list[type[RuntimeError]] = [ClosedError, DeadlockError]

Syncify("typed", stuck_after="5")  # error
Syncify("typed", exit_timeout="5")  # error
syncer.close("5")  # error
timeout("5")  # error
timeout()  # error
