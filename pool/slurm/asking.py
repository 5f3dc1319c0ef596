"""What a job asks Slurm, at its end and seldom: to put it back, or to end who does not leave.

It is the head alone that asks, so what Slurm has to answer does not grow with the nodes.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

import anyio

TIMEOUT_S = 30.0


async def requeue(job_id: str) -> str:
    """Ask Slurm to put the job back.

    Returns:
        Why it does not; nothing if it does.
    """
    return await _ask(["scontrol", "requeue", job_id])


async def kill_step(job_id: str, step_id: str) -> str:
    """Ask Slurm to kill all that is left of the step: `srun` waits for it otherwise.

    Returns:
        Why it does not; nothing if it does.
    """
    return await _ask(["scancel", "--signal=KILL", f"{job_id}.{step_id}"])


async def _ask(argv: Sequence[str]) -> str:
    def ask() -> str:
        try:
            done = subprocess.run(
                argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT_S, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return str(error)
        if done.returncode == 0:
            return ""
        return done.stderr.decode(errors="replace").strip() or f"it ended with {done.returncode}"

    return await anyio.to_thread.run_sync(ask)
