"""Metrics by way of Ray, which hands them to the agent of each node for Prometheus to collect.

What is recorded goes to a thread of Ray's core; where no agent runs it is dropped there. So
nobody has to know whether metrics are collected.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping

from ray.util import metrics

from pool.cluster.meters import Meter, MeterKind, Record


@functools.cache
def record_of(meter: Meter) -> Record:
    """Return what takes a metric's values; one for each metric of this process."""
    match meter.kind:
        case MeterKind.GAUGE:
            gauge = metrics.Gauge(meter.name, meter.text, meter.labels)
            return lambda value, labels: gauge.set(value, dict(labels))
        case MeterKind.COUNTER:
            counter = metrics.Counter(meter.name, meter.text, meter.labels)
            return lambda value, labels: _rise(counter, value, labels)
        case MeterKind.HISTOGRAM:
            histogram = metrics.Histogram(meter.name, meter.text, list(meter.bounds), meter.labels)
            return lambda value, labels: histogram.observe(value, dict(labels))


def _rise(counter: metrics.Counter, value: float, labels: Mapping[str, str]) -> None:
    if value > 0:  # Ray refuses 0.
        counter.inc(value, dict(labels))
