"""The body that holds devices for a process: the process itself is no actor, and Ray knows none."""

from __future__ import annotations

from collections.abc import Mapping

from pool.cluster.body import Context
from pool.host.worker_body import WorkerBody


class HolderBody(WorkerBody):
    """Hold a part of the bundle, and say which devices are in it."""

    runs_code = False

    async def start(self, context: Context) -> Mapping[str, tuple[str, ...]]:
        """Wait until the devices are free, and return their ids by resource."""
        await self.settle(context)
        return self.devices

    async def shutdown(self, budget_s: float) -> tuple[str, ...]:
        """Put nothing down: the devices go back with the actor."""
        return ()
