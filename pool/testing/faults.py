"""What goes wrong in a simulated cluster, how often, and how long things take: one frozen value.

Three kinds of numbers: *spans* are the shortest and the longest time that something takes;
*chances* are per event, from 0 to 1; *rates* are per hour and per actor, node or driver, and come
as in a Poisson process. All are drawn from one seed, each kind from a generator of its own, so that
switching one kind on leaves the others as they were.
"""

from __future__ import annotations

import dataclasses
import math
import random
from dataclasses import dataclass
from typing import Any

from pool.errors import ConfigError

Span = tuple[float, float]
"""The shortest and the longest time that something takes, in seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultPlan:
    """Say how long things take in a simulated cluster, and what goes wrong.

    The defaults are a cluster in good health, with the times of a real Ray.

    Args:
        call_s: Span of a message's way, there or back.
        actor_start_s: Span from an actor's start to its process.
        group_ready_s: Span from a placement group's last bundle to the news of it.
        death_s: Span from a death, or a kill, to the news of it.
        owner_death_s: Span from the death of an owner to that of what it owns.
        silence_s: Seconds after which the cluster gives up on a node that fell silent.
        start_fails: Chance that an actor's process dies before it is there.
        start_hangs: Chance that a member's `start` never returns.
        drain_hangs: Chance that its `drain` never returns.
        shutdown_hangs: Chance that its `shutdown` never returns.
        group_unready: Chance that a placement group never gets ready, although there is room.
        reply_lost: Chance that a reply never arrives. Lifelines are spared: a connection that
            breaks is a death, and told as one.
        reply_late: Chance that a reply takes `reply_late_s` longer.
        reply_late_s: Span of that.
        source_unavailable: Chance that the cluster cannot say which nodes drain.
        poll_unavailable: Chance that a round of health polls cannot be made.
        actor_kills_per_h: How often each actor is killed.
        health_hangs_per_h: How often each actor stops to answer its health checks, for good.
        node_losses_per_h: How often each node goes away without notice.
        node_silences_per_h: How often each node falls silent.
        node_silent_for_s: Span of how long; longer than `silence_s` loses the node.
        notices_per_h: How often each node gets a notice.
        notice_s: Span from the notice to the node's end.
        notice_withdrawn: Chance that a notice is withdrawn, at a time before its deadline.
        node_return_s: Span from a node's end to its successor's beginning.
        stalls_per_h: How often the whole process stands still.
        stall_s: Span of that.

    Raises:
        ConfigError: A value is out of its range; `field` names it.
    """

    call_s: Span = (0.0005, 0.003)
    actor_start_s: Span = (0.4, 1.5)
    group_ready_s: Span = (0.005, 0.05)
    death_s: Span = (0.005, 0.02)
    owner_death_s: Span = (0.03, 0.05)
    silence_s: float = 14.0
    start_fails: float = 0.0
    start_hangs: float = 0.0
    drain_hangs: float = 0.0
    shutdown_hangs: float = 0.0
    group_unready: float = 0.0
    reply_lost: float = 0.0
    reply_late: float = 0.0
    reply_late_s: Span = (1.0, 10.0)
    source_unavailable: float = 0.0
    poll_unavailable: float = 0.0
    actor_kills_per_h: float = 0.0
    health_hangs_per_h: float = 0.0
    node_losses_per_h: float = 0.0
    node_silences_per_h: float = 0.0
    node_silent_for_s: Span = (1.0, 60.0)
    notices_per_h: float = 0.0
    notice_s: Span = (30.0, 300.0)
    notice_withdrawn: float = 0.0
    node_return_s: Span = (60.0, 600.0)
    stalls_per_h: float = 0.0
    stall_s: Span = (0.5, 20.0)

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            name, value = field.name, getattr(self, field.name)
            if isinstance(field.default, tuple):
                _check_span(name, value)
            elif name.endswith("_per_h") or name.endswith("_s"):
                if not (_is_number(value) and value >= 0):
                    raise ConfigError(f"{name} is {value!r}; give 0 or more", name)
            elif not (_is_number(value) and 0 <= value <= 1):
                raise ConfigError(f"{name} is {value!r}; give a chance from 0 to 1", name)

    def calm(self) -> FaultPlan:
        """Return the same times, with nothing that goes wrong."""
        times = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if field.name.endswith("_s")
        }
        return FaultPlan(**times)

    def __repr__(self) -> str:
        told = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if getattr(self, field.name) != field.default
        }
        return f"FaultPlan({', '.join(f'{name}={value!r}' for name, value in told.items())})"


def _check_span(name: str, value: Any) -> None:
    if not (
        isinstance(value, tuple)
        and len(value) == 2
        and all(_is_number(end) for end in value)
        and 0 <= value[0] <= value[1]
    ):
        wanted = "give the shortest and the longest time, in seconds, as in (0.1, 2)"
        raise ConfigError(f"{name} is {value!r}; {wanted}", name)


def _is_number(value: object) -> bool:
    # NB: True is an int, and neither a time nor a chance.
    return type(value) is not bool and isinstance(value, int | float) and math.isfinite(value)


class Chance:
    """Draw from one seed, with a generator for each kind of draw.

    Args:
        seed: Any int.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._kinds: dict[str, random.Random] = {}

    def of(self, kind: str) -> random.Random:
        """Return the generator of one kind of draw."""
        found = self._kinds.get(kind)
        if found is None:
            found = self._kinds[kind] = random.Random(f"{self._seed}/{kind}")
        return found

    def span_s(self, kind: str, span: Span) -> float:
        """Draw a time from a span, in seconds."""
        return self.of(kind).uniform(*span)

    def hits(self, kind: str, chance: float) -> bool:
        """Draw whether something happens."""
        return chance > 0 and self.of(kind).random() < chance
