"""What has to hold all the time, as far as it can be seen from outside (the invariants).

Ray's tables and what a pool says of itself are read one after the other, so that a difference
between them has to be there at two looks, with no event in between. What Ray's tables say by
themselves has to hold at every look.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import anyio
import anyio.to_thread
import psutil

from pool.cluster.interface import Identity
from pool.cluster.ray import private
from tests.soak.pools import Picture
from tests.soak.strikes import Ledger
from tests.soak.subject import Subject
from tests.world import is_alive

EVERY_S = 1.0
AT_MOST_EVERY_S = 0.2


@dataclass(frozen=True, slots=True)
class Seen:
    """Hold an actor of ours, as Ray's table has it."""

    actor_id: str
    identity: Identity
    pid: int
    node_id: str
    state: str

    @property
    def pool(self) -> str:
        """The pool, whether this is a replica or one of its hosts."""
        return self.identity.pool.partition("/")[0]

    @property
    def who(self) -> tuple[int, int]:
        """Slot and generation of the replica that it is, or belongs to."""
        if self.identity.level != "host":
            return self.identity.slot, self.identity.generation
        slot, _, generation = self.identity.pool.rpartition("/")[2].partition(".")
        return int(slot), int(generation)


def actors() -> list[Seen]:
    """Return every actor of ours that Ray remembers, dead ones too."""
    found = []
    for actor_id, record in private.actor_table().items():
        identity = Identity.parse(record["Name"])
        if identity is not None:
            node_id = str(record["Address"]["NodeID"])
            pid = int(record.get("Pid") or 0)
            found.append(Seen(actor_id, identity, pid, node_id, str(record["State"])))
    return found


def live_actors() -> list[Seen]:
    """Return every actor of ours that is not dead."""
    return [actor for actor in actors() if actor.state != "DEAD"]


def groups() -> list[tuple[Identity, str]]:
    """Return every placement group of ours that is not removed, with its state."""
    return [
        (identity, record.state)
        for record in private.placement_groups()
        if record.state != "REMOVED" and (identity := Identity.parse(record.name)) is not None
    ]


