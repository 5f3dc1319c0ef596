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


app.command("demo")(demo.demo)
app.command("list")(listing.list_pools)
app.command("status")(status.status)
app.command("top")(top.top)
app.command("page")(page.page)
app.command("events")(events.events)
app.command("explain")(explain.explain)
app.command("plan")(plan.plan)
app.command("scale")(scale.scale)
app.command("drain")(drain.drain)
app.command("roll")(roll.roll)
app.command("reap")(reap.reap)
app.command("logs")(logs.logs)
app.add_typer(slurm.app)
