"""What a soak found: printed for people, written as JSON for machines."""

from __future__ import annotations

import json
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.harness import machine
from tests.soak.strikes import Strike

WIDTH = 110


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """Hold how long something took, of as many as were seen.

    Args:
        count: How many.
        median_s: The median, in seconds; None where nothing was seen.
        p95_s: What 95 of 100 stayed under.
    """

    count: int
    median_s: float | None = None
    p95_s: float | None = None

    @classmethod
    def of(cls, seconds: Iterable[float]) -> Times:
        """Sum up."""
        given = sorted(seconds)
        if not given:
            return cls(count=0)
        p95 = given[min(len(given) - 1, round(0.95 * (len(given) - 1)))]
        return cls(count=len(given), median_s=statistics.median(given), p95_s=p95)

    def cells(self) -> list[str]:
        """Return the columns of a table."""
        if self.median_s is None or self.p95_s is None:
            return ["", ""]
        return [f"{self.median_s:.2f}", f"{self.p95_s:.2f}"]


@dataclass(slots=True, kw_only=True)
class Report:
    """Hold what was found."""

    seed: int
    minutes: float
    took_s: float = 0.0
    replicas: int = 0
    hosts: int = 0
    thrown: dict[str, int] = field(default_factory=dict)
    missed: dict[str, int] = field(default_factory=dict)
    detected: dict[str, Times] = field(default_factory=dict)
    recovered: dict[str, Times] = field(default_factory=dict)
    faults_by_cause: dict[str, int] = field(default_factory=dict)
    looks: int = 0
    violations: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)
    leftovers: list[str] = field(default_factory=list)
    machine: dict[str, object] = field(default_factory=machine)

    @property
    def is_good(self) -> bool:
        """Whether nothing was violated and nothing is left."""
        return not (self.violations or self.leftovers or self.troubles)

    def sum_up(self, strikes: Sequence[Strike]) -> None:
        """Take over how long it took to notice, and to overcome, each kind of fault."""
        for kind in dict.fromkeys(str(strike.kind) for strike in strikes):
            timed = [s for s in strikes if s.kind == kind and s.is_timed]
            self.detected[kind] = Times.of(
                s.detected_at - s.at for s in timed if s.detected_at is not None
            )
            self.recovered[kind] = Times.of(
                s.recovered_at - s.at for s in timed if s.recovered_at is not None
            )

    def count_causes(self, events: Iterable[dict[str, Any]]) -> None:
        """Count what the pools called the faults."""
        causes = (e["facts"]["cause"] for e in events if e["kind"] == "member_fault")
        self.faults_by_cause = dict(Counter(causes))

    def show(self) -> None:
        """Print it."""
        table = Table(title=f"Soak of {self.minutes:g} minutes, seed {self.seed}")
        table.add_column("fault")
        for name in ("thrown", "noticed", "median s", "p95 s", "settled", "median s", "p95 s"):
            table.add_column(name, justify="right")
        for kind in sorted(self.thrown):
            noticed = self.detected.get(kind, Times(count=0))
            settled = self.recovered.get(kind, Times(count=0))
            table.add_row(
                kind,
                *(str(self.thrown[kind]), str(noticed.count), *noticed.cells()),
                *(str(settled.count), *settled.cells()),
            )
        console = Console()
        if not console.is_terminal:
            console = Console(width=WIDTH)
        console.print(table)
        started = f"{self.replicas} replicas, {self.hosts} hosts"
        print(f"seed: {self.seed}\ntook: {self.took_s:.0f} s\nmembers started: {started}")
        print(f"faults thrown: {sum(self.thrown.values())}, found nobody: {self.missed}")
        print(f"member faults by cause: {self.faults_by_cause}")
        print(f"looks: {self.looks}")
        for name, value in self.machine.items():
            print(f"{name}: {value}")
        for name in ("warnings", "violations", "troubles", "leftovers"):
            sentences: list[str] = getattr(self, name)
            print(f"{name}: {len(sentences)}", *sentences, sep="\n  ")

    def write(self, path: Path) -> None:
        """Write it as JSON."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self), indent=1) + "\n")
