"""A page of a pool of another process: by its window, whatever becomes of its owner."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import anyio
import pytest

import pool
from pool.page.board import Board
from pool.page.window import Follower
from pool.testing import SimNode, SimulatedCluster, run
from pool.window.strays import EVENTS
from tests.cli.canned import Canned


def told(board: Board) -> dict[str, Any]:
    _, text = board.wait(0, 0)
    return dict(json.loads(text)) if text is not None else {}


def test_a_page_follows_a_window_through_the_end_of_a_pool_to_the_next_of_its_name() -> None:
    async def main() -> None:
        cluster = SimulatedCluster([SimNode(gpus=8)] * 4)
        board = Board()

        def make() -> pool.ReplicaPool:
            return pool.ReplicaPool("r", shape=pool.ReplicaShape(devices=16), cluster=cluster)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(Follower(cluster, "r", board).run)
            await anyio.sleep(3)
            assert "'r'" in told(board)["trouble"]
            async with make() as first:
                await first.scale(2)
                await anyio.sleep(10)
                seen = told(board)
                assert seen["trouble"] == ""
                assert [slot["member"]["state"] for slot in seen["slots"]] == ["ready", "ready"]
                assert len(seen["slots"][0]["member"]["info"]["hosts"]) == 2
                cluster.crash(first.handles()[0])
                await anyio.sleep(20)
                seen = told(board)
                assert [fault[1] for fault in seen["slots"][0]["faults"]] == ["crash"]
                kinds = [event["kind"] for event in seen["events"]]
                assert kinds.count("pool_opened") == 1, "no event is told twice"
                assert len(kinds) == len(first.events())
            await anyio.sleep(5)
            assert told(board)["trouble"], "that it is gone is said"
            assert told(board)["slots"], "and what was seen last stays"
            async with make() as second:
                await second.scale(1)
                await anyio.sleep(10)
                seen = told(board)
                assert (seen["trouble"], seen["lanes"]) == ("", [0])
                assert not seen["slots"][0]["faults"]
            tasks.cancel_scope.cancel()

    run(main)


def test_of_two_pools_of_one_name_it_asks_which_and_follows_the_one_that_is_named() -> None:
    async def main() -> None:
        cluster = SimulatedCluster([SimNode(gpus=8)] * 4)
        shape = pool.ReplicaShape(devices=8)
        one, other = (
            pool.ReplicaPool("r", shape=shape, cluster=cluster, instance=word)
            for word in ("one", "other")
        )
        boards = [Board(), Board()]
        async with one, other, anyio.create_task_group() as tasks:
            tasks.start_soon(Follower(cluster, "r", boards[0]).run)
            tasks.start_soon(Follower(cluster, "r:other", boards[1]).run)
            await other.scale(2)
            await anyio.sleep(10)
            assert "r:other" in told(boards[0])["trouble"]
            assert told(boards[1])["pool"]["ready"] == 2
            tasks.cancel_scope.cancel()

    run(main)


class Forgetful(SimulatedCluster):
    """Show pictures, and for a while no events."""

    has_events = True

    async def published(self, prefix: str) -> Mapping[str, bytes]:
        if EVENTS in prefix and not self.has_events:
            raise pool.SourceUnavailable("no events are to be had")
        return await super().published(prefix)


def test_a_picture_stays_until_all_of_the_next_pool_can_be_had() -> None:
    async def main() -> None:
        cluster = Forgetful([SimNode(gpus=8)] * 2)
        board = Board()

        def make() -> pool.ReplicaPool:
            return pool.ReplicaPool("r", shape=pool.ReplicaShape(devices=8), cluster=cluster)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(Follower(cluster, "r", board).run)
            async with make() as first:
                await first.scale(2)
                await anyio.sleep(10)
                assert told(board)["pool"]["ready"] == 2
            cluster.has_events = False
            async with make() as second:
                await second.scale(1)
                await anyio.sleep(10)
                seen = told(board)
                assert "no events" in seen["trouble"]
                assert len(seen["slots"]) == 2, "what was seen last stays"
                cluster.has_events = True
                await anyio.sleep(10)
                seen = told(board)
                assert (seen["trouble"], len(seen["slots"])) == ("", 1)
                kinds = [event["kind"] for event in seen["events"]]
                assert kinds == [event.kind for event in second.events()]
            tasks.cancel_scope.cancel()

    run(main)


def test_what_was_shown_long_ago_is_not_taken_for_new() -> None:
    async def main() -> None:
        board = Board()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(Follower(Canned(), "eval", board).run)
            await anyio.sleep(2)
            tasks.cancel_scope.cancel()
        seen = told(board)
        assert seen["trouble"] == "the pool's owner has ended"
        assert seen["age_s"] == pytest.approx(75, abs=5)

    run(main)
