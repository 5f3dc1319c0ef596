"""What the tests of the window share: a small simulated cluster, and pools in it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import anyio

import pool
from pool.control.window import PoolView, look
from pool.testing import SimNode, SimulatedCluster, run

SHAPE = pool.ReplicaShape(devices=1)


def play(main: Callable[[SimulatedCluster], Awaitable[None]], nodes: int = 2) -> None:
    """Run a test on a cluster of so many nodes with four GPUs each."""
    cluster = SimulatedCluster([SimNode(gpus=4)] * nodes)

    async def play_it() -> None:
        await main(cluster)

    run(play_it)


def replicas(cluster: SimulatedCluster, **options: Any) -> pool.ReplicaPool:
    """Return a pool, named `a` unless it is said otherwise."""
    return pool.ReplicaPool(**{"name": "a", "shape": SHAPE, "cluster": cluster, **options})


async def shown(cluster: SimulatedCluster, condition: Callable[[PoolView], bool]) -> PoolView:
    """Wait until pool `a` is seen as it is to be."""
    with anyio.fail_after(600):
        while True:
            for view in await look(cluster, "a"):
                if condition(view):
                    return view
            await anyio.sleep(0.5)


class Shy(pool.ReplicaPool):
    """Cannot be shown, until it is mended."""

    is_mended = False

    def picture(self) -> Mapping[str, Any]:
        if not self.is_mended:
            raise LookupError("a fault of the user's")
        return super().picture()
