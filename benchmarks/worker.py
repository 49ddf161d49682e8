"""Times one row with one bridge, in an environment that has its library and pyperf: a pyperf program.

`worker.py trivial syncify --loops 2000 --processes 1 --values 5` times, `worker.py --rows syncify` lists the rows that
the bridge takes part in.
"""

import sys
from typing import Any

import bridges
import pyperf
import rows


def pass_on(command: list[str], options: Any) -> None:
    command.extend((options.row, options.bridge))


def main() -> None:
    if sys.argv[1] == "--rows":
        print(*rows.rows_of(bridges.load(sys.argv[2])), sep="\n")
        return
    runner = pyperf.Runner(add_cmdline_args=pass_on)
    runner.argparser.add_argument("row", choices=rows.ROWS)
    runner.argparser.add_argument("bridge", choices=bridges.BRIDGES)
    options = runner.parse_args()
    row = rows.ROWS[options.row]
    started: list[tuple[Any, rows.Measure]] = []  # in the process that times it, and not in that which starts this

    def time(loops: int) -> float:
        if not started:
            bridge = bridges.load(options.bridge)
            started.append((getattr(bridge, "run", lambda function: function()), row.make(bridge)))
        run, measure = started[0]
        return run(lambda: measure(loops))  # type: ignore[no-any-return]

    runner.bench_time_func(row.title, time, metadata={"unit": row.unit})


if __name__ == "__main__":
    main()
