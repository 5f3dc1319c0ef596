"""Place all replicas of all roles together: never, not now and why, or a node for each bundle.

Purpose: answer, before anything is created, whether a whole set of reservations fits a cluster,
what "no" depends on, and on which nodes each should go so that whole nodes stay free.

The heuristic: largest first, each on the tightest node that holds it, and on a node that is in
use already before one that is whole. Equal nodes are counted as one group, so the cost follows
the number of *different* nodes: about (bundles + kinds of request) × log(kinds of node), as long
as few nodes have devices to spare and lack CPUs or memory; each of those costs one comparison.

Limits, stated because bin packing is hard: the heuristic can miss a packing that exists. Where it
fails, `Never` and a proven `NotNow` are said only with a proof: one request alone exceeds the
nodes, totals exceed them, the nodes have too few places of that size, or every possibility was
tried. The last is done for up to `EXACT_BUNDLES` bundles on up to `EXACT_NODES` nodes, and for
up to `EXACT_STEPS` steps. Beyond it the answer is `NotFound`, or a `NotNow` with ``proven=False``.

Why not check each replica alone, or the sums alone: three replicas of 2 devices on 3 + 3 pass
both checks, and the third then waits for ever. Why not leave it to Ray: it places groups as they
come, so six groups of 2 devices leave none of three nodes of 8 whole.

The module is longer than most: the greedy pass, the search and the proofs count in the same
vectors of integers, and that representation is not worth a module boundary of its own.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import ge, sub
from typing import Final

from pool.errors import ConfigError
from pool.planning.resources import CPU, MEMORY, OBJECT_STORE_MEMORY, Resources, amount_text
from pool.planning.shape import BundlePlan
from pool.planning.topology import Node, NodeSelector, Topology

EXACT_BUNDLES: Final = 24
EXACT_NODES: Final = 24
EXACT_STEPS: Final = 10_000
"""The bounds of the exact search. At worst it takes about 0.2 s, and a call makes two."""

ACCELERATORS: Final = frozenset({"GPU", "TPU", "NPU", "HPU", "neuron_cores"})
"""Resources that make a node worth keeping whole, even for requests that do not use them."""

_PROOF_KINDS: Final = 16
"""How many kinds of request, and sizes of bundle, a proof looks at."""

_EXPLAINED_KINDS: Final = 16
"""Kinds of request whose refusal is explained node by node; others get a short sentence."""

NAMED: Final = 1_000
"""Of so many equal requests each is named when they are refused; of more, so many are."""

_NO_PROOF: Final = "which is no proof that there is none"

_NODES_SHOWN: Final = 3
_SENTENCES_SHOWN: Final = 3
_HOLDERS_SHOWN: Final = 3


@dataclass(frozen=True, slots=True)
class Request:
    """Ask for one reservation.

    Args:
        key: Its name in sentences and results, such as "role rollout, slot 3"; unique.
        plan: Its bundles.
    """

    key: str
    plan: BundlePlan


@dataclass(frozen=True, slots=True)
class Fits:
    """Say that every request fits what is free.

    Args:
        assignment: Key to the node ids of its bundles, in the order of the bundles.
        reason: How much of the topology it takes.
    """

    assignment: Mapping[str, tuple[str, ...]]
    reason: str


@dataclass(frozen=True, slots=True)
class NotNow:
    """Say that all would fit by totals, but not what is free.

    Args:
        blocked: Key to a sentence, for each request that found no place.
        assignment: Places for the other requests, as in `Fits`.
        reason: The first sentences.
        proven: True if no packing into what is free exists; False if none was found.
    """

    blocked: Mapping[str, str]
    assignment: Mapping[str, tuple[str, ...]]
    reason: str
    proven: bool


@dataclass(frozen=True, slots=True)
class NotFound:
    """Say that no packing was found, even by totals, and that this is no proof.

    Args:
        blocked: Key to a sentence, for each request that found no place by totals.
        reason: The first sentences.
    """

    blocked: Mapping[str, str]
    reason: str


@dataclass(frozen=True, slots=True)
class Never:
    """Say that the requests can never fit together, whatever is freed.

    Args:
        blocked: Key to a sentence, for each request that the proof is about.
        reason: The proof.
    """

    blocked: Mapping[str, str]
    reason: str


Packing = Fits | NotNow | NotFound | Never


def pack(requests: Sequence[Request], topology: Topology) -> Packing:
    """Place all requests together on the nodes of a topology that do not drain.

    Args:
        requests: Every reservation of every role, each key once.
        topology: The nodes, with what they have and what is free.

    Returns:
        `Fits`, `NotNow`, `NotFound` or `Never`; see the module for what each one promises.

    Raises:
        ConfigError: Two requests have one key.
    """
    if len({request.key for request in requests}) != len(requests):
        raise ConfigError("two requests have the same key; give each request once", "requests")
    space = _Space(requests, topology)
    now = _Attempt.best(space, space.free)
    if not now.blocked:
        return Fits(space.named(now.assigned), _summary(space, now))
    proof_now = _proof(space, space.free, now.blocked)
    exhausted_now = False
    if proof_now is None:
        found, exhausted_now = _Search(space, space.free).run()
        if found is not None:
            return Fits(space.named(found), _summary(space, _Attempt(found, [])))

    ever = _Attempt.best(space, space.total)
    if ever.blocked:
        proof = _proof(space, space.total, ever.blocked)
        if proof is not None:
            return proof
        found, exhausted = _Search(space, space.total).run()
        if found is None:
            blocked = _explain(space, ever, space.total)
            if not exhausted:
                opening = f"no packing was found, even on empty nodes, {_NO_PROOF}"
                return NotFound(blocked, f"{opening}: {_first(blocked)}")
            opening = "every way to place them was tried, and none fits even empty nodes"
            return Never(blocked, f"{opening}: {_first(blocked)}")
    proven = proof_now is not None or exhausted_now
    blocked = _explain(space, now, space.free)
    opening = "they would fit, but not what is free now"
    if not proven:
        opening = f"they would fit, but no packing into what is free now was found, {_NO_PROOF}"
    return NotNow(blocked, space.named(now.assigned), f"{opening}: {_first(blocked)}", proven)


def pack_equal(
    key: Callable[[int], str], plan: BundlePlan, count: int, topology: Topology
) -> Packing:
    """Place equal requests as `pack` does, but make none of those that could never be.

    Whoever asks for a million hears in a moment what whoever asks for a thousand does.

    Args:
        key: Returns the key of each request, by its number from 0.
        plan: The bundles of each.
        count: How many.
        topology: The nodes, with what they have and what is free.

    Returns:
        As `pack`; of more than `NAMED` that exceed the nodes together, `Never`, for the first.
    """
    if count > NAMED and (reason := _beyond(plan, count, topology)) is not None:
        return Never({key(number): reason for number in range(NAMED)}, reason)
    return pack([Request(key(number), plan) for number in range(count)], topology)


def _beyond(plan: BundlePlan, count: int, topology: Topology) -> str | None:
    """Return why so many equal requests exceed the nodes together; None if they do not."""
    space = _Space([Request("", plan)], topology)
    [need] = space.needs
    groups = Counter(zip(space.total, space.masks, strict=True))
    where = "" if plan.selector.is_any else f" with {plan.selector}"
    return _exceeding(space, groups, [(need.parts, count)], need.bit, where)


# --- the problem in integers ----------------------------------------------------------------------

_Vector = tuple[int, ...]

_Key = tuple[int, int, int, _Vector, int]
"""A group of equal nodes: (1 if whole, free devices, selectors that want it, free, selectors).

