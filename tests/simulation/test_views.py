"""Views: some replicas of a pool, or of several, worked with like a pool (row A14)."""

from __future__ import annotations

import anyio
import pytest

import pool
from pool.testing import SimNode, SimulatedCluster, run

TWO = pool.ReplicaShape(devices=2)


class Named(pool.NodeHost):
    """Say who it is."""

    def who(self, *_: object) -> str:
        return f"{self.context.identity.pool}"


def of(replicas: pool.ReplicaPool, *ranks: int) -> list[str]:
    """Return the members of some ranks, as their hosts name them."""
    return [replicas[rank].id for rank in ranks]


def test_work_for_a_view_goes_to_its_replicas_alone_also_after_a_loss() -> None:
    async def main() -> None:
        cluster = SimulatedCluster([SimNode(gpus=8)] * 2)
        async with pool.ReplicaPool("r", shape=TWO, host=Named, cluster=cluster) as replicas:
            await replicas.scale(4, timeout_s=60)
            first, last = replicas.view().split(1, 3)
            assert (len(first), len(last), repr(last)) == (1, 3, "View('r[1:4]')")
            assert await last.broadcast("who", flat=True) == of(replicas, 1, 2, 3)
            assert await first.run(len, "abc", flat=True) == [3]
            mapped = [name async for name in last.map("who", range(40), in_flight=1)]
            assert set(mapped) == set(of(replicas, 1, 2, 3))
            unordered = [name async for name in first.map_unordered("who", range(4))]
            assert unordered == of(replicas, 0) * 4
            assert await first.submit("who") == replicas[0].id
            assert [len(row) for row in last.hosts()] == [1, 1, 1]
            lost = replicas[0]
            assert lost.actor is not None
            waiting = first.submit("who", idempotent=True)
            cluster.crash(lost.actor)
            assert await waiting in (lost.id, "r/0.2")
            await anyio.sleep(60)
            assert await first.broadcast("who", flat=True) == ["r/0.2"]
            await replicas.scale(1, timeout_s=60)
            with pytest.raises(pool.PoolError, match=r"'r\[1:4\]' has no ready replica"):
                await last.broadcast("who")
        with pytest.raises(pool.PoolClosed):
            await first.broadcast("who")

    run(main)


def test_views_are_merged_over_pools_and_cut_again() -> None:
    async def main() -> None:
        cluster = SimulatedCluster([SimNode(gpus=8)] * 2)
        a = pool.ReplicaPool("a", shape=TWO, host=Named, cluster=cluster)
        b = pool.ReplicaPool("b", shape=TWO, host=Named, cluster=cluster)
        async with pool.Program(a, b) as program:
            await program.scale({"a": 2, "b": 2}, timeout_s=60)
            both = a[1:] | b[:1]
            assert (both.name, len(both)) == ("a[1] + b[0]", 2)
            assert await both.broadcast("who", flat=True) == [*of(a, 1), *of(b, 0)]
            assert [name async for name in both[1:].map("who", [1])] == of(b, 0)
            assert len(a[::-1] | b[:]) == 4
            assert both.failed is None
            with pytest.raises(pool.ConfigError, match="in common"):
                _ = both | a[:]
            with pytest.raises(pool.ConfigError, match="no replica"):
                _ = both[2:]
            for sizes in ((1, 2), (2, 0)):
                with pytest.raises(pool.ConfigError, match="sizes"):
                    both.split(*sizes)

    run(main)
