"""Take away what is left of pools whose owners are gone.

In the usual case there is nothing to do: what a driver owns goes with it, and whoever hears from
nobody ends by its lease. What remains is what cannot end itself: groups without a member. They are
told by identity and age, never by a prefix of their name, and nothing is touched that a live owner,
or a keeper, holds (INV-10).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import anyio

from pool.cluster.connect import connect
from pool.cluster.interface import Actor, Cluster, Found
from pool.control import window
from pool.control.attach import is_held, look
from pool.control.listing import holdings_in, root_of
from pool.control.window import PoolView
from pool.demand.broker import BROKER
from pool.errors import PoolHeld, PoolUnknown
from pool.ownership.keeper import LEVEL, Holding, take_away
from pool.ownership.owner import CALL_TIMEOUT_S, dismiss
from pool.window.keys import ROOT, Key, of_pool
from pool.window.strays import strays

LEAST_AGE_S = 60.0
"""A younger group may be waiting for the member that its owner is about to start."""


@dataclass(frozen=True, slots=True)
class ReapReport:
    """Say what was taken away, and what was left alone.

    Args:
        reaped: What was taken away, or with a dry run would be, in words.
        kept: What was left alone, with the reason.
    """

    reaped: tuple[str, ...]
    kept: dict[str, str]


async def reap(
    name: str | None = None, *, dry_run: bool = False, cluster: Cluster | None = None
) -> ReapReport:
    """Take away what is left of pools whose owners are gone.

    Args:
        name: A detached pool to end, whose owner is gone; its members are killed, no hook runs. To
            end it in good order, `attach` to it. None takes away only what belongs to no pool any
            more. Of a pool that was not detached nothing is left but what it showed of itself.
        dry_run: Whether to say only what would be taken away.
        cluster: The world; by default the Ray cluster this process is connected to.

    Raises:
        PoolUnknown: There is no detached pool of that name.
        PoolHeld: The pool has an owner that lives.
        Fenced: Somebody attached to the pool at the same moment.

    Cancelling it leaves a part undone; it can be called again.
    """
    cluster = connect() if cluster is None else cluster
    if name is not None:
        return await _reap_pool(name, dry_run, cluster)
    found = await cluster.inventory()
    holdings = await holdings_in(found, cluster)
    views = await window.look(cluster)
    owned = {(view.name, view.instance) for view in views if view.can_be_asked}
    reaped, kept = [], {}
    for one in found:
        group = one.group
        what = _word(one)
        reason = _reason_to_keep(one, holdings, owned)
        if reason:
            kept[what] = reason
        else:
            reaped.append(what)
            if group is not None and not dry_run:
                await cluster.release(group)
    for view in views:
        if view.picture is None or view.can_be_asked:
            continue
        reason = _reason_to_show(view)
        if reason:
            kept[_window_of(_key_of(view))] = reason
        else:
            reaped.append(await _take_down(_key_of(view), dry_run, cluster))
    living = {root_of(one.identity) for one in found}
    stray = strays(await cluster.published(ROOT), cluster.unix_time() - LEAST_AGE_S)
    reaped += [await _take_down(key, dry_run, cluster) for key in stray if key.pool not in living]
    return ReapReport(tuple(reaped), kept)


def _kinds(one: Found) -> list[str]:
    kinds = [("actor", one.actor), ("placement group", one.group)]
    return [kind for kind, it in kinds if it is not None]


def _whose(one: Found) -> str:
    return f"{one.identity.member}, instance {one.identity.instance}"


def _word(one: Found) -> str:
    """Name what somebody has, as people know it."""
    if one.identity == BROKER:
        return "broker of all pools"
    if one.identity.level == LEVEL:
        return f"keeper of {one.identity.pool}"
    return f"{' and '.join(_kinds(one))} {_whose(one)}"


def _window_of(key: Key) -> str:
    return f"window of pool {key.pool}, instance {key.instance}"


def _key_of(view: PoolView) -> Key:
    return Key(view.name, view.instance)


def _reason_to_show(view: PoolView) -> str:
    """Say why what a pool without an owner showed must stay; empty when it may go."""
    if view.keeper:
        return "its pool has a keeper"
    if view.actors:
        return "its members end by their lease"
    return ""


async def _take_down(key: Key, dry_run: bool, cluster: Cluster) -> str:
    if not dry_run:
        await cluster.withdraw(str(key))
    return _window_of(key)


def _reason_to_keep(
    one: Found,
    holdings: dict[str, tuple[Actor, Holding | None]],
    owned: Collection[tuple[str, str]],
) -> str:
    """Say why something must not be taken away; empty when it may. The first row that fits."""
    if one.identity == BROKER:
        return "it serves all pools, and ends when none of them wishes for anything"
    if one.identity.level == LEVEL:
        return "it keeps a pool that was detached; name the pool to end it"
    if (root_of(one.identity), one.identity.instance) in owned:
        return "its owner lives"
    kept = holdings.get(root_of(one.identity))
    record = kept[1].record if kept is not None and kept[1] is not None else None
    if record is not None and record.instance == one.identity.instance:
        return "its pool has a keeper"
    if one.actor is not None:
        return "it lives, and ends by its lease when nobody owns it"
    if not one.detached:
        return "" if one.orphaned else "its owner lives"
    if one.age_s < LEAST_AGE_S:
        return f"it is {one.age_s:.0f} s old; its owner may be about to use it"
    if kept is not None and record is None:
        return "its pool's keeper does not say whose it is"
    return ""


async def _reap_pool(name: str, dry_run: bool, cluster: Cluster) -> ReapReport:
    try:
        keeper, holding = await look(name, cluster)
    except PoolUnknown:
        left = await _windows_left(name, cluster)
        if not left:
            raise
        return ReapReport(tuple([await _take_down(key, dry_run, cluster) for key in left]), {})
    if await is_held(holding, cluster):
        raise PoolHeld(name, holding.owner or "", holding.heard_s)
    instance = holding.record.instance if holding.record is not None else None
    if dry_run:
        found = [] if instance is None else await cluster.inventory(name, instance)
        return _ended(name, found)
    # Whoever was about to attach comes too late, and whoever did so first is not disturbed.
    claimed: Holding = await cluster.call(
        keeper, "claim", cluster.whoami(), holding.epoch, timeout_s=CALL_TIMEOUT_S
    )
    try:
        taken = [] if instance is None else await take_away(cluster, name, instance)
    except BaseException:
        # What is left is nobody's again, for whoever calls this next.
        with anyio.CancelScope(shield=True):
            await cluster.call(keeper, "let_go", claimed.epoch, timeout_s=CALL_TIMEOUT_S)
        raise
    await dismiss(cluster, keeper)
    if instance is not None:
        await cluster.withdraw(str(Key(name, instance)))
    return _ended(name, taken)


def _ended(name: str, found: list[Found]) -> ReapReport:
    words = [f"{kind} {_whose(one)}" for one in found for kind in _kinds(one)]
    return ReapReport((*words, f"keeper of {name}"), {})


async def _windows_left(name: str, cluster: Cluster) -> list[Key]:
    """Return what pools of a name showed that have neither an owner nor a member any more."""
    views = {_key_of(view): view for view in await window.look(cluster, name)}
    keys = [Key.parse(text) for text in await cluster.published(of_pool(name))]
    left = []
    for key in dict.fromkeys(Key(key.pool, key.instance) for key in keys if key is not None):
        view = views.get(key)
        if view is None or not (view.can_be_asked or view.keeper or view.actors):
            left.append(key)
    return left
