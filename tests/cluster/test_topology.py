"""What is free on a node, whatever of it the node has not told yet."""

from __future__ import annotations

from pool.cluster.ray.private import GroupRecord
from pool.cluster.ray.topology import SHOWN_S, Groups, _available
from pool.planning.resources import Resources

EIGHT = Resources({"GPU": 8})


def group(
    group_id: str, state: str, devices: float, name: str = "pool:a:x:replica:0.1"
) -> GroupRecord:
    return GroupRecord(
        group_id=group_id,
        name=name,
        state=state,
        bundles=({"GPU": devices}, {"GPU": 1}),
        nodes=("n", ""),
        detached=False,
        creator_dead=False,
        created_at=0,
    )


def test_groups_that_were_removed_lately_are_told_apart() -> None:
    groups = Groups()
    old = group("old", "REMOVED", 1)
    assert groups.look([old], 100) == ({}, {}), "nobody knows when those of the first look went"
    held, lately = groups.look([old, group("new", "CREATED", 2)], 101)
    assert (held, lately) == ({"n": {"pool a": Resources({"GPU": 2})}}, {})
    gone = [old, group("new", "REMOVED", 2)]
    for now in (102, 102 + SHOWN_S):
        assert groups.look(gone, now) == ({}, {"n": {"pool a": Resources({"GPU": 2})}})
    assert groups.look(gone, 103 + SHOWN_S) == ({}, {})


def test_groups_of_one_holder_add_up_and_others_have_their_own_names() -> None:
    table = [
        group("1", "CREATED", 2),
        group("2", "CREATED", 3),
        group("3", "CREATED", 1, "serve"),
        group("0123456789", "CREATED", 1, ""),
    ]
    held, _ = Groups().look(table, 0)
    amounts = {name: what["GPU"] for name, what in held["n"].items()}
    assert amounts == {"pool a": 5, "serve": 1, "placement group 01234567": 1}


def gpus(told: float, held: float = 0, lately: float = 0) -> float:
    free = _available(EIGHT, *(Resources({"GPU": amount}) for amount in (told, held, lately)))
    return free.get("GPU", 0)


def test_what_a_node_has_not_told_yet_is_known_all_the_same() -> None:
    assert gpus(told=8, held=4) == 4, "a group that has just come"
    assert gpus(told=4, lately=4) == 8, "one that has just gone"
    assert gpus(told=4, held=4, lately=4) == 4, "one for another"
    assert gpus(told=4, held=4) == 4, "all told"
    assert gpus(told=1, held=4) == 1, "three devices are an actor's, without a group"
    assert gpus(told=1, held=3, lately=4) == 5, "the same, and a group has just gone"
    assert gpus(told=0, held=0) == 0
