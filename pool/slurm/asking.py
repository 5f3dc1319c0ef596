"""What Slurm is asked, and how: one command, with a time limit.

A job asks at its end and seldom: to put it back, or to end who does not leave. It is the head alone
that does so, and what Slurm has to answer does not grow with the nodes.
"""

from __future__ import annotations

import functools
import subprocess
from collections.abc import Sequence

import anyio

from pool.errors import PoolError

TIMEOUT_S = 30.0
SUBMIT_S = 60.0
"""As long as somebody looks on."""


class SlurmRefused(PoolError):
    """Say that a command of Slurm failed, or is not there.

    Args:
        command: The command.
        said: What it said.
    """

    def __init__(self, command: str, said: str) -> None:
        super().__init__(command, said)
        self.command = command
        self.said = said

    def __str__(self) -> str:
        return f"{self.command}: {self.said}"


def ask(argv: Sequence[str], stdin: str = "", within_s: float = SUBMIT_S) -> str:
    """Run a command of Slurm, and return what it printed. Blocks.

    Raises:
        SlurmRefused: It failed, is not there, or did not answer in time.
    """
    try:
        done = subprocess.run(
            argv,
            input=stdin,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=within_s,
            check=False,
        )
    except FileNotFoundError:
        raise SlurmRefused(argv[0], "there is no such command; is Slurm on this machine?") from None
    except OSError as error:
        raise SlurmRefused(argv[0], str(error)) from None
    except subprocess.TimeoutExpired:
        raise SlurmRefused(argv[0], f"no answer in {within_s:g} s") from None
    if done.returncode != 0:
        raise SlurmRefused(argv[0], done.stderr.strip() or f"it ended with {done.returncode}")
    return done.stdout


async def requeue(job_id: str) -> str:
    """Ask Slurm to put the job back.

    Returns:
        Why it does not; nothing if it does.
    """
    return await _why_not(["scontrol", "requeue", job_id])


async def kill_step(job_id: str, step_id: str) -> str:
    """Ask Slurm to kill all that is left of the step: `srun` waits for it otherwise.

    Returns:
        Why it does not; nothing if it does.
    """
    return await _why_not(["scancel", "--signal=KILL", f"{job_id}.{step_id}"])


async def _why_not(argv: Sequence[str]) -> str:
    try:
        await anyio.to_thread.run_sync(functools.partial(ask, argv, within_s=TIMEOUT_S))
    except SlurmRefused as refused:
        return str(refused)
    return ""
