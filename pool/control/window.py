"""See the pools of a cluster from outside: what each shows of itself, and what Ray's tables hold.

`look` is what everything that shows pools begins with: the command line, the live page, metrics. A
pool is known by its window, by the cluster's tables, or by both. Its owner may be dead: then the
window shows the pool as it was last, with its age, and the tables what is left of it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pool.cluster.interface import Found, Observer
from pool.control.listing import root_of
from pool.demand.broker import BROKER
from pool.errors import ConfigError, PoolUnknown
from pool.manager.events import Event, EventKind
from pool.manager.snapshot import MemberSnapshot, PoolSnapshot
from pool.ownership.keeper import LEVEL as KEEPER
from pool.planning.lifecycle import State
from pool.window.codec import NotThat, from_json, to_json
from pool.window.keys import ROOT, Key, of_pool, unpack
from pool.window.requests import Whom
from pool.window.strays import EVENTS, PICTURE

SILENT_PERIODS = 3
"""So many pictures have to be missing before an owner that lives is called silent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartLimits:
    """Show how many failures a pool answers with a restart, in a sliding window.

    Args:
        intensity: Of all causes together that have no budget of their own.
        period_s: The window's length.
        budgets: Cause to its own limit; None is no limit.
    """

    intensity: int = 0
    period_s: float = 0.0
    budgets: Mapping[str, int | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """Hold what a pool's owner published of it last.

    Args:
        pool: The pool's name.
        instance: The word that tells pools of one name apart.
        kind: Its class.
        owner: Who owns it, in the words of `Cluster.whoami`; None where it was left to whoever
            comes.
        epoch: Which owner it is, counted from 1.
        detached: Whether the pool outlives its owner.
        closing: Whether it is closing.
        most: How many members may live at once.
        restart: Its restart budgets.
        published_at: When this was, in UNIX seconds.
        period_s: Seconds after which the next is due, at the latest.
        snapshot: The pool.
    """

    pool: str
    instance: str
    kind: str = ""
    owner: str | None = None
    epoch: int = 1
    detached: bool = False
    closing: bool = False
    most: int = 0
    restart: RestartLimits = field(default_factory=RestartLimits)
    published_at: float
    period_s: float
    snapshot: PoolSnapshot


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolView:
    """Show a pool, as far as it can be seen from outside.

    Args:
        name: The pool's name.
        instance: The word that tells pools of one name apart.
        picture: What its owner published last; None for a pool that shows nothing, such as one of
            a version of this package that cannot be read.
        age_s: Seconds since it did, by the clock of whoever looks; 0 without a picture.
        owner_gone: Whether its owner has ended. False as well where nobody owns it.
        keeper: Whether it has a keeper, by which somebody else may go on with it.
        actors: The ids of the members whose actors the cluster's tables hold, of all levels.
        groups: The ids of the slots' members whose placement groups they hold.
    """

    name: str
    instance: str
    picture: Picture | None = None
    age_s: float = 0.0
    owner_gone: bool = False
    keeper: bool = False
    actors: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()

    @property
    def snapshot(self) -> PoolSnapshot | None:
        """The pool as it was shown last."""
        return None if self.picture is None else self.picture.snapshot

    @property
    def status(self) -> str:
        """How the pool and its owner are, in two or three words.

        `running`, `closing`; `no owner` for a detached pool that was left; `owner gone`; `owner
        silent` for one that lives and shows nothing; `unknown` for a pool without a picture.
        """
        if self.picture is None:
            return "unknown"
        if self.picture.owner is None:
            return "no owner"
        if self.owner_gone:
            return "owner gone"
        if self.age_s > SILENT_PERIODS * self.picture.period_s:
            return "owner silent"
        return "closing" if self.picture.closing else "running"

    @property
    def can_be_asked(self) -> bool:
        """Whether there is an owner who may take a request."""
        return self.picture is not None and self.picture.owner is not None and not self.owner_gone

    @property
    def whom(self) -> Whom:
        """Whom requests are for."""
        return Whom(self.name, self.instance, None if self.picture is None else self.picture.owner)


def document(view: PoolView) -> dict[str, Any]:
    """Return a pool in the words of JSON, with what follows from its fields."""
    return {**to_json(view), "status": view.status, "can_be_asked": view.can_be_asked}


async def look(observer: Observer, name: str | None = None) -> list[PoolView]:
    """Look at the pools of a cluster.

    Args:
        observer: The world.
        name: Only pools of this name.

    Returns:
        The pools, by name; several of one name are told apart by their instance.

    Raises:
        SourceUnavailable: The cluster could not be asked.
    """
    prefix = ROOT if name is None else of_pool(name)
    pictures: dict[tuple[str, str], Picture] = {}
    for text, packed in (await observer.published(prefix)).items():
        key = Key.parse(text)
        picture = read_picture(packed) if key is not None and key.part == PICTURE else None
        if key is not None and picture is not None:
            pictures[key.pool, key.instance] = picture
    trees: dict[tuple[str, str], list[Found]] = defaultdict(list)
    keepers = set()
    for found in await observer.inventory(name):
        if found.identity.level == KEEPER:
            keepers.add(found.identity.pool)
        elif found.identity != BROKER:
            trees[root_of(found.identity), found.identity.instance].append(found)
    keeps = {_kept(name, pictures, trees) for name in keepers}
    return [
        await _view(observer, key, pictures.get(key), trees.get(key, ()), key in keeps)
        for key in sorted({*pictures, *trees})
    ]


def _kept(
    name: str,
    pictures: Mapping[tuple[str, str], Picture],
    trees: Mapping[tuple[str, str], Sequence[Found]],
) -> tuple[str, str] | None:
    """Return which pool of a name its keeper keeps, as far as it can be seen without asking it.

    There is one keeper for a name, and only a pool that was detached has it; of several such, some
    of which lost theirs, the one that showed itself last.
    """
    shown = [key for key, it in pictures.items() if key[0] == name and it.detached]
    if shown:
        return max(shown, key=lambda key: pictures[key].published_at)
    unseen = [
        key
        for key, tree in trees.items()
        if key[0] == name and key not in pictures and any(one.detached for one in tree)
    ]
    return max(unseen, default=None)


async def look_for(observer: Observer, name: str) -> list[PoolView]:
    """Look at the pools of one name.

    Args:
        observer: The world.
        name: The name; with a colon and an instance, only that one.

    Raises:
        PoolUnknown: There is none.
        SourceUnavailable: The cluster could not be asked.
    """
    name, _, instance = name.partition(":")
    views = [view for view in await look(observer, name) if instance in ("", view.instance)]
    if not views:
        raise PoolUnknown(name, sorted({view.name for view in await look(observer)}), "pool")
    return views


async def find(observer: Observer, name: str) -> PoolView:
    """Look at one pool: of several of its name, at the one whose owner lives, or that is kept.

    Args:
        observer: The world.
        name: As with `look_for`.

    Raises:
        PoolUnknown: There is none.
        ConfigError: Several of this name have an owner.
        SourceUnavailable: The cluster could not be asked.
    """
    views = await look_for(observer, name)
    owned = [view for view in views if view.can_be_asked]
    if len(owned) > 1:
        which = ", ".join(f"{view.name}:{view.instance}" for view in owned)
        raise ConfigError(f"several pools of this name have an owner; say which: {which}", "pool")
    return max(
        views,
        key=lambda view: (view.can_be_asked, view.keeper, view.picture is not None, -view.age_s),
    )


async def _view(
    observer: Observer,
    key: tuple[str, str],
    picture: Picture | None,
    tree: Sequence[Found],
    has_keeper: bool,
) -> PoolView:
    owner = None if picture is None else picture.owner
    return PoolView(
        name=key[0],
        instance=key[1],
        picture=picture,
        # NB: two machines' clocks may differ.
        age_s=0.0 if picture is None else max(0.0, observer.unix_time() - picture.published_at),
        owner_gone=owner is not None and await observer.is_gone(owner),
        keeper=has_keeper,
        actors=tuple(sorted(one.identity.member for one in tree if one.actor is not None)),
        groups=tuple(sorted(one.identity.member for one in tree if one.group is not None)),
    )


def read_picture(packed: bytes) -> Picture | None:
    """Return a pool's picture; None for what is none."""
    document = unpack(packed)
    try:
        return None if document is None else from_json(Picture, document)
    except NotThat:
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessView:
    """Show a managed process. Times are UNIX seconds; see `pool.ProcessStatus`."""

    name: str
    state: State
    since: float = 0.0
    reason: str = ""
    pid: int | None = None
    starts: int = 0
    health: str = ""
    ports: Mapping[str, int] = field(default_factory=dict)
    log: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RankView:
    """Show a rank actor: its rank, process, and the ids of its devices."""

    rank: int
    pid: int
    devices: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class HostView:
    """Show a node host.

    Args:
        index: Which host of its replica it is.
        node_id: Its node.
        address: The node's address.
        pid: Its process there.
        bundle: What its bundle holds.
        ranks: Its rank actors.
        processes: Its processes, as they were when it got ready.
    """

    index: int
    node_id: str
    address: str
    pid: int
    bundle: Mapping[str, float] = field(default_factory=dict)
    ranks: tuple[RankView, ...] = ()
    processes: tuple[ProcessView, ...] = ()


def hosts_of(member: MemberSnapshot) -> tuple[HostView, ...]:
    """Return the node hosts that a pool shows of a member; none of one that has no such thing."""
    hosts = member.info.get("hosts") if isinstance(member.info, dict) else None
    try:
        return tuple(from_json(HostView, host) for host in hosts or ())
    except (NotThat, TypeError):
        return ()


@dataclass(frozen=True, slots=True)
class NumberedEvent:
    """Hold an event of a pool, and its number: by it a follower knows what it has seen."""

    number: int
    event: Event


async def events_of(
    observer: Observer, name: str, instance: str, since: int = 0
) -> list[NumberedEvent]:
    """Return the last events that a pool shows, oldest first.

    Args:
        observer: The world.
        name: The pool's name.
        instance: Which pool of that name.
        since: Only events with this number, or a higher one.

    Raises:
        SourceUnavailable: The cluster could not be asked.
    """
    found = await observer.published(str(Key(name, instance, EVENTS)))
    read = []
    for text in sorted(found):
        document = unpack(found[text]) or {}
        first, events = document.get("first"), document.get("events")
        if type(first) is not int or not isinstance(events, list):
            continue
        for number, each in enumerate(events, first):
            event = _event(name, each) if number >= since else None
            if event is not None:
                read.append(NumberedEvent(number, event))
    return read


@dataclass(frozen=True, slots=True, kw_only=True)
class _Event:
    kind: EventKind
    at: float
    slot: int | None = None
    generation: int | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)


def _event(pool: str, value: Any) -> Event | None:
    try:
        read = from_json(_Event, value)
    except NotThat:
        return None
    return Event(read.kind, read.at, pool, read.slot, read.generation, read.facts)
