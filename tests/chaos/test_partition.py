"""A link that is cut: the member behind it is suspect, replaced elsewhere, and ends by its lease.

Fault matrix: network between two nodes cut. From the driver's side a cut link is silence: nothing
is refused and nothing closed, and Ray declares the node dead when it has missed enough heartbeats.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

import psutil
import pytest

import pool
from tests.chaos.driven import Driven, Line, driven
from tests.chaos.obedient import Orders
from tests.lab.namespaces import Lab, lab_is_possible, node_at
from tests.tree import BRIEF
from tests.world import all_end, is_alive

pytestmark = [pytest.mark.ray, pytest.mark.slow]

DEAD_SOON = {
    "health_check_initial_delay_ms": 0,
    "health_check_period_ms": 1000,
    "health_check_timeout_ms": 1000,
    "health_check_failure_threshold": 4,
}
"""Ray's own patience with a silent node: with its defaults it takes a minute, so about seven s."""
HEALTH = pool.HealthPolicy(period_s=0.5, timeout_s=1, failures=3, grace_s=0)
ROUND_S = 1.0
"""A poll of somebody silent takes its time-out, which is longer than the period."""
LEASE_S = 8.0
END_S = LEASE_S + BRIEF.timeout_s + 20.0
"""How long the processes behind the link may live: lease, grace, and what a busy machine takes."""


@pytest.fixture(scope="module")
def made_lab() -> Iterator[Lab]:
    trouble = lab_is_possible()
    if trouble is not None:
        pytest.skip(trouble)
    with Lab(nodes=3, gpus=2, system_config=DEAD_SOON) as lab:
        yield lab


@pytest.fixture
def lab(made_lab: Lab) -> Lab:
    """Give the lab with all its links and nodes, whatever the test before did to them."""
    made_lab.restore()
    return made_lab


@dataclass(frozen=True)
class Victim:
    """Hold what ran of a member on one node.

    Args:
        node: The node's number.
        member: What the driver said of the member.
        processes: The member's processes there.
    """

    node: int
    member: Line
    processes: list[psutil.Process]

    @classmethod
    def of(cls, lab: Lab, member: Line, host: int) -> Victim:
        node = node_at(member["addresses"][host])
        pids = {member["host_pids"][host]} | ({member["root_pid"]} if host == 0 else set())
        return cls(node, member, [lab.process(node, pid) for pid in pids])


def opened(lab: Lab, **orders: Any) -> AbstractContextManager[Driven]:
    """Open a pool in the lab; the arguments are those of `Orders`."""
    given = Orders(address=lab.address, **{"health": HEALTH, "lease_s": LEASE_S, **orders})
    return driven(lab.run_driver("-m", "tests.chaos.obedient", given.to_json()))


def when(driver: Driven, state: str, slot: int, generation: int) -> float:
    """Return when an incarnation entered a state."""
    return float(driver.until("member_state", state=state, slot=slot, generation=generation)["at"])


def check_ranks(driver: Driven) -> None:
    """Fail if ever two members of one rank were alive, as the pool shows itself (INV-1)."""
    for table in driver.said("table"):
        ranks = Counter(member["rank"] for member in table["members"])
        assert max(ranks.values(), default=0) <= 1, table


@pytest.mark.parametrize(
    ("devices", "replicas", "host"),
    [(2, 2, 0), (4, 1, 1), (4, 1, 0)],
    ids=["single node", "second node of a gang", "first node of a gang"],
)
def test_a_member_behind_a_cut_link_is_suspect_and_then_replaced_elsewhere(
    lab: Lab, devices: int, replicas: int, host: int
) -> None:
    with opened(lab, devices=devices, replicas=replicas) as driver:
        [before, *others] = driver.said("ready")[0]["members"]
        victim = Victim.of(lab, before, host)
        lab.cut(victim.node)
        cut_at = time.time()
        suspect_s = when(driver, "suspect", 0, 1) - cut_at
        ready = driver.until("member_state", since=cut_at, state="ready")
        assert ready["slot"] != 0, "its slot waits, for it may live on (INV-1)"
        assert suspect_s < 3 * ROUND_S
        # The link stays cut: nobody can reach them, and they end by themselves.
        alive = [is_alive(process) for process in victim.processes]
        assert all_end(victim.processes, END_S)
        ended_s = time.time() - cut_at
        print(
            f"suspect after {suspect_s:.2f} s, replaced after {ready['at'] - cut_at:.2f} s, "
            f"the old ended after {ended_s:.2f} s; alive when replaced: {alive}"
        )
        gone_at = when(driver, "gone", 0, 1)
        assert gone_at - cut_at >= LEASE_S
        [after, *others_after] = driver.ask("settle", "settled")["members"]
        assert others_after == others, "nobody else was touched (INV-3)"
        assert victim.node not in map(node_at, after["addresses"])
        check_ranks(driver)
        lab.heal(victim.node)
        assert not driver.close()["leftovers"]


def test_a_link_that_is_cut_for_a_moment_changes_nothing(lab: Lab) -> None:
    patient = replace(HEALTH, failures=8)
    with opened(lab, devices=4, replicas=1, health=patient, lease_s=30.0) as driver:
        [before] = driver.said("ready")[0]["members"]
        victim = Victim.of(lab, before, host=1)
        lab.cut(victim.node)
        cut_at = time.time()
        when(driver, "suspect", 0, 1)
        lab.heal(victim.node)
        again = driver.until("member_state", since=cut_at, state="ready", slot=0)
        assert again["generation"] == 1
        assert driver.ask("settle", "settled")["members"] == [before]
        assert not driver.said("member_fault")
        assert not driver.close()["leftovers"]
