"""Warm capacity on a real Ray, with Ray's own autoscaler and nodes that come and go.

Fault matrix: a driver is killed (its wish goes with its lease), and so is the broker.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

import pool
from tests.chaos.driven import Driven
from tests.chaos.obedient import Orders
from tests.cluster import growing
from tests.cluster.growing import GrowingCluster

WHY_NOT = growing.why_not()
pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.timeout(420),
    pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT),
]

HEALTH = pool.HealthPolicy(period_s=2, timeout_s=3, failures=5)
LEASE_S = 15.0


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GrowingCluster]:
    cluster = GrowingCluster(tmp_path_factory.mktemp("autoscaler"))
    try:
        yield cluster
    finally:
        cluster.close()


@pytest.fixture
def observer(cluster: GrowingCluster) -> Iterator[Driven]:
    """Look at the cluster; after the test nothing is left in it (INV-4)."""
    with cluster.run("tests.cluster.observer", cluster.address) as observer:
        yield observer
        assert observer.ask("nodes 0", "nodes")["count"] == 0
        assert observer.ask("end", "ended")["left"] == []


def orders(cluster: GrowingCluster, name: str, replicas: int, warm: int) -> str:
    return Orders(
        address=cluster.address,
        name=name,
        devices=4,
        replicas=replicas,
        warm=warm,
        health=HEALTH,
        lease_s=LEASE_S,
    ).to_json()


def took_s(line: dict[str, float], since: float) -> str:
    return f"{line['at'] - since:.1f} s"


def test_nodes_come_members_start_and_when_the_demand_is_withdrawn_the_nodes_go(
    cluster: GrowingCluster, observer: Driven
) -> None:
    with cluster.run("tests.chaos.obedient", orders(cluster, "a", 1, 1)) as driver:
        started_at = driver.said("pool_scaled")[0]["at"]
        ready = driver.said("ready")[0]
        two = observer.ask("nodes 2", "nodes")
        assert two["count"] == 2, "one is held, one is warm"
        print(f"cold replica ready after {took_s(ready, started_at)}")
        asked = observer.ask("look", "standing")
        assert asked["totals"]["GPU"] == 8
        assert asked["way"] == "Ray's autoscaler"
        assert observer.ask(f"watch {2 * growing.IDLE_S}", "watched")["least"] == 2
        asked_at = time.time()
        scaled = driver.ask("scale 2", "scaled")
        assert scaled["reached"] == 2
        print(f"warm replica ready after {took_s(scaled, asked_at)}")
        three = observer.ask("nodes 3", "nodes")
        assert three["count"] == 3
        print(f"the next warm node was there after {took_s(three, asked_at)}")
        assert driver.ask("scale 1", "scaled")["reached"] == 1
        assert observer.ask("nodes 2", "nodes")["count"] == 2
        assert not driver.close()["leftovers"]
    closed_at = time.time()
    none = observer.ask("nodes 0", "nodes")
    assert none["count"] == 0
    print(f"all nodes were gone {took_s(none, closed_at)} after the pool closed")
    assert not observer.ask("look", "standing")["there"]


def test_two_pools_do_not_take_each_others_nodes_and_a_killed_drivers_wish_ends_with_its_lease(
    cluster: GrowingCluster, observer: Driven
) -> None:
    with cluster.run("tests.chaos.obedient", orders(cluster, "a", 0, 1)) as first:
        assert observer.ask("nodes 1", "nodes")["count"] == 1
        with cluster.run("tests.chaos.obedient", orders(cluster, "b", 0, 2)) as second:
            assert observer.ask("nodes 3", "nodes")["count"] == 3
            watched = observer.ask(f"watch {2 * growing.IDLE_S}", "watched")
            assert watched["least"] == watched["most"] == 3
            second.end()
            killed_at = time.time()
            assert observer.ask(f"watch {LEASE_S / 2}", "watched")["least"] == 3
            left = observer.ask("nodes 1", "nodes")
            assert left["count"] == 1
            print(f"the killed driver's nodes were gone after {took_s(left, killed_at)}")
        assert len(observer.ask("look", "standing")["pools"]) == 1
        assert observer.ask(f"watch {2 * growing.IDLE_S}", "watched")["least"] == 1
        first.close()


def test_beside_rays_own_coordinator_the_broker_is_one_who_asks_it(
    cluster: GrowingCluster, observer: Driven
) -> None:
    with cluster.run("tests.chaos.obedient", orders(cluster, "a", 0, 1)) as driver:
        assert observer.ask("nodes 1", "nodes")["count"] == 1
        observer.ask("coordinator", "coordinator")
        try:
            observer.ask("data 2", "data")
            assert observer.ask("nodes 3", "nodes")["count"] == 3, "its two, and our one"
            assert observer.ask("look", "standing")["way"] == "Ray's autoscaling coordinator"
            assert observer.ask("requesters", "requesters")["requesters"] == ["data", "pool"]
            # Longer than its period, and longer than nodes stay idle: neither replaced the other.
            assert observer.ask("watch 25", "watched")["least"] == 3
            driver.close()
            assert observer.ask("nodes 2", "nodes")["count"] == 2
            assert observer.ask("requesters", "requesters")["requesters"] == ["data"]
        finally:
            observer.ask("no-coordinator", "no-coordinator")


def test_a_broker_that_is_killed_is_followed_by_another_before_a_node_goes(
    cluster: GrowingCluster, observer: Driven
) -> None:
    with cluster.run("tests.chaos.obedient", orders(cluster, "a", 0, 1)) as driver:
        assert observer.ask("nodes 1", "nodes")["count"] == 1
        observer.ask("kill-broker", "killed")
        assert observer.ask(f"watch {2 * growing.IDLE_S}", "watched")["least"] == 1
        assert observer.ask("look", "standing")["totals"]["GPU"] == 4
        driver.close()
