"""Where JAX's coordinator is, and who is asking.

Read in JAX 0.10.2 (`jax/_src/distributed.py`, `jax/_src/clusters/cluster.py`): of the three things
that `jax.distributed.initialize()` needs, it reads `JAX_COORDINATOR_ADDRESS` itself. The number of
processes and the id of the process come from its arguments, or from a detected launcher (Slurm,
Open MPI, Kubernetes, a TPU pod), and from no variable of its own. A launcher that is detected is
none of ours: on nodes that Slurm started, each host would take Slurm's numbers for its own, and
one device out of all of its own. So these numbers are set as variables here, under the names that
launchers of JAX use, and `jax_arguments()` hands them over, with the detection off.

Why not the variables of Open MPI, which JAX does detect: other libraries detect them as well.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from pool.errors import ConfigError
from pool.rendezvous.base import Place, Rendezvous, Scope, endpoint, worlds
from pool.rendezvous.coordinated import Coordinated

ADDRESS, SIZE, RANK = "JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID"


def jax(scope: Scope = "replica", *, port: int | None = None) -> Rendezvous:
    """Describe the environment from which `jax.distributed.initialize` gets its arguments.

    It sets `JAX_COORDINATOR_ADDRESS` (`address:port`, on the world's first host),
    `JAX_NUM_PROCESSES` and `JAX_PROCESS_ID`. In each process::

        jax.distributed.initialize(**pool.rendezvous.jax_arguments())

    Which devices a process sees is none of it: that is in `CUDA_VISIBLE_DEVICES` and its like.

    Args:
        scope: `replica` makes each replica a world of its own; `pool` makes one of all.
        port: The coordinator's port on each world's first host; leased there, for the length of
            the call, when left out. One that you give is not leased: two worlds whose first hosts
            are on one node would get the same.

    Raises:
        ConfigError: Scope or port cannot be right.
    """
    return Coordinated(environments, scope, port)


def jax_arguments(environment: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return the arguments of `jax.distributed.initialize` in a process of `jax()`.

    Args:
        environment: Where the variables are; the process's own environment when left out.

    Returns:
        Its address, its number of processes, its process id, and that no launcher is looked for.

    Raises:
        ConfigError: A variable is not set: the call was made without `env=pool.rendezvous.jax()`.
    """
    variables = os.environ if environment is None else environment
    missing = [name for name in (ADDRESS, SIZE, RANK) if name not in variables]
    if missing:
        raise ConfigError(
            f"{' and '.join(missing)} not set; make the call with env=pool.rendezvous.jax()", "env"
        )
    return {
        "coordinator_address": variables[ADDRESS],
        "num_processes": int(variables[SIZE]),
        "process_id": int(variables[RANK]),
        "cluster_detection_method": "deactivate",
    }


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
            result[seat.number] = {
                ADDRESS: endpoint(world.first.address, port),
                SIZE: str(len(world.seats)),
                RANK: str(seat.rank),
            }
    return result
