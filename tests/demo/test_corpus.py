"""The demo's job: what is read, how it is cut, and what is counted."""

from __future__ import annotations

from pathlib import Path

import pytest

import pool
from pool.demo.corpus import MODULES, Count, batches, count, count_all, merge, total

SOURCES = {
    "top.py": "def f():\n    return lambda: 1\n",
    "pkg/__init__.py": "class A:\n    def m(self): ...\n    async def n(self): ...\n",
    "pkg/deep/b.py": "class B:\n    class C: ...",
    "pkg/broken.py": "def (:\n",
    "pkg/latin.py": "# coding: latin-1\nname = '\xe9'\n",
    "pkg/null.py": "x = 1\0\n",
    "pkg/notes.txt": "def no(): ...",
    "site-packages/other/c.py": "def not_ours(): ...\n",
    "pkg/__pycache__/d.py": "def not_source(): ...\n",
}
EXPECTED = {
    MODULES: Count(files=1, lines=2, functions=1),
    "pkg": Count(files=5, unparsable=2, lines=9, functions=2, classes=3),
}


@pytest.fixture
def library(tmp_path: Path) -> Path:
    for name, source in SOURCES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(source.encode("latin-1"))
    return tmp_path


def test_it_counts_by_package_and_says_what_does_not_parse(library: Path) -> None:
    assert count_all(batches(library)) == EXPECTED


@pytest.mark.parametrize("size", [1, 40, 10**9])
def test_the_result_does_not_depend_on_the_cut(library: Path, size: int) -> None:
    cut = batches(library, size)
    assert count_all(cut) == EXPECTED
    assert count_all(reversed(cut)) == EXPECTED
    assert len(cut) == {1: 6, 10**9: 1}.get(size, len(cut))


def test_the_cut_is_the_same_each_time(library: Path) -> None:
    assert batches(library, 40) == batches(library, 40)


def test_merging_adds_and_leaves_what_was_merged_alone() -> None:
    first = {"a": Count(files=1, lines=2)}
    second = {"a": Count(lines=3), "b": Count(classes=4)}
    merge(first, second)
    assert first == {"a": Count(files=1, lines=5), "b": Count(classes=4)}
    assert second["a"] == Count(lines=3)
    assert total(first) == Count(files=1, lines=5, classes=4)


def test_the_running_pythons_library_has_what_every_python_has() -> None:
    paths = {path for batch in batches() for _, path in batch}
    assert any(path.endswith("asyncio/tasks.py") for path in paths)
    assert not any("site-packages" in path for path in paths)
    json = tuple(entry for batch in batches() for entry in batch if entry[0] == "json")
    counted = count(json)["json"]
    assert counted.unparsable == 0
    assert counted.classes >= 3  # JSONDecoder, JSONEncoder, JSONDecodeError


def test_a_folder_without_source_is_refused(tmp_path: Path) -> None:
    with pytest.raises(pool.ConfigError, match="holds no Python source"):
        batches(tmp_path)
