"""Which pools there are in a cluster, detached or not, whoever owns them."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass

from pool.cluster.connect import connect
from pool.cluster.interface import Actor, Cluster, Found, Identity
from pool.demand.broker import BROKER
from pool.errors import CallTimeout, MemberLost
from pool.ownership.keeper import LEVEL, Holding
from pool.ownership.owner import CALL_TIMEOUT_S

_MEMBER = re.compile(r"(/\d+\.\d+)+$")


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolListing:
    """Show a pool as the cluster's tables have it.

    Args:
        name: Its name.
        instance: The word that tells pools of one name apart.
        detached: Whether it outlives its owner.
        owner: Who owns it; None for a detached pool that nobody owns, and where it is not known.
        heard_s: Seconds since the owner of a detached pool was heard of.
        desired: Its size, for a detached pool.
        members: The ids of its members.
        groups: How many placement groups it has.
    """

    name: str
    instance: str
    detached: bool
    owner: str | None
    heard_s: float | None
    desired: int | None
    members: tuple[str, ...]
    groups: int


def root_of(identity: Identity) -> str:
    """Return the name of the pool at the root of the tree that somebody belongs to."""
    return _MEMBER.sub("", identity.pool)


async def list_pools(cluster: Cluster | None = None) -> list[PoolListing]:
    """List the pools in a cluster, by name.

    Args:
        cluster: The world; by default the Ray cluster this process is connected to.
    """
    cluster = connect() if cluster is None else cluster
    found = await cluster.inventory()
    holdings = await holdings_in(found, cluster)
    trees: dict[tuple[str, str], list[Found]] = defaultdict(list)
    for one in found:
        if one.identity.level != LEVEL and one.identity != BROKER:
            trees[root_of(one.identity), one.identity.instance].append(one)
    for name, (_, holding) in holdings.items():
        if holding is not None and holding.record is not None:
            trees.setdefault((name, holding.record.instance), [])
    return [
        _listing(name, instance, parts, _own(holdings.get(name), instance))
        for (name, instance), parts in sorted(trees.items())
    ]


async def holdings_in(
    found: list[Found], cluster: Cluster
) -> dict[str, tuple[Actor, Holding | None]]:
    """Ask every keeper among what was found; None for one that does not answer."""
    holdings: dict[str, tuple[Actor, Holding | None]] = {}
    for one in found:
        if one.identity.level == LEVEL and one.actor is not None:
            holding: Holding | None = None
            try:
                holding = await cluster.call(one.actor, "look", timeout_s=CALL_TIMEOUT_S)
            except CallTimeout:
                pass
            except MemberLost:
                continue
            holdings[one.identity.pool] = one.actor, holding
    return holdings


def _own(kept: tuple[Actor, Holding | None] | None, instance: str) -> Holding | None:
    """Return the holding, if it is of this very pool and not of another one of its name."""
    holding = kept[1] if kept is not None else None
    record = holding.record if holding is not None else None
    return holding if record is not None and record.instance == instance else None


def _listing(name: str, instance: str, parts: list[Found], holding: Holding | None) -> PoolListing:
    roots = [one for one in parts if one.identity.pool == name]
    record = holding.record if holding is not None else None
    return PoolListing(
        name=name,
        instance=instance,
        detached=holding is not None or any(one.detached for one in roots),
        owner=holding.owner if holding is not None else None,
        heard_s=holding.heard_s if holding is not None else None,
        desired=record.desired if record is not None else None,
        members=tuple(sorted(one.identity.member for one in roots if one.actor is not None)),
        groups=sum(one.group is not None for one in roots),
    )
