"""Serve a recording, for eyes and browsers: `python -m tests.page busy|large [PORT]`."""

from __future__ import annotations

import itertools
import sys
import time

import anyio

import pool
from pool.page.board import Board
from pool.page.page import Site
from pool.testing import SimulatedCluster
from tests.page.recorded import eventful, large, record


class Engine:
    """Take three seconds for everything."""

    async def answer(self, item: int) -> int:
        await anyio.sleep(3)
        return item


async def busy(cluster: SimulatedCluster, replicas: pool.ReplicaPool) -> None:
    """Go through the same with work to do."""

    async def work() -> None:
        await replicas.wait_settled(600)
        async for _ in replicas.map_unordered("answer", itertools.count(), on="rank", in_flight=2):
            pass

    replicas.spawn(work)
    await eventful(cluster, replicas)


POLICY = pool.RestartPolicy(intensity=40)


def main(which: str, port: int) -> None:
    begun = time.perf_counter()
    if which == "large":
        told = record(
            large, nodes=1040, every_s=5, modelled=True, surge=4, restart=POLICY, spares=3
        )
    else:
        policy = pool.RestartPolicy(intensity=8)
        told = record(busy, nodes=20, spares=1, restart=policy, ranks=pool.Ranks(Engine))
    print(f"recorded in {time.perf_counter() - begun:.1f} s", len(told.moments), flush=True)
    board = Board()
    site = Site(board, port=port, token="a-token-for-tests-only")
    shift_s = time.time() - told.moments[-1][0]
    begun = time.perf_counter()
    for at, snapshot, events in told.moments:
        shifted = [{**event, "at": event["at"] + shift_s} for event in events]
        board.publish(at + shift_s, snapshot, shifted)
    took_s = time.perf_counter() - begun
    print(f"told in {took_s:.2f} s, {len(board.wait(0, 0)[1] or '')} bytes", flush=True)
    print(site.url, flush=True)
    time.sleep(3600)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) if sys.argv[2:] else 0)
