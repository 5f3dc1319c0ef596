"""`pool demo`."""

from __future__ import annotations

from typing import Annotated

import typer


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
