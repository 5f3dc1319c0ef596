"""`prior-art.md` has every row of what must work, and each names tests that are there."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest

from tests.docs.snippets import ROOT

PAGE = ROOT / "docs" / "explanation" / "prior-art.md"
ROWS = {"E": 24, "C": 17, "A": 15, "S": 18, "P": 12, "R": 5, "N": 11}
"""How many rows each section has."""
BY_DOCUMENT = {"S17"}
"""What is a comparison in words has no test."""

_ROW = re.compile(
    r"^\*\*(?P<row>[A-Z]\d+)\*\* (?P<body>.+?)(?=^\*\*|^#|\Z)", re.MULTILINE | re.DOTALL
)
_TESTS = re.compile(r"`(?P<file>tests/[\w/]+\.py)`:(?P<names>(?:\s+`test_\w+`,?)+)")


def rows(text: str) -> dict[str, str]:
    found = [(row["row"], row["body"]) for row in _ROW.finditer(text)]
    assert len(dict(found)) == len(found), "a row stands there twice"
    return dict(found)


def named(body: str) -> Iterator[tuple[str, str]]:
    for tests in _TESTS.finditer(body):
        for name in re.findall(r"test_\w+", tests["names"]):
            yield tests["file"], name


def defined_in(file: str) -> set[str]:
    tree = ast.parse((ROOT / file).read_text())
    return {
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


BODIES = rows(PAGE.read_text())


def test_every_row_is_there_and_in_its_order() -> None:
    assert list(BODIES) == [
        f"{section}{number}" for section, last in ROWS.items() for number in range(1, last + 1)
    ]


@pytest.mark.parametrize("row", BODIES)
def test_a_row_names_a_feature_and_tests_that_are_there(row: str) -> None:
    body = BODIES[row]
    _, feature, *_ = re.split(r"^: ", body, flags=re.MULTILINE)
    assert feature.strip()
    assert not re.search(r"\bplanned\b", feature)
    tests = list(named(body))
    assert tests or row in BY_DOCUMENT
    assert [(file, name) for file, name in tests if name not in defined_in(file)] == []
    assert len(tests) == len(re.findall(r"`test_\w+`", body)), "a test is named without its file"


def test_what_is_wrong_is_found() -> None:
    """Otherwise the tests above would hold whatever the page said."""
    text = "**E1** one\n: `x`\n: `tests/a.py`: `test_b`,\n  `test_c`\n\n## C\n\n**C1** two\n: `y`\n"
    found = rows(text)
    assert list(found) == ["E1", "C1"]
    assert list(named(found["E1"])) == [("tests/a.py", "test_b"), ("tests/a.py", "test_c")]
    assert not list(named(found["C1"]))
    with pytest.raises(AssertionError, match="twice"):
        rows(text + text)
