"""What supervision costs on a real Ray: detecting, replacing, suspecting, draining, polling.

Run it with `python -m benchmarks.supervision`, or `--quick` to see only that it runs. It starts
clusters of its own on this machine, one after the other.
"""

from __future__ import annotations

import logging
import sys
from functools import partial

import anyio

from benchmarks import crowd, loss, promotion, silence
from benchmarks.embedded import RELAXED, embedded_cluster
from benchmarks.harness import Measured, report


def main(rounds: int, **ray_defaults: int) -> None:
    """Measure and report. Rounds that take very long are fewer.

    Args:
        rounds: How many.
        **ray_defaults: Settings of Ray that replace its defaults where it detects a silent node.
    """
    few = min(rounds, 3)
    # Members are killed on purpose; the table says what the warnings would.
    logging.getLogger("pool").setLevel(logging.CRITICAL)
    measured: list[Measured] = []
    with embedded_cluster(nodes=4, gpus=4, **RELAXED):
        measured += anyio.run(loss.measure, rounds)
        spares = promotion.unavailable()
        if not spares:
            measured += anyio.run(promotion.measure, rounds)
        measured += anyio.run(crowd.measure, few)
    with embedded_cluster(nodes=2 + few, gpus=silence.GPUS, **ray_defaults) as nodes:
        measured += anyio.run(partial(silence.measure, few, nodes))
    facts = {"loss_to_promoted": f"not available: {spares}"} if spares else {}
    report("Supervision", measured, rounds=rounds, restart_back_off_s=0, **facts)


if __name__ == "__main__":
    if "--quick" in sys.argv:
        # With its defaults Ray takes a minute to see that a node is silent.
        main(rounds=1, health_check_timeout_ms=1000)
    else:
        main(rounds=7)