@dataclass(slots=True)
class Watch:
    """Look again and again, and remember what was broken.

    Args:
        subjects: The pools.
        ledger: What was done to them.
    """

    subjects: list[Subject]
    ledger: Ledger
    violations: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    looks: int = 0
    processes: dict[int, psutil.Process] = field(default_factory=dict)
    _suspicions: dict[str, set[str]] = field(default_factory=dict)
    _read: dict[str, int] = field(default_factory=dict)

    async def keep(self) -> None:
        """Look at each event, and each second; what was before is none of its business."""
        self._read = {subject.name: len(subject.events) for subject in self.subjects}
        while True:
            await self.look()
            await anyio.sleep(AT_MOST_EVERY_S)
            waits = [asyncio.ensure_future(s.woken.wait()) for s in self.subjects]
            try:
                await asyncio.wait(waits, timeout=EVERY_S, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for wait in waits:
                    wait.cancel()
            for subject in self.subjects:
                subject.woken.clear()

    async def look(self) -> None:
        """Look once at everything."""
        counts = {subject.name: len(subject.events) for subject in self.subjects}
        live = await anyio.to_thread.run_sync(live_actors)
        held = await anyio.to_thread.run_sync(groups)
        self.looks += 1
        self._remember(live)
        for sentence in twice(live, held):
            self._break(sentence)
        for subject in self.subjects:
            shown = subject.look()
            self._read_events(subject)
            for sentence in subject.broken:
                self._break(sentence)
            subject.broken.clear()
            is_still = len(subject.events) == counts[subject.name]
            found = set(at_odds(subject.name, shown, live, held)) if shown is not None else set()
            if not is_still:
                found = set()
            for sentence in found & self._suspicions.get(subject.name, set()):
                self._break(sentence)
            self._suspicions[subject.name] = found

    def _remember(self, live: list[Seen]) -> None:
        for actor in live:
            if actor.pid and actor.pid not in self.processes:
                try:
                    self.processes[actor.pid] = psutil.Process(actor.pid)
                except psutil.NoSuchProcess:
                    continue

    def _read_events(self, subject: Subject) -> None:
        """Hold what the pool did against what was done to it (INV-5, INV-9)."""
        new = subject.events[self._read.get(subject.name, 0) :]
        self._read[subject.name] = len(subject.events)
        for event in new:
            kind, facts, at = event["kind"], event["facts"], event["at"]
            who = (event["slot"], event["generation"])
            is_verdict = kind == "member_fault" or (
                kind == "member_state" and facts["state"] == "suspect"
            )
            if is_verdict and not self.ledger.excuses(subject.name, who, at):
                said = facts.get("reason", "")
                self._warn(f"{subject.name} {who} was judged, and nothing was done to it: {said}")
            acts = ("slot_opened", "slot_retired", "slot_spared")
            if kind in acts and not self.ledger.excuses(subject.name, None, at):
                said = facts.get("reason", "")
                self._break(f"INV-5: {subject.name} had settled, and {kind}: {said}")

    def _break(self, sentence: str) -> None:
        self.violations.append(f"{time.time():.2f} {sentence}")
        print(f"violated: {self.violations[-1]}", flush=True)

    def _warn(self, sentence: str) -> None:
        self.warnings.append(f"{time.time():.2f} {sentence}")
        print(f"warning: {self.warnings[-1]}", flush=True)

    def alive(self) -> list[int]:
        """Return the processes of members, of those ever seen, that run."""
        return [pid for pid, process in self.processes.items() if is_alive(process)]


def twice(live: list[Seen], held: list[tuple[Identity, str]]) -> list[str]:
    """Return the slots that have two live members or two groups (INV-1)."""
    members = Counter(
        (actor.identity.pool, actor.identity.slot)
        for actor in live
        if actor.identity.level == "replica"
    )
    reserved = Counter((identity.pool, identity.slot) for identity, _ in held)
    return [
        f"INV-1: {name} slot {slot} has {count} live {word}"
        for word, counted in (("replica actors", members), ("placement groups", reserved))
        for (name, slot), count in counted.items()
        if count > 1
    ]


def at_odds(
    name: str, shown: Picture, live: list[Seen], held: list[tuple[Identity, str]]
) -> list[str]:
    """Return in what a pool's own picture is wrong, in itself or beside Ray's tables."""
    slots: list[dict[str, Any]] = shown["slots"]
    found = []
    ranks = Counter(slot["rank"] for slot in slots if slot["rank"] is not None)
    found += [f"INV-12: {name} rank {rank} is held {n} times" for rank, n in ranks.items() if n > 1]
    for slot in slots:
        if slot["state"] != "ready" and not slot["reason"]:
            found.append(
                f"{name} slot {slot['slot']} ({slot['role']}) is {slot['state']} without a reason"
            )
    generations = {slot["slot"]: slot["generation"] for slot in slots}
    mine = [a for a in live if a.identity.pool == name and a.identity.level == "replica"]
    for actor in mine:
        if generations.get(actor.identity.slot) != actor.identity.generation:
            found.append(f"INV-4: {actor.identity} is alive, and nobody's")
    my_groups = [identity for identity, _ in held if identity.pool == name]
    for identity in my_groups:
        if generations.get(identity.slot) != identity.generation:
            found.append(f"INV-4: the group of {identity} is there, and nobody's")
    if shown["settled"]:
        size = shown["desired"] + shown["spares"]
        ready = sum(slot["state"] == "ready" for slot in slots)
        for word, count in (("ready", ready), ("actors", len(mine)), ("groups", len(my_groups))):
            if count != size:
                found.append(f"INV-5: {name} has settled with {count} {word}, {size} are meant")
    if shown["failed"]:
        found.append(f"{name} gave up: {shown['failed']}")
    return found
