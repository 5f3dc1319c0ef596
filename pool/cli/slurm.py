"""`pool slurm`: a Ray cluster as a job of Slurm."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from pool.slurm.job import SlurmJob

app = typer.Typer(name="slurm", help="Run a Ray cluster as one job of Slurm.", no_args_is_help=True)

JobFile = Annotated[Path, typer.Argument(help="The job file, TOML.", exists=True, dir_okay=False)]
Command = Annotated[
    list[str] | None, typer.Argument(help="After `--`: the driver, instead of the file's.")
]
Nodes = Annotated[int | None, typer.Option(help="How many nodes, instead of the file's.")]
MinNodes = Annotated[int | None, typer.Option(help="With how many nodes the driver may start.")]
Directory = Annotated[Path, typer.Option(help="The job's directory, as in its file.")]
JobId = Annotated[str, typer.Argument(help="The job's number.")]
DIRECTORY = Path("pool-slurm")


@app.command()
def render(
    file: JobFile,
    command: Command = None,
    nodes: Nodes = None,
    min_nodes: MinNodes = None,
    with_job: Annotated[
        bool, typer.Option("--job", help="Print what the nodes read, instead.")
    ] = False,
) -> None:
    """Print the batch script exactly as `submit` submits it."""
    from pool.slurm import script

    with _errors():
        job = _read(file, command, nodes, min_nodes)
        typer.echo(job.to_json() if with_job else script.render(job), nl=False)


@app.command()
def submit(
    file: JobFile, command: Command = None, nodes: Nodes = None, min_nodes: MinNodes = None
) -> None:
    """Submit a job, and print its number."""
    from pool.slurm import submit as submitting

    with _errors():
        typer.echo(submitting.submit(_read(file, command, nodes, min_nodes)))


@app.command()
def status(
    job_id: JobId,
    directory: Directory = DIRECTORY,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was published.")] = False,
) -> None:
    """Show a job's nodes and services. Reads one file, and asks nobody."""
    from pool.slurm import submit as submitting
    from pool.slurm.status import describe

    with _errors():
        found = submitting.status_of(directory, job_id)
        typer.echo(json.dumps(found, indent=1) if as_json else describe(found, time.time()))


@app.command()
def attach(
    job_id: JobId,
    rank: Annotated[int, typer.Argument(help="Which node; 0 is the head.")] = 0,
    command: Annotated[list[str] | None, typer.Argument(help="After `--`: what to run.")] = None,
    directory: Directory = DIRECTORY,
) -> None:
    """Open a shell on a node of a running job, or run a command there."""
    from pool.slurm import files
    from pool.slurm import submit as submitting
    from pool.slurm.interactive import attach_argv

    with _errors():
        found = submitting.status_of(directory, job_id)
        nodes: list[dict[str, Any]] = found["nodes"]
        if not 0 <= rank < len(nodes):
            raise typer.BadParameter(f"rank is {rank}; give 0 to {len(nodes) - 1}")
        job = files.read(submitting.folder_of(directory, job_id) / "job.json") or {}
        argv = attach_argv(
            job_id,
            nodes[rank]["host"],
            job.get("container", ()),
            [f"RAY_ADDRESS={found['gcs']}"],
            command or (),
        )
    try:
        os.execvp(argv[0], argv)  # noqa: S606
    except OSError as error:
        typer.echo(f"srun cannot be run: {error}", err=True)
        raise typer.Exit(1) from None


@app.command()
def logs(
    job_id: JobId,
    name: Annotated[
        str, typer.Argument(help="Which log, as `ray-head`; without it, the names.")
    ] = "",
    directory: Directory = DIRECTORY,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as it is written.")] = False,
) -> None:
    """Print a log of a job's latest run, or which there are."""
    from pool.process import logs as reading
    from pool.slurm import submit as submitting

    with _errors():
        folder = submitting.folder_of(directory, job_id)
        there = {path.stem: path for path in submitting.logs_of(folder)}
        if not name:
            typer.echo("\n".join(there))
            return
        if name not in there:
            raise typer.BadParameter(f"there is no {name}; there are {', '.join(there) or 'none'}")
        cursor = None
        while True:
            text, cursor = reading.read(there[name], cursor, rest=not follow)
            typer.echo(text, nl=False)
            if not text and not follow:
                return
            if not text:
                time.sleep(0.5)


@app.command()
def cancel(job_id: JobId) -> None:
    """Cancel a job."""
    from pool.slurm import submit as submitting

    with _errors():
        submitting.cancel(job_id)


def _read(
    file: Path, command: list[str] | None, nodes: int | None, min_nodes: int | None
) -> SlurmJob:
    """Return the job of a file, with what was given beside it, as it is submitted from here."""
    from pool.slurm.job import from_mapping, parse_toml

    given = {"command": command or None, "nodes": nodes, "min_nodes": min_nodes}
    found = parse_toml(file.read_text(encoding="utf-8"))
    # Before it is checked: the file's own values need not go together with those given.
    found |= {name: value for name, value in given.items() if value is not None}
    return from_mapping(found).at(Path.cwd())


@contextmanager
def _errors() -> Iterator[None]:
    from pool.errors import PoolError

    try:
        yield
    except (PoolError, OSError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None
