"""The environment that `torch.distributed` reads.

The names and what they mean are torchrun's (`torch/distributed/elastic/agent/server`,
`_start_workers`). Its `ROLE_*` and `TORCHELASTIC_*` variables say how torchrun itself restarts its
workers. Here they would say something that is not so, and they are left out.
"""

from __future__ import annotations

from collections.abc import Sequence

from pool.rendezvous.base import Place, Rendezvous, Scope, worlds
from pool.rendezvous.coordinated import Coordinated


def torch(scope: Scope = "replica", *, port: int | None = None) -> Rendezvous:
    """Describe the environment that `torch.distributed` reads (`env://`).

    It sets `RANK`, `WORLD_SIZE`, `LOCAL_RANK`, `LOCAL_WORLD_SIZE`, `GROUP_RANK` and
    `GROUP_WORLD_SIZE` (the node's rank in its world, and how many nodes that has), `MASTER_ADDR`
    and `MASTER_PORT`, as torchrun does.

    Args:
        scope: `replica` makes each replica a world of its own; `pool` makes one of all.
        port: The port on each world's first host; leased there, for the length of the call, when
            left out. One that you give is not leased: two worlds whose first hosts are on one node
            would get the same.

    Raises:
        ConfigError: Scope or port cannot be right.
    """
    return Coordinated(environments, scope, port)


def environments(
    places: Sequence[Place], scope: Scope, ports: Sequence[int]
) -> list[dict[str, str]]:
    """Return the environment of each place.

    Args:
        places: One for each process.
        scope: Who belongs together.
        ports: One for each world, on its first host.

    Raises:
        ConfigError: The places are not in order; see `pool.rendezvous.base.worlds`.
    """
    result: list[dict[str, str]] = [{} for _ in places]
    for world, port in zip(worlds(places, scope), ports, strict=True):
        for seat in world.seats:
            place = places[seat.number]
            result[seat.number] = {
                "RANK": str(seat.rank),
                "WORLD_SIZE": str(len(world.seats)),
                "LOCAL_RANK": str(place.local_rank),
                "LOCAL_WORLD_SIZE": str(place.local_size),
                "GROUP_RANK": str(seat.node),
                "GROUP_WORLD_SIZE": str(world.nodes),
                "MASTER_ADDR": world.first.address,
                "MASTER_PORT": str(port),
            }
    return result
