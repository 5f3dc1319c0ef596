"""Put the job back into the queue: the one question that a job asks Slurm, at its end."""

from __future__ import annotations

import subprocess

import anyio

from pool.slurm.telling import Teller

TIMEOUT_S = 30.0


async def requeue(job_id: str, teller: Teller) -> None:
    """Ask Slurm to put the job back, and say whether it did."""

    def ask() -> str:
        try:
            done = subprocess.run(
                ["scontrol", "requeue", job_id],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=TIMEOUT_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return f"the job cannot be put back: {error}"
        said = done.stderr.decode(errors="replace").strip()
        return "the job goes back into the queue" if done.returncode == 0 else (
            f"the job was not put back: {said}"
        )  # fmt: skip

    teller.say(await anyio.to_thread.run_sync(ask))
