"""Tables and plots of what was measured.

`make bench-report` writes the tables into the pages, between comments that name them, and the plots beside those; with
ARGS=--check it fails if the tables are not those of the figures in benchmarks/results.
"""

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

from rows import ROWS

RESULTS = Path(__file__).parent / "results"
ROOT = Path(__file__).parent.parent
PLOTS = ROOT / "docs/benchmarks"
PAGES = [ROOT / "README.md", ROOT / "docs/benchmarks.md"]
TABLE = re.compile(r"(<!-- table: ([^\n]*) -->\n).*?(<!-- end -->)", re.DOTALL)
OURS = "syncify"
BASE = "run_coroutine_threadsafe"  # what ratios are to, where it can do the work
NATIVE = "native"
GROUPS = {
    "blocking calls": ["trivial", "suspends", "raises", "access"],
    "async callers": ["sequential", "gathered", "own loop"],
    "streams": ["generator", "prefetched", "async for", "with"],
    "load": ["1 threads", "8 threads", "64 threads", "in flight", "memory"],
    "start": ["first", "import"],
    "clients": ["grpc", "redis"],
}

Figures = dict[str, dict[str, dict[str, float]]]


def base_of(row: str, figures: Figures) -> float | None:
    """Return what the standard library takes for it; for streams that are fetched ahead, what it takes for others."""
    return figures.get("generator" if row == "prefetched" else row, {}).get(BASE, {}).get("best")


def amount(row: str, value: float) -> str:
    if ROWS[row].unit == "byte":
        return f"{value / 1024:.1f} KiB"
    if value >= 1e-3:
        return f"{value * 1e3:.1f} ms"
    return f"{value * 1e6:.2f} µs" if value < 1e-5 else f"{value * 1e6:.1f} µs"


def cell(row: str, bridge: str, figures: Figures) -> str:
    if bridge not in figures.get(row, {}):
        return ""
    best = figures[row][bridge]["best"]
    base = base_of(row, figures)
    return amount(row, best) if base is None else f"{best / base:.3f} ({amount(row, best)})"


def table(rows: list[str], figures: Figures, bridges: list[str]) -> list[list[str]]:
    """A line for each bridge that takes part, the fastest first."""
    rows = [row for row in rows if row in figures]
    part = [bridge for bridge in bridges if any(bridge in figures[row] for row in rows)]
    part.sort(key=lambda bridge: [figures[row].get(bridge, {"best": float("inf")})["best"] for row in rows])
    head = ["", *(ROWS[row].title for row in rows)]
    return [head, *([bridge, *(cell(row, bridge, figures) for row in rows)] for bridge in part)] if rows else []


