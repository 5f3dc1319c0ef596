"""The environment of TPU slices that work as one (row E23)."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

import pool
from pool.planning.environment import RESERVED
from pool.planning.resources import Resources
from pool.planning.topology import Node, Topology
from pool.rendezvous import Place
from pool.rendezvous.tpu import environments, slices_of
from tests.rendezvous.crowds import crowd

NONE = Resources({})


def node(place: Place, labels: dict[str, str]) -> Node:
    return Node(
        node_id=place.host.node_id,
        address=place.host.address,
        total=NONE,
        available=NONE,
        labels=labels,
    )


def topology(places: list[Place], *, seed: int | None = None) -> Topology:
    """Return the places' nodes; with a seed, Ray's labels say who is who, in a random order."""
    chance = random.Random(seed)
    nodes: list[Node] = []
    slices: dict[int, list[Place]] = {}
    for place in places:
        slices.setdefault(place.replica, []).append(place)
    for replica, those in slices.items():
        workers = list(range(len(those)))
        chance.shuffle(workers)
        for worker, place in zip(workers, those, strict=True):
            labels = {
                "ray.io/tpu-slice-name": f"slice-{replica}",
                "ray.io/tpu-worker-id": str(worker),
            }
            nodes.append(node(place, {} if seed is None else labels))
    return Topology(tuple(nodes))


@given(
    slices=st.integers(min_value=1, max_value=4),
    hosts=st.integers(min_value=1, max_value=4),
    seed=st.none() | st.integers(),
)
def test_each_slice_counts_its_hosts_and_all_know_one_coordinator(
    slices: int, hosts: int, seed: int | None
) -> None:
    places = crowd([[1] * hosts] * slices, tpus=4)
    who = slices_of(places, topology(places, seed=seed))
    made = environments(places, who, 8081)
    assert all(set(each) <= set(RESERVED) for each in made)
    for number in range(slices):
        rows = made[number * hosts : (number + 1) * hosts]
        addresses = [place.host.address for place in places if place.replica == number]
        assert sorted(int(each["TPU_WORKER_ID"]) for each in rows) == list(range(hosts))
        [names] = {each["TPU_WORKER_HOSTNAMES"] for each in rows}
        assert sorted(names.split(",")) == sorted(addresses)
        for address, each in zip(addresses, rows, strict=True):
            assert names.split(",")[int(each["TPU_WORKER_ID"])] == address
            assert each["TPU_HOST_ID"] == each["TPU_WORKER_ID"]
            assert each["TPU_SLICE_NAME"] == (
                f"p/{number}.1" if seed is None else f"slice-{number}"
            )
            assert each["TPU_NUM_DEVICES"] == "4"
            if slices > 1:
                assert each["MEGASCALE_SLICE_ID"] == str(number)
    several = {
        (
            each["MEGASCALE_COORDINATOR_ADDRESS"],
            each["MEGASCALE_PORT"],
            each["MEGASCALE_NUM_SLICES"],
        )
        for each in made
        if "MEGASCALE_PORT" in each
    }
    first = made[0]["TPU_WORKER_HOSTNAMES"].split(",")[0]
    assert several == ({(first, "8081", str(slices))} if slices > 1 else set())


def test_labels_that_do_not_count_the_hosts_of_the_slice_are_passed_over() -> None:
    """As on part of a slice: worker 3 of four cannot be worker 3 of two."""
    places = crowd([[1, 1]])
    labels = [{"ray.io/tpu-worker-id": "3"}, {"ray.io/tpu-worker-id": "2"}]
    nodes = Topology(tuple(node(place, each) for place, each in zip(places, labels, strict=True)))
    made = environments(places, slices_of(places, nodes), None)
    assert [each["TPU_WORKER_ID"] for each in made] == ["0", "1"]
    assert "TPU_NUM_DEVICES" not in made[0]


def test_the_coordinator_is_named_as_ray_names_it() -> None:
    pytest.importorskip("ray")
    from ray.util.tpu import get_tpu_coordinator_env_vars

    places = crowd([[1], [1]])
    made = environments(places, slices_of(places, topology(places)), 8081)
    for number, each in enumerate(made):
        expected = get_tpu_coordinator_env_vars("10.0.0.1", 2, number, "8081")
        assert {name: each[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("shape", "says"), [([[2]], "one process a host"), ([[1, 1], [1]], "2, 1 hosts")]
)
def test_what_libtpu_could_not_be_told_is_refused(shape: list[list[int]], says: str) -> None:
    places = crowd(shape)
    with pytest.raises(pool.ConfigError, match=says):
        slices_of(places, topology([]))
