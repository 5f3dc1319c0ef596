"""What showing a pool costs its driver: CPU seconds per second, on a simulated cluster.

Usage: python -m benchmarks.window

The calls to the cluster's key-value store are not in it: one or two a second, of a third of a
millisecond each, in a thread.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

import anyio

import pool
from pool.testing import SimNode, SimulatedCluster, run

SPAN_S = 120.0


class Dark(SimulatedCluster):
    """Be a cluster in which nobody shows anything."""

    @property
    def has_window(self) -> bool:
        """Have none."""
        return False


def cpu_share(kind: type[SimulatedCluster], slots: int, *, busy: bool) -> tuple[float, int]:
    """Return the CPU per second of a pool that is settled, or changes all the time; and a size."""
    cluster = kind([SimNode(gpus=8)] * (slots // 8 + 1))
    spent: list[float] = []
    sizes: list[int] = [0]

    async def main() -> None:
        shape = pool.ReplicaShape(devices=1)
        async with pool.ReplicaPool("shown", shape=shape, cluster=cluster) as replicas:
            await replicas.scale(slots)
            await anyio.sleep(10)
            began, until = time.process_time(), anyio.current_time() + SPAN_S
            while anyio.current_time() < until:
                await anyio.sleep(0.5)
                if busy:
                    replicas._tell_changed()
            spent.append(time.process_time() - began)
            sizes.extend(len(value) for value in (await cluster.published("pool/")).values())

    run(main)
    return spent[0] / SPAN_S, max(sizes)


def main(sizes: Sequence[int] = (8, 500)) -> None:
    """Print what it costs."""
    for slots in sizes:
        for busy in (False, True):
            dark, _ = cpu_share(Dark, slots, busy=busy)
            shown, largest = cpu_share(SimulatedCluster, slots, busy=busy)
            when = "changes all the time" if busy else "is settled"
            print(
                f"{slots:5} slots, {when:20}: {(shown - dark) * 1e3:6.2f} ms of CPU per second "
                f"(a picture of {largest / 1e3:.1f} kB)"
            )
            sys.stdout.flush()


if __name__ == "__main__":
    main()
