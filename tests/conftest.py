"""What all tests share: one Ray cluster of several nodes, and the check that nothing is left.

The cluster is started by the first test that asks for it. A test that works on it has the fixture
`world`, which counts what is there before and after.
"""

from __future__ import annotations

import os

os.environ.setdefault("RAY_AUTH_MODE", "disabled")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
# Logical GPUs: Ray must not hide real devices from processes that hold none of them.
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")

import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import hypothesis
import pytest

from tests.second_chance import give_second_chances
from tests.world import ClusterOfNodes, World

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell that runs the tests in the background has them, and all they start, ignore Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)

hypothesis.settings.register_profile("default", deadline=None)
hypothesis.settings.register_profile("long", deadline=None, max_examples=1000)
hypothesis.settings.load_profile("default")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    give_second_chances(items)


@pytest.fixture(scope="session")
def cluster_of_nodes() -> Iterator[ClusterOfNodes]:
    """Start six nodes with four logical GPUs each, and a head without."""
    cluster = ClusterOfNodes(nodes=6, gpus=4)
    try:
        yield cluster
    finally:
        cluster.close()


@pytest.fixture
def ray_cluster(cluster_of_nodes: ClusterOfNodes) -> Callable[..., Any]:
    """Return a function that gives a cluster of at least so many nodes, for pages of the docs."""

    def at_least(nodes: int, gpus: int) -> ClusterOfNodes:
        assert nodes <= cluster_of_nodes.nodes, "the tests' cluster has fewer nodes"
        assert gpus == cluster_of_nodes.gpus, "the tests' nodes have another number of GPUs"
        return cluster_of_nodes

    return at_least


@pytest.fixture
def world(cluster_of_nodes: ClusterOfNodes) -> Iterator[World]:
    """Give the real Ray, and check afterwards that the test left nothing in it (INV-4)."""
    world = World(cluster_of_nodes)
    yield world
    world.check_nothing_is_left()


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    left = [
        thread
        for thread in threading.enumerate()
        if thread not in before and thread.is_alive() and not _is_of_ray(thread)
    ]
    for thread in left:
        thread.join(timeout=5)
    assert not [thread for thread in left if thread.is_alive()], "the test left threads"


def _is_of_ray(thread: threading.Thread) -> bool:
    """Whether Ray's client keeps the thread for as long as the process is connected."""
    return thread.daemon and (thread.name.startswith("ray") or "Thread-" not in thread.name)
