"""`pool reap`: take away what is left of pools whose owners are gone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from pool.cli.exits import Exit
from pool.cli.running import Address, AsJson, Yes, guarded
from pool.cli.voice import Voice

if TYPE_CHECKING:
    from pool.cluster.interface import Cluster


def reap(
    pool: Annotated[
        str | None,
        typer.Argument(metavar="POOL", help="End this detached pool, whose owner is gone."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be taken away.")
    ] = False,
    yes: Yes = False,
    address: Address = None,
    as_json: AsJson = False,
) -> None:
    """Take away what is left of pools whose owners are gone; it asks before.

    Without a name, only what belongs to no pool any more. With the name of a detached pool whose
    owner is gone, its members are killed, and no hook runs. Nothing is touched that a live owner
    has. It has to run on a node of the cluster.
    """
    import anyio

    voice = Voice(as_json=as_json, yes=yes)

    async def main() -> None:
        from pool.cluster.connect import join

        await reap_pools(join(address), voice, pool, dry_run=dry_run)

    code = guarded(lambda: anyio.run(main), voice)
    if code != Exit.DONE:
        raise typer.Exit(code)


async def reap_pools(
    cluster: Cluster, voice: Voice, name: str | None = None, *, dry_run: bool = False
) -> None:
    """Take away what is left of pools.

    Raises:
        Stop: It was not confirmed.
        PoolUnknown: There is no such pool.
        PoolHeld: It has an owner that lives.
    """
    from pool.control.reap import reap as take_away

    report = await take_away(name, dry_run=True, cluster=cluster)
    if report.reaped and not dry_run:
        count = len(report.reaped)
        what = "".join(f"\n  {each}" for each in sorted(report.reaped))
        voice.confirm(f"This will be taken away, {count} in all:{what}")
        report = await take_away(name, cluster=cluster)
    if voice.as_json:
        voice.document(dry_run=dry_run, reaped=report.reaped, kept=report.kept)
        return
    verb = "would be taken away" if dry_run else "taken away"
    for what in sorted(report.reaped):
        voice.show(f"{verb}: {what}")
    for what, reason in sorted(report.kept.items()):
        voice.show(f"left alone: {what}: {reason}")
    if not report.reaped:
        voice.show("There is nothing to take away.")
