"""Ask a pool's owner to do something, and say how far it is."""

from __future__ import annotations

import getpass
import socket
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pool.cli.targets import check_owner

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
) -> Any:
    """Ask a pool's owner to do something, and return what came of it; nothing without waiting.

    Raises:
        Stop: Nobody owns the pool.
        Refused, CallTimeout, PoolClosed: As `ask`.
    """
    from pool.window.requests import ask

    check_owner(view)
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


def whoami() -> str:
    """Return who asks, for the pool's events."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = "somebody"
    return f"{user}@{socket.gethostname()}"
