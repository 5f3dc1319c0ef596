"""Every metric of a pool. The manager feeds these, and no others."""

from __future__ import annotations

from pool.cluster.meters import Meter, MeterKind

_SECONDS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)


def _gauge(name: str, text: str, *labels: str) -> Meter:
    return Meter(name=name, kind=MeterKind.GAUGE, text=text, labels=("pool", *labels))


def _counter(name: str, text: str, *labels: str) -> Meter:
    return Meter(name=name, kind=MeterKind.COUNTER, text=text, labels=("pool", *labels))


def _seconds(name: str, text: str, *labels: str) -> Meter:
    kind = MeterKind.HISTOGRAM
    return Meter(name=name, kind=kind, text=text, labels=("pool", *labels), bounds=_SECONDS)


MEMBERS = _gauge("pool_members", "Members in each state.", "state")
DESIRED = _gauge("pool_desired_members", "The size that the pool is meant to have.")
READY = _gauge("pool_ready_members", "Members that are ready and have a rank.")
SPARES = _gauge("pool_desired_spares", "Spares that the pool is meant to have.")
SPARES_READY = _gauge("pool_ready_spares", "Spares that are ready.")
NOTICED = _gauge("pool_noticed_members", "Members with a notice that their node goes away.")
OUTDATED = _gauge("pool_outdated_members", "Members of another revision than the pool's.")
IN_FLIGHT = _gauge("pool_calls_in_flight", "Calls to members that have not returned.")
JOBS = _gauge("pool_jobs", "Jobs of maps and submitted calls, in flight and waiting.")
SETTLED = _gauge("pool_settled", "1 when there is nothing to do and nothing to wait for.")
FAILED = _gauge("pool_failed", "1 when the pool gave up.")
BUDGET_USED = _gauge(
    "pool_restart_budget_used", "Failures in the window that count against a budget.", "cause"
)
BUDGET_LIMIT = _gauge(
    "pool_restart_budget_limit", "How many failures in the window a budget allows.", "cause"
)
EVENTS = _counter("pool_events_total", "Events, by kind.", "kind")
STARTS = _counter("pool_starts_total", "Members whose actor was started.")
FAILURES = _counter("pool_failures_total", "Failures of members, by cause.", "cause")
NOTICES = _counter(
    "pool_notices_total", "Notices for members, by what they would be lost to.", "cause"
)
UNAVAILABLE = _counter("pool_sources_unavailable_total", "Troubles in asking a source.", "source")
PLACEMENT_S = _seconds("pool_placement_seconds", "From a member's begin to its reservation.")
START_S = _seconds("pool_start_seconds", "From a member's reservation to ready.")
DETECTION_S = _seconds("pool_detection_seconds", "From a member's first bad health to its fault.")
RECOVERY_S = _seconds(
    "pool_recovery_seconds", "From a member's fault until its slot or its rank is ready.", "cause"
)
DRAIN_S = _seconds(
    "pool_drain_seconds", "What leaving took a member, by how far it had to go.", "rung"
)

METERS = tuple(value for value in list(globals().values()) if isinstance(value, Meter))
"""All of them, in the order in which they stand here."""
