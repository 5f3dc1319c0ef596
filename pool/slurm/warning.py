"""The warning that Slurm sends before a job's end, as a notice for pools.

`--signal=USR1@120` comes 120 s before the wall time is over, and up to a minute earlier; with
`PreemptParameters=send_user_signal` it also comes when the job is preempted, and then the wall time
has nothing to do with it. So the end is the wall time's only where that fits the warning.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import anyio

from pool.errors import SourceUnavailable
from pool.notices.detect import SLURM_NOTICE
from pool.notices.slurm import end_by_command, end_by_environment

ASK_S = 5.0
EARLY_S = 75.0
"""Slurm looks at wall times each half minute or so, and may warn that much too early."""
VARIABLE = SLURM_NOTICE
"""What tells pools where the notice will be."""


def end_of(environ: Mapping[str, str]) -> float | None:
    """Return when the wall time is over, in UNIX seconds; None if that is not known."""
    try:
        return end_by_environment(environ)
    except SourceUnavailable:
        return None


async def asked_end(job_id: str) -> float | None:
    """Ask Slurm when the wall time is over; None if it does not say."""
    try:
        with anyio.fail_after(ASK_S):
            return await anyio.to_thread.run_sync(
                end_by_command, "squeue", job_id, abandon_on_cancel=True
            )
    except (TimeoutError, SourceUnavailable):
        return None


def notice(signal_name: str, lead_s: float, now: float, end: float | None) -> dict[str, Any]:
    """Return what `pool.notices.FileNotice` reads.

    Args:
        signal_name: Which signal came.
        lead_s: How long before the end it was to come.
        now: When it came, in UNIX seconds.
        end: When the wall time is over, if that is known.
    """
    if end is not None and now <= end <= now + lead_s + EARLY_S:
        return {
            "kind": "walltime",
            "deadline": end,
            "reason": f"{signal_name}: the job's wall time is over then",
        }
    return {
        "kind": "preempt",
        "deadline": now + lead_s,
        "reason": f"{signal_name}, {lead_s:g} s before the job is taken away",
    }
