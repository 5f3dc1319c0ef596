"""Documents that nobody looks after do not stay for ever, and those that somebody may need do."""

from __future__ import annotations

import anyio
import pytest

import pool
from pool.cli.exits import Stop
from pool.cli.targets import check_can_be_asked
from pool.control.stand_in import stand_in
from pool.control.window import find, look
from pool.testing import SimulatedCluster
from pool.window.display import KEPT_S, SWEPT_AFTER_S
from pool.window.keys import Key, pack
from pool.window.requests import Request, Verb
from pool.window.strays import strays
from tests.window.worlds import play, replicas, shown

NOW = 1_000_000.0


def events(at: float) -> bytes:
    return pack({"version": 1, "first": 0, "events": [{"kind": "pool_opened", "at": at}]})


REQUEST = pack({"version": 1, "id": "x", "verb": "scale"})


def test_what_has_a_picture_or_an_event_that_is_young_enough_is_no_stray() -> None:
    found = {
        Key("shown", "i", "events.0"): events(NOW - 100),
        Key("shown", "i", "picture"): b"that nobody can read",
        Key("young", "i", "events.0"): events(NOW - 100),
        Key("young", "i", "events.1"): events(NOW - 1),
        Key("old", "i", "events.0"): events(NOW - 100),
        Key("old", "i", "request.x"): REQUEST,
        Key("asked", "i", "request.x"): REQUEST,
        Key("answered", "i", "answer.x"): REQUEST,
        Key("broken", "i", "events.0"): b"",
        Key("odd", "i", "events.0"): pack({"version": 1, "events": ["x"]}),
    }
    written = {"something else": b""} | {str(key): packed for key, packed in found.items()}
    stray = strays(written, NOW - 10)
    assert [key.pool for key in stray] == ["old", "asked", "answered", "broken", "odd"]
    assert {key.part for key in stray} == {""}


def test_strays_go_when_some_pool_has_been_open_for_a_while() -> None:
    async def main(cluster: SimulatedCluster) -> None:
        now = cluster.unix_time()
        await cluster.publish(
            {
                str(Key("gone", "i", "request.x")): REQUEST,
                str(Key("gone", "i", "answer.y")): REQUEST,
                str(Key("older", "i", "events.0")): events(now - KEPT_S),
                str(Key("newer", "i", "events.0")): events(now),
            }
        )
        async with replicas(cluster) as living:
            await living.scale(1)
            await anyio.sleep(SWEPT_AFTER_S + 10)
            keys = {Key.parse(text) for text in await cluster.published("")}
            assert {key.pool for key in keys if key is not None} == {"a", "newer"}

    play(main)


def test_reaping_takes_strays_away_but_not_those_of_a_pool_that_has_members() -> None:
    async def main(cluster: SimulatedCluster) -> None:
        now = cluster.unix_time()
        stray = {
            str(Key("gone", "i", "request.x")): REQUEST,
            str(Key("older", "i", "events.0")): events(now - 3600),
            str(Key("newer", "i", "events.0")): events(now),
            str(Key("a", "other", "events.0")): events(now - 3600),
        }
        await cluster.publish(stray)
        async with replicas(cluster) as living:
            await living.scale(1)
            report = await pool.reap(dry_run=True, cluster=cluster)
            names = {"window of pool gone, instance i", "window of pool older, instance i"}
            assert set(report.reaped) == names
            assert set(report.kept.values()) == {"its owner lives"}
            assert any(what.startswith("actor and placement group a/0.1") for what in report.kept)
            assert stray.keys() <= (await cluster.published("")).keys()
            await pool.reap(cluster=cluster)
            left = stray.keys() & (await cluster.published("")).keys()
            assert {text.split(":")[0] for text in left} == {"pool/1/newer", "pool/1/a"}
            report = await pool.reap("newer", cluster=cluster)
            assert report.reaped == ("window of pool newer, instance i",)
            with pytest.raises(pool.PoolUnknown):
                await pool.reap("newer", cluster=cluster)

    play(main)


def test_a_picture_that_cannot_be_read_goes_when_its_pool_is_named() -> None:
    async def main(cluster: SimulatedCluster) -> None:
        key = str(Key("a", "i", "picture"))
        await cluster.publish({key: b"of a later version"})
        assert not (await pool.reap(cluster=cluster)).reaped
        assert await cluster.published(key)
        await pool.reap("a", cluster=cluster)
        assert not await cluster.published("")

    play(main)


def test_a_picture_whose_owner_is_no_process_is_shown_and_nothing_is_taken_for_dead() -> None:
    async def main(cluster: SimulatedCluster) -> None:
        document = {"version": 1, "pool": "a", "instance": "i", "owner": "?", "period_s": 5.0}
        snapshot = {"name": "a", "desired": 0, "ready": 0, "settled": True, "failed": None}
        picture = document | {"published_at": 0.0, "snapshot": snapshot | {"slots": []}}
        await cluster.publish({str(Key("a", "i", "picture")): pack(picture)})
        [view] = await look(cluster)
        assert view.status == "owner silent"
        assert not (await pool.reap(cluster=cluster)).reaped

    play(main)


def test_a_keeper_is_that_of_the_pool_that_was_detached() -> None:
    async def main(cluster: SimulatedCluster) -> None:
        async def drive(view: SimulatedCluster) -> None:
            async with replicas(view, instance="dead"):
                await anyio.sleep_forever()

        async with replicas(cluster, detached=True, instance="kept") as other:
            driver = cluster.drive(drive)
            await shown(cluster, lambda v: v.instance == "dead" and v.picture is not None)
            await shown(cluster, lambda v: v.instance == "kept")
            await other.detach()
        await anyio.sleep(20)
        cluster.crash(driver)
        await shown(cluster, lambda v: v.status == "owner gone")
        dead, kept = await look(cluster, "a")
        assert (dead.instance, dead.keeper) == ("dead", False)
        assert (kept.instance, kept.keeper) == ("kept", True)
        with pytest.raises(Stop, match="it ended with its owner"):
            check_can_be_asked(dead)
        assert dead.age_s < kept.age_s
        assert (await find(cluster, "a")).instance == "kept"
        request = Request(id="", verb=Verb.SCALE, args={"size": 1})
        with pytest.raises(pool.PoolUnknown, match="'a:dead' is there; there are: 'a:kept'"):
            await stand_in("a", request, cluster, "dead")
        assert await stand_in("a", request, cluster, "kept")
        async with pool.attach("a", cluster=cluster) as again:
            assert again.desired == 1

    play(main)


def test_of_two_detached_pools_of_a_name_the_last_one_has_the_keeper() -> None:
    async def main(cluster: SimulatedCluster) -> None:
        async def drive(view: SimulatedCluster) -> None:
            async with replicas(view, detached=True, instance="zero"):
                await anyio.sleep_forever()

        driver = cluster.drive(drive)
        await shown(cluster, lambda v: v.keeper)
        cluster.crash(driver)
        [keeper] = cluster.actors("keeper")
        cluster.crash(keeper)
        await anyio.sleep(5)
        async with replicas(cluster, detached=True, instance="one"):
            await anyio.sleep(5)
            one, zero = await look(cluster, "a")
            assert (one.keeper, zero.keeper) == (True, False)

    play(main)
