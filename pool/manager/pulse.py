"""The health polls' own clock: what a reply means depends on whether *we* were on time.

A loop that ran late has not listened; a reply it missed proves nothing about the member (INV-9).
So a metronome ticks while answers are waited for, and adds up how late its ticks come; a missing
answer in a late beat is no verdict.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import anyio

from pool.cluster.interface import Reply, ReplyKind
from pool.manager.member import Incarnation, InfoT
from pool.planning.health import HealthPolicy, Probe, ProbeKind, Verdict, judge

LATE_SHARE = 0.25
"""A loop that is late by more than this share of the time-out has eaten into the member's time."""
TICK_SHARE = 0.1
"""The metronome's period, as a share of the time-out."""

SILENT = (ReplyKind.TIMEOUT, ReplyKind.UNREACHABLE)
"""What came back of a question that nobody answered."""

_PROBES = {
    ReplyKind.ANSWER: ProbeKind.OK,
    ReplyKind.ERROR: ProbeKind.ILL,
    ReplyKind.TIMEOUT: ProbeKind.TIMEOUT,
    ReplyKind.UNREACHABLE: ProbeKind.UNREACHABLE,
    ReplyKind.UNAVAILABLE: ProbeKind.UNAVAILABLE,
}


class Pulse:
    """Keep the time of a pool's health polls."""

    def __init__(self, policy: HealthPolicy) -> None:
        self.policy = policy
        self._overslept_s = 0.0
        self._began = 0.0
        self._ended = 0.0
        self._late_s = 0.0
        self._beating = anyio.Event()
        self._is_beating = False

    async def keep_time(self) -> None:
        """Tick while a beat goes on, and note how late each tick comes."""
        while True:
            await self._beating.wait()
            self._beating = anyio.Event()
            while self._is_beating:
                due = anyio.current_time() + self.policy.timeout_s * TICK_SHARE
                await anyio.sleep_until(due)
                self._late_s += max(0.0, anyio.current_time() - due)

    @contextmanager
    def beat(self) -> Iterator[Beat]:
        """Time one round of questions."""
        beat = Beat(self.policy)
        self._began = anyio.current_time()
        self._late_s = 0.0
        self._is_beating = True
        self._beating.set()
        try:
            yield beat
        finally:
            self._is_beating = False
            self._ended = anyio.current_time()
        took_s = self._ended - self._began
        late_s = max(self._overslept_s, self._late_s, took_s - self.policy.timeout_s)
        beat.is_late = late_s > self.policy.timeout_s * LATE_SHARE

    async def rest(self) -> None:
        """Sleep until the next beat is due."""
        # The questions may take longer than a period. What a silent member takes is no lateness of
        # ours, or else its silence would never count.
        due = max(self._began + self.policy.period_s, self._ended)
        await anyio.sleep_until(due)
        self._overslept_s = anyio.current_time() - due


class Beat:
    """Judge the replies of one round."""

    def __init__(self, policy: HealthPolicy) -> None:
        self._policy = policy
        self.is_late = False
        self._has_witness = False

    def hear(self, replies: Sequence[Reply]) -> bool:
        """Take note of all replies together.

        Returns:
            Whether another witness is needed: somebody could not be reached, and nobody answered,
            so that it may be we who are cut off.
        """
        answered = (ReplyKind.ANSWER, ReplyKind.ERROR)
        self._has_witness = any(reply.kind in answered for reply in replies)
        return not self._has_witness and any(reply.kind in SILENT for reply in replies)

    def bear_witness(self) -> None:
        """Hear that the cluster itself answers us."""
        self._has_witness = True

    def judge(self, member: Incarnation[InfoT], reply: Reply) -> tuple[Verdict, str]:
        """Return the verdict on a member and why, and keep its health record."""
        member.health, verdict, why = judge(
            member.health,
            Probe(self._kind(reply), reply.detail),
            self._policy,
            now=anyio.current_time(),
            ready_since=member.ready_since,
        )
        return verdict, why

    def _kind(self, reply: Reply) -> ProbeKind:
        kind = _PROBES[reply.kind]
        if kind is ProbeKind.TIMEOUT and self.is_late:
            return ProbeKind.LATE
        if reply.kind in SILENT and not self._has_witness:
            # Nobody answered: it may be we who are cut off.
            return ProbeKind.UNAVAILABLE
        return kind
