"""What contributors and CI run. `make` runs these sessions with nothing set up; with nox: `nox -s NAME -- ARGS`."""

import os
from pathlib import Path

import nox

PYPROJECT = nox.project.load_toml("pyproject.toml")

nox.options.sessions = ["tests"]
nox.options.default_venv_backend = "virtualenv"
nox.options.reuse_existing_virtualenvs = True
nox.options.error_on_missing_interpreters = True  # a session that cannot run must not count as passed


PEERS = nox.project.load_toml("benchmarks/bridges/environments.toml")
del PEERS["syncify"]  # the environment of the bench group

ELSEWHERE = ("--ignore=tests/install", "--ignore=tests/pages")
WORKERS = f"--numprocesses={(os.cpu_count() or 1) + 1}"  # one more than there are cores, since some tests wait


def install(session: nox.Session, *groups: str) -> None:
    """Install the package, editable, with the dependency groups; once, until pyproject.toml or this file changes.

    What is installed stays at its version. `make clean` brings the newest.
    """
    wanted = Path("pyproject.toml").read_text() + Path(__file__).read_text()
    done = Path(session.virtualenv.location, "installed")
    if not done.exists() or done.read_text() != wanted:
        session.install("-e", ".", *nox.project.dependency_groups(PYPROJECT, *groups))
        done.write_text(wanted)


def run_tests(session: nox.Session) -> None:
    """Run the tests, on the Python that runs nox; tests-3.13 is for that version, which must be on PATH.

    Arguments go to pytest: `make test ARGS="-k deadlock -x -n 0"`, or
    `nox -s tests-3.13 -- -k deadlock -x -n 0`.
    The tests of tests/install and tests/pages are not among these: see the sessions flyte and docs.
    """
    install(session, "test")
    session.run("pytest", WORKERS, *ELSEWHERE, *session.posargs)


nox.session(run_tests, name="tests")
for version in nox.project.python_versions(PYPROJECT):
    nox.session(run_tests, name=f"tests-{version}", python=version)


@nox.session
def debug(session: nox.Session) -> None:
    """Run the tests in the debug modes of Python and of asyncio, where every warning is an error."""
    modes = {"PYTHONDEVMODE": "1", "PYTHONASYNCIODEBUG": "1", "PYTHONWARNINGS": "error"}
    install(session, "test")
    session.run("pytest", WORKERS, *ELSEWHERE, *session.posargs, env=modes)


@nox.session
def demo(session: nox.Session) -> None:
    """Run the example: an SDK for a gRPC service, written once and called from plain and from async code."""
    install(session, "demo")
    session.run("python", "examples/grpc_sdk/demo.py", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and format. To mend what can be mended: `.nox/lint/bin/ruff check --fix` and `ruff format` there."""
    install(session, "lint")
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")


@nox.session
def types(session: nox.Session) -> None:
    """Check the package, strictly, with mypy and pyright, and what callers see of it with four checkers.

    What they see is in tests/typing. Arguments name the checkers for that: `make types ARGS=ty`.
    """
    install(session, "types")
    if not session.posargs:
        session.run("mypy")  # what pyproject.toml names
        session.run("pyright")
        session.run("pyright", "--verifytypes", "syncify", "--ignoreexternal")
    session.run("python", "tests/typing/check.py", *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation in site/; a warning is an error. To write it: `make docs ARGS=serve`.

    And test what users' own documentation shows of decorated functions.
    """
    install(session, "docs")
    if not session.posargs:
        session.run("python", "benchmarks/report.py", "--check")
    session.run("mkdocs", *(session.posargs or ["build", "--strict"]))
    if not session.posargs:
        session.run("pytest", "tests/pages")


@nox.session
def bench(session: nox.Session) -> None:
    """Measure what a call costs, beside what the standard library takes. Arguments go to benchmarks/measure.py."""
    install(session, "bench")
    session.run("python", "benchmarks/measure.py", *session.posargs)


@nox.session
@nox.parametrize("environment", [nox.param(name, id=name) for name in PEERS])
def peer(session: nox.Session, environment: str) -> None:
    """Make the environment of another library that is measured, with its newest release."""
    session.install("--upgrade", "pyperf", "grpcio", "redis", *PEERS[environment]["requires"])


@nox.session(name="bench-peers")
def bench_peers(session: nox.Session) -> None:
    """Measure all libraries side by side. Their environments are there: `make bench-peers` sees to that."""
    install(session, "bench")
    session.run("python", "benchmarks/measure.py", "--environments=.nox", *session.posargs)


@nox.session(name="bench-report")
def bench_report(session: nox.Session) -> None:
    """Make the tables and plots of the documentation of what was measured."""
    install(session, "bench")
    session.run("python", "benchmarks/report.py", *session.posargs)


@nox.session
def stress(session: nox.Session) -> None:
    """Do everything at once, at random, and see that nothing is lost. Arguments go to stress/stress.py."""
    install(session, "test")
    session.run("python", "stress/stress.py", *session.posargs)


@nox.session
def flyte(session: nox.Session) -> None:
    """Install the built package alone, before and after Flyte, in new environments. Slow: it downloads Flyte."""
    install(session, "test")
    session.run("pytest", "tests/install", "--timeout=600", *session.posargs)
