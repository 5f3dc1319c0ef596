"""Each private part of Ray that we call, on this very version of Ray.

When one of these fails after an upgrade, its name says which part the new version took away;
`pool/cluster/ray/private.py` is the one place to mend.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import anyio
import psutil
import pytest
import ray

from pool.cluster.ray import RayCluster, private
from pool.planning.environment import DEVICE_VARIABLES
from tests import hosts
from tests.cluster.coordinator import ACTOR, start_coordinator
from tests.world import World

pytestmark = pytest.mark.ray

# Ray's stubs do not know its options.
remote: Any = ray.remote


def actor_of(kind: type, **options: Any) -> Any:
    return remote(num_cpus=0, **options)(kind)


HERE = f"on Ray {ray.__version__}"


def test_draining_nodes_says_which_nodes_drain_and_until_when_and_drain_node_tells_it(
    world: World,
) -> None:
    """Row P6: `get_draining_nodes` and `GcsClient.drain_node`; the node is added for this alone."""
    cluster = world.cluster.cluster
    assert private.draining_nodes() == {}, HERE
    # A raylet that has nothing left exits at once when it is drained, so it is given something.
    node = cluster.add_node(num_cpus=1, resources={"drained": 1})
    try:
        tenant = actor_of(hosts.Tenant, resources={"drained": 1}).remote()
        ray.get(tenant.pid.remote(), timeout=60)
        deadline = time.time() + 600
        assert private.drain_node(node.node_id, "a test", deadline), HERE
        world.eventually(lambda: bool(private.draining_nodes()), private.draining_nodes)
        [(node_id, deadline_ms)] = private.draining_nodes().items()
        assert node_id == node.node_id, HERE
        assert deadline_ms == pytest.approx(deadline * 1000, abs=2), HERE
        ray.kill(tenant)
        world.eventually(lambda: not private.draining_nodes(), private.draining_nodes)
    finally:
        cluster.remove_node(node)


def test_a_drain_without_a_deadline_has_the_deadline_zero(world: World) -> None:
    """What `RayCluster.draining` reads as None."""
    cluster = world.cluster.cluster
    node = cluster.add_node(num_cpus=1, resources={"drained": 1})
    try:
        group = ray.util.placement_group([{"drained": 1}])
        assert group.wait(30)
        assert private.drain_node(node.node_id, "a test", None), HERE
        world.eventually(
            lambda: private.draining_nodes() == {node.node_id: 0}, private.draining_nodes
        )
        ray.util.remove_placement_group(group)
    finally:
        cluster.remove_node(node)


def test_available_resources_per_node_has_what_is_free_on_each(world: World) -> None:
    before = private.available_resources_per_node()
    with_gpus = [free for free in before.values() if free.get("GPU")]
    assert [free["GPU"] for free in with_gpus] == [4.0] * world.cluster.nodes, HERE
    group = ray.util.placement_group([{"GPU": 3}])
    assert group.wait(30)

    def free() -> list[float]:
        table = private.available_resources_per_node()
        return sorted(free["GPU"] for free in table.values() if free.get("GPU"))

    try:
        world.eventually(lambda: free() == [1.0] + [4.0] * (world.cluster.nodes - 1), free)
    finally:
        ray.util.remove_placement_group(group)
    world.eventually(lambda: free() == [4.0] * world.cluster.nodes, free)


def test_actor_table_has_names_states_and_process_ids_of_the_dead_as_well(world: World) -> None:
    tenant = actor_of(hosts.Tenant).options(name="a tenant").remote()
    pid = ray.get(tenant.pid.remote(), timeout=60)
    actor_id = tenant._actor_id.hex()
    row = private.actor_table()[actor_id]
    assert (row["Name"], row["State"], row["Pid"]) == ("a tenant", "ALIVE", pid), HERE
    ray.kill(tenant)
    world.eventually(
        lambda: private.actor_table()[actor_id]["State"] == "DEAD",
        lambda: private.actor_table()[actor_id],
    )


def test_prestart_workers_starts_a_process_that_the_next_actor_takes(world: World) -> None:
    """What lets the processes of hosts start beside their replica's."""
    cluster = world.cluster.cluster
    node = cluster.add_node(num_cpus=1, resources={"fresh": 1})

    def workers() -> set[int]:
        raylet = psutil.Process(node.all_processes["raylet"][0].process.pid)
        names = {child.pid: " ".join(child.cmdline()) for child in raylet.children()}
        return {pid for pid, name in names.items() if name.startswith("ray::IDLE")}

    try:
        before = workers()
        private.prestart_workers([node.node_id], timeout_s=5)
        world.eventually(lambda: len(workers()) > len(before), workers)
        idle = workers()
        tenant = actor_of(hosts.Tenant, resources={"fresh": 1}).remote()
        assert ray.get(tenant.pid.remote(), timeout=60) in idle, HERE
        ray.kill(tenant)
        known = workers()
        # The cluster's own call keeps its troubles to itself; so it is seen to do the same.
        anyio.run(lambda: RayCluster().prestart([node.node_id]))
        world.eventually(lambda: bool(workers() - known), workers)
    finally:
        cluster.remove_node(node)


