"""Measures bridges side by side, and keeps the figures.

Absolute times differ between machines and between two minutes on one machine; ratios hold. So each row of work is
measured in rounds: in each round, one process for every bridge, one after the other, pinned to one core; the best value
of all rounds counts.

    make bench                                 this library beside the standard one, on asyncio and uvloop
    make bench-peers                           and every other bridge, each in an environment of its own
    make bench ARGS="--rows trivial --rounds 3"
    make bench ARGS=--check                    counts instructions instead, and fails if there are more than there were
"""

import argparse
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import limits
import pyperf
import report
import servers
from bridges import BRIDGES, ENVIRONMENTS
from rows import ROWS

HERE = Path(__file__).parent
WORKER = str(HERE / "worker.py")
OWN = "syncify"  # the environment that this runs in


def find_pythons(names: list[str], environments: Path) -> dict[str, str]:
    """Return the interpreter for each bridge: this one, for those of its own environment."""
    return {
        name: sys.executable if BRIDGES[name] == OWN else str(environments / f"peer-{BRIDGES[name]}/bin/python")
        for name in names
    }


def list_rows(name: str, python: str) -> list[str]:
    return subprocess.run(
        [python, WORKER, "--rows", name], check=True, stdout=subprocess.PIPE, text=True
    ).stdout.splitlines()


def measure(
    cells: list[tuple[str, str]], pythons: dict[str, str], rounds: int, core: int | None
) -> tuple[report.Figures, list[tuple[str, str]]]:
    """Return the values of each row and bridge, and the cells that have failed, which are left out of later rounds."""
    failed = set()
    needs_servers = any(row in servers.NAMES for row, _ in cells)
    with tempfile.TemporaryDirectory() as folder, servers.running() if needs_servers else nullcontext({}) as addresses:
        for done in range(rounds):
            for row, bridge in cells:
                if (row, bridge) in failed or (row in servers.NAMES and servers.NAMES[row] not in addresses):
                    continue
                print(f"\rround {done + 1} of {rounds}: {row}, {bridge}\033[K", end="", file=sys.stderr, flush=True)
                each = ROWS[row]
                command = [pythons[bridge], WORKER, row, bridge, "--quiet", "--processes=1", f"--loops={each.loops}"]
                command += [f"--values={each.values}", f"--warmups={int(each.values > 1)}", "--timeout=120"]
                command += [f"--append={Path(folder, f'{row}, {bridge}.json')}"]
                command += [f"--inherit-environ={','.join(addresses)}"] if addresses else []
                command += [] if core is None else [f"--affinity={core}"]
                run = subprocess.run(command, env=os.environ | addresses, capture_output=True, text=True)
                if run.returncode:
                    failed.add((row, bridge))
                    print(f"\n{run.stdout}{run.stderr}", file=sys.stderr)
        print(file=sys.stderr)
        figures: report.Figures = {}
        for row, bridge in cells:
            if (row, bridge) not in failed and (file := Path(folder, f"{row}, {bridge}.json")).exists():
                values = pyperf.Benchmark.load(str(file)).get_values()
                figures.setdefault(row, {})[bridge] = {"best": min(values), "median": statistics.median(values)}
    return figures, sorted(failed)


def versions(pythons: dict[str, str]) -> dict[str, str]:
    code = "import sys, importlib.metadata as m; [print(n, m.version(n)) for n in sys.argv[1:]]"
    found = {}
    for environment, value in ENVIRONMENTS.items():
        python = next((python for name, python in pythons.items() if BRIDGES[name] == environment), None)
        if python is not None:
            names = ["syncify-aio" if name == "." else name for name in value["requires"]]
            lines = subprocess.run([python, "-c", code, *names], check=True, stdout=subprocess.PIPE, text=True).stdout
            found.update(line.split() for line in lines.splitlines())
    return found


def describe_machine() -> dict[str, Any]:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return {"cpu": models[0] if models else platform.machine(), "cores": os.cpu_count(), "system": platform.system()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--environments", type=Path, help="the folder with the environments of the peers")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS), metavar="ROW", help=", ".join(ROWS))
    parser.add_argument("--bridges", nargs="+", choices=BRIDGES, metavar="BRIDGE", help=", ".join(BRIDGES))
    parser.add_argument("--rounds", type=int, default=5, help="of which the best counts; %(default)s by default")
    parser.add_argument("--unpinned", action="store_true", help="let the system choose the cores")
    parser.add_argument("--check", action="store_true", help="count what has a limit, and fail if that is exceeded")
    parser.add_argument("--output", type=Path, help="a JSON file to write the figures to, beside those it has")
    options = parser.parse_args()
    if options.check:
        limits.check()
        return
    names = options.bridges or [name for name in BRIDGES if options.environments or BRIDGES[name] == OWN]
    pythons = find_pythons(names, options.environments or Path())
    offered = {name: list_rows(name, python) for name, python in pythons.items()}
    cells = [(row, name) for row in options.rows for name in names if row in offered[name]]
    core = None if options.unpinned else min(os.sched_getaffinity(0))
    figures, failed = measure(cells, pythons, options.rounds, core)
    way = "unpinned" if options.unpinned else "pinned"
    result = {
        "date": datetime.date.today().isoformat(),
        "python": platform.python_version(),
        "machine": describe_machine(),
        "versions": versions(pythons),
        f"{way} rounds": options.rounds,
        way: figures,
    }
    if options.output:
        kept = json.loads(options.output.read_text()) if options.output.exists() else {}
        options.output.write_text(json.dumps(kept | result, indent=1) + "\n")
    print(report.as_text(figures))
    if failed:
        sys.exit(f"failed: {failed}")


if __name__ == "__main__":
    main()
