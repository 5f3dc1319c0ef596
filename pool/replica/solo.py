"""`Solo`: a replica of one host, which is that host: one process in the place of two.

A manager between the pool and a single host would pass on what both say to each other, and take as
long to start, and as much memory, as the host itself. So the host is the member: the pool polls it,
hears its news, drains and ends it, by the same calls as a replica of many. Nothing hangs on whoever
is left out: what the host starts ends with its process, as it does in a replica of many.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pool.cluster.body import Context
from pool.cluster.interface import Actor, ActorSpec, Identity, Reservation
from pool.host.body import HostBody
from pool.host.info import ReplicaInfo
from pool.host.plan import HostPlace, HostPlan
from pool.replica.workers import Workers, start_workers


def is_solo(plan: HostPlan, nodes: Sequence[str]) -> bool:
    """Whether a replica is its only host. One that outlives its host needs a process for that."""
    return len(nodes) == 1 and not plan.policies.restart.intensity


def describe_solo(
    identity: Identity, plan: HostPlan, reservation: Reservation, workers: Workers
) -> ActorSpec:
    """Describe the actor of a replica that is its only host, in its bundle."""
    return ActorSpec(
        body=Solo,
        args=(plan, reservation, workers),
        label=plan.host_class.__name__,
        identity=identity,
        holds=plan.holds(reservation.bundles[0]),
        reservation=reservation,
        runtime_env=plan.runtime_env,
    )


def with_actor(info: ReplicaInfo, actor: Actor) -> ReplicaInfo:
    """Name a solo's actor to its host, which cannot name it; other replicas know their hosts'."""
    hosts = (host if host.actor.id else replace(host, actor=actor) for host in info.hosts)
    return replace(info, hosts=tuple(hosts))


class Solo(HostBody):
    """Run a user's node host, and be a replica with it.

    Args:
        plan: What the host is.
        reservation: The placement group whose only bundle the host is for.
        workers: What the replica has on its host.
    """

    def __init__(self, plan: HostPlan, reservation: Reservation, workers: Workers) -> None:
        super().__init__(plan, HostPlace(0, reservation))
        self._workers = workers

    async def start(self, context: Context) -> ReplicaInfo:
        """Bring the host up, and what works on it.

        Raises:
            StartFailed: A rank actor did not get ready, with its own reason.
            Exception: What the user's host raised, or why a process did not get ready.
        """
        replica = context.identity
        # What is on the host is called as in a replica of many, whose hosts are members of it.
        host = Identity(
            pool=replica.member, instance=replica.instance, slot=0, generation=1, level="host"
        )
        info = await self.open_host(replace(context, identity=host))
        if self._workers.is_gang:
            me = await context.cluster.find(replica)
            assert me is not None, f"{replica} is not there, and runs this"
            known = (replace(info, actor=me),)
            [info] = await start_workers(context.cluster, known, self._workers)
        return ReplicaInfo((info,), context.node_id)
