"""Snapshots go through JSON and come back as they were, and nothing else comes back as one."""

from __future__ import annotations

import json

import pytest

from pool.manager.snapshot import MemberSnapshot, NoticeSnapshot, PoolSnapshot, SlotSnapshot
from pool.planning.lifecycle import State
from pool.planning.plan import Role
from pool.window.codec import NotThat, from_json, to_json
from pool.window.keys import LARGEST, Key, pack, unpack

MEMBER = MemberSnapshot(
    id="a/0.1",
    generation=1,
    state=State.READY,
    age_s=2.5,
    why="it started",
    actor_id=None,
    nodes=("n0", "n1"),
    in_flight=3,
    notices=(NoticeSnapshot(node_id="n0", text="preempted", left_s=29.0),),
    health="",
    info={"hosts": [{"index": 0}]},
)
SNAPSHOT = PoolSnapshot(
    name="a",
    desired=2,
    ready=1,
    settled=False,
    failed=None,
    slots=(
        SlotSnapshot(index=0, role=Role.HOLDER, rank=0, reason="", member=MEMBER),
        SlotSnapshot(index=1, role=Role.SPARE, rank=None, reason="it waits", member=None),
    ),
    restarts={"crash": 2},
)


def test_a_snapshot_comes_back_as_it_was() -> None:
    packed = pack({"version": 1, "snapshot": to_json(SNAPSHOT)})
    document = unpack(packed)
    assert document is not None
    assert from_json(PoolSnapshot, document["snapshot"]) == SNAPSHOT


def test_what_is_added_later_is_left_out_and_what_is_missing_has_its_default() -> None:
    document = to_json(SNAPSHOT) | {"added": 1}
    del document["spares"], document["restarts"]
    read = from_json(PoolSnapshot, document)
    assert (read.spares, read.restarts) == (0, {})


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"desired": "2"}, "'2' is no int"),
        ({"desired": True}, "True is no int"),
        ({"settled": 1}, "1 is no bool"),
        ({"name": None}, "None is no str"),
        ({"failed": 3}, "3 is no str"),
        ({"slots": {}}, "{} is no list"),
        ({"slots": [1]}, "1 is no dict"),
        ({"slots": [{"index": 0}]}, "SlotSnapshot"),
        ({"slots": [{"index": 0, "role": "king"}]}, "'king' is not a valid Role"),
        ({"restarts": {"crash": "x"}}, "'x' is no int"),
        ({"restarts": []}, r"\[\] is no dict"),
    ],
)
def test_what_is_of_another_shape_is_refused(change: dict[str, object], says: str) -> None:
    document = to_json(SNAPSHOT) | change
    with pytest.raises(NotThat, match=says):
        from_json(PoolSnapshot, document)


def test_what_json_has_no_word_for_becomes_text() -> None:
    document = {"version": 1, "facts": {"error": ValueError("x"), "set": {1}}}
    assert unpack(pack(document)) == {"version": 1, "facts": {"error": "x", "set": "{1}"}}
    assert to_json({1: (State.GONE, 2.0)}) == {"1": ["gone", 2.0]}


@pytest.mark.parametrize("packed", [b"", b"x", pack([]), pack({}), pack({"version": 2})])  # type: ignore[arg-type]
def test_what_is_no_document_of_this_version_is_none(packed: bytes) -> None:
    assert unpack(packed) is None


def test_a_document_that_would_fill_the_memory_is_not_unpacked() -> None:
    bomb = pack({"version": 1, "x": "0" * (LARGEST + 1)})
    assert len(bomb) < 1_000_000
    assert unpack(bomb) is None


def test_keys_are_read_as_they_were_written() -> None:
    key = Key("train/a", "i", "events.00000001")
    assert Key.parse(str(key)) == key
    assert [Key.parse(text) for text in ("", "pool/1/a", "pool/1/a:i:", "pool/2/a:i:p")] == [
        None
    ] * 4
    assert json.loads(json.dumps(str(key))) == str(key)
