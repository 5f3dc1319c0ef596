"""What is done from outside a job: submit it, find its files, cancel it. One call of Slurm each."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from pool.errors import PoolError
from pool.slurm import files, script
from pool.slurm import place as places
from pool.slurm.asking import ask
from pool.slurm.board import STATUS_FILE
from pool.slurm.job import SlurmJob


class JobUnknown(PoolError):
    """Say that a job has no files here.

    Args:
        job_id: The job.
        directory: Where it was looked for.
    """

    def __init__(self, job_id: str, directory: str) -> None:
        super().__init__(job_id, directory)
        self.job_id = job_id
        self.directory = directory

    def __str__(self) -> str:
        return (
            f"job {self.job_id} has no files in {self.directory}: it has not begun (squeue tells), "
            "or its directory is another; give --directory"
        )


def submit(job: SlurmJob) -> str:
    """Submit a job whose paths are full, and return its number.

    Raises:
        SlurmRefused: Slurm does not take it.
        OSError: The job's directory cannot be written.
    """
    file = Path(script.job_file(job))
    # Its own mode each: `parents=True` makes those above as anybody may read them.
    file.parent.parent.parent.mkdir(parents=True, exist_ok=True)
    for folder in (file.parent.parent, file.parent):
        folder.mkdir(mode=0o700, exist_ok=True)
    files.write(file, job.to_json())
    said = ask(["sbatch", "--parsable"], stdin=script.render(job))
    return said.split(";")[0].strip()  # the cluster's name may follow


def cancel(job_id: str) -> None:
    """Cancel a job.

    Raises:
        SlurmRefused: Slurm does not do it.
    """
    ask(["scancel", job_id])


def folder_of(directory: Path, job_id: str) -> Path:
    """Return the folder of a job's latest run.

    Raises:
        JobUnknown: There is none.
    """
    attempt = -1
    for found in directory.glob(f"{job_id}*"):
        if found.name == job_id:
            attempt = max(attempt, 0)
        number = found.name.removeprefix(f"{job_id}-r")
        if number != found.name and number.isdecimal():
            attempt = max(attempt, int(number))
    if attempt < 0:
        raise JobUnknown(job_id, str(directory))
    return places.folder_of(directory, job_id, attempt)


def status_of(directory: Path, job_id: str) -> dict[str, Any]:
    """Return what the job's latest run has published.

    Raises:
        JobUnknown: It has published nothing.
    """
    found = files.read(folder_of(directory, job_id) / STATUS_FILE)
    if found is None:
        raise JobUnknown(job_id, str(directory))
    return found


def logs_of(folder: Path) -> list[Path]:
    """Return the logs of a run, by name."""
    with contextlib.suppress(OSError):
        return sorted(path for path in (folder / "logs").iterdir() if path.suffix == ".log")
    return []
