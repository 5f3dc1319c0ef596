"""The owner's side of a detached pool: it leaves a record with the keeper, and hears when it ends.

An owner is told of its end in three ways: the keeper answers the call that waits for it; the
keeper refuses its record; a member refuses its poll. Each alone is enough.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import anyio

from pool.cluster.interface import Actor, ActorSpec, Cluster, Lease
from pool.errors import Fenced, MemberLost, NameTaken, PoolError, PoolExists
from pool.ownership.keeper import Holding, Keeper, keeper_of
from pool.ownership.record import Record

CALL_TIMEOUT_S = 10.0
START_TIMEOUT_S = 60.0
SPACING_S = 0.1
"""In a large pool many things change at once; they share a record."""
RETRY_S = 1.0


@dataclass(frozen=True, slots=True)
class Terms:
    """Say how a detached pool is kept.

    Args:
        pool: The pool's name.
        lease: How long members live without a word.
        keep_s: Seconds that the pool is kept without an owner; None keeps it for ever.
    """

    pool: str
    lease: Lease
    keep_s: float | None


class Owner:
    """Own a detached pool, until somebody else does.

    Args:
        cluster: The world.
        terms: How the pool is kept.
        keeper: The pool's keeper.
        epoch: Which owner this is.
    """

    def __init__(self, cluster: Cluster, terms: Terms, keeper: Actor, epoch: int) -> None:
        self._cluster = cluster
        self._terms = terms
        self._keeper = keeper
        self.epoch = epoch
        self._changed = anyio.Event()
        self._mending = anyio.Lock()
        self._is_dismissed = False

    @classmethod
    async def found(cls, cluster: Cluster, terms: Terms) -> Owner:
        """Begin a pool: make its keeper, and own it.

        Raises:
            PoolExists: There is a keeper of that name.
        """
        try:
            keeper = await _start_keeper(cluster, terms)
        except NameTaken:
            raise PoolExists(terms.pool) from None
        try:
            claimed: Holding = await cluster.call(
                keeper, "claim", cluster.whoami(), 0, timeout_s=CALL_TIMEOUT_S
            )
        except Fenced:
            raise PoolExists(terms.pool) from None
        except BaseException:
            cluster.kill(keeper)
            raise
        return cls(cluster, terms, keeper, claimed.epoch)

    def changed(self) -> None:
        """Hear that the record is another one now."""
        self._changed.set()

    async def keep_forever(
        self,
        record: Callable[[], tuple[Record, tuple[Actor, ...]]],
        period_s: float,
        say: Callable[[str], object],
    ) -> None:
        """Leave the record with the keeper whenever it changes, and a word in every period.

        Args:
            record: Returns what to leave, and who the members are.
            period_s: Seconds between two words.
            say: Is told when the keeper cannot be spoken to, once for each trouble.

        Raises:
            Fenced: Somebody else owns the pool now.
        """
        trouble = ""
        while True:
            self._changed = anyio.Event()
            try:
                await self.leave(*record())
            except Fenced:
                raise
            except Exception as error:
                # Members hear from us as ever; who comes after us would know less.
                if repr(error) != trouble:
                    trouble = repr(error)
                    say(trouble)
                await anyio.sleep(RETRY_S)
                continue
            trouble = ""
            with anyio.move_on_after(period_s):
                await self._changed.wait()
            await anyio.sleep(SPACING_S)

    async def leave(self, record: Record, actors: tuple[Actor, ...]) -> None:
        """Leave a record with the keeper; with a new one, where the old one died.

        Raises:
            Fenced: Somebody else owns the pool now.
            MemberLost, CallTimeout: No keeper could be had, or it does not answer.
        """
        try:
            await self._leave(record, actors)
        except MemberLost:
            async with self._mending:
                if self._is_dismissed:
                    raise
                try:
                    self._keeper = await _start_keeper(self._cluster, self._terms)
                except NameTaken:
                    found = await self._cluster.find(keeper_of(self._terms.pool))
                    self._keeper = self._keeper if found is None else found
            await self._leave(record, actors)

    async def _leave(self, record: Record, actors: tuple[Actor, ...]) -> None:
        me = self._cluster.whoami()
        await self._cluster.call(
            self._keeper, "keep", me, self.epoch, record, actors, timeout_s=CALL_TIMEOUT_S
        )

    async def wait_superseded(self) -> int:
        """Wait until somebody else owns the pool, and return their epoch.

        A lifeline: the call has no limit, and ends with the keeper's answer or its death.
        """
        while True:
            try:
                later: int = await self._cluster.call(self._keeper, "wait_superseded", self.epoch)
            except PoolError:
                await anyio.sleep(RETRY_S)
            else:
                return later

    async def let_go(self) -> None:
        """Leave the pool to whoever comes.

        Raises:
            Fenced: Somebody has come already.
        """
        await self._cluster.call(self._keeper, "let_go", self.epoch, timeout_s=CALL_TIMEOUT_S)

    async def dismiss_keeper(self) -> None:
        """End the keeper, with the pool, and wait until its name is free."""
        async with self._mending:
            self._is_dismissed = True
        await dismiss(self._cluster, self._keeper)


async def dismiss(cluster: Cluster, keeper: Actor) -> None:
    """End a keeper, and wait for that."""
    cluster.kill(keeper)
    with anyio.move_on_after(CALL_TIMEOUT_S):
        await cluster.lifeline(keeper, 0)


async def _start_keeper(cluster: Cluster, terms: Terms) -> Actor:
    topology = await cluster.topology()
    heads = [node.node_id for node in topology.nodes if node.is_head]
    keeper = await cluster.start(
        ActorSpec(
            body=Keeper,
            args=(terms.pool, terms.lease, terms.keep_s),
            label="PoolKeeper",
            identity=keeper_of(terms.pool),
            # Where the cluster's own control is: it goes last.
            node_id=heads[0] if heads else None,
            detached=True,
        )
    )
    try:
        await cluster.call(keeper, "start", timeout_s=START_TIMEOUT_S)
    except MemberLost:
        # Two who begin at once may both have been told that the name is free.
        if await cluster.find(keeper_of(terms.pool)) is not None:
            raise NameTaken(f"{terms.pool} has a keeper already") from None
        raise
    except BaseException:
        cluster.kill(keeper)
        raise
    return keeper


async def take_over(
    cluster: Cluster, terms: Terms, keeper: Actor, seen: Holding
) -> tuple[Owner, Record]:
    """Own a pool after somebody else, and return what they left.

    Args:
        cluster: The world.
        terms: How the pool is kept.
        keeper: The pool's keeper.
        seen: Who owned it, when that was looked at.

    Raises:
        Fenced: Somebody was faster.
    """
    claimed: Holding = await cluster.call(
        keeper, "claim", cluster.whoami(), seen.epoch, timeout_s=CALL_TIMEOUT_S
    )
    assert claimed.record is not None, "who claims has seen that there is one"
    return Owner(cluster, terms, keeper, claimed.epoch), claimed.record
