"""A pool shows itself to everybody, in the simulation, and takes requests."""

from __future__ import annotations

import anyio
import pytest

import pool
from pool.control.window import events_of, find, look
from pool.testing import SimulatedCluster
from pool.window.keys import ROOT, Key, pack
from pool.window.requests import Refused, Request, Verb, ask
from tests.window.worlds import play, replicas, shown


def test_a_pool_is_shown_as_it_is_and_nothing_of_it_stays_when_it_has_closed() -> None:
    async def main(cluster: SimulatedCluster) -> None:
        async with replicas(cluster) as pool_:
            await pool_.scale(2)
            view = await shown(cluster, lambda v: v.snapshot is not None and v.snapshot.ready == 2)
            assert (view.status, view.picture and view.picture.kind) == ("running", "ReplicaPool")
            assert view.snapshot is not None
            [first, _] = view.snapshot.slots
            assert first.member is not None
            assert (first.member.state, first.member.why) == (pool.State.READY, "it started")
            [host] = first.member.info["hosts"]
            assert host["bundle"] == {"CPU": 1.0, "GPU": 1.0}
            assert set(view.groups) == {"a/0.1", "a/1.1"}
            assert {"a/0.1", "a/1.1"} == set(view.actors)
            read = await events_of(cluster, "a", view.instance)
            assert [each.event for each in read] == list(pool_.events())
            assert [each.number for each in read] == list(range(len(read)))
        assert await look(cluster) == []
        assert await cluster.published("") == {}

    play(main)


def test_it_is_shown_again_without_a_change_so_that_its_age_tells_of_its_owner() -> None:
    async def main(cluster: SimulatedCluster) -> None:
        async with replicas(cluster) as pool_:
            await pool_.scale(1)
            await anyio.sleep(100)
            [view] = await look(cluster)
            assert view.age_s < 7
            cluster.stop_control(60)
            await anyio.sleep(30)
            with pytest.raises(pool.SourceUnavailable):
                await look(cluster)
            await anyio.sleep(40)
            [view] = await look(cluster)
            assert view.age_s < 7

    play(main)


def test_of_a_pool_whose_driver_died_the_last_is_shown_until_the_next_of_its_name() -> None:
    async def main(cluster: SimulatedCluster) -> None:
        async def drive(view: SimulatedCluster) -> None:
            async with replicas(view) as pool_:
                await pool_.scale(1)
                await anyio.sleep_forever()

        driver = cluster.drive(drive)
        await shown(cluster, lambda v: v.snapshot is not None and v.snapshot.ready == 1)
        cluster.crash(driver)
        view = await shown(cluster, lambda v: v.status == "owner gone" and not v.actors)
        assert view.snapshot is not None
        assert view.snapshot.ready == 1
        assert not view.can_be_asked
        async with replicas(cluster):
            await anyio.sleep(3)
            [view] = await look(cluster)
            assert view.status == "running"

    play(main)


def test_what_a_dead_pool_showed_is_kept_for_a_day() -> None:
    async def main(cluster: SimulatedCluster) -> None:
        async def drive(view: SimulatedCluster) -> None:
            async with replicas(view):
                await anyio.sleep_forever()

        driver = cluster.drive(drive)
        await anyio.sleep(5)
        cluster.crash(driver)
        for hours, names in ((1, ["a", "b"]), (24, ["b"])):
            await anyio.sleep(hours * 3600)
            async with replicas(cluster, name="b"):
                await anyio.sleep(70)
                assert [view.name for view in await look(cluster)] == names

    play(main)


