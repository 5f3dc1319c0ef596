"""What several TPU slices need to work as one: each replica is a slice, each host one of its VMs.

The `MEGASCALE_*` variables are those of `ray.util.tpu.get_tpu_coordinator_env_vars` (Ray 2.60).
The `TPU_WORKER_*` ones are read by libtpu and by JAX (0.10.2, `clusters/cloud_tpu_cluster.py`), and
say who is who within a slice. Which worker a VM is follows from how its chips are wired, and not
from the order in which hosts were reserved; so Ray's labels of the nodes decide, where they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pool.cluster.interface import Cluster
from pool.errors import ConfigError
from pool.host.info import HostInfo
from pool.planning.slices import SLICE_LABEL, WORKER_LABEL
from pool.planning.topology import Topology
from pool.rendezvous.base import Place, Rendezvous, check_port, worlds
from pool.rendezvous.ports import PortBook


def tpu_multislice(*, port: int | None = None) -> Rendezvous:
    """Describe the environment of TPU slices that work as one. Each replica is one slice.

    For more than one slice it sets `MEGASCALE_COORDINATOR_ADDRESS` and `MEGASCALE_PORT` (on worker
    0 of the first slice), `MEGASCALE_NUM_SLICES` and `MEGASCALE_SLICE_ID`. A single slice needs no
    coordinator, and gets none. Always set are `TPU_WORKER_ID` and `TPU_HOST_ID` (the host's number
    in its slice, by Ray's label of its node, or else by the order of the hosts),
    `TPU_WORKER_HOSTNAMES` (the addresses of the slice's hosts, in the order of these numbers),
    `TPU_SLICE_NAME` (Ray's label of the nodes, or else the replica's id), and `TPU_NUM_DEVICES`
    (the TPUs of the host's bundle), if there are any.

    Args:
        port: The coordinator's port; leased on its host, for the length of the call, when left out.

    Raises:
        ConfigError: The port cannot be right. A call raises it where a host has more than one
            process, which libtpu would have to be told of otherwise, or where two slices differ
            in their number of hosts.
    """
    check_port(port)
    return _Multislice(port)


@dataclass(frozen=True, slots=True)
class Slice:
    """Name one slice and its hosts.

    Args:
        name: Its name.
        members: For each of its workers, in the order of their numbers, which of the places it is.
    """

    name: str
    members: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Multislice(Rendezvous):
    port: int | None

    async def build(
        self, cluster: Cluster, places: Sequence[Place], ports: PortBook
    ) -> list[dict[str, str]]:
        slices = slices_of(places, await cluster.topology())
        port = self.port
        if port is None and len(slices) > 1:
            port = await ports.lease(places[slices[0].members[0]].host)
        return environments(places, slices, port)


def slices_of(places: Sequence[Place], topology: Topology) -> list[Slice]:
    """Return the slices, with each one's workers in order.

    Args:
        places: One for each process.
        topology: The nodes, with their labels.

    Raises:
        ConfigError: A host has more than one process, slices differ in size, or the places are not
            in order; see `pool.rendezvous.base.worlds`.
    """
    found = worlds(places, "replica")
    crowded = [place.host.index for place in places if place.local_size > 1]
    if crowded:
        raise ConfigError(
            f"tpu_multislice() is for one process a host, and host {crowded[0]} has more; give "
            "each host one, which sees all of the host's chips",
            "env",
        )
    sizes = [one.nodes for one in found]
    if len(set(sizes)) > 1:
        raise ConfigError(
            f"the slices have {', '.join(map(str, sizes))} hosts; JAX counts its processes as "
            "hosts times slices, so give all slices the same number",
            "env",
        )
    labels = {node.node_id: node.labels for node in topology.nodes}
    result: list[Slice] = []
    for one in found:
        numbers = tuple(seat.number for seat in one.seats)
        seen = [_worker(places[number].host, labels) for number in numbers]
        # Labels that do not count the hosts of this very slice say nothing of it.
        if sorted(seen) == list(range(len(seen))):
            numbers = tuple(number for _, number in sorted(zip(seen, numbers, strict=True)))
        name = labels.get(one.first.node_id, {}).get(SLICE_LABEL)
        result.append(Slice(name or one.first.actor.identity.pool, numbers))
    return result


def environments(
    places: Sequence[Place], slices: Sequence[Slice], port: int | None
) -> list[dict[str, str]]:
    """Return the environment of each place.

    Args:
        places: One for each process.
        slices: Who is who in each slice.
        port: The coordinator's; a single slice needs none.
    """
    result: list[dict[str, str]] = [{} for _ in places]
    for number, one in enumerate(slices):
        addresses = ",".join(places[member].host.address for member in one.members)
        for worker, member in enumerate(one.members):
            variables = {
                "TPU_WORKER_ID": str(worker),
                "TPU_HOST_ID": str(worker),
                "TPU_WORKER_HOSTNAMES": addresses,
                "TPU_SLICE_NAME": one.name,
            }
            devices = places[member].host.bundle.get("TPU", 0)
            if devices:
                variables["TPU_NUM_DEVICES"] = f"{devices:g}"
            if len(slices) > 1:
                coordinator = places[slices[0].members[0]].host
                variables |= {
                    "MEGASCALE_COORDINATOR_ADDRESS": coordinator.address,
                    "MEGASCALE_PORT": str(port),
                    "MEGASCALE_NUM_SLICES": str(len(slices)),
                    "MEGASCALE_SLICE_ID": str(number),
                }
            result[member] = variables
    return result


def _worker(host: HostInfo, labels: Mapping[str, Mapping[str, str]]) -> int:
    text = labels.get(host.node_id, {}).get(WORKER_LABEL, "")
    return int(text) if text.isdecimal() else -1
