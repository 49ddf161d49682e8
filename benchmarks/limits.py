"""What must not slip: the instructions that each kind of trip takes, beside those of what it is compared to.

Not the times: the same code takes 0.44 of the time of `run_coroutine_threadsafe` on one processor and 0.55 on another,
where the kernel takes longer to change threads, and on a busy machine anything. A slip of a tenth is lost in that.
"""

import os
import sys
from concurrent.futures import ThreadPoolExecutor

from instructions import count

# By rows: what it is compared to, and the ratio, where tasks start eagerly and where they do not (Python 3.11).
RATIOS = {
    "trivial": ("trivial", "run_coroutine_threadsafe", 0.305, 0.485),
    "suspends": ("suspends", "run_coroutine_threadsafe", 0.403, 0.544),
    "raises": ("raises", "run_coroutine_threadsafe", 0.434, 0.575),
    "access": ("access", "native", 4.84, 5.88),
    "sequential": ("sequential", "run_coroutine_threadsafe", 0.340, 0.475),
    "own loop": ("own loop", "native", 3.15, 2.98),
    "generator": ("generator", "run_coroutine_threadsafe", 0.354, 0.340),
    "prefetched": ("generator", "run_coroutine_threadsafe", 0.035, 0.029),
    "async for": ("async for", "run_coroutine_threadsafe", 0.352, 0.345),
    "with": ("with", "run_coroutine_threadsafe", 0.572, 0.621),
    "64 threads": ("64 threads", "run_coroutine_threadsafe", 0.243, 0.415),
}
ROOM = 1.1  # so many times that is the most
TRIES = 3  # two counts differ by a hundredth, where threads wake each other by up to a tenth; the least counts


def check() -> None:
    """Print the ratios, and fail where one exceeds its limit."""
    counts = count_all({(base, bridge) for base, bridge, *_ in RATIOS.values()})
    exceeding = dict.fromkeys(RATIOS, "")
    for _ in range(TRIES):
        for cell, instructions in count_all({(row, "syncify") for row in exceeding}).items():
            counts[cell] = min(instructions, counts.get(cell, instructions))
        exceeding = {row: line for row in exceeding if (line := judge(row, counts))}
        if not exceeding:
            return
    sys.exit("\n".join(["It takes more than it did:", *exceeding.values()]))


def count_all(cells: set[tuple[str, str]]) -> dict[tuple[str, str], float]:
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return dict(zip(cells, pool.map(lambda cell: count(*cell), cells), strict=True))


def judge(row: str, counts: dict[tuple[str, str], float]) -> str:
    """Print the ratio, and return what there is to say if it exceeds its limit."""
    base, bridge, *ratios = RATIOS[row]
    instructions = counts[row, "syncify"]
    ratio = instructions / counts[base, bridge]
    most = ratios[sys.version_info < (3, 12)] * ROOM
    line = f"{row}: {instructions:,.0f} instructions, {ratio:.3f} of {bridge}, where {most:.3f} is the most"
    print(line, flush=True)
    return line if ratio > most else ""
