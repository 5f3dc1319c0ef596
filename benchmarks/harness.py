"""The one harness of all benchmarks: rounds in turn, medians with their spread, a table, and JSON.

Rounds of different contestants take turns, so that a machine that gets busy slows all of them. The
first round of each is not counted.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path

from rich.console import Console
from rich.table import Table

OUTPUT = Path(__file__).parent / "results"


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
    """Hold the seconds of each counted round of one contestant."""

    name: str
    goal_s: float | None
    rounds_s: list[float] = field(default_factory=list)

    @property
    def median_s(self) -> float:
        """The median of the rounds."""
        return statistics.median(self.rounds_s)

    @property
    def spread(self) -> str:
        """The least and the most, in milliseconds."""
        return f"{min(self.rounds_s) * 1e3:.2f} to {max(self.rounds_s) * 1e3:.2f}"


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
        "load": os.getloadavg()[0],
        "ray": version("ray"),
        "pool": version("ray-actor-pool"),
    }


def report(title: str, measured: Sequence[Measured], **facts: object) -> None:
    """Print a table, and write the same as JSON into `benchmarks/results`."""
    table = Table(title=title)
    for column in ("what", "median ms", "least to most ms", "goal ms", "median / goal"):
        table.add_column(column, justify="left" if column == "what" else "right")
    for each in measured:
        goal = each.goal_s
        table.add_row(
            each.name,
            f"{each.median_s * 1e3:.2f}",
            each.spread,
            "" if goal is None else f"{goal * 1e3:g}",
            "" if goal is None else f"{each.median_s / goal:.2f}",
        )
    console = Console()
    console.print(table)
    for name, value in facts.items():
        console.print(f"{name.replace('_', ' ')}: {value}")
    OUTPUT.mkdir(exist_ok=True)
    path = OUTPUT / f"{title.lower().replace(' ', '_')}.json"
    document = {
        "title": title,
        "machine": machine(),
        "facts": facts,
        "measured": [{**asdict(each), "median_s": each.median_s} for each in measured],
    }
    path.write_text(json.dumps(document, indent=1) + "\n")
