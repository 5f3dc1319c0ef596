"""Whose error a broadcast ends with, when several are heard: the loss that explains the others."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable

import anyio
import pytest

import pool
from pool.dispatch.broadcast import LOSS_WAIT_S
from pool.testing import SimNode, SimulatedCluster, run

Story = Callable[[SimulatedCluster, pool.ReplicaPool], Awaitable[None]]


class Worker(pool.NodeHost):
    """Fail, or work on, as the index of the host says."""

    async def work(self, *seconds: float) -> None:
        await anyio.sleep(abs(seconds[self.index]))
        if seconds[self.index] > 0:
            raise ValueError(f"host {self.index} lost its peer")


def play(story: Story) -> None:
    async def main() -> None:
        cluster = SimulatedCluster([SimNode(gpus=8)] * 3)
        shape = pool.ReplicaShape(devices=24)
        async with pool.ReplicaPool("r", shape=shape, cluster=cluster, host=Worker) as replicas:
            await replicas.scale(1)
            await story(cluster, replicas)

    run(main)


def test_a_loss_that_is_heard_of_after_the_errors_that_it_caused_is_what_is_raised() -> None:
    async def story(cluster: SimulatedCluster, replicas: pool.ReplicaPool) -> None:
        async def crash() -> None:
            await anyio.sleep(2)
            cluster.crash(cluster.actors("host")[2])

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(crash)
            with pytest.raises(pool.MemberLost):
                await replicas.broadcast("work", 1, 1.5, 1000)

    play(story)


@pytest.mark.parametrize("third", [1000.0, -1.5], ids=["works on", "is done"])
def test_an_error_that_no_loss_explains_is_raised_itself_the_first_of_several(third: float) -> None:
    async def story(_: SimulatedCluster, replicas: pool.ReplicaPool) -> None:
        began = anyio.current_time()
        with pytest.raises(ValueError, match="host 0"):
            await replicas.broadcast("work", 1, 1.2, third)
        took_s = anyio.current_time() - began
        assert math.isclose(took_s, 1 + LOSS_WAIT_S if third > 0 else 1.5, abs_tol=0.1)

    play(story)
