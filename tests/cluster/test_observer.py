"""Looking at a cluster from a process that is none of its drivers."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Awaitable, Callable
from typing import NoReturn

import anyio
import pytest
import ray
from ray.exceptions import AuthenticationError

from pool.cluster.interface import Cluster
from pool.cluster.ray import cluster as ray_cluster
from pool.cluster.ray import inventory, observer, private
from pool.errors import ConfigError, SourceUnavailable
from pool.ownership.keeper import keeper_of


def test_a_cluster_that_wants_a_token_says_so_in_a_sentence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def look_at(address: str) -> None:
        raise AuthenticationError("the token is missing")

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(private, "look_at", look_at)
    with contextlib.closing(socket.create_server(("", 0))) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(ConfigError, match=r"does not let this process in: the token is"):
            observer.observe(address)


READS: dict[str, Callable[[Cluster], Awaitable[object]]] = {
    "topology": lambda cluster: cluster.topology(),
    "draining": lambda cluster: cluster.draining(),
    "inventory": lambda cluster: cluster.inventory("a"),
    "is_gone": lambda cluster: cluster.is_gone("driver 01 on host-a pid 1"),
    "find": lambda cluster: cluster.find(keeper_of("a")),
    "leftovers": lambda cluster: cluster.leftovers("a", "i"),
    "published": lambda cluster: cluster.published("pool/"),
}


def away(monkeypatch: pytest.MonkeyPatch, question: Callable[..., NoReturn]) -> Cluster:
    """Return a cluster of which everything that is asked of its GCS ends like this."""
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    monkeypatch.setattr(private, "gcs_client", lambda: None)
    for name in ("draining_nodes", "actor_table", "placement_groups", "is_job_dead", "published"):
        monkeypatch.setattr(private, name, question)
    monkeypatch.setattr(ray_cluster, "ray_topology", question)
    monkeypatch.setattr(ray, "get_actor", question)
    return ray_cluster.RayCluster()


@pytest.mark.parametrize("name", READS)
def test_a_gcs_that_is_away_is_a_source_that_cannot_be_asked(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> NoReturn:
        raise ConnectionError("it is away")

    cluster = away(monkeypatch, refuse)

    async def main() -> None:
        with pytest.raises(SourceUnavailable, match=r"GCS did not answer: .*it is away"):
            await READS[name](cluster)

    anyio.run(main)


@pytest.mark.parametrize("name", READS)
def test_who_gives_up_on_a_gcs_that_hangs_is_not_held(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_back = threading.Event()

    def hang(*_: object, **__: object) -> NoReturn:
        is_back.wait()
        raise ConnectionError("it was away")

    cluster = away(monkeypatch, hang)

    async def main() -> None:
        try:
            with anyio.fail_after(60), anyio.move_on_after(0.05) as scope:
                await READS[name](cluster)
            assert scope.cancelled_caught
        finally:
            is_back.set()

    anyio.run(main)


@pytest.mark.parametrize("word", ["", "x", "somebody else", "worker 1 on host pid 2", "actor"])
def test_of_a_word_that_names_no_process_it_is_not_said_that_it_ended(word: str) -> None:
    assert not inventory.is_gone(word)
