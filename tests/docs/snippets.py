"""Find the Python blocks of a Markdown page, and put them together as one program.

The program keeps the line numbers of the page: a traceback names the line that you would edit.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]

_FENCE = re.compile(r"^(?P<indent> *)(?P<ticks>`{3,}|~{3,})(?P<info>.*)$")
_SKIP = re.compile(r"^ *<!-- skip: (?P<reason>.+?) -->$")
_CLUSTER = re.compile(r"^<!-- cluster: (?P<nodes>\d+) nodes x (?P<gpus>\d+) GPU -->$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A Python block: its lines, the page's line number of the first, and why it is skipped."""

    line: int
    lines: tuple[str, ...]
    skip: str | None


@dataclass(frozen=True)
class ClusterSpec:
    """The embedded cluster that a page asks for."""

    nodes: int
    gpus: int


@dataclass(frozen=True)
class Page:
    """A page, with its blocks in order."""

    path: Path
    blocks: tuple[Block, ...]
    cluster: ClusterSpec | None

    @property
    def name(self) -> str:
        return self.path.relative_to(ROOT).as_posix() if self.path.is_absolute() else str(self.path)

    @property
    def program(self) -> str:
        """All blocks that are not skipped, each on the lines that it has on the page."""
        lines: list[str] = []
        for block in self.blocks:
            if block.skip is None:
                lines += [""] * (block.line - 1 - len(lines))
                lines += block.lines
        return "\n".join(lines) + "\n" if lines else ""


def parse(path: Path, text: str) -> Page:
    """Parse the text of a page."""
    found = _CLUSTER.search(text)
    cluster = ClusterSpec(int(found["nodes"]), int(found["gpus"])) if found else None
    return Page(path, tuple(_blocks(path, text.splitlines())), cluster)


def pages() -> list[Page]:
    """Parse the README and every page of the documentation."""
    paths = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return [parse(path, path.read_text()) for path in paths if "_build" not in path.parts]


def _blocks(path: Path, lines: list[str]) -> Iterator[Block]:
    number = 0
    while number < len(lines):
        fence = _FENCE.match(lines[number])
        number += 1
        if fence is None:
            continue
        start = number
        while number < len(lines) and not _closes(lines[number], fence["ticks"]):
            number += 1
        if number == len(lines):
            raise ValueError(f"{path}:{start}: this block is never closed")
        if fence["info"].strip() == "python":
            before = _SKIP.match(lines[start - 2]) if start >= 2 else None
            indent = len(fence["indent"])
            body = tuple(line[indent:] for line in lines[start:number])
            yield Block(start + 1, body, before["reason"] if before else None)
        number += 1


def _closes(line: str, ticks: str) -> bool:
    text = line.strip()
    return len(text) >= len(ticks) and set(text) == set(ticks)
