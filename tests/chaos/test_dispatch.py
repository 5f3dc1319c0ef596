"""A map while members are killed again and again: each item exactly once in the output (row R1)."""

from __future__ import annotations

from collections import Counter
from typing import Any

import anyio
import pytest

import pool
from tests import hosts
from tests.tree import BRIEF, ON_ONE_NODE, hosts_of, is_busy, kill, until
from tests.world import World

pytestmark = pytest.mark.ray

TIRELESS = pool.RestartPolicy(intensity=1000, delay_s=0.05, delay_max_s=0.05, jitter=0)
ITEMS = 4_000
KILL_EVERY_S = 3.0
STARTS_S = 240
"""How long a busy machine may take to have everybody back."""


@pytest.mark.timeout(600)
@pytest.mark.parametrize("ordered", [True, False])
def test_each_item_is_once_in_the_output_while_a_member_is_killed_every_few_seconds(
    world: World, ordered: bool
) -> None:
    async def main() -> None:
        options: dict[str, Any] = {"restart": TIRELESS, "drain": BRIEF}
        async with pool.ReplicaPool("mill", shape=ON_ONE_NODE, **options) as replicas:
            await replicas.scale(3, timeout_s=STARTS_S)
            struck = 0

            async def strike() -> None:
                nonlocal struck
                while True:
                    await anyio.sleep(KILL_EVERY_S)
                    members = replicas.members(serving=True)
                    if members:
                        struck += 1
                        kill(hosts_of(members[struck % len(members)])[0].pid)

            how = replicas.map if ordered else replicas.map_unordered
            results = how(hosts.slowly, range(ITEMS), in_flight=4, attempts=100)
            outs: list[int] = []
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(strike)
                outs += [out async for out in results]
                tasks.cancel_scope.cancel()
            assert outs == list(range(ITEMS)) if ordered else Counter(outs) == Counter(range(ITEMS))
            assert struck, "the map was over before anybody was killed"
            assert results.counts["done"] == ITEMS
            await until(replicas, lambda: replicas.is_settled, STARTS_S)
            assert not is_busy(replicas)

    anyio.run(main)