The order of keys is the order in which a request tries nodes.
"""


@dataclass(frozen=True, slots=True)
class _Part:
    """Equal bundles of one request, each on a node of its own."""

    vector: _Vector
    devices: int
    positions: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Need:
    """What one kind of request needs."""

    plan: BundlePlan
    parts: tuple[_Part, ...]
    bit: int
    eligible: int

    def nodes_of(self, chosen: Mapping[int, int]) -> tuple[int, ...]:
        """Return the node of each bundle, given that of each position."""
        if self.plan.strategy == "STRICT_PACK":
            return (chosen[0],) * len(self.plan.bundles)
        return tuple(chosen[i] for i in range(len(chosen)))

    @property
    def size(self) -> tuple[_Vector, int, int, int, tuple[_Vector, ...]]:
        """Return the sort key that puts the largest first, and equal kinds side by side."""
        first = self.parts[0]
        return (
            (-first.devices, *(-n for n in first.vector)),
            -self.plan.n_nodes,
            self.eligible,
            self.bit,
            tuple(part.vector for part in self.parts),
        )


class _Space:
    """Requests and nodes as vectors of integers over the resources that are asked for."""

    def __init__(self, requests: Sequence[Request], topology: Topology) -> None:
        self.requests = requests
        self.nodes = topology.without_draining().nodes
        plans = list({id(r.plan): r.plan for r in requests}.values())
        bundles = {bundle for plan in plans for bundle in plan.bundles}
        names = {name for bundle in bundles for name in bundle}
        # A custom resource counts as a device only where nothing else in the bundle does.
        own = {
            name for b in bundles if not ACCELERATORS & b.keys() for name in b if ":" not in name
        }
        devices = (ACCELERATORS | own) - {CPU, MEMORY, OBJECT_STORE_MEMORY}
        self.names = sorted(names, key=lambda name: (name not in devices, name))
        self.n_devices = sum(name in devices for name in self.names)

        self.total = [self.vector(node.total) for node in self.nodes]
        # Ray may for a moment show more free than there is; a plan that fits now fits by totals.
        self.free = [
            tuple(map(min, total, self.vector(node.available)))
            for total, node in zip(self.total, self.nodes, strict=True)
        ]
        # Devices that nobody asks for here still make a node worth keeping.
        others = devices - names
        self.hidden = [sum(map(node.total.units, others)) for node in self.nodes]

        selectors: dict[NodeSelector, int] = {}
        bits = [1 << selectors.setdefault(p.selector, len(selectors)) for p in plans]
        self.masks = [0] * len(self.nodes)
        for selector, index in selectors.items():
            bit = 1 << index
            for i, node in enumerate(self.nodes):
                if selector.is_any or selector.matches(node):
                    self.masks[i] |= bit
        by_bit = {bit: sum(1 for mask in self.masks if mask & bit) for bit in set(bits)}
        made = {id(p): self._need(p, bit, by_bit[bit]) for p, bit in zip(plans, bits, strict=True)}
        self.needs = [made[id(request.plan)] for request in requests]

    def vector(self, resources: Resources) -> _Vector:
        return tuple(resources.units(name) for name in self.names)

    def devices_in(self, vector: _Vector) -> int:
        return sum(vector[: self.n_devices])

    def _need(self, plan: BundlePlan, bit: int, eligible: int) -> _Need:
        if plan.strategy == "STRICT_PACK":
            positions = {self.vector(plan.total): [0]}
        else:
            positions = {}
            for i, bundle in enumerate(plan.bundles):
                positions.setdefault(self.vector(bundle), []).append(i)
        parts = sorted(
            (_Part(v, self.devices_in(v), tuple(at)) for v, at in positions.items()),
            key=lambda part: (part.devices, part.vector),
            reverse=True,
        )
        return _Need(plan, tuple(parts), bit, eligible)

    def keys(self, vectors: Sequence[_Vector]) -> list[_Key]:
        """Return the group of each node, given what is free on it."""
        keys = []
        for vector, total, hidden, mask in zip(
            vectors, self.total, self.hidden, self.masks, strict=True
        ):
            devices = self.devices_in(vector) + hidden
            whole = int(devices > 0 and devices == self.devices_in(total) + hidden)
            keys.append((whole, devices, mask.bit_count(), vector, mask))
        return keys

    def named(self, assigned: Mapping[int, tuple[int, ...]]) -> dict[str, tuple[str, ...]]:
        """Return an assignment by keys and node ids, in the order of the requests."""
        ids = [node.node_id for node in self.nodes]
        return {self.requests[i].key: tuple(ids[n] for n in assigned[i]) for i in sorted(assigned)}

    def left(
        self, vectors: Sequence[_Vector], assigned: Mapping[int, tuple[int, ...]]
    ) -> list[_Vector]:
        """Return what an assignment leaves free on each node."""
        rest = list(vectors)
        for i, nodes in assigned.items():
            for bundle, n in zip(self.requests[i].plan.bundles, nodes, strict=True):
                rest[n] = tuple(map(sub, rest[n], self.vector(bundle)))
        return rest


# --- the greedy pass ------------------------------------------------------------------------------


class _Shelf:
    """Groups of equal nodes, sorted so that the best fit for any request comes first."""

    def __init__(self, keys: Iterable[_Key]) -> None:
        self.groups: dict[_Key, list[int]] = {}
        for i, key in enumerate(keys):
            self.groups.setdefault(key, []).append(i)
        for members in self.groups.values():
            members.reverse()  # taken from the end: the first node of a topology goes first
        self.keys = sorted(self.groups)
        # For bundles of the kind being placed: every key below the cursor holds none of them.
        self.cursors: dict[_Vector, list[_Key]] = {}
        self.bit = 0

    def put(self, key: _Key, nodes: list[int]) -> None:
        if key in self.groups:
            self.groups[key] += nodes
            return
        self.groups[key] = nodes
        insort(self.keys, key)
        for vector, cursor in self.cursors.items():
            if key < cursor[key[0]] and key[4] & self.bit and _covers(key[3], vector):
                cursor[key[0]] = key

    def take(self, part: _Part, count: int) -> list[tuple[_Key, list[int]]] | None:
        """Take `count` nodes off the shelf, the tightest first, or none at all."""
        keys, groups, bit, vector = self.keys, self.groups, self.bit, part.vector
        cursor = self.cursors.setdefault(
            vector, [(0, part.devices, -1, (), 0), (1, part.devices, -1, (), 0)]
        )
        taken: list[tuple[_Key, list[int]]] = []
        for whole in (0, 1):
            end = (whole + 1, -1, -1, (), 0)
            i = bisect_left(keys, cursor[whole])
            while count and i < len(keys) and keys[i] < end:
                key = keys[i]
                if not (key[4] & bit and _covers(key[3], vector)):
                    i += 1
                    continue
                members = groups[key]
                nodes = members[-count:]
                del members[-count:]
                if not members:
                    del groups[key], keys[i]
                taken.append((key, nodes))
                count -= len(nodes)
            cursor[whole] = keys[i] if i < len(keys) and keys[i] < end else end
        if not count:
            return taken
        for key, nodes in taken:
            self.put(key, nodes)
        return None

    def place(self, need: _Need, *, same_kind: bool) -> dict[int, int] | None:
        """Put a request on its nodes and return the node of each position, or None."""
        if not same_kind:
            self.cursors.clear()
            self.bit = need.bit
        chosen: dict[int, int] = {}
        # Nodes stay off the shelf until the request is done, so that no two bundles share one.
        held: list[tuple[_Key, _Key, list[int]]] = []
        for part in need.parts:
            taken = self.take(part, len(part.positions))
            if taken is None:
                for before, _, nodes in held:
                    self.put(before, nodes)
                return None
            for before, nodes in taken:
                whole, devices, wanted, vector, mask = before
                after = (
                    0 if part.devices else whole,
                    devices - part.devices,
                    wanted,
                    tuple(map(sub, vector, part.vector)),
                    mask,
                )
                held.append((before, after, nodes))
            nodes_in_order = sorted(n for _, nodes in taken for n in nodes)
            chosen.update(zip(part.positions, nodes_in_order, strict=True))
        for _, after, nodes in held:
            self.put(after, nodes)
        return chosen


@dataclass(frozen=True, slots=True)
class _Attempt:
    """What one pass placed: request to the node of each bundle; and the requests left over."""

    assigned: dict[int, tuple[int, ...]]
    blocked: list[int]

    @classmethod
    def best(cls, space: _Space, vectors: Sequence[_Vector]) -> _Attempt:
        """Pack largest first, and if that leaves something over, the most constrained first."""
        indices = range(len(space.needs))
        sizes = [need.size for need in space.needs]
        first = cls._greedy(space, vectors, sorted(indices, key=lambda i: sizes[i]))
        if not first.blocked or len({need.bit for need in space.needs}) == 1:
            return first
        by_choice = sorted(indices, key=lambda i: (space.needs[i].eligible, sizes[i]))
        second = cls._greedy(space, vectors, by_choice)
        return second if len(second.blocked) < len(first.blocked) else first

    @classmethod
    def _greedy(cls, space: _Space, vectors: Sequence[_Vector], order: Iterable[int]) -> _Attempt:
        shelf = _Shelf(space.keys(vectors))
        assigned: dict[int, tuple[int, ...]] = {}
        blocked: list[int] = []
        last: _Need | None = None
        failed = False
        for i in order:
            need = space.needs[i]
            same = last is not None and need.parts == last.parts and need.bit == last.bit
            # What found no place finds none later: a pass only ever takes.
            if not (same and failed):
                chosen = shelf.place(need, same_kind=same)
                failed = chosen is None
                if chosen is not None:
                    assigned[i] = need.nodes_of(chosen)
            if failed:
                blocked.append(i)
            last = need
        return cls(assigned, sorted(blocked))


# --- the exact search -----------------------------------------------------------------------------


class _Search:
    """Try every way to place the requests, up to a bound; equal nodes are tried once."""

    def __init__(self, space: _Space, vectors: Sequence[_Vector]) -> None:
        self.space = space
        self.rest = list(vectors)
        self.order = sorted(range(len(space.needs)), key=lambda i: space.needs[i].size)
        self.steps = 0
        self.dead: set[tuple[int, tuple[tuple[_Vector, int], ...]]] = set()
        self.chosen: dict[int, dict[int, int]] = {}

    def run(self) -> tuple[dict[int, tuple[int, ...]] | None, bool]:
        """Return a packing or None, and whether None is a proof."""
        bundles = sum(need.plan.n_nodes for need in self.space.needs)
        if bundles > EXACT_BUNDLES or len(self.rest) > EXACT_NODES:
            return None, False
        if self._request(0):
            needs = self.space.needs
            return {i: needs[i].nodes_of(chosen) for i, chosen in self.chosen.items()}, True
        return None, self.steps <= EXACT_STEPS

    def _request(self, depth: int) -> bool:
        if depth == len(self.order):
            return True
        # Which node is which does not matter for what comes: only what is left on equal ones.
        state = (depth, tuple(sorted(zip(self.rest, self.space.masks, strict=True))))
        if state in self.dead:
            return False
        i = self.order[depth]
        self.chosen[i] = {}
        if self._bundle(depth, 0, 0, 0):
            return True
        self.dead.add(state)
        return False

    def _bundle(self, depth: int, part_index: int, position_index: int, start: int) -> bool:
        """Place the rest of a request; equal bundles go to nodes of ascending index."""
        need = self.space.needs[self.order[depth]]
        if part_index == len(need.parts):
            return self._request(depth + 1)
        part = need.parts[part_index]
        chosen = self.chosen[self.order[depth]]
        used = set(chosen.values())
        tried: set[tuple[_Vector, int]] = set()
        for n in range(start, len(self.rest)):
            vector, mask = self.rest[n], self.space.masks[n]
            if n in used or (vector, mask) in tried or not mask & need.bit:
                continue
            if not _covers(vector, part.vector):
                continue
            tried.add((vector, mask))
            self.steps += 1
            if self.steps > EXACT_STEPS:
                return False
            position = part.positions[position_index]
            chosen[position] = n
            self.rest[n] = tuple(map(sub, vector, part.vector))
            last = position_index + 1 == len(part.positions)
            if self._bundle(
                depth, part_index + last, 0 if last else position_index + 1, 0 if last else n + 1
            ):
                return True
            self.rest[n] = vector
            del chosen[position]
        return False


# --- proofs that there is no packing --------------------------------------------------------------


_Kinds = Mapping[tuple[tuple[_Part, ...], int], list[int]]
"""Kinds of request, as (parts, selector), to the requests of that kind."""

_Groups = Mapping[tuple[_Vector, int], int]
"""Kinds of node, as (free, selectors that let it pass), to how many there are."""


def _proof(space: _Space, vectors: Sequence[_Vector], blocked: Sequence[int]) -> Never | None:
    """Return why no packing into `vectors` exists, or None if that was not proved."""
    # What a pass placed fits alone, so only what it left over can fail alone.
    groups = Counter(zip(vectors, space.masks, strict=True))
    kinds: dict[tuple[tuple[_Part, ...], int], list[int]] = {}
    for i, need in enumerate(space.needs):
        kinds.setdefault((need.parts, need.bit), []).append(i)
    return (
        _proof_alone(space, groups, kinds, blocked)
        or _proof_by_sums(space, groups, kinds)
        or _proof_by_places(space, groups, kinds)
    )


def _proof_alone(
    space: _Space, groups: _Groups, kinds: _Kinds, candidates: Sequence[int]
) -> Never | None:
    """Prove of single requests that they do not even fit alone."""
    blocked: dict[str, str] = {}
    tried = dict.fromkeys((space.needs[i].parts, space.needs[i].bit) for i in candidates)
    for parts, bit in list(tried)[:_PROOF_KINDS]:
        members = kinds[parts, bit]
        usable: Counter[_Vector] = Counter()
        for (vector, mask), count in groups.items():
            if mask & bit:
                usable[vector] += count
        holders = [sum(c for v, c in usable.items() if _covers(v, p.vector)) for p in parts]
        anywhere = sum(c for v, c in usable.items() if any(_covers(v, p.vector) for p in parts))
        enough = all(h >= len(p.positions) for h, p in zip(holders, parts, strict=True))
        if enough and anywhere >= sum(len(part.positions) for part in parts):
            continue
        plan = space.needs[members[0]].plan
        text = f"needs {plan.needs}"
        if not plan.selector.is_any:
            text += f" on nodes with {plan.selector}"
        what = "that" if len(parts) == 1 else f"{_text(space, parts[0].vector)}"
        text += f"; {holders[0] or 'none'} of {usable.total()} nodes can hold {what}"
        if usable and not holders[0]:
            short = min((_short(v, parts[0].vector) for v in usable), key=lambda s: (sum(s), s))
            text += f", the closest is short of {_text(space, short)}"
        for i in members:
            blocked[space.requests[i].key] = f"{space.requests[i].key}: {text}"
    return Never(blocked, _first(blocked)) if blocked else None


def _proof_by_sums(space: _Space, groups: _Groups, kinds: _Kinds) -> Never | None:
    """Prove that the requests together exceed the nodes together."""
    for chosen, where, members in _by_selector(space, kinds):
        asked = [(parts, len(same)) for (parts, bit), same in kinds.items() if bit & chosen]
        reason = _exceeding(space, groups, asked, chosen, where)
        if reason is not None:
            return Never({space.requests[i].key: reason for i in members}, reason)
    return None


def _exceeding(
    space: _Space,
    groups: _Groups,
    asked: Iterable[tuple[tuple[_Part, ...], int]],
    chosen: int,
    where: str,
) -> str | None:
    """Return what so many requests of each kind need beyond what their nodes have, in words."""
    want = have = (0,) * len(space.names)
    for parts, count in asked:
        for part in parts:
            n = len(part.positions) * count
            want = tuple(w + v * n for w, v in zip(want, part.vector, strict=True))
    for (vector, mask), count in groups.items():
        if mask & chosen:
            have = tuple(h + v * count for h, v in zip(have, vector, strict=True))
    short = _short(have, want)
    if not any(short):
        return None
    needed = _text(space, tuple(w if s else 0 for w, s in zip(want, short, strict=True)))
    seen = _text(space, tuple(h if s else 0 for h, s in zip(have, short, strict=True)))
    return f"together they need {needed}; the nodes{where} have {seen}"


def _proof_by_places(space: _Space, groups: _Groups, kinds: _Kinds) -> Never | None:
    """Prove that the nodes have too few places for bundles of some size."""
    sizes = sorted({part.vector for parts, _ in kinds for part in parts}, reverse=True)
    for size in sizes[:_PROOF_KINDS]:
        for chosen, where, members in _by_selector(space, kinds):
            wanted, requests = 0, set[int]()
            for (parts, bit), same in kinds.items():
                large = [part for part in parts if _covers(part.vector, size)]
                if bit & chosen and large:
                    wanted += len(same) * sum(len(part.positions) for part in large)
                    requests.update(same)
            # Bundles of one request share no node, so a node has one place for each request.
            places = sum(
                min(len(requests), *(v // s for v, s in zip(vector, size, strict=True) if s)) * n
                for (vector, mask), n in groups.items()
                if mask & chosen
            )
            if wanted > places:
                reason = (
                    f"{wanted} bundles need {_text(space, size)} or more each; "
                    f"the nodes{where} have {places} places of that size"
                )
                return Never(
                    {space.requests[i].key: reason for i in members if i in requests}, reason
                )
    return None


def _by_selector(space: _Space, kinds: _Kinds) -> Iterator[tuple[int, str, list[int]]]:
    """Yield all requests, then those of each selector: its bit, its name, the requests."""
    members: dict[int, list[int]] = {}
    for (_, bit), same in kinds.items():
        members.setdefault(bit, []).extend(same)
    if len(members) > 1:
        yield sum(members), "", sorted(i for same in members.values() for i in same)
    for bit, same in members.items():
        selector = space.needs[same[0]].plan.selector
        yield bit, "" if selector.is_any else f" with {selector}", sorted(same)


def _covers(vector: _Vector, size: _Vector) -> bool:
    return all(map(ge, vector, size))


def _short(have: _Vector, want: _Vector) -> _Vector:
    return tuple(max(0, w - h) for h, w in zip(have, want, strict=True))


# --- sentences ------------------------------------------------------------------------------------


def _text(space: _Space, vector: _Vector) -> str:
    return str(Resources.from_units(dict(zip(space.names, vector, strict=True))))


def _summary(space: _Space, attempt: _Attempt) -> str:
    used = {n for nodes in attempt.assigned.values() for n in nodes}
    rest = space.left(space.free, attempt.assigned)
    whole = sum(key[0] for key in space.keys(rest))
    return (
        f"{len(space.requests)} requests fit on {len(used)} of {len(space.nodes)} nodes; "
        f"the devices of {whole} nodes stay whole"
    )


def _first(blocked: Mapping[str, str]) -> str:
    sentences = list(blocked.values())
    more = len(sentences) - _SENTENCES_SHOWN
    return ". ".join(sentences[:_SENTENCES_SHOWN]) + (f". And {more} more" if more > 0 else "")


def _explain(space: _Space, attempt: _Attempt, vectors: Sequence[_Vector]) -> dict[str, str]:
    """Return a sentence for each request that a pass left over."""
    rest = space.left(vectors, attempt.assigned)
    planned: dict[int, dict[str, Resources]] = {}
    for i, nodes in attempt.assigned.items():
        request = space.requests[i]
        for bundle, n in zip(request.plan.bundles, nodes, strict=True):
            held = planned.setdefault(n, {})
            held[request.key] = held.get(request.key, Resources()) + bundle
    texts: dict[tuple[tuple[_Part, ...], int], str] = {}
    blocked = {}
    by_totals = vectors is space.total
    for i in attempt.blocked:
        need = space.needs[i]
        kind = (need.parts, need.bit)
        if kind not in texts:
            texts[kind] = f"needs {need.plan.needs}"
            if len(texts) <= _EXPLAINED_KINDS:
                texts[kind] += _where(space, need, rest, planned, by_totals=by_totals)
        blocked[space.requests[i].key] = f"{space.requests[i].key}: {texts[kind]}"
    return blocked


def _where(
    space: _Space,
    need: _Need,
    rest: Sequence[_Vector],
    planned: Mapping[int, Mapping[str, Resources]],
    *,
    by_totals: bool,
) -> str:
    """Say which nodes come close, and who holds what is missing there."""
    part = need.parts[0]
    eligible = [n for n, mask in enumerate(space.masks) if mask & need.bit]
    free = [n for n in eligible if _covers(rest[n], part.vector)]
    short = [
        n
        for n in eligible
        if not _covers(rest[n], part.vector) and _covers(space.total[n], part.vector)
    ]
    short.sort(key=lambda n: (sum(_short(rest[n], part.vector)), n))
    text = (
        f"; {len(free)} of {len(eligible)} nodes can hold {_text(space, part.vector)}"
        if free
        else ""
    )
    for n in short[:_NODES_SHOWN]:
        missing = [
            name for name, gap in zip(space.names, _short(rest[n], part.vector), strict=True) if gap
        ]
        left = dict(zip(space.names, rest[n], strict=True))
        has = ", ".join(amount_text(name, left[name]) for name in missing)
        who = _holders(space.nodes[n], missing, planned.get(n, {}), by_totals=by_totals)
        text += f"; node {space.nodes[n].name} has {has} free{who}"
    if len(short) > _NODES_SHOWN:
        return f"{text}; {_others(space, short[_NODES_SHOWN:], planned, by_totals=by_totals)}"
    other = "other node" if free or short else "node"
    if not need.plan.selector.is_any:
        other += f" with {need.plan.selector}"
    return f"{text}; no {other} has {_text(space, part.vector)}"


def _others(
    space: _Space,
    short: Sequence[int],
    planned: Mapping[int, Mapping[str, Resources]],
    *,
    by_totals: bool,
) -> str:
    """Say of the nodes that are not listed how many they are, and who is on them."""
    names = {who for n in short for who in planned.get(n, {})}
    if not by_totals:
        names |= {who for n in short for who in space.nodes[n].held_by}
    shown = sorted(names)[:_HOLDERS_SHOWN]
    if len(names) > len(shown):
        shown.append(f"{len(names) - len(shown)} more")
    who = f" ({', '.join(shown)})" if shown else ""
    return f"{len(short)} more nodes are short too{who}"


def _holders(
    node: Node, missing: Sequence[str], planned: Mapping[str, Resources], *, by_totals: bool
) -> str:
    """Return who holds, or is to hold, the missing resources of a node, in brackets."""
    held = {} if by_totals else node.held_by
    parts = []
    for verb, table in (("holds", held), ("is to take", planned)):
        for who, resources in table.items():
            amounts = [amount_text(r, resources.units(r)) for r in missing if resources.units(r)]
            if amounts:
                parts.append(f"{who} {verb} {', '.join(amounts)}")
    if len(parts) > _HOLDERS_SHOWN:
        parts = [*parts[:_HOLDERS_SHOWN], f"{len(parts) - _HOLDERS_SHOWN} more"]
    if not parts:
        used = node.total.minus_clamped(node.available)
        parts = [f"{amount_text(r, used.units(r))} in use" for r in missing]
    return f" ({'; '.join(parts)})"
