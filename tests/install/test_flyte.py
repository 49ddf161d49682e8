"""The wheel in real environments: alone, and beside Flyte, whose own package `flyte.syncify` must stay in charge.

Slow, for it downloads Flyte: `make flyte` runs these tests, `make test` does not.
"""

import base64
import csv
import hashlib
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]

ALONE = """
import flyte, flyte.syncify, syncify
from flyte.syncify import Syncify, syncify as default

assert getattr(flyte, "__file__", None) is None, "flyte is to be a namespace package"
assert default is syncify.syncify
assert Syncify is syncify.Syncify
"""

OURS_WORKS = """
import asyncio, syncify

@syncify.syncify
async def double(number: int) -> int:
    return 2 * number

async def main() -> int:
    return await double.aio(21)

assert double(21) == asyncio.run(main()) == 42
assert type(syncify.syncify).__module__.split(".")[0] == "syncify"
"""

FLYTE_WORKS = """
import asyncio, flyte, flyte.syncify
from flyte.syncify import Syncify, syncify

@syncify
async def double(number: int) -> int:
    return 2 * number

async def main() -> int:
    return await double.aio(21)

assert double(21) == asyncio.run(main()) == 42
assert flyte.__file__.endswith("__init__.py")
assert flyte.syncify.__file__.endswith("__init__.py")
assert Syncify.__module__ == "flyte.syncify._api"
"""

BOTH_WORK = f"""{FLYTE_WORKS}{OURS_WORKS}
assert flyte.syncify.syncify is not syncify.syncify
"""


class Environment:
    """A new virtual environment, and what pip installed in it."""

    def __init__(self, folder: Path) -> None:
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        paths = sysconfig.get_paths("venv", vars={"base": str(folder), "platbase": str(folder)})
        self._python = Path(paths["scripts"], "python")
        self._site_packages = Path(paths["purelib"])

    def run(self, code: str) -> None:
        subprocess.run([self._python, "-I", "-c", code], check=True)

    def pip(self, *arguments: str | Path) -> None:
        subprocess.run([self._python, "-I", "-m", "pip", "--quiet", *arguments], check=True)

    def install(self, *what: str | Path) -> None:
        self.pip("install", *what)

    def uninstall(self, name: str) -> None:
        self.pip("uninstall", "--yes", name)

    def files(self, name: str) -> dict[str, str]:
        """The files of a distribution and what their hashes were when it was installed ("" where none is kept)."""
        (record,) = self._site_packages.glob(f"{name}-*.dist-info/RECORD")
        with record.open(newline="") as lines:
            return {path: digest for path, digest, _size in csv.reader(lines)}

    def damaged(self, name: str) -> list[str]:
        """Those files of a distribution that are missing or are no more as they were installed."""
        return [
            path
            for path, digest in self.files(name).items()
            if not (file := self._site_packages / path).exists() or (digest and digest != sha256(file))
        ]


def sha256(file: Path) -> str:
    digest = hashlib.sha256(file.read_bytes()).digest()
    return "sha256=" + base64.urlsafe_b64encode(digest).decode().rstrip("=")


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    return Environment(tmp_path / "environment")


@pytest.fixture(scope="session")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the checkout."""
    folder = tmp_path_factory.mktemp("ours")
    Environment(folder / "builder").pip("wheel", "--no-deps", "--wheel-dir", folder, CHECKOUT)
    (wheel,) = folder.glob("*.whl")
    return wheel


@pytest.fixture(scope="session")
def flyte(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """What to install for the newest Flyte; it and all that it needs is downloaded once."""
    folder = tmp_path_factory.mktemp("flyte")
    Environment(folder / "builder").pip("wheel", "--wheel-dir", folder, "flyte")
    return ("--no-index", f"--find-links={folder}", "flyte")


def check_both(environment: Environment) -> None:
    assert environment.damaged("flyte") == []
    assert environment.damaged("syncify_aio") == []
    assert environment.files("flyte").keys().isdisjoint(environment.files("syncify_aio"))
    environment.run(BOTH_WORK)


def test_alone(environment: Environment, ours: Path) -> None:
    environment.install(ours)
    environment.run(ALONE)
    environment.run(OURS_WORKS)


def test_after_flyte(environment: Environment, ours: Path, flyte: tuple[str, ...]) -> None:
    environment.install(*flyte)
    environment.install(ours)
    check_both(environment)

    environment.uninstall("syncify-aio")
    assert environment.damaged("flyte") == []
    environment.run(FLYTE_WORKS)


def test_before_flyte(environment: Environment, ours: Path, flyte: tuple[str, ...]) -> None:
    environment.install(ours)
    environment.install(*flyte)
    check_both(environment)

    environment.uninstall("flyte")
    assert environment.damaged("syncify_aio") == []
    environment.run(ALONE)
    environment.run(OURS_WORKS)
