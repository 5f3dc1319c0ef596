"""Judge one health probe of one member.

Purpose: turn "what the probe came back with" and "what is on record" into a verdict, with the
reason. The rows of `_ROWS` are read from the top and the first that matches decides, so that the
order is the policy and can be read as one.

Limits: a verdict is all that comes out. Who is replaced, and when, is decided by the restart policy
and the reconcile planner. Probing (period, time-out, how late the own loop ran) is the caller's.

Why not a plain count of failed probes: a probe that could not be made, or whose time-out only says
that the asker was asleep, proves nothing about the one asked. Counting it kills healthy members by
the hundred whenever the driver stalls or a metadata service is down (INV-9).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum, auto

from pool.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthPolicy:
    """Say how often a member is probed and how many failures in a row end it.

    Args:
        period_s: Seconds from one probe of a member to its next; more than 0.
        timeout_s: Seconds that one probe may take; more than 0.
        failures: Failures in a row that make a member failed; 1 or more.
        grace_s: Seconds after the member first got ready in which failures are noted, not counted.

    Raises:
        ConfigError: A value is out of its range; `field` names it.
    """

    period_s: float = 5
    timeout_s: float = 2
    failures: int = 3
    grace_s: float = 30

    def __post_init__(self) -> None:
        for field in ("period_s", "timeout_s"):
            value = getattr(self, field)
            if not (_is_finite(value) and value > 0):
                raise ConfigError(f"{field} is {value!r}; give more than 0 seconds", field)
        if type(self.failures) is not int or self.failures < 1:
            message = f"failures is {self.failures!r}; give a whole number, 1 or more"
            raise ConfigError(message, "failures")
        if not (_is_finite(self.grace_s) and self.grace_s >= 0):
            raise ConfigError(f"grace_s is {self.grace_s!r}; give 0 or more seconds", "grace_s")


def _is_finite(value: object) -> bool:
    # NB: True and False are ints, and no number of seconds.
    return type(value) is not bool and isinstance(value, int | float) and math.isfinite(value)


class ProbeKind(Enum):
    """Name what came of one probe."""

    OK = auto()
    """The member answered that it is well."""
    ILL = auto()
    """The member's own check said no, or raised."""
    TIMEOUT = auto()
    """No answer in `timeout_s`, while our own loop ran on time."""
    UNAVAILABLE = auto()
    """The checker could not ask."""
    LATE = auto()
    """Our own loop ran late, so that a missing answer proves nothing."""
    STALE = auto()
    """An answer came, from knowledge older than allowed."""
    UNREACHABLE = auto()
    """The member cannot be reached, while others answered the same checker."""

    @property
    def is_evidence(self) -> bool:
        """Whether the probe says anything about the member (INV-9)."""
        return self not in (ProbeKind.UNAVAILABLE, ProbeKind.LATE)

    @property
    def is_failure(self) -> bool:
        """Whether the probe speaks against the member, and counts as a failure."""
        return self.is_evidence and self not in (ProbeKind.OK, ProbeKind.UNREACHABLE)


@dataclass(frozen=True, slots=True)
class Probe:
    """Hold what one probe came back with.

    Args:
        kind: What came of it.
        detail: What was seen, in words, for the operator.
    """

    kind: ProbeKind
    detail: str = ""


@dataclass(frozen=True, slots=True)
class HealthRecord:
    """Hold what earlier probes of one member left behind.

    Args:
        consecutive_failures: Counted failures since the last good probe.
        last_ok: When the last good probe was judged, in seconds of the caller's clock.
        last_detail: What the last probe that was evidence saw.
    """

    consecutive_failures: int = 0
    last_ok: float | None = None
    last_detail: str = ""


class Verdict(Enum):
    """Name what a probe means for its member."""

    HEALTHY = auto()
    """Well; a suspect member is ready again."""
    SUSPECT = auto()
    """Failing, and not yet for long enough to be ended."""
    FAILED = auto()
    """To be ended and replaced."""
    UNCHANGED = auto()
    """Nothing was learnt that counts; what held before holds."""


