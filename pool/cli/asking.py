"""Ask a pool's owner to do something, and say how far it is."""

from __future__ import annotations

import getpass
import socket
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pool.cli.targets import check_can_be_asked

if TYPE_CHECKING:
    from pool.cli.voice import Voice
    from pool.cluster.interface import Observer
    from pool.control.window import PoolView
    from pool.window.requests import Verb


async def have_done(
    observer: Observer,
    voice: Voice,
    view: PoolView,
    verb: Verb,
    args: Mapping[str, Any],
    *,
    wait: bool,
    timeout_s: float | None,
    address: str | None = None,
) -> Any:
    """Have something done to a pool, and return what came of it; nothing without waiting.

    Its owner is asked. Of a detached pool that has none, this process is the owner meanwhile.

    Raises:
        Stop: The pool cannot be asked.
        Refused, CallTimeout, PoolClosed: As `ask`.
    """
    from pool.window.requests import ask

    check_can_be_asked(view)
    if not view.can_be_asked:
        return await _do_it_oneself(address, view, verb, args, timeout_s)
    return await ask(
        observer,
        view.whom,
        verb,
        args,
        by=whoami(),
        wait=wait,
        timeout_s=timeout_s,
        on_taken=lambda: voice.tell(f"pool {view.name!r} has taken it" + (" …" if wait else "")),
    )


async def _do_it_oneself(
    address: str | None,
    view: PoolView,
    verb: Verb,
    args: Mapping[str, Any],
    timeout_s: float | None,
) -> Any:
    import anyio

    from pool.cluster import connect
    from pool.control.stand_in import stand_in
    from pool.errors import CallTimeout
    from pool.window.codec import to_json
    from pool.window.requests import Request

    request = Request(id="", verb=verb, args=args, by=whoami())
    try:
        with anyio.fail_after(timeout_s):
            return to_json(await stand_in(view.name, request, connect.join(address), view.instance))
    except TimeoutError as error:
        if isinstance(error, CallTimeout):
            raise
        raise CallTimeout(
            f"it was not done within {timeout_s:g} s; the pool was left as it was by then"
        ) from None


def whoami() -> str:
    """Return who asks, for the pool's events."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = "somebody"
    return f"{user}@{socket.gethostname()}"
