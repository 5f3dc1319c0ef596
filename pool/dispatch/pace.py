"""How many jobs share a call: as many as take less time than a call does.

A call to an actor costs the driver and the actor some tenths of a millisecond each. Jobs that take
less are bundled, within what may be in flight; those that take longer travel alone. The first jobs
travel alone, for nobody knows how long they take.
"""

from __future__ import annotations

CALL_S = 0.001
"""About what a call costs; jobs that take longer gain nothing from company."""
DECAY = 0.8


class Pace:
    """Learn how long jobs take.

    Args:
        most: How many may share a call at most.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._job_s: float | None = None

    @property
    def together(self) -> int:
        """How many jobs the next call should have."""
        if self._job_s is None:
            return 1
        return max(1, min(self._most, int(CALL_S / max(self._job_s, 1e-9))))

    def learn(self, took_s: float, jobs: int) -> None:
        """Hear how long some jobs took: a slow one counts at once, quick ones by and by."""
        job_s = took_s / max(jobs, 1)
        before = job_s if self._job_s is None else self._job_s
        self._job_s = max(job_s, DECAY * before + (1 - DECAY) * job_s)

    def part(self) -> None:
        """Let every job travel alone from now on."""
        self._most = 1
