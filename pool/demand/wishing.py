"""A pool's side of warm capacity: it tells the broker what it wants there to be, and goes on so.

Each word renews the wish's lease. Whoever finds no broker starts one.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

import anyio

from pool.cluster.interface import Actor, ActorSpec, Cluster
from pool.demand.broker import BROKER, Broker
from pool.errors import Fenced, MemberLost, NameTaken

CALL_TIMEOUT_S = 10.0
START_TIMEOUT_S = 60.0
WITHDRAW_TIMEOUT_S = 15.0
RENEWALS_A_LEASE = 6
SPACING_S = 0.1
"""In a large pool many things change at once; they share a word to the broker."""
RETRY_S = 1.0
ATTEMPTS = 3
"""A broker that ends just now is followed by another; that happens twice only by bad luck."""


@dataclass(frozen=True, slots=True)
class Wish:
    """Hold what a pool wants there to be: what it holds, and what is to be warm beside it.

    Args:
        bundles: Resource name to amount, of each bundle; none wishes for nothing.
        labels: The labels that the nodes must have, in Ray's syntax.
    """

    bundles: tuple[Mapping[str, float], ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict[str, str])


NOTHING = Wish()


class Wisher:
    """Keep a pool's wish with the broker.

    Args:
        cluster: The world.
        pool: Whose wish it is: one word for each pool, the same for all its owners.
        epoch: Which owner of the pool this is.
        lease_s: Seconds that the wish holds when nothing more is heard from here.
    """

    def __init__(self, cluster: Cluster, pool: str, epoch: int, lease_s: float) -> None:
        self._cluster = cluster
        self._pool = pool
        self._epoch = epoch
        self._lease_s = lease_s
        self._broker: Actor | None = None
        self._told = NOTHING
        self._told_at = -math.inf

    async def keep_forever(
        self,
        wish: Callable[[], Awaitable[Wish]],
        changed: Callable[[], Awaitable[None]],
        say: Callable[[str], object],
    ) -> None:
        """Tell the broker the wish when it changes, and often enough for its lease.

        Args:
            wish: Returns what is wished for now.
            changed: Returns when that may be something else.
            say: Is told when the broker cannot be spoken to, once for each trouble.

        Raises:
            Fenced: A later owner of the pool wishes in its name.

        Cancelling it leaves the wish to its lease; see `withdraw`.
        """
        period_s = self._lease_s / RENEWALS_A_LEASE
        trouble = ""
        while True:
            wait_s = period_s
            try:
                now = await wish()
                is_due = anyio.current_time() - self._told_at >= period_s and now.bundles
                if now != self._told or is_due:
                    await self._tell(now)
                trouble = ""
                if now.bundles:
                    wait_s = self._told_at + period_s - anyio.current_time()
            except Fenced:
                raise
            except Exception as error:
                # The pool goes on without warm room; only its growth and its repairs are slower.
                if repr(error) != trouble:
                    trouble = repr(error)
                    say(trouble)
                await anyio.sleep(RETRY_S)
                continue
            with anyio.move_on_after(max(0.0, wait_s)):
                await changed()
            await anyio.sleep(SPACING_S)

    async def withdraw(self) -> None:
        """Wish for nothing any more, if anything was wished for; what fails is left to the lease.

        It takes no longer than `WITHDRAW_TIMEOUT_S` seconds. Cancelling it leaves the wish to its
        lease.
        """
        if self._told != NOTHING:
            with anyio.move_on_after(WITHDRAW_TIMEOUT_S), contextlib.suppress(Exception):
                await self._tell(NOTHING)

    async def _tell(self, wish: Wish) -> None:
        if wish.bundles:
            # Noted first: of a word that is cancelled it is not known whether it was heard.
            self._told = wish
        self._told_at = -math.inf
        began_at = anyio.current_time()
        for attempt in range(ATTEMPTS):
            try:
                if self._broker is None:
                    self._broker = await self._find_broker()
                await self._cluster.call(
                    self._broker,
                    "wish",
                    self._pool,
                    self._epoch,
                    wish.bundles,
                    wish.labels,
                    self._lease_s,
                    timeout_s=CALL_TIMEOUT_S,
                )
            except MemberLost:
                self._broker = None
                if attempt == ATTEMPTS - 1:
                    raise
            else:
                self._told, self._told_at = wish, began_at
                return

    async def _find_broker(self) -> Actor:
        found = await self._cluster.find(BROKER)
        if found is None:
            try:
                return await _start_broker(self._cluster)
            except NameTaken:
                # Somebody was faster.
                found = await self._cluster.find(BROKER)
                if found is None:
                    raise
        # Whoever made it may have died before it was begun; being begun again changes nothing.
        await self._cluster.call(found, "start", timeout_s=START_TIMEOUT_S)
        return found


async def _start_broker(cluster: Cluster) -> Actor:
    topology = await cluster.topology()
    heads = [node.node_id for node in topology.nodes if node.is_head]
    broker = await cluster.start(
        ActorSpec(
            body=Broker,
            label="PoolBroker",
            identity=BROKER,
            # Where the cluster's own control is: it goes last, and no autoscaler takes it away.
            node_id=heads[0] if heads else None,
            detached=True,
        )
    )
    try:
        await cluster.call(broker, "start", timeout_s=START_TIMEOUT_S)
    except MemberLost:
        # Two who begin at once may both have been told that the name is free.
        if await cluster.find(BROKER) is not None:
            raise NameTaken("there is a broker already") from None
        raise
    return broker
