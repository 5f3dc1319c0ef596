"""Fold what a pool published, one moment after the other, into one picture with its past.

A snapshot is a moment; a page shows a time line. So each slot keeps the spans that its members
spent in each state, and the faults in them. Ages become times, so that a slot which did not change
is equal to what it was, and need not be sent again.

Limits: what happened before the first moment is known by ages alone, and what happened between two
moments by events alone.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

from pool.manager.events import Event, level_of
from pool.window.codec import to_json

KEPT_S = 3600.0
"""How far back time lines go."""
SPANS_KEPT = 200
"""How many spans a slot keeps: more than anybody sees, also of one that fails all the time."""
EVENTS_KEPT = 500
CLOSED_KEPT = 500
"""How many slots that were closed keep their time lines."""
SAME_S = 0.25
"""Times that differ by less are one time: an age is rounded, and takes a while to arrive."""

Json = Mapping[str, Any]


def event_json(event: Event) -> dict[str, Any]:
    """Return an event for the page: in the words of JSON, with how loud it is."""
    return {**to_json(event), "level": level_of(event.kind, event.facts)}


class Lane:
    """Keep the past of one slot: spans in states, and faults.

    Args:
        index: The slot's index.
    """

    def __init__(self, index: int) -> None:
        self.index = index
        self.spans: deque[list[Any]] = deque(maxlen=SPANS_KEPT)
        self.faults: deque[list[Any]] = deque(maxlen=SPANS_KEPT)
        self.picture: dict[str, Any] | None = None
        self.closed_at: float | None = None
        self.version = 0

    def enter(self, state: str, generation: int, at: float) -> None:
        """Let the slot's member be in a state from now on."""
        if self.spans:
            last = self.spans[-1]
            if last[0] == state and last[3] == generation and last[2] is None:
                return
            at = max(at, last[1])
            if last[2] is None:
                last[2] = at
        if state != "gone":
            self.spans.append([state, at, None, generation])

    def leave(self, at: float) -> None:
        """Let the slot be without a member from now on."""
        if self.spans and self.spans[-1][2] is None:
            self.spans[-1][2] = max(at, self.spans[-1][1])

    @property
    def since(self) -> float | None:
        """When the last state was entered; None where there is none now."""
        return self.spans[-1][1] if self.spans and self.spans[-1][2] is None else None

    def forget(self, before: float) -> None:
        """Drop what ended before a time."""
        while self.spans and self.spans[0][2] is not None and self.spans[0][2] < before:
            self.spans.popleft()
        while self.faults and self.faults[0][0] < before:
            self.faults.popleft()

    def as_json(self) -> dict[str, Any]:
        """Return all of it, for the page."""
        return {
            **(self.picture or {"index": self.index, "role": "", "rank": None, "reason": ""}),
            "closed": self.closed_at is not None,
            "spans": [list(span) for span in self.spans],
            "faults": [list(fault) for fault in self.faults],
        }


