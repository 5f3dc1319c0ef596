"""The keeper of a detached pool: one light actor that outlives the pool's owners.

It holds the record for the next owner, decides who owns the pool, and tells an owner that it was
replaced. While nobody owns the pool it renews the members' leases, so that they live on; when the
pool is left alone for too long it lets the leases run out and takes away what is left.

Why an actor and not a file or Ray's key-value store: deciding who owns the pool takes one place
where claims come one after the other, and leases need somebody who speaks.

Limits: it lives in memory. When it dies, an owner that lives makes a new one; without an owner the
members' leases run out, and nothing is left (INV-4).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

import anyio

from pool.cluster.body import Bulletin, Context
from pool.cluster.interface import Actor, Cluster, Found, Identity, Lease, News
from pool.errors import Fenced
from pool.log import Word, say
from pool.ownership.record import Record

LEVEL = "keeper"
RENEWALS_A_LEASE = 6


def keeper_of(pool: str) -> Identity:
    """Return the identity of a pool's keeper: one for each name."""
    return Identity(pool=pool, instance=LEVEL, slot=0, generation=1, level=LEVEL)


@dataclass(frozen=True, slots=True)
class Holding:
    """Say who owns a pool, and what the owner left.

    Args:
        epoch: Which owner it is, counted from 1.
        owner: Who, in the words of `Cluster.whoami`; None while nobody owns the pool.
        heard_s: Seconds since the owner was heard of, or let the pool go.
        lease: How long members live without a word; so long an owner may be silent, too.
        record: What it left; None before its first word.
    """

    epoch: int
    owner: str | None
    heard_s: float
    lease: Lease
    record: Record | None


class Keeper:
    """Keep a pool's record and its ownership.

    Args:
        pool: The pool's name.
        lease: How long members live without a word, as the pool's policies have it.
        keep_s: Seconds that the pool is kept without an owner; None keeps it for ever.
    """

    def __init__(self, pool: str, lease: Lease, keep_s: float | None) -> None:
        self._pool = pool
        self._lease = lease
        self._keep_s = keep_s
        self._epoch = 0
        self._owner: str | None = None
        self._record: Record | None = None
        self._actors: tuple[Actor, ...] = ()
        self._heard_at = 0.0
        self._superseded = asyncio.Event()
        self._bulletin = Bulletin()
        self._caring: asyncio.Task[None] | None = None

    # -- who owns the pool --------------------------------------------------------------------

    async def look(self) -> Holding:
        """Say who owns the pool."""
        heard_s = anyio.current_time() - self._heard_at
        return Holding(self._epoch, self._owner, heard_s, self._lease, self._record)

    async def claim(self, owner: str, seen: int) -> Holding:
        """Make somebody the owner, if it is still as they saw it.

        Args:
            owner: Who claims the pool.
            seen: The epoch that they saw. Of two who saw the same, one comes too late.

        Raises:
            Fenced: Somebody else was faster.
        """
        if seen != self._epoch:
            raise Fenced(f"pool {self._pool!r}", seen, self._epoch)
        self._begin(owner, self._epoch + 1)
        return await self.look()

    def _begin(self, owner: str, epoch: int) -> None:
        self._epoch = epoch
        self._owner = owner
        self._heard_at = anyio.current_time()
        self._superseded.set()
        self._superseded = asyncio.Event()

    async def keep(self, owner: str, epoch: int, record: Record, actors: tuple[Actor, ...]) -> None:
        """Take over what the owner leaves, and who the members are now.

        A keeper that was made for one that died knows of no owner, and learns of it here.

        Raises:
            Fenced: Somebody else is the owner now.
        """
        if epoch > self._epoch:
            self._begin(owner, epoch)
        if epoch < self._epoch or owner != self._owner:
            raise Fenced(f"pool {self._pool!r}", epoch, self._epoch)
        self._record, self._actors = record, actors
        self._heard_at = anyio.current_time()

    async def let_go(self, epoch: int) -> None:
        """Hear that the owner leaves the pool to whoever comes.

        Raises:
            Fenced: It is not the owner any more.
        """
        if epoch != self._epoch:
            raise Fenced(f"pool {self._pool!r}", epoch, self._epoch)
        self._owner = None
        self._heard_at = anyio.current_time()

    async def wait_superseded(self, epoch: int) -> int:
        """Return, with the later epoch, when an owner is not the owner any more."""
        while self._epoch <= epoch:
            await self._superseded.wait()
        return self._epoch

    # -- what it does by itself ---------------------------------------------------------------

    async def start(self, context: Context) -> None:
        """Begin to care for the members' leases."""
        self._heard_at = anyio.current_time()
        self._caring = asyncio.create_task(self._care(context.cluster))

    async def _care(self, cluster: Cluster) -> None:
        period_s = self._lease.lasts_s / RENEWALS_A_LEASE
        while not (reason := self._reason_to_end()):
            try:
                # Also while there is an owner: when it dies, nobody may have noticed for a while.
                cluster.renew(self._actors, replace(self._lease, epoch=max(1, self._epoch)))
            except Exception as error:
                say(Word.LEASES_NOT_RENEWED, pool=self._pool, reason=repr(error))
            await anyio.sleep(period_s)
        say(Word.POOL_GIVEN_UP, pool=self._pool, reason=reason)
        if self._record is not None:
            await anyio.sleep(self._lease.lasts_s + self._lease.grace_s)
        while True:
            try:
                await self._end(cluster)
            except Exception as error:
                say(Word.REMAINS_IN_THE_WAY, pool=self._pool, reason=repr(error))
            await anyio.sleep(period_s)

    async def _end(self, cluster: Cluster) -> None:
        if self._record is not None:
            await take_away(cluster, self._pool, self._record.instance)
        myself = await cluster.find(keeper_of(self._pool))
        if myself is not None:
            cluster.kill(myself)

    def _reason_to_end(self) -> str:
        """Say why the pool is not to be kept any longer; empty when it is."""
        silence_s = anyio.current_time() - self._heard_at
        if self._record is None:
            # Whoever made it ended before it had a pool.
            return "nobody ever had it" if silence_s > self._lease.lasts_s else ""
        if self._keep_s is None:
            return ""
        patience_s = self._keep_s if self._owner is None else self._keep_s + self._lease.lasts_s
        return f"it had no owner for {silence_s:.0f} s" if silence_s > patience_s else ""

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
        """Stop to care."""
        if self._caring is not None:
            self._caring.cancel()
        return ()


async def take_away(cluster: Cluster, pool: str, instance: str) -> list[Found]:
    """Kill every actor of a pool and remove every group, and return them.

    Only for a pool whose owner is gone: nobody is asked, and no hook runs.
    """
    taken = await cluster.inventory(pool, instance)
    for found in taken:
        if found.actor is not None:
            cluster.kill(found.actor)
        if found.group is not None:
            await cluster.release(found.group)
    return taken