def test_requests_are_carried_out_once_and_what_fails_is_told() -> None:
    async def main(cluster: SimulatedCluster) -> None:
        async with replicas(cluster) as pool_:
            whom = (await shown(cluster, lambda v: v.picture is not None)).whom
            result = await ask(cluster, whom, Verb.SCALE, {"size": 2}, by="ann")
            assert (result["reached"], pool_.desired) == (2, 2)
            with pytest.raises(Refused, match="can never reach 100"):
                await ask(cluster, whom, Verb.SCALE, {"size": 100})
            with pytest.raises(Refused, match="give a whole number"):
                await ask(cluster, whom, Verb.SCALE, {"size": "2"})
            with pytest.raises(Refused, match="has no slot 7; there are: 0, 1"):
                await ask(cluster, whom, Verb.DRAIN, {"slot": 7})
            asked = [event for event in pool_.events() if event.kind == "pool_asked"]
            assert asked[0].facts == {"verb": "scale", "by": "ann", "size": 2}
            assert len(asked) == 4
            await ask(cluster, whom, Verb.DRAIN, {"slot": 0})
            await pool_.wait_settled()
            assert [member.slot for member in pool_.members()] != [0, 1]
            assert await ask(cluster, whom, Verb.ROLL, wait=False) is None
            assert await ask(cluster, whom, Verb.PAUSE_ROLL, wait=False) is None
            assert await ask(cluster, whom, Verb.SCALE, {"size": 2}, wait=False) is None
            await ask(cluster, whom, Verb.RESUME_ROLL)
            await pool_.wait_settled()
            await anyio.sleep(70)
            assert not await cluster.published(str(Key("a", whom.instance, "answer.")))
            await ask(cluster, whom, Verb.DRAIN)
            assert pool_.desired == 0

    play(main)


def test_what_was_asked_of_an_earlier_owner_is_not_done_by_the_next() -> None:
    async def main(cluster: SimulatedCluster) -> None:
        async with replicas(cluster, detached=True) as pool_:
            await pool_.scale(1)
            await pool_.detach()
        [view] = await look(cluster)
        assert (view.status, view.keeper, view.can_be_asked) == ("no owner", True, False)
        late = Request(id="late", verb=Verb.SCALE, args={"size": 0})
        document = {"version": 1, "id": late.id, "verb": "scale", "args": {"size": 0}}
        key = str(Key("a", view.instance, "request.late"))
        await cluster.publish({key: pack(document)})
        before = await events_of(cluster, "a", view.instance)
        async with pool.attach("a", cluster=cluster) as again:
            await anyio.sleep(10)
            assert again.desired == 1
            view = await find(cluster, "a")
            assert view.picture is not None
            assert (view.status, view.picture.epoch) == ("running", 2)
            after = await events_of(cluster, "a", view.instance)
            assert [e.number for e in after] == sorted({e.number for e in after})
            assert len(after) > len(before)
        assert await cluster.published("") == {}

    play(main)


def test_of_two_pools_of_one_name_it_has_to_be_said_which() -> None:
    async def main(cluster: SimulatedCluster) -> None:
        async with replicas(cluster, instance="i"), replicas(cluster, instance="j"):
            await anyio.sleep(3)
            assert len(await look(cluster, "a")) == 2
            with pytest.raises(pool.ConfigError, match="say which: a:i, a:j"):
                await find(cluster, "a")
            assert (await find(cluster, "a:j")).instance == "j"
            with pytest.raises(pool.PoolUnknown):
                await find(cluster, "a:k")
        assert await cluster.published("") == {}

    play(main)


def test_an_owner_that_stands_still_is_silent_and_what_was_asked_of_it_is_withdrawn() -> None:
    async def main(cluster: SimulatedCluster) -> None:
        async def drive(view: SimulatedCluster) -> None:
            async with replicas(view):
                await anyio.sleep_forever()

        driver = cluster.drive(drive)
        whom = (await shown(cluster, lambda v: v.picture is not None)).whom
        cluster.freeze_driver(driver, 300)
        with pytest.raises(pool.CallTimeout, match="does its event loop turn"):
            await ask(cluster, whom, Verb.SCALE, {"size": 1})
        assert not await cluster.published(str(Key("a", whom.instance, "request.")))
        assert (await find(cluster, "a")).status == "owner silent"
        cluster.crash(driver)

    play(main)


@pytest.mark.parametrize(
    "value",
    [
        b"no zip",
        pack({"version": 2, "pool": "a"}),
        pack({"version": 1, "pool": "a"}),
        pack({"version": 1, "pool": "a", "instance": "i", "published_at": True, "period_s": 1}),
        pack({"version": 1}) + b"x",
    ],
)
def test_what_is_no_picture_is_not_shown_as_one(value: bytes) -> None:
    async def main(cluster: SimulatedCluster) -> None:
        keys = [Key("a", "i", "picture"), Key("a", "i", "events.0"), Key("a", "i", "request.0")]
        await cluster.publish({**{str(key): value for key in keys}, f"{ROOT}a": value})
        assert await look(cluster) == []
        assert await events_of(cluster, "a", "i") == []
        with pytest.raises(pool.PoolUnknown):
            await find(cluster, "a")

    play(main)