class Story:
    """Hold a pool's picture: its present from the last snapshot, its past from all of them."""

    def __init__(self) -> None:
        self.version = 0
        self.at = 0.0
        self.pool: dict[str, Any] = {}
        self.lanes: dict[int, Lane] = {}
        self.events: deque[tuple[int, dict[str, Any]]] = deque(maxlen=EVENTS_KEPT)

    def tell(self, at: float, snapshot: Json, events: Iterable[Json] = ()) -> None:
        """Take in what was published.

        Args:
            at: When the snapshot was taken, in UNIX seconds.
            snapshot: The JSON of a `PoolSnapshot`.
            events: The JSON of the events since the last time, oldest first.
        """
        self.version += 1
        self.at = at
        told: set[int] = set()
        for event in events:
            self.events.append((self.version, dict(event)))
            told |= self._take_event(event)
        seen = set()
        for slot in snapshot["slots"]:
            index = int(slot["index"])
            seen.add(index)
            lane = self._lane(index)
            if self._take_slot(lane, slot, at) or index in told:
                lane.version = self.version
        for index, lane in self.lanes.items():
            if index not in seen and lane.closed_at is None:
                lane.leave(at)
                lane.closed_at = at
                lane.picture = {**(lane.picture or {"index": index}), "member": None, "reason": ""}
                lane.version = self.version
        self.pool = {key: value for key, value in snapshot.items() if key != "slots"}
        self._forget(at)

    def since(self, version: int) -> dict[str, Any]:
        """Return what a page has to be told that has seen `version`; 0 has seen nothing."""
        return {
            "version": self.version,
            "at": self.at,
            "pool": self.pool,
            "slots": [lane.as_json() for lane in self.lanes.values() if lane.version > version],
            "lanes": list(self.lanes),
            "events": [event for told, event in self.events if told > version],
        }

    def _lane(self, index: int) -> Lane:
        return self.lanes.setdefault(index, Lane(index))

    def _take_event(self, event: Json) -> set[int]:
        index, facts = event.get("slot"), event.get("facts", {})
        if index is None or event["kind"] not in ("member_state", "member_fault"):
            return set()
        lane, at, generation = self._lane(index), float(event["at"]), event.get("generation") or 0
        if event["kind"] == "member_state":
            lane.enter(str(facts.get("state", "")), generation, at)
        else:
            lane.faults.append([at, facts.get("cause", ""), facts.get("reason", ""), generation])
        return {index}

    @staticmethod
    def _take_slot(lane: Lane, slot: Json, at: float) -> bool:
        """Take in a slot; return whether anything of it is other than it was."""
        member, before, last = slot.get("member"), lane.picture, len(lane.spans)
        was_since = lane.since
        if member is None:
            lane.leave(at)
        else:
            lane.enter(member["state"], member["generation"], at - member["age_s"])
        lane.closed_at = None
        lane.picture = {
            **{key: value for key, value in slot.items() if key != "member"},
            "member": None if member is None else _timeless(member, lane, before, at),
        }
        changed = (before, last, was_since) != (lane.picture, len(lane.spans), lane.since)
        return changed or lane.version == 0

    def _forget(self, at: float) -> None:
        for lane in self.lanes.values():
            lane.forget(at - KEPT_S)
        closed = [lane for lane in self.lanes.values() if lane.closed_at is not None]
        closed.sort(key=lambda lane: lane.closed_at or 0.0)
        surplus = len(closed) - CLOSED_KEPT
        for number, lane in enumerate(closed):
            if number < surplus or not (lane.spans or lane.faults):
                del self.lanes[lane.index]


def _timeless(member: Json, lane: Lane, before: Json | None, at: float) -> dict[str, Any]:
    """Return a member with times in the place of ages, equal as long as nothing happens to it."""
    was = (before or {}).get("member") or {}
    known = {(told["node_id"], told["text"]): told["at"] for told in was.get("notices", ())}
    picture = {
        key: value for key, value in member.items() if key not in ("age_s", "ends_in_s", "notices")
    }
    ends_in_s = member.get("ends_in_s")
    return {
        **picture,
        "since": lane.since,
        "ends_at": None if ends_in_s is None else _same(at + ends_in_s, was.get("ends_at")),
        "notices": [
            {
                "node_id": notice["node_id"],
                "text": notice["text"],
                "at": _leaves_at(
                    notice["left_s"], at, known.get((notice["node_id"], notice["text"]))
                ),
            }
            for notice in member["notices"]
        ],
    }


def _leaves_at(left_s: float | None, at: float, was: float | None) -> float | None:
    if left_s is None or not math.isfinite(left_s):
        return None
    return _same(at + left_s, was)


def _same(time: float, was: float | None) -> float:
    """Return the time that was, where it is the same but for rounding."""
    return time if was is None or abs(time - was) > SAME_S else was
