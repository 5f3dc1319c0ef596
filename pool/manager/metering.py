"""Feed a pool's metrics: counters and times from its events, gauges from how it is.

This is the one place that does. Gauges are set at a steady pace, which collectors are slower than;
so what metrics cost does not grow with what happens. Times are those of the events.

Limits: a counter begins at 0 with each owner of the pool, as Prometheus expects it of a process.
The pools inside replicas are not metered: each would have labels of its own, and what happens in
them shows in their replicas.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import anyio

from pool.cluster.interface import Cluster
from pool.cluster.meters import Meter, Record
from pool.manager.events import Event, EventKind, EventLog
from pool.metrics import table
from pool.planning.budgets import Budget
from pool.planning.lifecycle import State

PERIOD_S = 5.0
"""How often gauges are set. Ray collects every ten seconds."""
_ENDS_RECOVERY = {EventKind.SLOT_SPARED, EventKind.SLOT_RETIRED, EventKind.SLOT_CLOSED}
"""What says that a slot's rank was taken over, or is not wanted any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gauged:
    """Hold what a pool's gauges show at one moment.

    Args:
        values: Those without labels of their own.
        states: The state of each member.
        budgets: The restart budgets.
    """

    values: Mapping[Meter, float]
    states: Sequence[State]
    budgets: Sequence[Budget]


class Metering:
    """Feed the metrics of one pool.

    Args:
        pool: The pool's name, the first label of all.
        cluster: Who collects.
    """

    def __init__(self, pool: str, cluster: Cluster) -> None:
        self._pool = pool
        records = {meter.name: cluster.meter(meter) for meter in table.METERS}
        self._records: dict[str, Record] = {
            name: record for name, record in records.items() if record is not None
        }
        # When a slot's member began to be pending, starting, or suspect; when it failed, and why.
        self._entered: dict[int, tuple[str, float]] = {}
        self._failed: dict[int, tuple[str, float]] = {}

    @property
    def is_on(self) -> bool:
        """Whether anybody collects."""
        return bool(self._records)

    def _tell(self, meter: Meter, value: float, **labels: str) -> None:
        record = self._records.get(meter.name)
        if record is not None:
            record(value, {"pool": self._pool, **labels})

    # -- events -------------------------------------------------------------------------------

    def note(self, event: Event) -> None:
        """Count an event."""
        self._tell(table.EVENTS, 1, kind=str(event.kind))
        facts, slot = event.facts, event.slot
        match event.kind:
            case EventKind.MEMBER_STATE if slot is not None:
                self._note_state(slot, str(facts["state"]), event.at)
            case EventKind.MEMBER_FAULT if slot is not None:
                self._note_fault(slot, str(facts["cause"]), event.at)
            case EventKind.MEMBER_NOTICE:
                self._tell(table.NOTICES, 1, cause=str(facts.get("cause") or "withdrawn"))
            case EventKind.MEMBER_DRAINED:
                self._tell(table.DRAIN_S, facts["took_s"], rung=str(facts["rung"]))
            case EventKind.SOURCE_UNAVAILABLE:
                self._tell(table.UNAVAILABLE, 1, source=str(facts["source"]))
            case kind if kind in _ENDS_RECOVERY and slot is not None:
                self._recovered(slot, event.at)
            case _:
                pass

    def _note_state(self, slot: int, state: str, at: float) -> None:
        before, since = self._entered.pop(slot, ("", at))
        took_s = max(0.0, at - since)
        if state == State.STARTING:
            self._tell(table.STARTS, 1)
            self._tell(table.PLACEMENT_S, took_s)
        elif state == State.READY:
            if before == State.STARTING:
                self._tell(table.START_S, took_s)
            self._recovered(slot, at)
        if state in (State.PENDING, State.STARTING, State.SUSPECT):
            self._entered[slot] = (state, at)

    def _note_fault(self, slot: int, cause: str, at: float) -> None:
        self._tell(table.FAILURES, 1, cause=cause)
        state, since = self._entered.get(slot, ("", at))
        if state == State.SUSPECT:
            self._tell(table.DETECTION_S, max(0.0, at - since))
        # A successor that fails as well does not begin the outage anew.
        self._failed.setdefault(slot, (cause, at))

    def _recovered(self, slot: int, at: float) -> None:
        cause, since = self._failed.pop(slot, ("", at))
        if cause:
            self._tell(table.RECOVERY_S, max(0.0, at - since), cause=cause)

    # -- gauges -------------------------------------------------------------------------------

    def set(self, gauged: Gauged) -> None:
        """Set all gauges."""
        for meter, value in gauged.values.items():
            self._tell(meter, value)
        counts = Counter(gauged.states)
        for state in State:
            if not state.is_terminal:
                self._tell(table.MEMBERS, counts[state], state=str(state))
        for budget in gauged.budgets:
            self._tell(table.BUDGET_USED, budget.used, cause=budget.cause)
            self._tell(table.BUDGET_LIMIT, budget.limit, cause=budget.cause)

    async def run(self, emit: EventLog, gauge: Callable[[], Gauged]) -> None:
        """Feed until it is cancelled; the last thing is the gauges of a pool that is gone."""
        for event in emit.kept:
            self.note(event)
        end = emit.follow(self.note)
        try:
            while True:
                self.set(gauge())
                await anyio.sleep(PERIOD_S)
        finally:
            end()
            self.set(gauge())
