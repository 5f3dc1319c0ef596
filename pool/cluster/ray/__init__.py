"""The Ray implementation of the cluster interface. Importing it imports Ray."""

from pool.cluster.ray.cluster import RayCluster as RayCluster

__all__ = ["RayCluster"]
