"""`pool logs` follows processes through whatever happens to them, and says each thing once."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

import pool
from pool.cli.exits import Exit, Stop
from pool.cli.logs import show_logs
from pool.cli.voice import Voice
from pool.testing import SimNode, SimulatedCluster, run
from pool.window.requests import Refused, Request, Verb

SHAPE = pool.ReplicaShape(devices=1)
VOICE = Voice(width=100)


class Wordy(pool.ReplicaPool):
    """Have a process `talk` in each slot, whose log is what the test says it is."""

    def __init__(self, cluster: SimulatedCluster, **options: Any) -> None:
        super().__init__("a", shape=SHAPE, cluster=cluster, **options)
        self.written: dict[int, str] = defaultdict(str)
        self.asked: list[dict[str, Any]] = []
        self.trouble = ""

    async def carry_out(self, request: Request) -> Any:
        args = request.args
        if request.verb is Verb.PROCESSES:
            slots = [one.slot for one in self.members() if args["slot"] in (None, one.slot)]
            return [{"slot": slot, "host": 0, "process": {"name": "talk"}} for slot in slots]
        if request.verb is not Verb.READ_LOG:
            return await super().carry_out(request)
        self.asked.append(dict(args))
        if self.trouble:
            raise pool.CallTimeout(self.trouble)
        if args["slot"] not in [one.slot for one in self.members()]:
            raise pool.ConfigError("it is not up", "slot")
        written = self.written[args["slot"]]
        begin = 0 if "lines" in args else args["cursor"]["at"]
        return {"text": written[begin:], "cursor": {"at": len(written)}}


Main = Callable[[SimulatedCluster, Wordy], Awaitable[None]]


def play(main: Main, size: int = 1) -> None:
    cluster = SimulatedCluster([SimNode(gpus=4)] * 2)

    async def play_it() -> None:
        async with Wordy(cluster) as wordy:
            await wordy.scale(size)
            await anyio.sleep(3)
            await main(cluster, wordy)

    run(play_it)


async def followed(cluster: SimulatedCluster, main: Callable[[], Awaitable[None]]) -> bool:
    """Follow pool `a` while something happens; return whether the follower ended by itself."""
    has_ended = False

    async def follow() -> None:
        nonlocal has_ended
        await show_logs(cluster, VOICE, "a", follow=True)
        has_ended = True

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(follow)
        await anyio.sleep(10)
        await main()
        await anyio.sleep(60)
        tasks.cancel_scope.cancel()
    return has_ended


def test_one_log_is_followed_as_it_is_written(capsys: pytest.CaptureFixture[str]) -> None:
    async def main(cluster: SimulatedCluster, wordy: Wordy) -> None:
        wordy.written[0] = "one\ntw"

        async def more() -> None:
            assert capsys.readouterr().out == "one\ntw"
            wordy.written[0] += "o\nthree\n"

        assert not await followed(cluster, more)
        assert wordy.asked[0] == {"slot": 0, "host": 0, "process": "talk", "lines": 50}
        assert wordy.asked[1]["cursor"] == {"at": 6}

    play(main)
    assert capsys.readouterr() == ("o\nthree\n", "")


def test_of_several_logs_whole_lines_are_shown_each_with_its_name(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def main(cluster: SimulatedCluster, wordy: Wordy) -> None:
        wordy.written |= {0: "one\ntw", 1: "uno\n"}

        async def more() -> None:
            assert capsys.readouterr().out == "0/0 talk | one\n1/0 talk | uno\n"
            wordy.written[0] += "o\n"

        await followed(cluster, more)
        assert capsys.readouterr().out == "0/0 talk | two\n"
        wordy.written[1] = "no end"
        await show_logs(cluster, VOICE, "a")
        assert capsys.readouterr().out == "0/0 talk | one\n0/0 talk | two\n1/0 talk | no end\n"
        await show_logs(cluster, Voice(as_json=True), "a/1")
        document = json.loads(capsys.readouterr().out)
        del document["version"]
        assert document == {"slot": 1, "host": 0, "process": "talk", "text": "no end"}

    play(main, size=2)


def test_a_read_that_fails_is_said_once_and_the_others_go_on(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def main(cluster: SimulatedCluster, wordy: Wordy) -> None:
        wordy.written |= {0: "one\n"}

        async def fail() -> None:
            wordy.trouble = "its host did not answer"
            await anyio.sleep(30)
            wordy.written[0] += "two\n"
            wordy.trouble = ""
            await anyio.sleep(10)
            cluster.stop_control(30)
            await anyio.sleep(60)
            wordy.written[0] += "three\n"

        assert not await followed(cluster, fail)

    play(main)
    told = capsys.readouterr()
    assert told.out == "one\ntwo\nthree\n"
    assert told.err.splitlines() == [
        "0/0 talk: its host did not answer",
        "0/0 talk: the simulated cluster's control is away",
    ]


def test_a_member_that_is_replaced_is_followed_and_a_slot_that_is_closed_is_not(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def main(cluster: SimulatedCluster, wordy: Wordy) -> None:
        async def change() -> None:
            cluster.crash(wordy.handles()[0])
            await anyio.sleep(30)
            wordy.written[0] += "again\n"
            await anyio.sleep(5)
            await wordy.scale(1)
            await anyio.sleep(10)
            await wordy.scale(0)

        assert await followed(cluster, change)

    play(main, size=2)
    told = capsys.readouterr()
    err = told.err.splitlines()
    assert told.out.splitlines() == ["0/0 talk | again"]
    assert err[-1] == "0/0 talk: its slot was closed"
    assert "1/0 talk: its slot was closed" in err
    assert len(err) == len(set(err))


def test_what_is_started_later_is_followed_as_well(capsys: pytest.CaptureFixture[str]) -> None:
    async def main(cluster: SimulatedCluster, wordy: Wordy) -> None:
        wordy.written |= {0: "one\ntw", 1: "uno\n"}

        async def grow() -> None:
            assert capsys.readouterr().out == "one\ntw"
            await wordy.scale(2)
            await anyio.sleep(10)
            assert capsys.readouterr().out == "\n1/0 talk | uno\n"
            wordy.written[0] += "o\n"
            await anyio.sleep(5)
            assert capsys.readouterr().out == "0/0 talk | two\n"
            await wordy.scale(1)
            await anyio.sleep(10)
            await wordy.scale(2)

        assert not await followed(cluster, grow)

    play(main)
    assert capsys.readouterr().out == "1/0 talk | uno\n"


def test_a_follower_of_one_slot_takes_in_no_other(capsys: pytest.CaptureFixture[str]) -> None:
    async def main(cluster: SimulatedCluster, wordy: Wordy) -> None:
        wordy.written |= {0: "one\n", 1: "uno\n"}
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: show_logs(cluster, VOICE, "a/0", follow=True))
            await anyio.sleep(5)
            await wordy.scale(2)
            await anyio.sleep(20)
            tasks.cancel_scope.cancel()

    play(main)
    assert capsys.readouterr().out == "one\n"


def test_it_ends_with_the_pool(capsys: pytest.CaptureFixture[str]) -> None:
    async def main() -> None:
        cluster = SimulatedCluster([SimNode(gpus=4)])
        async with anyio.create_task_group() as tasks, Wordy(cluster) as wordy:
            await wordy.scale(1)
            await anyio.sleep(3)
            tasks.start_soon(lambda: show_logs(cluster, VOICE, "a", follow=True))
            await anyio.sleep(5)

    run(main)
    assert capsys.readouterr().err.splitlines()[-1] == "pool 'a' has ended"


def test_it_ends_with_the_owner_and_says_where_the_files_are() -> None:
    async def main() -> None:
        cluster = SimulatedCluster([SimNode(gpus=4)])

        async def drive(view: SimulatedCluster) -> None:
            async with Wordy(view, detached=True) as wordy:
                await wordy.scale(1)
                await anyio.sleep_forever()

        driver = cluster.drive(drive)
        await anyio.sleep(20)

        async def crash() -> None:
            await anyio.sleep(10)
            cluster.crash(driver)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(crash)
            with pytest.raises(Stop, match="has no owner who could") as stopped:
                await show_logs(cluster, VOICE, "a", follow=True)
            assert stopped.value.code is Exit.NO_OWNER

    run(main)


def test_a_log_that_cannot_be_read_at_first_ends_it_with_the_reason() -> None:
    async def main(cluster: SimulatedCluster, wordy: Wordy) -> None:
        wordy.trouble = "its host did not answer"
        for follow in (False, True):
            with pytest.raises(Refused, match="did not answer"):
                await show_logs(cluster, VOICE, "a", follow=follow)

    play(main)
