"""What the documentation mentions is there: files, tests, sessions of nox, commands of `pool`."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

import pytest
import typer.main

from pool.cli import app
from tests.docs.snippets import ROOT, pages
from tests.test_project import sessions

TEXTS = {
    path.relative_to(ROOT).as_posix(): path.read_text()
    for path in (*(page.path for page in pages()), ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md")
}
SIMULATION = PurePosixPath("tests/simulation")
"""Where a test is that is named without a folder: so it is in the last column of the matrix."""

_SPAN = re.compile(r"`([^`\n]+)`")
_FILE = re.compile(
    r"(?:[\w.-]+/)*[\w-]+\.(?:py|md)|(?:tests|docs(?!/_build)|pool|benchmarks)(?:/[\w-]+)+"
)
_TEST = re.compile(r"\btest_\w+\b(?!\.py)")
_SESSION = re.compile(r"\bnox -s ([\w-]+)")
_COMMAND = re.compile(
    r"(?:`|^\$ (?:.* )?)pool ([a-z][\w-]*)(?:[^`\n]*`(?P<planned> planned)?)?", re.MULTILINE
)


@dataclass(frozen=True)
class Known:
    """What there is to be mentioned."""

    functions: frozenset[str]
    stems: frozenset[str]


@functools.cache
def known() -> Known:
    functions, stems = set(), set()
    for path in (ROOT / "tests").rglob("test_*.py"):
        stems.add(path.stem)
        functions |= {
            node.name
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        }
    return Known(frozenset(functions), frozenset(stems))


def cells(text: str) -> Iterator[str]:
    """Cut a page into its lines, and the rows of its tables into their cells."""
    for line in text.splitlines():
        yield from line.split("|") if line.startswith("|") else [line]


def missing_files(text: str) -> Iterator[str]:
    for cell in cells(text):
        folder = SIMULATION
        for span in _SPAN.findall(cell):
            if not _FILE.fullmatch(span):
                continue
            path = PurePosixPath(span)
            if len(path.parts) > 1:
                places = [path, "tests" / path, "pool" / path]
            elif path.stem.startswith("test_"):
                places = [folder / path]
            else:
                continue
            found = [place for place in places if (ROOT / place).exists()]
            if not found:
                yield span
            elif path.stem.startswith("test_"):
                folder = found[0].parent


def missing_tests(text: str) -> Iterator[str]:
    for span in _SPAN.findall(text):
        for name in _TEST.findall(span):
            if name not in known().functions | known().stems:
                yield name


def missing_sessions(text: str) -> Iterator[str]:
    yield from (name for name in _SESSION.findall(text) if name not in sessions())


def missing_commands(text: str) -> Iterator[str]:
    """Find commands that are not there, or are there and still called planned."""
    there = commands()
    for found in _COMMAND.finditer(text):
        if (found[1] in there) == (found["planned"] is not None):
            yield found[0]


@functools.cache
def commands() -> frozenset[str]:
    group = typer.main.get_command(app)
    return frozenset(getattr(group, "commands", {}))


@pytest.mark.parametrize("name", TEXTS)
def test_what_a_page_mentions_is_there(name: str) -> None:
    text = TEXTS[name]
    assert not list(missing_files(text))
    assert not list(missing_tests(text))
    assert not list(missing_sessions(text))
    assert not list(missing_commands(text))


def test_what_is_not_there_is_found() -> None:
    """Otherwise the test above would hold whatever the pages said."""
    row = (
        "| a | `planning/sizes.py` | `tests/planning/test_sizes.py`, `test_{}.py` | `test_{}.py` |"
    )
    assert not list(missing_files(row.format("reconcile", "leases")))
    assert list(missing_files(row.format("leases", "leases"))) == ["test_leases.py"]
    assert list(missing_files("`tests/docs/none.py`, `docs/none`")) == [
        "tests/docs/none.py",
        "docs/none",
    ]
    assert list(missing_tests(f"`{test_what_is_not_there_is_found.__name__}`")) == []
    assert list(missing_tests("`tests/x/test_mentions.py::test_none`")) == ["test_none"]
    assert list(missing_sessions("`nox -s lint`, `nox -s none -- x`")) == ["none"]
    assert list(missing_commands("`pool demo --json`, `pool none` planned")) == []
    assert list(missing_commands("`pool none` is\n`pool demo` planned")) == [
        "`pool none`",
        "`pool demo` planned",
    ]
    assert list(missing_commands("$ pip install . && pool none\n")) == [
        "$ pip install . && pool none"
    ]
