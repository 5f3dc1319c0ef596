"""Functions to be called in a run's process before or after the user's own."""

from __future__ import annotations

import sys


def jax_shutdown() -> None:
    """Leave JAX's distributed runtime, if this process has joined one.

    For `RunOptions(after=...)`. A process that ends without leaving keeps the others of its world
    waiting at their own end until they take it for dead, 100 s by default
    (`jax.distributed.initialize`, `heartbeat_timeout_seconds`).
    """
    jax = sys.modules.get("jax")
    if jax is not None and jax.distributed.is_initialized():
        jax.distributed.shutdown()
