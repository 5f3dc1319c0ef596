"""The environments by which the processes of one call find each other, for as long as it lasts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from pool.cluster.interface import Cluster
from pool.host.info import HostInfo
from pool.rendezvous.base import Place, Rendezvous
from pool.rendezvous.ports import PortBook


@asynccontextmanager
async def environments(
    cluster: Cluster, rows: Sequence[Sequence[HostInfo]], env: Rendezvous | None
) -> AsyncIterator[list[dict[str, str]]]:
    """Build one environment for each host, and give its ports back at the end of the block.

    When the block ends with an error, calls may be left running; then a host keeps its ports until
    the calls that it has under way are over.

    Args:
        cluster: The cluster that the hosts run on.
        rows: The hosts of each replica.
        env: What builds them; without one they are empty.

    Raises:
        PoolError: A port could not be leased.
    """
    places = [Place(index, host) for index, row in enumerate(rows) for host in row]
    if env is None:
        yield [{} for _ in places]
        return
    ports = PortBook(cluster)
    ended_well = False
    try:
        yield await env.build(cluster, places, ports)
        ended_well = True
    finally:
        await ports.release(after_calls=not ended_well)
