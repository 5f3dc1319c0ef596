"""The command line. Each command imports what it needs when it runs, so that `--help` is quick.

Each command is a file of its own, with an async function that does the work: it is given an
`Observer` and says what it has to say through a `Voice`, so that it runs on a simulated cluster as
it does on Ray.
"""

from __future__ import annotations

import importlib.metadata
from typing import Annotated

import typer

from pool.cli import (
    demo,
    drain,
    events,
    explain,
    listing,
    logs,
    page,
    plan,
    reap,
    roll,
    scale,
    slurm,
    status,
    top,
)

__all__ = ["main"]

app = typer.Typer(
    name="pool",
    help="Keep pools of actors on Ray.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


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


LOOK, CHANGE, ELSE = "Look at pools", "Change pools", "Before there is a pool"

app.command("list", rich_help_panel=LOOK)(listing.list_pools)
app.command("status", rich_help_panel=LOOK)(status.status)
app.command("top", rich_help_panel=LOOK)(top.top)
app.command("page", rich_help_panel=LOOK)(page.page)
app.command("explain", rich_help_panel=LOOK)(explain.explain)
app.command("events", rich_help_panel=LOOK)(events.events)
app.command("logs", rich_help_panel=LOOK)(logs.logs)
app.command("scale", rich_help_panel=CHANGE)(scale.scale)
app.command("drain", rich_help_panel=CHANGE)(drain.drain)
app.command("roll", rich_help_panel=CHANGE)(roll.roll)
app.command("reap", rich_help_panel=CHANGE)(reap.reap)
app.command("plan", rich_help_panel=ELSE)(plan.plan)
app.command("demo", rich_help_panel=ELSE)(demo.demo)
app.add_typer(slurm.app, rich_help_panel=ELSE)
