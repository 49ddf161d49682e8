"""What must not slip: ratios, never times, with some room for the noise of a busy machine."""

from typing import Any

# By rows: what it is compared to, the most that it may take of that where tasks start eagerly, and where they do not
# (Python 3.11). What it does take is about an eighth less; two runs differ by a fiftieth.
LIMITS = {
    "trivial": ("run_coroutine_threadsafe", 0.50, 0.70),
    "suspends": ("run_coroutine_threadsafe", 0.60, 0.73),
    "raises": ("run_coroutine_threadsafe", 0.51, 0.76),
    "access": ("native", 8.0, 10.0),
    "sequential": ("run_coroutine_threadsafe", 0.45, 0.61),
    "own loop": ("native", 5.0, 6.5),
    "generator": ("run_coroutine_threadsafe", 0.55, 0.55),
    "prefetched": ("run_coroutine_threadsafe", 0.024, 0.024),
    "async for": ("run_coroutine_threadsafe", 0.47, 0.47),
    "with": ("run_coroutine_threadsafe", 0.66, 0.90),
    "64 threads": ("run_coroutine_threadsafe", 0.53, 0.62),
}
BRIDGES = ["syncify", "run_coroutine_threadsafe", "native"]


def slips(figures: dict[str, dict[str, dict[str, float]]], is_eager: bool) -> dict[str, str]:
    """Return the rows that take too much, and what there is to say of each."""
    found = {}
    for row, (other, *limits) in LIMITS.items():
        limit = limits[0 if is_eager else 1]
        base: Any = figures["generator" if row == "prefetched" else row][other]
        ratio = figures[row]["syncify"]["best"] / base["best"]
        if ratio > limit:
            found[row] = f"{row}: {ratio:.3f} of {other}, where {limit} is the most"
    return found
