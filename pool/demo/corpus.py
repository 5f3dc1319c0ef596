"""The job: count what the standard library is made of. Pure but for reading files.

The same function, `count`, is used on the pool's hosts and for the serial result that theirs is
compared with. Files that do not parse (the library has some on purpose, to test its parser) are
counted as such; a job on real input meets such input.
"""

from __future__ import annotations

import ast
import os
import sysconfig
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import pool

MODULES = "(modules)"
"""Stands for the package of modules that are in none."""
BATCH_BYTES = 120_000
"""About 25 ms of parsing: long beside the cost of a call, short beside the wait for a drain."""
NICENESS = 5

_NOT_STANDARD = frozenset({"__pycache__", "dist-packages", "site-packages"})

Batch = tuple[tuple[str, str], ...]
"""Pairs of a package and the path of one of its files."""


@dataclass(frozen=True, slots=True)
class Count:
    """Hold what was counted.

    Args:
        files: Files that were read, those that do not parse included.
        unparsable: Files that do not parse; of these only the lines are counted.
        lines: Lines.
        functions: Functions and methods, async ones too; no lambdas.
        classes: Classes.
    """

    files: int = 0
    unparsable: int = 0
    lines: int = 0
    functions: int = 0
    classes: int = 0

    def __add__(self, other: Count) -> Count:
        return Count(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))


Census = dict[str, Count]
"""Counts by package."""


class Reader(pool.NodeHost):
    """Be a node host that prepares its process for reading."""

    def start(self) -> Any:
        """Give way to others, and keep the library's own warnings about its syntax quiet."""
        # The demo's nodes share one machine; where work takes every core, Ray's own processes,
        # that on real nodes would find one free, would starve, and the costs shown be wrong.
        os.nice(NICENESS)
        warnings.simplefilter("ignore")


def batches(root: Path | None = None, size: int = BATCH_BYTES) -> list[Batch]:
    """Cut a library into batches of about equal work.

    Args:
        root: Its folder; by default the running Python's standard library.
        size: Bytes of source a batch; one that holds a larger file is larger.

    Raises:
        pool.ConfigError: There is no source in that folder.
    """
    root = Path(sysconfig.get_path("stdlib")) if root is None else root
    found = list(_cut(_sources(root), root, size))
    if not found:
        raise pool.ConfigError(
            f"{root} holds no Python source; run the demo with a Python that has its standard "
            "library as files",
            "root",
        )
    return found


def _sources(root: Path) -> Iterator[Path]:
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(set(folders) - _NOT_STANDARD)
        yield from (Path(folder, name) for name in sorted(files) if name.endswith(".py"))


def _cut(paths: Iterable[Path], root: Path, size: int) -> Iterator[Batch]:
    batch: list[tuple[str, str]] = []
    filled = 0
    for path in paths:
        inside = path.relative_to(root).parts
        batch.append((inside[0] if len(inside) > 1 else MODULES, str(path)))
        filled += path.stat().st_size
        if filled >= size:
            yield tuple(batch)
            batch, filled = [], 0
    if batch:
        yield tuple(batch)


def count(batch: Batch) -> Census:
    """Count one batch of files, by package."""
    census: Census = {}
    for package, path in batch:
        merge(census, {package: _count_source(Path(path).read_bytes())})
    return census


def _count_source(source: bytes) -> Count:
    lines = len(source.splitlines())
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError):
        return Count(files=1, unparsable=1, lines=lines)
    functions = classes = 0
    for node in ast.walk(tree):
        functions += isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        classes += isinstance(node, ast.ClassDef)
    return Count(files=1, lines=lines, functions=functions, classes=classes)


def count_all(batches: Iterable[Batch]) -> Census:
    """Count all batches here and now, one after the other: what the pool's result must equal."""
    census: Census = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for batch in batches:
            merge(census, count(batch))
    return census


def merge(into: Census, more: Mapping[str, Count]) -> None:
    """Add counts to a census."""
    for package, counted in more.items():
        into[package] = into.get(package, Count()) + counted


def total(census: Mapping[str, Count]) -> Count:
    """Add up a census over its packages."""
    return sum(census.values(), Count())
