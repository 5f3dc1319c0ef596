"""`pool page`: the live page of a pool, for a browser on this machine."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer

from pool.cli.running import Address, AsJson, Pool, run
from pool.cli.voice import Voice

if TYPE_CHECKING:
    from pool.cluster.interface import Observer

EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104 - what is listened on is the user's to say
TOKEN_VARIABLE = "POOL_PAGE_TOKEN"  # noqa: S105 - the name of a variable


def page(
    pool: Pool,
    port: Annotated[int, typer.Option("--port", help="The port; 0 has one drawn.")] = 0,
    host: Annotated[
        str,
        typer.Option("--host", help="The address to listen on; by default for this machine alone."),
    ] = "127.0.0.1",
    names: Annotated[
        list[str] | None,
        typer.Option("--name", help="A further name that browsers may know the page by."),
    ] = None,
    address: Address = None,
    as_json: AsJson = False,
) -> None:
    """Serve the live page of a pool, for reading only, until Ctrl-C.

    It prints the page's address. Its end, after `#token=`, is drawn at random, unless the variable
    POOL_PAGE_TOKEN gives it; who has it can read the page. From another machine, by
    `ssh -L 8700:127.0.0.1:8700`, with `--port 8700` at both ends.
    """
    voice = Voice(as_json=as_json)
    token = os.environ.get(TOKEN_VARIABLE) or None
    run(
        address,
        voice,
        lambda observer: serve(observer, voice, pool, host, port, token, names or ()),
    )


async def serve(
    observer: Observer,
    voice: Voice,
    name: str,
    host: str,
    port: int,
    token: str | None,
    names: list[str] | tuple[str, ...] = (),
) -> None:
    """Serve a page until it is cancelled.

    Raises:
        ConfigError: The address cannot be listened on, or the token could be guessed.
        PoolUnknown: There is no such pool now.
        SourceUnavailable: The cluster could not be asked.
    """
    import anyio

    from pool.control.window import find
    from pool.page.board import Board
    from pool.page.page import Site
    from pool.page.window import Follower

    await find(observer, name)
    site = Site(Board(), host=host, port=port, token=token, names=names)
    try:
        if voice.as_json:
            voice.document(url=site.url)
        else:
            typer.echo(site.url)
        if not site.is_loopback:
            voice.tell(f"Others reach {host}, and what they read is not encrypted.")
        if host in EVERYWHERE and not names:
            voice.tell("Give --name with what they call this machine: by another they are refused.")
        await Follower(observer, name, site.board).run()
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(site.close)
