"""End the job's step where a node program is left of which nothing is heard any more.

`srun` waits for every task (`--kill-on-bad-exit=0 --wait=0`), so also for one that hangs, and the
job waits with it to the end of its wall time. Such a node cannot be told to leave, but Slurm can
kill what runs there. It is asked once, last of all, and only if there is such a node. The head's
own program is killed too and has nothing left to do: the job's exit code is in its file.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping

import anyio

from pool.slurm.telling import Teller

TIMEOUT_S = 30.0


async def end_step(job_id: str, environ: Mapping[str, str], teller: Teller) -> None:
    """Ask Slurm to kill the step that this program is a task of, and say if it cannot be asked."""
    step = f"{job_id}.{environ.get('SLURM_STEP_ID', '0')}"

    def ask() -> str:
        try:
            done = subprocess.run(
                ["scancel", "--signal=KILL", step],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=TIMEOUT_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return str(error)
        return "" if done.returncode == 0 else done.stderr.decode(errors="replace").strip()

    teller.say("a node that is silent may still run; Slurm is asked to end it")
    if said := await anyio.to_thread.run_sync(ask):
        teller.say(f"step {step} cannot be ended: {said}; the job lasts as long as that node does")