def as_text(figures: Figures) -> str:
    """The tables for a terminal."""
    lines = []
    bridges = list(dict.fromkeys(bridge for each in figures.values() for bridge in each))
    for name, rows in GROUPS.items():
        cells = table(rows, figures, bridges)
        if cells:
            widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]))]
            lines += ["", f"{name}: the ratio to {BASE} (the time)"]
            lines += ["  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)) for line in cells]
    return "\n".join(lines)


def as_markdown(rows: list[str], figures: Figures) -> str:
    bridges = list(dict.fromkeys(bridge for each in figures.values() for bridge in each))
    head, *lines = table(rows, figures, bridges)
    text = [head, [":--", *["--:"] * (len(head) - 1)]]
    text += [[f"**{cell}**" if line[0] == OURS and cell else cell for cell in line] for line in lines]
    return "".join(f"| {' | '.join(line)} |\n" for line in text)


SUMMARY = {
    "trivial": (BASE, "a blocking call, against `run_coroutine_threadsafe(...).result()`"),
    "suspends": (BASE, "one that suspends once"),
    "generator": (BASE, "an item of a generator, against such a call of `anext`"),
    "prefetched": (BASE, "one that is prefetched, `prefetch=256`"),
    "with": (BASE, "enter and exit of a `with`, against two such calls"),
    "sequential": (BASE, "`.aio` from another loop, against `wrap_future(run_coroutine_threadsafe(...))`"),
    "async for": (BASE, "an item of `async for` on another loop"),
    "64 threads": (BASE, "a blocking call, while 63 other threads make some"),
    "own loop": (NATIVE, "`.aio` on the background loop, against a native await"),
    "access": (NATIVE, "access to a bound method"),
}


def summarize(figures: Figures) -> str:
    lines = ["| | syncify | standard library | ratio |", "| :-- | --: | --: | --: |"]
    for row, (other, title) in SUMMARY.items():
        ours, theirs = figures[row][OURS]["best"], figures["generator" if row == "prefetched" else row][other]["best"]
        ratio = f"{ours / theirs:.3f}" if row == "prefetched" else f"{ours / theirs:.2f}"
        last = ratio if other == BASE else f"+{(ours - theirs) * 1e6:.2f} µs"
        lines.append(f"| {title} | {amount(row, ours)} | {amount(row, theirs)} | {last} |")
    return "".join(f"{line}\n" for line in lines)


def tables(run: str, result: dict[str, Any]) -> dict[str, str]:
    """Return the tables of one run, by their names."""
    found = {f"{run} summary": summarize(result["pinned"])}
    for way in ("pinned", "unpinned"):
        for name, rows in GROUPS.items():
            if any(row in result.get(way, {}) for row in rows):
                found[f"{run} {way} {name}"] = as_markdown(rows, result[way])
    machine = result["machine"]
    found[f"{run} about"] = (
        f"Python {result['python']}, {machine['system']}, {machine['cores']} cores of {machine['cpu']}, "
        f"{result['date']}, "
        f"the best of {' and '.join(f'{result[key]} {key}' for key in result if key.endswith(' rounds'))}. "
        + ", ".join(f"{name} {version}" for name, version in result["versions"].items())
        + ".\n"
    )
    return found


def plot(rows: list[str], figures: Figures, file: Path) -> None:
    """Bars of the ratios, on a scale where twice as fast is as far as twice as slow."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.hashsalt": "the same file for the same figures", "svg.fonttype": "none"})
    from matplotlib import pyplot

    rows = [row for row in rows if row in figures and base_of(row, figures) and len(figures[row]) > 1]
    if not rows:
        return
    counts = [len(figures[row]) for row in rows]
    figure, all_axes = pyplot.subplots(
        len(rows), figsize=(8, 0.24 * sum(counts) + 0.7 * len(rows)), height_ratios=counts, squeeze=False, sharex=True
    )
    for row, axes in zip(rows, all_axes.flat, strict=True):
        base = base_of(row, figures)
        assert base is not None
        ratios = sorted(((each["best"] / base, bridge) for bridge, each in figures[row].items()), reverse=True)
        colors = ["#00796b" if bridge.startswith(OURS) else "#b0bec5" for _, bridge in ratios]
        bars = axes.barh([bridge for _, bridge in ratios], [ratio for ratio, _ in ratios], color=colors)
        axes.bar_label(bars, [f"{ratio:.2f}" for ratio, _ in ratios], padding=3, fontsize=8)
        axes.axvline(1, color="#90a4ae", linewidth=0.8)
        axes.set_xscale("log")
        axes.set_title(ROWS[row].title.replace("`", ""), loc="left", fontsize=10)
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    all_axes.flat[-1].set_xlabel(f"time, as a ratio to {BASE}; less is faster", fontsize=8)
    figure.tight_layout()
    figure.savefig(file, metadata={"Date": None, "Creator": None})
    pyplot.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    results = {file.stem: json.loads(file.read_text()) for file in sorted(RESULTS.glob("*.json"))}
    found = {name: text for run, result in results.items() for name, text in tables(run, result).items()}
    for page in PAGES:
        text = page.read_text()
        filled = TABLE.sub(lambda match: f"{match[1]}{found[match[2]]}{match[3]}", text)
        if options.check and filled != text:
            sys.exit(f"the tables in {page.name} are not those of the figures: make bench-report")
        page.write_text(filled)
    if options.check:
        return
    PLOTS.mkdir(exist_ok=True)
    shown = "".join(page.read_text() for page in PAGES)
    for run, result in results.items():
        for way in ("pinned", "unpinned"):
            for name, rows in GROUPS.items():
                file = PLOTS / f"{run}-{way}-{name.replace(' ', '-')}.svg"
                if file.name in shown:
                    plot(rows, result.get(way, {}), file)


if __name__ == "__main__":
    main()
