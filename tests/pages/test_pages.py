"""Pages about an SDK show both forms of its functions. Run by `make docs`, with the tools that make such pages."""

import html
import re
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent / "source"
SPHINX = """
project = "sdk"
extensions = [{extensions}]
autodoc_typehints = "{typehints}"
autodoc_member_order = "bysource"
"""
MKDOCS = """
site_name: sdk
theme: {name: material, font: false}
plugins:
- mkdocstrings:
    handlers:
      python:
        paths: [%s]
        options: {extensions: [syncify.griffeext], members_order: source, group_by_category: false}
"""


def run(*command, **options):
    done = subprocess.run(
        [sys.executable, "-m", *map(str, command)], capture_output=True, text=True, timeout=50, **options
    )
    assert done.returncode == 0, done.stdout + done.stderr


def by_sphinx(tmp_path, typehints="signature", directive=".. automodule:: sdk\n   :members:\n"):
    (tmp_path / "conf.py").write_text(
        f"import sys\nsys.path.insert(0, {str(SOURCE)!r})\n"
        + SPHINX.format(typehints=typehints, extensions='"sphinx.ext.napoleon", "syncify.sphinxext"')
    )
    (tmp_path / "index.rst").write_text(f"SDK\n===\n\n{directive}")
    run("sphinx", "-W", "--keep-going", "-b", "text", tmp_path, tmp_path / "out")
    return [line.strip() for line in (tmp_path / "out" / "index.txt").read_text().splitlines() if "(" in line]


def test_sphinx_shows_both_forms(tmp_path):
    assert by_sphinx(tmp_path) == [
        "sdk.fetch(key: str, *, limit: int = 3) -> list[str]",
        "async fetch.aio(key: str, *, limit: int = 3) -> list[str]",
        "sdk.rows(first: int) -> Iterator[int]",
        "async rows.aio(first: int) -> AsyncIterator[int]",
        "sdk.talk(first: int) -> Generator[int, str, None]",
        "async talk.aio(first: int) -> AsyncGenerator[int, str]",
        "sdk.opened(name: str) -> AbstractContextManager[str]",
        "opened.aio(name: str) -> AbstractAsyncContextManager[str]",
        "sdk.session(name: str) -> AbstractContextManager[str]",
        "session.aio(name: str) -> AbstractAsyncContextManager[str]",
        "async sdk.native(x: int) -> int",
        "get(key: str) -> str",
        "async get.aio(key: str) -> str",
        "rows(first: int) -> Iterator[int]",
        "async rows.aio(first: int) -> AsyncIterator[int]",
        "classmethod make(size: int) -> int",
        "async make.aio(size: int) -> int",
        "static measure(text: str) -> int",
        "async measure.aio(text: str) -> int",
        "query() -> str",
        "async query.aio() -> str",
        "plain(x: int) -> int",
    ]


@pytest.mark.parametrize("typehints", ["none", "description"])
def test_sphinx_leaves_types_out_where_it_is_told_to(tmp_path, typehints):
    shown = by_sphinx(tmp_path, typehints)
    for form in "sdk.fetch(key, *, limit=3)", "async fetch.aio(key, *, limit=3)", "opened.aio(name)":
        assert form in shown
    assert ("* **key** (*str*) -- Which." in shown) == (typehints == "description")


def test_sphinx_refers_to_each_form(tmp_path):
    text = ":py:func:`sdk.fetch.aio`, :py:meth:`sdk.Client.get.aio`\n\n"
    directive = ".. autofunction:: sdk.fetch\n\n.. autoclass:: sdk.Client\n   :members: get\n   :no-index-entry:\n"
    assert by_sphinx(tmp_path, directive=text + directive)[:3] == [
        '"sdk.fetch.aio()", "sdk.Client.get.aio()"',
        "sdk.fetch(key: str, *, limit: int = 3) -> list[str]",
        "async fetch.aio(key: str, *, limit: int = 3) -> list[str]",
    ]


def test_mkdocstrings_shows_both_forms(tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").write_text("# SDK\n\n::: sdk\n")
    (tmp_path / "mkdocs.yml").write_text(MKDOCS % SOURCE)
    run("mkdocs", "build", "--strict", "--quiet", cwd=tmp_path)
    page = re.sub(r"<details.*?</details>", "", (tmp_path / "site" / "index.html").read_text(), flags=re.DOTALL)
    text = html.unescape(re.sub(r"<[^>]+>", "", page[page.index("<article") : page.index("</article")]))
    assert [line.strip() for line in text.splitlines() if re.search(r"\w\(", line) or line.strip() == "async"] == [
        "fetch(key, *, limit=3)",
        "fetch(key: str, *, limit: int = 3) -> list[str]",
        "await fetch.aio(key: str, *, limit: int = 3) -> list[str]",
        "rows(first)",
        "rows(first: int) -> Iterator[int]",
        "rows.aio(first: int) -> AsyncIterator[int]",
        "talk(first)",
        "talk(first: int) -> Generator[int, str, None]",
        "talk.aio(first: int) -> AsyncGenerator[int, str]",
        "opened(name)",
        "opened(name: str) -> AbstractContextManager[str]",
        "opened.aio(name: str) -> AbstractAsyncContextManager[str]",
        "session(name)",
        "session(name: str) -> AbstractContextManager[str]",
        "session.aio(name: str) -> AbstractAsyncContextManager[str]",
        "native(x)",
        "async",
        "get(key)",
        "get(key: str) -> str",
        "await get.aio(key: str) -> str",
        "rows(first)",
        "rows(first: int) -> Iterator[int]",
        "rows.aio(first: int) -> AsyncIterator[int]",
        "make(size)",
        "make(size: int) -> int",
        "await make.aio(size: int) -> int",
        "measure(text)",
        "measure(text: str) -> int",
        "await measure.aio(text: str) -> int",
        "query()",
        "query() -> str",
        "await query.aio() -> str",
        "plain(x)",
    ]
