"""The default cluster: the Ray that this process is connected to, imported when it is asked for."""

from __future__ import annotations

from pool.cluster.interface import Cluster


def connect() -> Cluster:
    """Return the Ray cluster that this process is connected to.

    Raises:
        ConfigError: It is not connected to any.
    """
    from pool.cluster.ray.cluster import RayCluster

    return RayCluster()
