"""How a shell on a node of a running job is opened. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from pool.slurm.job import SlurmJob
from pool.slurm.place import Place

NAMED = "--container-name="


def attach_words(job_id: str) -> str:
    """Return what a user types, from where the job was submitted."""
    return f"pool slurm attach {job_id} [rank] [-- command]"


def attach_script(job: SlurmJob, place: Place) -> str:
    """Return a script that opens a shell on the head, or on the node of a rank."""
    words = [job.python, "-m", "pool.cli", "slurm", "attach", f"--directory={job.directory}"]
    return f'#!/bin/sh\nexec {shlex.join([*words, place.job_id])} "$@"\n'


def attach_argv(
    job_id: str, host: str, container: Sequence[str], environ: Sequence[str], command: Sequence[str]
) -> list[str]:
    """Return the `srun` that opens a shell, or runs a command, on a node of a job.

    A container that goes by a name is entered; the options that made it would make another.

    Args:
        job_id: The job.
        host: The node.
        container: The job's own options for a container.
        environ: Variables to set, as `NAME=value`.
        command: What to run; empty for a shell.
    """
    entered = [option for option in container if option.startswith(NAMED)]
    return [
        "srun",
        f"--jobid={job_id}",
        "--overlap",
        "--nodes=1",
        "--ntasks=1",
        f"--nodelist={host}",
        "--mpi=none",
        "--cpu-bind=none",
        *entered,
        *([] if command else ["--pty"]),
        "env",
        *environ,
        *(command or ["bash"]),
    ]
