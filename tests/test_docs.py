"""What the documentation shows works: its Python blocks run, print what it says, and so do the examples in docstrings.

In a page, a block of `python` is run, and a block of `text title="Output"` is what the last one printed. The blocks of
one page are one program. A block of `python` that begins with `>>>` is a doctest.
"""

import doctest
import importlib
import io
import pkgutil
import re
from contextlib import redirect_stdout
from pathlib import Path

import pytest
from sybil import Example, Sybil
from sybil.parsers.markdown import CodeBlockParser, PythonCodeBlockParser

import syncify

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))]
OUTPUT = 'text title="Output"'
NOT_RUN = {"console", "text"}


def check_output(output: Example) -> None:
    printed = output.namespace["printed"]
    if not doctest.OutputChecker().check_output(output.parsed, printed, doctest.ELLIPSIS):
        # Of two strings, pytest shows the difference.
        assert printed == str(output.parsed)


PARSER = Sybil([PythonCodeBlockParser(doctest_optionflags=doctest.ELLIPSIS), CodeBlockParser(OUTPUT, check_output)])


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def docstring_examples() -> list[doctest.DocTest]:
    names = [module.name for module in pkgutil.iter_modules(syncify.__path__, "syncify.")]
    # Those that are named otherwise extend tools, which only `make docs` installs.
    modules = [importlib.import_module(name) for name in names if not name.endswith("ext")]
    finder = doctest.DocTestFinder(exclude_empty=True)
    # Without the globals of its module, an example has to import what it uses, as its reader has to.
    found = [test for module in [syncify, *modules] for test in finder.find(module, module.__name__, globs={})]
    return [test for test in found if test.examples]


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_the_blocks_of_a_page_run_and_print_what_it_says(page):
    document = PARSER.parse(page)
    document.namespace["__name__"] = "__main__"
    for example in document.examples():
        if isinstance(example.parsed, doctest.Example):
            example.evaluate()  # it looks at its output by itself
            continue
        printed = io.StringIO()
        with redirect_stdout(printed):
            example.evaluate()
        document.namespace["printed"] = printed.getvalue()


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_no_block_of_a_page_is_passed_over(page):
    """A block is run, or of a kind that is known not to be; a slip in the line that opens it does not hide it."""
    text = page.read_text(encoding="utf-8")
    fences = re.findall(r"^[\s>]*(?:`{3,}|~{3,})(.*)$", text, re.MULTILINE)
    assert set(fences[0::2]) <= {"python", OUTPUT, *NOT_RUN}
    assert set(fences[1::2]) <= {""}
    assert len(fences) % 2 == 0


@pytest.mark.parametrize("test", docstring_examples(), ids=lambda test: test.name)
def test_the_example_of_a_docstring(test):
    out = io.StringIO()
    result = doctest.DocTestRunner(verbose=False, optionflags=doctest.ELLIPSIS).run(test, out=out.write)
    assert result.failed == 0, out.getvalue()


def test_the_examples_of_the_public_names_are_found():
    """So that the test above does not pass because nothing was found."""
    names = {test.name for test in docstring_examples()}
    assert {"syncify._syncify.Syncify", "syncify._run.Run", "syncify._errors.DeadlockError"} <= names
