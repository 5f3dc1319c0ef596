"""Slurm: the end of the job's wall time.

After the manual pages of sbatch, squeue and scontrol. The environment has the end as it was when
the job was launched; who changed it since (`scontrol update`, preemption with a grace time) only
the controller knows. So it can be asked as well, seldom, for every node of every job would ask it.

The signals that Slurm sends before the end (`--signal=USR1@120`, SIGTERM on preemption) reach the
steps of a job: see `SignalNotices` for the process that holds the pool.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from typing import Any

from pool.errors import ConfigError, SourceUnavailable
from pool.notices.background import Background
from pool.notices.deadlines import parse_slurm_time
from pool.notices.http_source import positive
from pool.notices.source import NodeNoticeSource
from pool.planning.notice import Notice, NoticeKind

COMMAND_TIMEOUT_S = 10.0
LARGEST = 64 * 1024
_END_TIME = re.compile(r"(?:^|\s)EndTime=(\S*)")


class SlurmWallTime(NodeNoticeSource):
    """Say when the Slurm job that this node belongs to is over.

    There is such a notice from the job's first second on; a pool answers it shortly before the end
    (`NoticePolicy.ahead_s`).

    Args:
        ask: Whom to ask beside the environment: `squeue`, `scontrol`, or nobody. Then an end that
            was moved is not heard of.
        period_s: Seconds between two questions.
        margin_s: How many seconds before its end the job is to be left.
    """

    def __init__(self, ask: str = "", period_s: float = 300.0, margin_s: float = 0.0) -> None:
        if ask not in ("", "squeue", "scontrol"):
            raise ConfigError(f"ask is {ask!r}; give 'squeue', 'scontrol', or nothing", "ask")
        if not isinstance(margin_s, int | float) or not 0 <= margin_s < 1e9:
            raise ConfigError(f"margin_s is {margin_s!r}; give 0 or more seconds", "margin_s")
        self.name = "slurm"
        self.period_s = positive(period_s, "period_s")
        self.ask = ask
        self.margin_s = float(margin_s)
        self._background: Background | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_background": None}

    @property
    def shared_as(self) -> str | None:  # type: ignore[override]
        """One process on each node asks for all; nobody has to, without a command."""
        return f"slurm {self.ask} {self.period_s:g} {self.margin_s:g}" if self.ask else None

    async def check(self, node_id: str, address: str) -> Notice | None:
        job = os.environ.get("SLURM_JOB_ID", "")
        if not job.isdecimal():
            raise SourceUnavailable("slurm: there is no SLURM_JOB_ID; this is no job of Slurm")
        if self.ask:
            if self._background is None:
                self._background = Background("slurm")
            background = self._background
            limit_s = COMMAND_TIMEOUT_S + 1
            end = await background.run(lambda: end_by_command(self.ask, job), limit_s)
        else:
            end = end_by_environment(os.environ)
        if end is None:
            return None
        return Notice(
            kind=NoticeKind.WALLTIME,
            deadline=end - self.margin_s,
            source=self.name,
            reason=f"the time of job {job} is over",
        )


def end_by_environment(environ: Mapping[str, str]) -> float | None:
    """Return the end of the job as it was at its launch, in UNIX seconds; None without a limit.

    Raises:
        SourceUnavailable: It is not there (older versions of Slurm do not set it), or no time.
    """
    text = environ.get("SLURM_JOB_END_TIME")
    if text is None:
        raise SourceUnavailable("slurm: there is no SLURM_JOB_END_TIME; give ask='squeue'")
    return _time_of(text)


def parse_squeue(output: bytes) -> float | None:
    """Read what `squeue --noheader --format %e` printed."""
    lines = output.decode(errors="replace").split()
    if not lines:
        raise SourceUnavailable("slurm: squeue does not know the job")
    # The tasks of a job array have the same limit; the first of the lines is as good as any.
    return _time_of(lines[0])


def parse_scontrol(output: bytes) -> float | None:
    """Read what `scontrol --oneliner show job` printed."""
    found = _END_TIME.search(output.decode(errors="replace"))
    if found is None:
        raise SourceUnavailable("slurm: scontrol says nothing of an EndTime")
    return _time_of(found[1])


def _time_of(text: str) -> float | None:
    try:
        return parse_slurm_time(text)
    except ValueError as error:
        raise SourceUnavailable(f"slurm: {error}") from error


def end_by_command(ask: str, job: str) -> float | None:
    """Ask Slurm for the end of a job, in UNIX seconds; None without a limit. Blocks.

    Args:
        ask: `squeue` or `scontrol`.
        job: The job.

    Raises:
        SourceUnavailable: It does not say.
    """
    commands = {
        "squeue": ["squeue", "--noheader", "--jobs", job, "--format", "%e"],
        "scontrol": ["scontrol", "--oneliner", "show", "job", job],
    }
    parsers = {"squeue": parse_squeue, "scontrol": parse_scontrol}
    try:
        done = subprocess.run(
            commands[ask],
            # In seconds, so that no time zone is between us; older ones print local time.
            env={**os.environ, "SLURM_TIME_FORMAT": "%s"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=COMMAND_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SourceUnavailable(f"slurm: {ask} cannot be asked: {error}") from error
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip()[:200]
        raise SourceUnavailable(f"slurm: {ask} ended with {done.returncode}: {said}")
    return parsers[ask](done.stdout[:LARGEST])
