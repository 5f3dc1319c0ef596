"""The one harness of all benchmarks: rounds in turn, medians with their spread, a table, and JSON.

Rounds of different contestants take turns, so that a machine that gets busy slows all of them. The
first round of each is not counted.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from rich.console import Console
from rich.table import Table

OUTPUT = Path(__file__).parent / "results"
QUICK = OUTPUT / "quick"
"""Where results go that only prove that something runs; git ignores them."""
WIDTH = 130
"""Of the table where there is no terminal, as in a log."""


@dataclass(frozen=True, slots=True)
class Contestant:
    """Give a name to what is measured.

    Args:
        name: What the table calls it.
        run: Does the work once. What it returns is used by nobody.
        goal_s: Seconds that its median is to stay under; None where only a ratio counts.
    """

    name: str
    run: Callable[[], object]
    goal_s: float | None = None


@dataclass(slots=True)
class Measured:
    """Hold the seconds of each counted round of one contestant.

    Args:
        name: What the table calls it.
        goal_s: Seconds that its median is to stay under, if there is such a goal.
        rounds_s: What was measured.
        beside: What it is compared with, measured in turn with it.
        goal_ratio: What the ratio to that is to stay under, if there is such a goal.
    """

    name: str
    goal_s: float | None = None
    rounds_s: list[float] = field(default_factory=list)
    beside: Measured | None = None
    goal_ratio: float | None = None

    @property
    def median_s(self) -> float:
        """The median of the rounds."""
        return statistics.median(self.rounds_s)

    @property
    def spread(self) -> str:
        """The least and the most, in milliseconds."""
        return f"{min(self.rounds_s) * 1e3:.2f} to {max(self.rounds_s) * 1e3:.2f}"

    @property
    def ratio(self) -> float | None:
        """The median over that of what it is compared with."""
        return None if self.beside is None else self.median_s / self.beside.median_s

    def as_json(self) -> dict[str, object]:
        """Return what is written down of it."""
        return {
            "name": self.name,
            "median_s": self.median_s,
            "rounds_s": self.rounds_s,
            "goal_s": self.goal_s,
            "beside": None if self.beside is None else self.beside.name,
            "ratio": self.ratio,
            "goal_ratio": self.goal_ratio,
        }


def race(contestants: Sequence[Contestant], rounds: int) -> list[Measured]:
    """Run all contestants in turn, `rounds` counted times each after one that is not."""
    measured = [Measured(each.name, each.goal_s) for each in contestants]
    for number in range(rounds + 1):
        for contestant, result in zip(contestants, measured, strict=True):
            began = time.perf_counter()
            contestant.run()
            took_s = time.perf_counter() - began
            if number:
                result.rounds_s.append(took_s)
    return measured


def machine() -> dict[str, object]:
    """Say what was measured on: figures of two machines are not compared."""
    return {
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 2),
        "ray": version("ray"),
        "pool": version("ray-actor-pool"),
    }


def report(title: str, measured: Sequence[Measured], **facts: object) -> None:
    """Print a table, and write the same as JSON into `benchmarks/results`.

    Of a quick round into a folder of its own there: it is not to replace what was measured.
    """
    table = Table(title=title)
    columns = ["median ms", "least to most ms", "goal ms", "median / goal"]
    has_ratios = any(each.beside is not None for each in measured)
    if has_ratios:
        columns += ["ratio", "goal ratio"]
    table.add_column("what")
    for column in columns:
        table.add_column(column, justify="right")
    for each in measured:
        goal, ratio, goal_ratio = each.goal_s, each.ratio, each.goal_ratio
        cells = [
            f"{each.median_s * 1e3:.2f}",
            each.spread,
            "" if goal is None else f"{goal * 1e3:g}",
            "" if goal is None else f"{each.median_s / goal:.2f}",
            "" if ratio is None else f"{ratio:.2f}",
            "" if goal_ratio is None else f"{goal_ratio:g}",
        ]
        table.add_row(each.name, *cells[: len(columns)])
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH)
    console.print(table)
    for name, value in {**facts, **machine()}.items():
        console.print(f"{name.replace('_', ' ')}: {value}")
    folder = QUICK if "--quick" in sys.argv else OUTPUT
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{title.lower().replace(' ', '_')}.json"
    document = {
        "title": title,
        "machine": machine(),
        "facts": facts,
        "measured": [each.as_json() for each in measured],
    }
    path.write_text(json.dumps(document, indent=1) + "\n")
