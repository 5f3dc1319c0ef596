"""What a member's actor runs: the protocol between a manager and the bodies of its members.

A *body* is an ordinary object. The actor around it is a shell that belongs to the cluster's
implementation, so that a framework author's class needs no decorator of Ray's, no base class with
Ray in it, and runs in a simulation as it is. The obvious alternative, actors by inheritance, is
what made others write the same class twice: an actor class cannot be inherited from.
"""

from __future__ import annotations

import asyncio
import math
import os
import tempfile
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from pool.cluster.interface import Cluster, Fault, Identity, News
from pool.planning.notice import Notice


@dataclass(frozen=True, slots=True)
class Context:
    """Tell a body where it runs.

    Args:
        cluster: The cluster, as seen from inside the actor.
        identity: Whom the actor belongs to.
        node_id: The node it runs on.
        address: That node's address, for others to connect to.
        lease_left_s: Says how many seconds the actor may live on without a word from its owner. It
            must not let those below it live any longer. Safe to call from any thread.
        devices: Resource to the ids of the devices that the actor holds itself.
        environ: The environment of its process.
        log_root: The folder for logs of what it starts, on its node.
        node_name: A name of the node that all processes on it have in common, for what only one of
            them is to do; empty where nothing is shared.
        has_process: Whether the actor is a process of its own; in a simulation it is none.
    """

    cluster: Cluster
    identity: Identity
    node_id: str
    address: str
    lease_left_s: Callable[[], float] = field(default=lambda: math.inf, compare=False)
    devices: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    environ: MutableMapping[str, str] = field(default_factory=lambda: os.environ, compare=False)
    log_root: Path = Path(tempfile.gettempdir())
    node_name: str = ""
    has_process: bool = True


class Body(Protocol):
    """Be what a member's actor runs.

    `start`, `lifeline`, `drain` and `shutdown` run on the actor's main loop. `check_health` runs
    on a loop and thread of its own, so that it answers while the others are busy.
    """

    async def start(self, context: Context) -> Any:
        """Get ready, and return the member's info."""

    async def check_health(self) -> None:
        """Return when healthy; raise, with the reason, when not."""

    async def lifeline(self, seen: int) -> News:
        """Wait for news beyond version `seen`. It ends in no other way but with the actor."""
        ...

    async def drain(self, budget_s: float) -> None:
        """Take no new work, and return when the work in flight is done."""

    async def restore(self) -> None:
        """Take work again: the drain was called off."""

    async def shutdown(self, budget_s: float) -> Sequence[str]:
        """Put everything down that the body started, within `budget_s` seconds.

        Returns:
            What went wrong on the way, in sentences; nothing, for a clean end.
        """
        ...


class Bulletin:
    """Hold a body's news, and wake whoever waits for it. One loop's property: not thread-safe."""

    def __init__(self) -> None:
        self._news = News()
        self._changed = asyncio.Event()

    def publish(self, notices: tuple[Notice, ...]) -> None:
        """Replace the notices; everybody who waits is told, if they differ."""
        if notices != self._news.notices:
            self._tell(replace(self._news, notices=notices))

    def fail(self, fault: Fault) -> None:
        """Say that the body is lost. The first fault is the one that is told."""
        if self._news.fault is None:
            self._tell(replace(self._news, fault=fault))

    def tell(self, trouble: str, info: Any = None) -> None:
        """Say whether the body takes work now, and what it tells of itself from now on."""
        info = self._news.info if info is None else info
        if (trouble, info) != (self._news.trouble, self._news.info):
            self._tell(replace(self._news, trouble=trouble, info=info))

    async def after(self, seen: int) -> News:
        """Wait for news beyond version `seen`, and return it."""
        while self._news.version <= seen:
            await self._changed.wait()
        return self._news

    def _tell(self, news: News) -> None:
        self._news = replace(news, version=self._news.version + 1)
        self._changed.set()
        self._changed = asyncio.Event()
