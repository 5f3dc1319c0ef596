"""The broker of warm capacity: one light actor for all the pools of a cluster.

A cluster's autoscaler takes one request, and each replaces the last. So one actor hears what every
pool wishes for, and asks for the sum (`pool.planning.demand`). Each wish has a lease: that of a
pool whose driver died ends with it. When nothing is wished for, the broker withdraws its request
and ends itself.

Why an actor and not a rule that all drivers follow: a driver that was killed takes nothing back.

Limits: it lives in memory. When it dies, the next word of any pool makes another, which knows of
each other pool from that pool's own next word, a sixth of a lease later. Until then less is asked
for, which is far shorter than nodes are left idle. When the broker and every pool that wished for
something die at once, a cluster without Ray's coordinator keeps the last request until the next
pool that wishes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import anyio

from pool.cluster.body import Bulletin, Context
from pool.cluster.interface import Cluster, Identity, News
from pool.errors import Fenced
from pool.log import Word, say
from pool.planning.demand import Demand, merge

LEVEL = "broker"
# No pool can have this name.
BROKER = Identity(pool="(demand)", instance=LEVEL, slot=0, generation=1, level=LEVEL)

REFRESH_S = 5.0
"""How often the request is made again: it may have been replaced, or its way be another now."""
REQUEST_LASTS_S = 30.0
FIRST_WISH_S = 30.0
"""How long a broker that was never told anything waits for it."""
RETRY_S = 1.0


@dataclass(frozen=True, slots=True)
class Standing:
    """Say what the broker asks for now.

    Args:
        pools: Each pool to what became of its wish, as a sentence without its full stop.
        totals: Resource name to the amount asked for in all.
        way: Who was asked, in words; empty before anybody was.
    """

    pools: Mapping[str, str]
    totals: Mapping[str, float]
    way: str


class Broker:
    """Merge what pools wish for, and ask the cluster for it."""

    def __init__(self) -> None:
        self._wishes: dict[str, Demand] = {}
        self._epochs: dict[str, int] = {}
        self._changed = asyncio.Event()
        self._bulletin = Bulletin()
        self._began_at = 0.0
        self._way = ""
        self._is_ending = False
        self._serving: asyncio.Task[None] | None = None

    # -- what pools tell it -------------------------------------------------------------------

    async def wish(
        self,
        pool: str,
        epoch: int,
        bundles: Sequence[Mapping[str, float]],
        labels: Mapping[str, str],
        lasts_s: float,
    ) -> None:
        """Hear what a pool wants there to be; it replaces what the pool wished for before.

        Args:
            pool: Whose wish it is.
            epoch: Which owner of the pool speaks.
            bundles: What there is to be; nothing withdraws the wish.
            labels: The labels that the nodes must have.
            lasts_s: Seconds that the wish holds without another word.

        Raises:
            Fenced: A later owner of the pool has spoken before.
        """
        if self._is_ending:
            # An answer would be a promise that nobody keeps; the caller hears of the end instead.
            await asyncio.Event().wait()
        latest = self._epochs.get(pool, 0)
        if epoch < latest:
            raise Fenced(f"the wish of pool {pool!r}", epoch, latest)
        self._epochs[pool] = epoch
        expires_at = anyio.current_time() + lasts_s
        demand = Demand(pool, tuple(bundles), expires_at, labels)
        before = self._wishes.get(pool)
        self._wishes[pool] = demand
        if before is None or (before.bundles, before.labels) != (demand.bundles, demand.labels):
            self._changed.set()

    async def look(self) -> Standing:
        """Say what is asked for now, and for whom."""
        merged = merge(list(self._wishes.values()), anyio.current_time())
        return Standing(merged.reasons, merged.totals(), self._way)

    # -- what it does by itself ---------------------------------------------------------------

    async def start(self, context: Context) -> None:
        """Begin to ask the cluster, once."""
        if self._serving is not None:
            return
        self._began_at = anyio.current_time()
        self._serving = asyncio.create_task(self._serve(context.cluster))

    async def _serve(self, cluster: Cluster) -> None:
        while True:
            self._changed.clear()
            wishes, now = dict(self._wishes), anyio.current_time()
            merged = merge(list(wishes.values()), now)
            wait_s = REFRESH_S
            try:
                if wishes:
                    self._way = await cluster.request_capacity(
                        merged.bundles(), merged.label_selectors(), REQUEST_LASTS_S
                    )
                for pool, wish in wishes.items():
                    is_void = wish.expires_at <= now or not wish.bundles
                    if is_void and self._wishes[pool] is wish:
                        del self._wishes[pool]
                if not self._wishes and (self._way or now - self._began_at > FIRST_WISH_S):
                    self._is_ending = True
                    await self._end(cluster)
            except Exception as error:
                say(Word.WARM_NOT_ASKED, reason=repr(error))
                wait_s = RETRY_S
            if merged.expires_at is not None:
                wait_s = min(wait_s, max(0.0, merged.expires_at - anyio.current_time()))
            with anyio.move_on_after(wait_s):
                await self._changed.wait()

    async def _end(self, cluster: Cluster) -> None:
        myself = await cluster.find(BROKER)
        if myself is not None:
            cluster.kill(myself)

    # -- what every body has ------------------------------------------------------------------

    async def check_health(self) -> None:
        """Be well: whoever answers is."""

    async def lifeline(self, seen: int) -> News:
        """Have no news."""
        return await self._bulletin.after(seen)

    async def drain(self, budget_s: float) -> None:
        """Have no work in flight."""

    async def restore(self) -> None:
        """Have nothing to put back."""

    async def shutdown(self, budget_s: float) -> Sequence[str]:
        """Stop to ask."""
        if self._serving is not None:
            self._serving.cancel()
        return ()
