"""The same pool, from a script without asyncio."""

from __future__ import annotations

import functools

import anyio

from pool.blocking.program import Program
from pool.blocking.replica_pool import ReplicaPool
from pool.control.attach import attach as _attach
from pool.control.listing import PoolListing
from pool.control.listing import list_pools as _list_pools
from pool.control.reap import ReapReport
from pool.control.reap import reap as _reap
from pool.signals import stop_script_on as stop_on

__all__ = ["Program", "ReplicaPool", "attach", "list_pools", "reap", "stop_on"]


def attach(name: str, *, takeover: bool = False) -> ReplicaPool:
    """Own a detached pool, in a `with` block; see `pool.attach`.

    Args:
        name: The pool's name.
        takeover: Whether to take the pool from an owner that lives.

    Raises:
        PoolUnknown, PoolHeld, Fenced, ConfigError: As `pool.attach`, when the block is entered.
    """
    attached = ReplicaPool(name)
    attached._make = functools.partial(_attach, name, takeover=takeover)
    return attached


def list_pools() -> list[PoolListing]:
    """List the pools in the cluster; see `pool.list_pools`."""
    return anyio.run(_list_pools)


def reap(name: str | None = None, *, dry_run: bool = False) -> ReapReport:
    """Take away what is left of pools whose owners are gone; see `pool.reap`."""
    return anyio.run(functools.partial(_reap, name, dry_run=dry_run))
