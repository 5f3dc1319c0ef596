"""The course of the job: what it is at, what it was asked, and how it ends. Pure.

A job ends as its driver does, as too much is lost, as somebody asks it to, or as its time is over.
Whether it then goes back into the queue is decided here: one that was warned does, unless whoever
ended it does not want it back.
"""

from __future__ import annotations

import enum
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pool.process.exits import Exit
from pool.slurm.driver import exit_code
from pool.slurm.job import SlurmJob
from pool.slurm.judge import Verdict

ASKED_TO_END = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGQUIT})


class Phase(enum.StrEnum):
    """What a job is at. The order is that of time."""

    BRING_UP = "bring-up"
    RUNNING = "running"
    ENDING = "ending"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the job ended.

    Args:
        code: Its exit code.
        why: In a sentence.
        rank: The node that is to blame, if it is one.
        service: The service that is, if it is one.
        requeue: Whether to put the job back.
    """

    code: int
    why: str
    rank: int | None = None
    service: str = ""
    requeue: bool = False


class Course:
    """The course of one job; its fields are for others to read. Times are UNIX seconds.

    Args:
        job: The job.
        began_at: When it began.
    """

    def __init__(self, job: SlurmJob, began_at: float) -> None:
        self._job = job
        self._is_warned = False
        self._is_unwanted = False
        self.began_at = began_at
        self.ready_at: float | None = None
        """When all was up."""
        self.phase = Phase.BRING_UP
        self.asked = 0
        """The signal that asked it to end; 0 while none has."""
        self.notice: Mapping[str, Any] | None = None
        """What is known of its end, once it was warned."""
        self.outcome: Outcome | None = None
        """How it ends, once it does."""

    @property
    def warning(self) -> tuple[str, int] | None:
        """The signal that warns of the end, and how many seconds before; None if none does."""
        warning = self._job.warning
        return None if warning is None else (f"SIG{warning[0].removeprefix('SIG')}", warning[1])

    # --- what happens ---

    def run(self, now: float) -> None:
        """All is up."""
        self.ready_at = now
        self.phase = Phase.RUNNING

    def ask(self, number: int, now: float) -> bool:
        """Ask it to end.

        Returns:
            Whether that is new. Slurm and `srun` both send it.
        """
        if self.asked:
            return False
        self.asked = number
        # When a warned job has to go back it is ended from here. Who ends it before, as
        # `scancel` does, does not want it back.
        self._is_unwanted = not self.must_go_back(now)
        return True

    def warn(self) -> bool:
        """Warn it of its end.

        Returns:
            Whether that is news: each node is warned, and who ends already has no use for it.
        """
        if self._is_warned or self.phase in (Phase.ENDING, Phase.ENDED):
            return False
        self._is_warned = True
        return True

    def take_notice(self, notice: Mapping[str, Any]) -> None:
        """Say when it ends, and why; see `warning.notice`."""
        self.notice = notice

    def end(self, outcome: Outcome) -> None:
        """It is over, and everybody leaves."""
        self.outcome, self.phase = outcome, Phase.ENDING

    def close(self) -> None:
        """Everybody has left."""
        self.phase = Phase.ENDED

    # --- what follows ---

    @property
    def may_go_back(self) -> bool:
        """Whether it goes back into the queue, should it end now without being through."""
        return self._job.requeue == "notice" and self._is_warned and not self._is_unwanted

    def must_go_back(self, now: float) -> bool:
        """Return whether it has to end now to get back into the queue."""
        if self.notice is None or not self.may_go_back:
            return False
        margin_s = self._job.requeue_margin_s + self._job.driver_grace_s
        return bool(now >= self.notice["deadline"] - margin_s)

    def failed(self, verdict: Verdict) -> Outcome:
        """Give up: a warned job that loses too much, as to who takes its nodes, goes back."""
        requeue = self.may_go_back
        return Outcome(1, verdict.why, verdict.rank, verdict.service, requeue=requeue)

    def driver_ended(self, ended: Exit, *, had_to: bool) -> Outcome:
        """End as the driver has.

        Args:
            ended: How it has.
            had_to: Whether it was asked to, as the job has to go back. One that was may well have
                ended with 0, and is not through.
        """
        goes_back = self.may_go_back and (had_to or not ended.is_clean)
        return Outcome(exit_code(ended), f"the driver ended ({ended})", requeue=goes_back)
