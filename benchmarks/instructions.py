"""Counts the instructions that the work of a row takes, under callgrind (Debian's package valgrind).

Unlike times, these repeat to about a hundredth, also on a busy machine and on another processor: to see what a small
change of the hot path brings. They leave out what the kernel does, and how long an instruction takes.

    benchmarks/instructions.py trivial syncify run_coroutine_threadsafe
"""

import argparse
import os
import re
import shutil
import subprocess
import sys

import bridges
import rows


def count(row: str, bridge: str) -> float:
    """Return the instructions for doing the work of the row once, of all threads together."""
    if shutil.which("valgrind") is None:
        sys.exit("needs valgrind, of Debian's package of that name")
    # So many times, and more often; the difference is free of what happens once.
    few, many = rows.ROWS[row].loops // 8, rows.ROWS[row].loops * 5 // 8
    return (_count(row, bridge, many) - _count(row, bridge, few)) / (many - few)


def _count(row: str, bridge: str, loops: int) -> int:
    command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"]
    command += [sys.executable, __file__, row, bridge, f"--loops={loops}"]
    done = subprocess.run(command, env=os.environ | {"PYTHONHASHSEED": "0"}, capture_output=True, text=True)
    found = re.search(r"Collected : (\d+)", done.stderr)
    if done.returncode or found is None:
        sys.exit(done.stdout + done.stderr)
    return int(found[1])


def run(row: str, bridge: str, loops: int) -> None:
    """Do the work, in the process that is looked at."""
    loaded = bridges.load(bridge)
    getattr(loaded, "run", lambda function: function())(lambda: rows.ROWS[row].make(loaded)(loops))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("row", choices=rows.ROWS)
    parser.add_argument("bridges", nargs="+", choices=bridges.BRIDGES, metavar="bridge")
    parser.add_argument("--loops", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.loops:
        run(options.row, options.bridges[0], options.loops)
        return
    for bridge in options.bridges:
        print(f"{options.row}, {bridge}: {count(options.row, bridge):,.0f} instructions")


if __name__ == "__main__":
    main()
