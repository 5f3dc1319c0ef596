"""What a metric is, for whoever feeds it and for the cluster that collects it."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass

Record = Callable[[float, Mapping[str, str]], None]
"""Takes a value, with its labels: a gauge is set to it, a counter rises by it, a histogram has one
more. It waits for nothing, and raises nothing."""


class MeterKind(enum.StrEnum):
    """Name what is done with a metric's values."""

    GAUGE = "gauge"
    COUNTER = "counter"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True, kw_only=True)
class Meter:
    """Describe a metric, in the conventions of Prometheus.

    Args:
        name: Its name, with its unit last; that of a counter ends in `_total`.
        kind: What is done with its values.
        text: What it tells, in a sentence.
        labels: The names of its labels.
        bounds: The upper bounds of a histogram's buckets.
    """

    name: str
    kind: MeterKind
    text: str
    labels: tuple[str, ...]
    bounds: tuple[float, ...] = ()
