"""The command line. Each command imports what it needs when it runs, so that `--help` is quick."""

from __future__ import annotations

import importlib.metadata
from typing import Annotated

import typer

from pool.cli import slurm

__all__ = ["main"]

app = typer.Typer(
    name="pool",
    help="Keep pools of actors on Ray.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(slurm.app)


def main() -> None:
    """Run the command line."""
    app()


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(importlib.metadata.version("ray-actor-pool"))
        raise typer.Exit


@app.callback()
def _pool(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Keep pools of actors on Ray."""


@app.command()
def demo(
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document; the story goes to stderr.")
    ] = False,
) -> None:
    """Show a pool at work: a cluster on this machine, a real job, three faults, a checked report.

    It needs no GPU, takes under two minutes on two cores, and ends everything that it started.
    It exits with 1 if anything that it claims did not happen.
    """
    from pool.demo.run import run_demo

    raise typer.Exit(run_demo(as_json=as_json))