@dataclass(frozen=True, slots=True)
class _Case:
    """One probe in its context, with the counts that the rows look at."""

    record: HealthRecord
    probe: Probe
    policy: HealthPolicy
    now: float
    ready_since: float

    @property
    def in_grace(self) -> bool:
        return self.now - self.ready_since < self.policy.grace_s

    @property
    def failures(self) -> int:
        return self.record.consecutive_failures + 1

    def unchanged(self) -> HealthRecord:
        return self.record

    def well(self) -> HealthRecord:
        return HealthRecord(0, self.now, self.probe.detail)

    def noted(self) -> HealthRecord:
        return replace(self.record, last_detail=self.probe.detail)

    def counted(self) -> HealthRecord:
        noted = self.noted()
        return replace(noted, consecutive_failures=self.failures)


_SAW = {
    ProbeKind.OK: "it answered that it is well",
    ProbeKind.ILL: "its own check failed",
    ProbeKind.TIMEOUT: "it did not answer in time",
    ProbeKind.UNAVAILABLE: "the checker could not ask",
    ProbeKind.LATE: "our own loop ran late",
    ProbeKind.STALE: "its answer was too old",
    ProbeKind.UNREACHABLE: "it cannot be reached",
}

_WELL = _SAW[ProbeKind.OK]

_ROWS: tuple[
    tuple[
        Callable[[_Case], bool], Verdict, Callable[[_Case], HealthRecord], Callable[[_Case], str]
    ],
    ...,
] = (
    # INV-9: first of all, because no later row may look at a probe that proves nothing.
    (
        lambda case: not case.probe.kind.is_evidence,
        Verdict.UNCHANGED,
        _Case.unchanged,
        lambda case: "which says nothing about the member",
    ),
    # One good answer clears the record: only failures in a row count.
    (
        lambda case: case.probe.kind is ProbeKind.OK,
        Verdict.HEALTHY,
        _Case.well,
        lambda case: f"after {case.record.consecutive_failures} failure(s) in a row",
    ),
    # Silence is not death: the other side of a cut link may be alive, and a second member in its
    # slot would be one too many (INV-1). Whether it is dead, its lifeline will tell.
    (
        lambda case: case.probe.kind is ProbeKind.UNREACHABLE,
        Verdict.SUSPECT,
        _Case.noted,
        lambda case: "while others answered",
    ),
    # A member that just got ready may be busy loading; an operator still sees what it said.
    (
        lambda case: case.in_grace,
        Verdict.UNCHANGED,
        _Case.noted,
        lambda case: f"noted, not counted: it got ready less than {case.policy.grace_s:g} s ago",
    ),
    # Asked before SUSPECT, so that `failures=1` ends a member on its first failure.
    (
        lambda case: case.failures >= case.policy.failures,
        Verdict.FAILED,
        _Case.counted,
        lambda case: f"failure {case.failures} of {case.policy.failures} in a row",
    ),
    (
        lambda case: True,
        Verdict.SUSPECT,
        _Case.counted,
        lambda case: f"failure {case.failures} of {case.policy.failures} in a row",
    ),
)


def judge(
    record: HealthRecord,
    probe: Probe,
    policy: HealthPolicy,
    *,
    now: float,
    ready_since: float,
) -> tuple[HealthRecord, Verdict, str]:
    """Judge one probe of one member.

    Args:
        record: What the probes before this one left behind.
        probe: What this one came back with.
        policy: How many failures count, and from when on.
        now: The time of judging, in seconds of the caller's clock.
        ready_since: When the member *first* got ready, on the same clock. NB: a return from suspect
            to ready must not move it, or the grace would start anew at each hiccup.

    Returns:
        The record to keep, the verdict, and the reason as a sentence without its full stop.
    """
    if probe.kind is ProbeKind.OK and not record.consecutive_failures:
        # The usual answer of the usual member; thousands of them come at once.
        seen = f" ({probe.detail})" if probe.detail else ""
        return HealthRecord(0, now, probe.detail), Verdict.HEALTHY, f"{_WELL}{seen}: as before"
    case = _Case(record, probe, policy, now, ready_since)
    verdict, after, why = next(row[1:] for row in _ROWS if row[0](case))
    saw = _SAW[probe.kind] + (f" ({probe.detail})" if probe.detail else "")
    return after(case), verdict, f"{saw}: {why(case)}"
