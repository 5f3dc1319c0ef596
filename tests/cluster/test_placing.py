"""A group is made when there is room for it: Ray puts one off that it cannot place at once."""

from __future__ import annotations

import time
from collections.abc import Mapping

import anyio
import pytest

from pool.cluster.ray import placing, private
from pool.planning.resources import Resources

GPUS = [Resources({"GPU": 2.0}), Resources({"GPU": 2.0, "CPU": 1.0})]


def looks(monkeypatch: pytest.MonkeyPatch, *seen: Mapping[str, Mapping[str, float]]) -> list[int]:
    """Have nodes tell what is free on them: each of `seen` once, then the last for ever."""
    count: list[int] = []

    def look() -> Mapping[str, Mapping[str, float]]:
        count.append(1)
        return seen[min(len(count), len(seen)) - 1]

    monkeypatch.setattr(private, "available_resources_per_node", look)
    return count


def test_room_that_is_there_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    free = {"a": {"GPU": 2.0}, "b": {"GPU": 4.0, "CPU": 1.0}}
    count = looks(monkeypatch, free)
    anyio.run(placing.until_given_back, GPUS, ["a", "b"])
    assert len(count) == 1


def test_bundles_on_one_node_need_room_for_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    short, enough = {"a": {"GPU": 3.0, "CPU": 1.0}}, {"a": {"GPU": 4.0, "CPU": 1.0}}
    count = looks(monkeypatch, {}, short, enough)
    anyio.run(placing.until_given_back, GPUS, ["a", "a"])
    assert len(count) == 3


def test_a_node_that_gives_nothing_back_is_not_waited_for_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    count = looks(monkeypatch, {"a": {"GPU": 4.0}})
    began = time.monotonic()
    anyio.run(placing.until_given_back, GPUS, ["a", "gone"])
    assert len(count) == len(placing.GIVEN_BACK_PAUSES_S)
    assert sum(placing.GIVEN_BACK_PAUSES_S) <= time.monotonic() - began < 10
