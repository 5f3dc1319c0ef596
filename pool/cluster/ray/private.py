"""Every call to a private part of Ray, in one place.

Each stands here because Ray has no public way to ask. `tests/cluster/test_ray_private.py` calls
each of them on a real Ray, and says which one a new version took away.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ray

# Ray's type stubs do not know its private parts.
_ray: Any = ray


def draining_nodes() -> Mapping[str, int]:
    """Return the nodes the GCS drains: node id to deadline in UNIX milliseconds, 0 for none.

    Neither `ray.nodes()` nor the state API shows them.
    """
    return dict(_ray._private.state.state.get_draining_nodes())


def available_resources_per_node() -> Mapping[str, Mapping[str, float]]:
    """Return what is free on each node that is alive. The public call has only the total."""
    return dict(_ray._private.state.available_resources_per_node())


def serialize(value: Any) -> None:
    """Serialise a value as the result of a call is, or raise what that raises.

    `cloudpickle.dumps` keeps for ever what the references and handles in a value stand for.
    """
    _ray._private.worker.global_worker.get_serialization_context().serialize(value)


def actor_table() -> Mapping[str, Mapping[str, Any]]:
    """Return every actor the GCS knows, dead ones too.

    The public `list_actors` needs the dashboard and stops at a limit.
    """
    return dict(_ray._private.state.actors())


def drain_node(node_id: str, reason: str, deadline_unix_s: float | None) -> bool:
    """Tell the GCS that a node is about to be preempted; it then takes no new leases.

    Args:
        node_id: The node's id in hexadecimal.
        reason: Shown in Ray's status.
        deadline_unix_s: When it goes, in UNIX seconds; None for no deadline.

    Returns:
        Whether the GCS accepted it.
    """
    from ray import _raylet
    from ray.core.generated import autoscaler_pb2

    raylet: Any = _raylet
    messages: Any = autoscaler_pb2
    client = raylet.GcsClient(address=ray.get_runtime_context().gcs_address)
    deadline_ms = 0 if deadline_unix_s is None else int(deadline_unix_s * 1000)
    preemption = messages.DrainNodeReason.DRAIN_NODE_REASON_PREEMPTION
    accepted, _ = client.drain_node(node_id, preemption, reason, deadline_ms)
    return bool(accepted)


def group_of(group_id: str) -> Any:
    """Return the handle of a placement group that somebody else made.

    The public call finds groups in one's own namespace only.
    """
    from ray import PlacementGroupID
    from ray.util.placement_group import PlacementGroup

    return PlacementGroup(PlacementGroupID(bytes.fromhex(group_id)))


def is_job_dead(job_id: str) -> bool:
    """Return whether a driver's job has ended; one that Ray forgot has."""
    jobs = _ray._private.state.jobs()
    return all(job["IsDead"] for job in jobs if job["JobID"] == job_id)


COORDINATOR = "AutoscalingCoordinator"
"""The name, and the namespace, of the actor by which Ray Data and Ray Train ask for capacity."""


def autoscaling_coordinator() -> Any:
    """Return the handle of Ray's autoscaling coordinator; None where it does not live.

    Its class is private, and importing it takes what Ray Data needs.
    """
    try:
        return ray.get_actor(COORDINATOR, namespace=COORDINATOR)
    except ValueError:
        return None


@dataclass(frozen=True, slots=True)
class GroupRecord:
    """Hold what the GCS knows of a placement group."""

    group_id: str
    name: str
    state: str
    bundles: tuple[Mapping[str, float], ...]
    nodes: tuple[str, ...]
    detached: bool
    creator_dead: bool
    created_at: float


def placement_groups() -> list[GroupRecord]:
    """Return every placement group, with its creator's fate, which the public table leaves out."""
    from ray.core.generated import gcs_pb2

    messages: Any = gcs_pb2
    kind = messages.PlacementGroupTableData
    accessor = _ray._private.state.state._connect_and_get_accessor()
    records = []
    for frozen in accessor.get_placement_group_table():
        data = kind.FromString(frozen)
        records.append(
            GroupRecord(
                group_id=data.placement_group_id.hex(),
                name=data.name,
                state=kind.PlacementGroupState.Name(data.state),
                bundles=tuple(dict(bundle.unit_resources) for bundle in data.bundles),
                nodes=tuple(bundle.node_id.hex() for bundle in data.bundles),
                detached=data.is_detached,
                creator_dead=data.creator_job_dead and data.creator_actor_dead,
                created_at=data.placement_group_creation_timestamp_ms / 1000,
            )
        )
    return records


