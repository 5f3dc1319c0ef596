"""A group is made when there is room for it: Ray puts one off that it cannot place at once."""

from __future__ import annotations

import time
from collections.abc import Mapping

import anyio
import pytest

from pool.cluster.ray import private
from pool.cluster.ray.placing import GIVEN_BACK_S, Room
from pool.planning.resources import Resources

GPUS = [Resources({"GPU": 0.1}), Resources({"GPU": 0.2, "CPU": 1.0})]


def looks(monkeypatch: pytest.MonkeyPatch, *seen: Mapping[str, Mapping[str, float]]) -> list[int]:
    """Have nodes tell what is free on them: each of `seen` once, then the last for ever."""
    count: list[int] = []

    def look() -> Mapping[str, Mapping[str, float]]:
        count.append(1)
        return seen[min(len(count), len(seen)) - 1]

    monkeypatch.setattr(private, "available_resources_per_node", look)
    return count


def wait(*nodes: str) -> float:
    """Wait for room on nodes, and return the seconds that took."""

    async def main() -> float:
        began = time.monotonic()
        await Room().until_given_back(GPUS, nodes)
        return time.monotonic() - began

    return anyio.run(main)


def test_room_that_is_there_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    count = looks(monkeypatch, {"a": {"GPU": 0.1}, "b": {"GPU": 4.0, "CPU": 1.0}})
    wait("a", "b")
    assert len(count) == 1


def test_bundles_on_one_node_need_room_for_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    short, enough = {"a": {"GPU": 0.2, "CPU": 1.0}}, {"a": {"GPU": 0.3, "CPU": 1.0}}
    count = looks(monkeypatch, {}, short, enough)
    wait("a", "a")
    assert len(count) == 3


def test_a_node_that_gives_nothing_back_is_not_waited_for_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks(monkeypatch, {"a": {"GPU": 4.0}})
    assert GIVEN_BACK_S <= wait("a", "gone") < 10


def test_what_cannot_be_found_out_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> Mapping[str, Mapping[str, float]]:
        raise ConnectionError("the GCS is away")

    monkeypatch.setattr(private, "available_resources_per_node", fail)
    assert wait("a", "b") < GIVEN_BACK_S


def test_many_who_ask_at_the_same_time_look_once(monkeypatch: pytest.MonkeyPatch) -> None:
    count = looks(monkeypatch, {"a": {"GPU": 4.0, "CPU": 4.0}})

    async def main() -> None:
        room = Room()
        async with anyio.create_task_group() as tasks:
            for _ in range(100):
                tasks.start_soon(room.until_given_back, GPUS, ["a", "a"])

    anyio.run(main)
    assert len(count) < 5
