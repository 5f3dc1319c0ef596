"""Ray's own autoscaling coordinator, as Ray Data starts it, also where pandas is missing."""

from __future__ import annotations

import importlib
import sys
import types
from pathlib import Path
from typing import Any

import ray

from pool.cluster.ray.private import COORDINATOR

PACKAGE = "ray.data._internal.cluster_autoscaler"
ACTOR = f"{PACKAGE}.default_autoscaling_coordinator"
NEEDS: dict[str, dict[str, Any]] = {
    "ray.data": {},
    "ray.data._internal": {},
    PACKAGE: {"__path__": [str(Path(ray.__file__).parent / "data/_internal/cluster_autoscaler")]},
    "ray.data._internal.execution": {},
    "ray.data._internal.execution.interfaces": {},
    "ray.data._internal.execution.interfaces.common": {"NodeIdStr": str},
    "ray.data._internal.execution.util": {"memory_string": str},
}
"""What the coordinator's two modules import, which brings pandas in: types, and words for a log."""


def coordinator_class() -> Any:
    """Return Ray's private class, without what Ray Data needs for its data."""
    for name, contents in NEEDS.items():
        module = types.ModuleType(name)
        module.__dict__.update(contents)
        sys.modules.setdefault(name, module)
    return importlib.import_module(ACTOR)._AutoscalingCoordinatorActor


class Coordinator:
    """Be Ray's actor; a class of its own, so that it can be sent without being imported."""

    def __init__(self) -> None:
        self._ray: Any = coordinator_class()()

    def request_resources(self, **request: Any) -> None:
        self._ray.request_resources(**request)

    def cancel_request(self, requester_id: str) -> None:
        self._ray.cancel_request(requester_id)

    def requesters(self) -> list[str]:
        return sorted(self._ray._ongoing_reqs)


def start_coordinator() -> Any:
    """Start it under the name by which Ray Data and Ray Train find it."""
    remote: Any = ray.remote
    options = {"name": COORDINATOR, "namespace": COORDINATOR, "lifetime": "detached"}
    return remote(num_cpus=0, **options)(Coordinator).remote()