PRESTARTED_FOR_S = 30
"""How long a worker process that was started ahead is kept when nobody takes it."""


def prestart_workers(node_ids: Sequence[str], timeout_s: float) -> None:
    """Let each node start one worker process, each time it is named, for this job's next actors.

    Ray starts a process only when a lease asks for one, so that a parent and its children start
    one after the other. An idle process that ran a task before is not given to an actor.

    Raises:
        Exception: A node did not take it, or this Ray cannot be asked, as without grpcio.
    """
    from ray._private.grpc_utils import init_grpc_channel
    from ray.core.generated import common_pb2, node_manager_pb2, node_manager_pb2_grpc

    runtime = ray.get_runtime_context()
    if runtime.get_runtime_env_string() not in ("", "{}"):
        return  # Actors inherit the job's; a process without it would be of no use to them.
    messages: Any = node_manager_pb2
    services: Any = node_manager_pb2_grpc
    languages: Any = common_pb2
    job_id = bytes.fromhex(runtime.get_job_id())
    records = {record["NodeID"]: record for record in ray.nodes()}
    channels: list[Any] = []
    try:
        asked = []
        for node_id, count in Counter(node_ids).items():
            request = messages.PrestartWorkersRequest(
                language=languages.Language.PYTHON,
                job_id=job_id,
                num_workers=count,
                keep_alive_duration_secs=PRESTARTED_FOR_S,
            )
            record = records[node_id]
            address = f"{record['NodeManagerAddress']}:{record['NodeManagerPort']}"
            channels.append(init_grpc_channel(address))
            stub = services.NodeManagerServiceStub(channels[-1])
            asked.append(stub.PrestartWorkers.future(request, timeout=timeout_s))
        for answer in asked:
            answer.result()
    finally:
        for channel in channels:
            channel.close()


KV_NAMESPACE = b"pool"
KV_TIMEOUT_S = 5.0


def publish(client: Any, values: Mapping[str, bytes]) -> None:
    """Put values into the GCS's key-value store.

    `ray.experimental.internal_kv` is no more public than the client below it, and wants a driver.
    """
    for key, value in values.items():
        client.internal_kv_put(key.encode(), value, True, KV_NAMESPACE, timeout=KV_TIMEOUT_S)


def published(client: Any, prefix: str) -> dict[str, bytes]:
    """Return what is in the GCS's key-value store under keys with this beginning."""
    keys = client.internal_kv_keys(prefix.encode(), KV_NAMESPACE, timeout=KV_TIMEOUT_S)
    if not keys:
        return {}
    found = client.internal_kv_multi_get(keys, KV_NAMESPACE, timeout=KV_TIMEOUT_S)
    return {key.decode(): value for key, value in found.items()}


def withdraw(client: Any, prefix: str) -> None:
    """Delete what is in the GCS's key-value store under keys with this beginning."""
    client.internal_kv_del(prefix.encode(), True, KV_NAMESPACE, timeout=KV_TIMEOUT_S)


def gcs_client() -> Any:
    """Return the client of the GCS that this process has, as a driver or in an actor."""
    return _ray._private.worker.global_worker.gcs_client


def find_address(address: str | None) -> str | None:
    """Return where a cluster's GCS is, as host:port; None when none is known of.

    Args:
        address: What a user gave; None looks at RAY_ADDRESS, then for a cluster on this machine.

    Raises:
        ValueError: It is no address.
        ConnectionError: No cluster is known of.
    """
    from ray._private import services

    found: str | None = services.canonicalize_bootstrap_address(address or "auto")
    return found


def look_at(address: str) -> Any:
    """Let the calls above that read Ray's tables go to a cluster, without being a driver.

    Returns:
        A client of its GCS.
    """
    from ray import _raylet

    raylet: Any = _raylet
    state = _ray._private.state.state
    state.disconnect()
    state._initialize_global_state(raylet.GcsClientOptions.create(address, None, True, True))
    return raylet.GcsClient(address=address)


def nodes() -> list[Mapping[str, Any]]:
    """Return Ray's table of nodes. `ray.nodes` gives the same, and wants a driver."""
    return list(_ray._private.state.state.node_table())
