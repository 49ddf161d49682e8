"""What contributors and CI run. `make` runs these sessions with nothing set up; with nox: `nox -s NAME -- ARGS`."""

from pathlib import Path

import nox

PYPROJECT = nox.project.load_toml("pyproject.toml")

nox.options.sessions = ["tests"]
nox.options.default_venv_backend = "virtualenv"
nox.options.reuse_existing_virtualenvs = True
nox.options.error_on_missing_interpreters = True  # a session that cannot run must not count as passed


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

    As many at a time as there are cores. Arguments go to pytest: `make test ARGS="-k deadlock -x -n 0"`, or
    `nox -s tests-3.13 -- -k deadlock -x -n 0`.
    The slow tests of tests/install are not among these: see the session flyte.
    """
    install(session, "test")
    session.run("pytest", "--numprocesses=auto", "--ignore=tests/install", *session.posargs)


nox.session(run_tests, name="tests")
for version in nox.project.python_versions(PYPROJECT):
    nox.session(run_tests, name=f"tests-{version}", python=version)


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
    """Check the package, strictly, and what callers see of it (tests/typing), with mypy and with pyright."""
    install(session, "types")
    for checker in "mypy", "pyright":
        session.run(checker)  # what pyproject.toml names
        if Path("tests/typing").exists():
            session.run(checker, "tests/typing")


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation in site/; a warning is an error. To write it: `make docs ARGS=serve`."""
    install(session, "docs")
    session.run("mkdocs", *(session.posargs or ["build", "--strict"]))


@nox.session
def bench(session: nox.Session) -> None:
    """Measure what a call costs. Arguments go to benchmarks/bench.py."""
    install(session, "bench")
    session.run("python", "benchmarks/bench.py", *session.posargs)


@nox.session
def flyte(session: nox.Session) -> None:
    """Install the built package alone, before and after Flyte, in new environments. Slow: it downloads Flyte."""
    install(session, "test")
    session.run("pytest", "tests/install", "--timeout=600", *session.posargs)
