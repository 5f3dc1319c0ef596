"""The default cluster: the Ray that this process is connected to, imported when it is asked for."""

from __future__ import annotations

from pool.cluster.interface import Cluster, Observer


def connect() -> Cluster:
    """Return the Ray cluster that this process is connected to.

    Raises:
        ConfigError: It is not connected to any.
    """
    from pool.cluster.ray.cluster import RayCluster

    return RayCluster()


def observe(address: str | None = None) -> Observer:
    """Look at a Ray cluster from any machine that reaches it; nothing is started there.

    Args:
        address: Where its GCS is, as `host:port`; None looks at RAY_ADDRESS, and then for a cluster
            on this machine. A process that is connected to Ray looks at its own cluster.

    Raises:
        ConfigError: It is no address, no cluster is known of, or nobody answers there.
    """
    from pool.cluster.ray import observer

    return observer.observe(address)


def join(address: str | None = None) -> Cluster:
    """Connect this process to a Ray cluster as a driver, quietly, unless it is connected.

    Args:
        address: As with `observe`.

    Raises:
        ConfigError: As `observe`; or this machine is no node of the cluster.
    """
    from pool.cluster.ray import observer

    observer.join(address)
    return connect()
