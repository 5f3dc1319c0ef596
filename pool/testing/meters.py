"""Metrics that a test can read: what a simulated cluster collects that has a `MeterBook`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from pool.cluster.meters import Meter, MeterKind, Record

Labels = tuple[tuple[str, str], ...]


class MeterBook:
    """Collect the metrics of a simulated cluster: `SimulatedCluster(meters=MeterBook())`."""

    def __init__(self) -> None:
        self._meters: dict[str, Meter] = {}
        self._values: defaultdict[tuple[str, Labels], list[float]] = defaultdict(list)

    def meter(self, meter: Meter) -> Record:
        """Return what takes a metric's values.

        Raises:
            ValueError: A value has other labels than the metric.
        """
        self._meters[meter.name] = meter

        def record(value: float, labels: Mapping[str, str]) -> None:
            if labels.keys() != set(meter.labels):
                raise ValueError(f"{meter.name} has labels {meter.labels}, not {tuple(labels)}")
            seen = self._values[meter.name, tuple(sorted(labels.items()))]
            if meter.kind is MeterKind.GAUGE:
                seen.clear()
            seen.append(value)

        return record

    def seen(self, name: str, **labels: str) -> list[float]:
        """Return a metric's values with these labels: of a gauge the last, of others all."""
        wanted = labels.items()
        return [
            value
            for (one, known), values in self._values.items()
            if one == name and wanted <= dict(known).items()
            for value in values
        ]

    def total(self, name: str, **labels: str) -> float:
        """Return the sum of them: the value of a counter, or of a gauge over its other labels."""
        return sum(self.seen(name, **labels))
