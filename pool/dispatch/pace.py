"""How many jobs share a call: as many as take less time than a call does.

A call to an actor costs the driver and the actor some tenths of a millisecond each. Jobs that take
less are bundled, within what may be in flight; those that take longer travel alone. The first jobs
travel alone, for nobody knows how long they take.
"""

from __future__ import annotations

from collections import deque

CALL_S = 0.001
"""About what a call costs; jobs that take longer gain nothing from company."""
HEARD = 9
"""Of so many calls the median counts: on a busy machine any of them may be held up."""


class Pace:
    """Learn how long jobs take.

    Args:
        most: How many may share a call at most.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._heard: deque[float] = deque(maxlen=HEARD)
        self.together = 1
        """How many jobs the next call should have."""

    def learn(self, took_s: float, jobs: int) -> None:
        """Hear how long the jobs of a call took."""
        if self._most == 1:
            return
        self._heard.append(took_s / max(jobs, 1))
        job_s = sorted(self._heard)[len(self._heard) // 2]
        self.together = max(1, min(self._most, int(CALL_S / max(job_s, 1e-9))))

    def part(self) -> None:
        """Let every job travel alone from now on."""
        self._most = self.together = 1