def test_placement_groups_tells_the_fate_of_creators_and_group_of_gives_a_handle(
    world: World,
) -> None:
    """What `attach` and `reap` find groups of other drivers with."""
    group = ray.util.placement_group([{"GPU": 1}, {"CPU": 1}], name="a group", lifetime="detached")
    assert group.wait(30)
    [record] = [each for each in private.placement_groups() if each.name == "a group"]
    assert (record.group_id, record.state, record.detached) == (group.id.hex(), "CREATED", True)
    assert [dict(bundle) for bundle in record.bundles] == [{"GPU": 1.0}, {"CPU": 1.0}], HERE
    assert all(record.nodes), HERE
    assert abs(record.created_at - time.time()) < 60, HERE
    ray.util.remove_placement_group(private.group_of(record.group_id))

    def is_removed() -> bool:
        named = [each for each in private.placement_groups() if each.name == "a group"]
        return all(each.state == "REMOVED" for each in named)

    world.eventually(is_removed, private.placement_groups)


def test_is_job_dead_knows_this_driver_as_alive_and_a_strange_one_as_dead(world: World) -> None:
    assert not private.is_job_dead(ray.get_runtime_context().get_job_id()), HERE
    assert private.is_job_dead("ffffff00"), HERE


def test_the_variables_that_say_which_devices_a_process_sees_are_those_of_the_table() -> None:
    """Row A12: `ray._private.accelerators`; Apple's devices have no such variable."""
    from ray._private.accelerators import get_all_accelerator_managers

    known = {name: {each.name for each in kind} for name, kind in DEVICE_VARIABLES.items()}
    managers: Any = get_all_accelerator_managers()
    for manager in managers:
        variable = manager.get_visible_accelerator_ids_env_var()
        assert variable is None or variable in known[manager.get_resource_name()], HERE


def test_autoscaling_coordinator_finds_the_actor_of_ray_data_and_what_it_takes_is_as_we_call_it(
    world: World,
) -> None:
    """Row N7: its name, its namespace, and its two methods."""
    assert private.autoscaling_coordinator() is None, HERE
    coordinator = start_coordinator()
    try:
        assert private.autoscaling_coordinator() == coordinator, HERE
        request = {"requester_id": "t", "resources": [{"CPU": 1}], "expire_after_s": 30}
        labels = [{"zone": "a"}]
        ray.get(coordinator.request_resources.remote(**request, label_selectors=labels), timeout=60)
        assert ray.get(coordinator.requesters.remote(), timeout=60) == ["t"], HERE
        ray.get(coordinator.cancel_request.remote("t"), timeout=60)
        assert ray.get(coordinator.requesters.remote(), timeout=60) == [], HERE
    finally:
        ray.kill(coordinator)
    source = (
        Path(ray.__file__).parent.joinpath(*ACTOR.split(".")[1:]).with_suffix(".py").read_text()
    )
    assert source.count(f'"{private.COORDINATOR}"') == 2, HERE


def test_published_values_are_read_and_withdrawn_by_the_beginnings_of_their_keys(
    world: World,
) -> None:
    client = private.gcs_client()
    private.publish(client, {"test/a": b"1", "test/b": b"2", "text": b"3"})
    assert private.published(client, "test/") == {"test/a": b"1", "test/b": b"2"}, HERE
    private.publish(client, {"test/a": b"4"})
    private.withdraw(client, "test/b")
    assert private.published(client, "te") == {"test/a": b"4", "text": b"3"}, HERE
    private.withdraw(client, "te")
    assert private.published(client, "te") == {}, HERE


def test_a_value_is_serialised_as_a_result_is(world: World) -> None:
    private.serialize({"reference": ray.put(1), "words": ["a"]})
    with pytest.raises(TypeError, match="cannot pickle"):
        private.serialize(threading.Lock())


def test_an_address_is_found_by_what_is_given(world: World) -> None:
    assert private.find_address(world.cluster.address) == world.cluster.address, HERE
    with pytest.raises(ValueError, match="address"):
        private.find_address("no address")


def test_tables_are_read_without_being_a_driver(world: World) -> None:
    program = (
        "import sys, ray\n"
        "from pool.cluster.ray import private\n"
        "client = private.look_at(sys.argv[1])\n"
        "assert private.published(client, 'none/') == {}\n"
        "private.actor_table(), private.placement_groups(), private.draining_nodes()\n"
        "assert private.available_resources_per_node().keys() <= "
        "{node['NodeID'] for node in private.nodes()}\n"
        "assert not private.is_job_dead(sys.argv[2])\n"
        "assert not ray.is_initialized()\n"
    )
    job = ray.get_runtime_context().get_job_id()
    command = [sys.executable, "-c", program, world.cluster.address, job]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, HERE + done.stderr
