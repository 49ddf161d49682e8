"""How the users of each library get from plain code to async code.

Each module here is one library, and names its bridges in `BRIDGES`. A bridge has those of these methods that its
library has something for, as its users would write it:

    blocking(function)          the coroutine function as a plain one
    aio(function)               the same for other event loops
    submit(function)            the same, returning a future of `concurrent.futures`
    generator(function)         the async generator function as one that plain code iterates over
    prefetched(function)        the same, fetching ahead
    async_generator(function)   the same for other event loops
    context_manager(function)   the async context manager function as one for `with`
    method(function)            what the body of a class has in place of an async method
    run(measure)                calls a plain function where blocking calls work, if that is not everywhere

`imports` is the module that its users import; `rows` are all that it takes part in, if it is not a bridge but a floor;
`keeps_its_loop` says that what one call connects is of use to the next, and `is_of_one_thread` that it is not to be
shared by threads.
"""

import importlib
import tomllib
from pathlib import Path
from typing import Any

# The names of the environments, what is installed in each, and its bridges: the module here, and what they are called.
ENVIRONMENTS: dict[str, dict[str, Any]] = tomllib.loads(Path(__file__).with_name("environments.toml").read_text())
BRIDGES = {name: key for key, value in ENVIRONMENTS.items() for names in value["bridges"].values() for name in names}


def load(name: str) -> Any:
    """Make the bridge of that name. This imports its library."""
    for module, names in ENVIRONMENTS[BRIDGES[name]]["bridges"].items():
        if name in names:
            bridge = importlib.import_module(f"{__name__}.{module}").BRIDGES[name]()
            bridge.name = name
            return bridge
    raise LookupError(name)
