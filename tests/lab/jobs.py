"""Jobs of the lab's Slurm: how they stand, what they cost the controller, and what they leave."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from datetime import datetime

from tests.lab.kernel import until
from tests.lab.slurm import LOGIN, SlurmLab

PATIENCE_S = 90.0
"""How long a job may take to where a test wants it; it starts Ray on busy cores."""
_ENDED = {"CANCELLED", "COMPLETED", "FAILED", "NODE_FAIL", "TIMEOUT"}


class Jobs:
    """Submit and watch jobs.

    Args:
        lab: Where.
    """

    def __init__(self, lab: SlurmLab) -> None:
        self.lab = lab
        self._before = {node: self._seen(node) for node in (LOGIN, *lab.nodes)}

    def submit(self, script: str, *options: str, environment: Mapping[str, str] = {}) -> str:
        """Submit a script, and return the job's id."""
        path = self.lab.folder / f"job-{time.monotonic_ns()}.sh"
        path.write_text(script)
        command = ("sbatch", "--parsable", f"--chdir={self.lab.folder}", *options, str(path))
        return self.lab.run(*command, environment=environment).strip()

    def facts(self, job: str) -> dict[str, str]:
        """Return what `scontrol show job` says."""
        said = self.lab.run("scontrol", "show", "job", "-o", job)
        return dict(re.findall(r"(?:^| )([A-Za-z/:]+)=(\S*)", said))

    def state(self, job: str) -> str:
        """Return a job's state, by Slurm's word for it."""
        return self.facts(job)["JobState"]

    def has_ended(self, job: str) -> bool:
        """Whether a job is over, and Slurm has ended all that it knew of it."""
        return self.state(job) in _ENDED

    def status(self, job: str) -> tuple[str, str]:
        """Wait for a job's end, and return its state and its exit status, as `1:0`."""
        self.until(lambda: self.has_ended(job), lambda: str(self.facts(job)))
        facts = self.facts(job)
        return facts["JobState"], facts["ExitCode"]

    def noted_end(self, job: str) -> float | None:
        """Return when the controller noted a job's end, by its log, which asks it nothing.

        `EndTime`, which it says when it is asked, is cut to whole seconds.
        """
        log = (self.lab.folder / "log" / "slurmctld").read_text()
        ends = re.findall(rf"^\[(\S+)\] _job_complete: JobId={job} done$", log, re.MULTILINE)
        return datetime.fromisoformat(ends[-1]).timestamp() if ends else None

    def cancel(self, job: str) -> None:
        """Cancel a job."""
        self.lab.run("scancel", job)

    def cancel_all(self) -> None:
        """Cancel every job, and wait until none is left."""
        self.lab.run("scancel", "--user=root")
        self.until(lambda: not self._queue(), self._queue)

    def _queue(self) -> str:
        return self.lab.run("squeue", "-h")

    def until(
        self,
        condition: Callable[[], bool],
        seen: Callable[[], str],
        patience_s: float = PATIENCE_S,
    ) -> None:
        """Wait until a condition holds, or fail with what is seen."""
        try:
            until(condition, "", patience_s)
        except AssertionError:
            raise AssertionError(f"not within {patience_s} s: {seen()}") from None

    def requests(self) -> dict[str, int]:
        """Count the requests that the controller has had since `forget_requests`, by their type."""
        said = self.lab.run("sdiag")
        by_type = said.partition("by message type")[2].partition("by user")[0]
        counts = re.findall(r"^\s+([A-Z_]+)\s+\(\s*\d+\) count:(\d+)", by_type, re.MULTILINE)
        return {kind: int(count) for kind, count in counts}

    def forget_requests(self) -> None:
        """Have the controller count from nothing."""
        self.lab.run("sdiag", "--reset")

    def left(self) -> dict[str, set[str]]:
        """Return what runs and lies in /tmp on each node, and did not when this began."""
        left = {node: self._seen(node) - before for node, before in self._before.items()}
        return {node: found for node, found in left.items() if found}

    def _seen(self, node: str) -> set[str]:
        files = [] if node == LOGIN else self.lab.tmp_of(node).iterdir()
        return {*self.lab.strangers(node), *(f"/tmp/{path.name}" for path in files)}
