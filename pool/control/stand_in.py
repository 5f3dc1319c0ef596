"""Do what is asked of a detached pool that nobody owns: own it for as long as that takes."""

from __future__ import annotations

from typing import Any

import anyio

from pool.cluster.interface import Cluster
from pool.control.attach import attach, look
from pool.errors import PoolUnknown
from pool.manager.manager import ResourcePoolManager
from pool.window.requests import Request


async def stand_in(
    name: str, request: Request, cluster: Cluster, instance: str | None = None
) -> Any:
    """Own a pool, carry out a request, and leave the pool as it is then.

    Args:
        name: The pool's name.
        request: What is asked.
        cluster: The world, as a driver sees it.
        instance: Which pool of that name is meant; by default whichever is kept.

    Returns:
        What came of it.

    Raises:
        PoolUnknown: There is no detached pool of that name, or it is another instance.
        PoolHeld, Fenced: As `attach`.
        PoolError: What the request's method raises.

    Cancelling it leaves the pool, with what was begun in force.
    """
    _, holding = await look(name, cluster)
    if holding.record is not None and instance not in (None, holding.record.instance):
        raise PoolUnknown(f"{name}:{instance}", [f"{name}:{holding.record.instance}"])
    kind: Any = ResourcePoolManager  # Whatever it is; a type checker wants a class to be made.
    async with attach(name, kind=kind, cluster=cluster) as pool:
        try:
            return await pool.carry_out(request)
        finally:
            # Whatever happened: a pool that is not left is drained at the end of the block.
            with anyio.CancelScope(shield=True):
                try:
                    await pool.detach()
                except BaseException:
                    # Its keeper does not answer: it is left as by an owner that died.
                    pool.abandon()
                    raise
