"""Runs type checkers on the cases in this folder: what each of them reports, and where, has to be what is marked there.

A line that is wrong ends with `# error`, and every checker has to report it. Where not all do, or where some report
what is right, the mark names those that report: `# error: mypy, ty`. So a checker that comes to see more fails as well.

    python tests/typing/check.py [CHECKER ...]
"""

import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

FOLDER = Path(__file__).parent
CASES = sorted(path for path in FOLDER.glob("*.py") if path != Path(__file__))
Report = tuple[str, int, str]  # the name of a file, a line, what is reported


def read_json(output: str) -> Iterator[Report]:
    """Of pyright, which counts lines from 0, and pyrefly."""
    report = json.loads(output)
    for each in report.get("generalDiagnostics", []):
        if each["severity"] == "error":
            yield Path(each["file"]).name, each["range"]["start"]["line"] + 1, each["message"]
    for each in report.get("errors", []):
        if each["severity"] == "error":
            yield Path(each["path"]).name, each["line"], each["description"]


def read_lines(output: str) -> Iterator[Report]:
    for path, line, message in re.findall(r"^(.+?):(\d+):(?:\d+:)? (error.*)", output, re.MULTILINE):
        yield Path(path).name, int(line), message


CHECKERS: dict[str, tuple[list[str], Callable[[str], Iterator[Report]]]] = {
    "mypy": (["--no-error-summary"], read_lines),
    "pyright": (["--outputjson"], read_json),
    "pyrefly": (["check", "--output-format=json", "--search-path=src", "--python-version=3.11"], read_json),
    "ty": (["check", "--output-format=concise", "--extra-search-path=src", "--python-version=3.11"], read_lines),
}


def marked(checker: str) -> Iterator[tuple[str, int]]:
    """The lines that the checker is to report."""
    for case in CASES:
        for number, line in enumerate(case.read_text().splitlines(), 1):
            mark = re.search(r"# error(?:: ([a-z, ]+))?$", line)
            if mark and (mark[1] is None or checker in mark[1].split(", ")):
                yield case.name, number


def check(checker: str) -> int:
    """Print what differs, and return how many lines do."""
    options, read = CHECKERS[checker]
    run = subprocess.run([checker, *options, *map(str, CASES)], capture_output=True, text=True, check=False)
    reports = list(read(run.stdout))
    if not reports:
        print(f"{checker} says nothing of any case:", run.stdout, run.stderr)
        return 1
    expected, differences = set(marked(checker)), 0
    for name, line, message in reports:
        if (name, line) not in expected:
            differences += 1
            print(f"{name}:{line}: {checker} reports: {message}")
    for name, line in sorted(expected - {(name, line) for name, line, _ in reports}):
        differences += 1
        print(f"{name}:{line}: {checker} does not report this")
    print(f"{checker}: {len(expected)} lines are to be reported, {differences} differences")
    return differences


def main() -> None:
    unknown = set(sys.argv[1:]) - set(CHECKERS)
    if unknown:
        sys.exit(f"there is no {', '.join(unknown)} here; the checkers are {', '.join(CHECKERS)}")
    differences = Counter({checker: check(checker) for checker in sys.argv[1:] or CHECKERS})
    sys.exit(differences.total() > 0)


if __name__ == "__main__":
    main()
