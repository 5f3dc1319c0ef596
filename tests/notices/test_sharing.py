"""One process on a node asks for all: who, and who after it; and what each node host hears."""

from __future__ import annotations

import itertools
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace

import anyio
import pytest

from pool.errors import SourceUnavailable
from pool.notices import AwsSpotInterruption, FileNotice, NodeNoticeSource, sharing
from pool.notices import watch as watch_module
from pool.notices.sharing import Hear, Told, share
from pool.notices.watch import BACK_OFF_MAX_S, NodeWatch, pause_s
from pool.planning.notice import Notice, NoticeKind
from pool.testing import run
from pool.testing.notices import FakeAws

_numbers = itertools.count()
NOTICE = Notice(kind=NoticeKind.PREEMPT, deadline=2e9, source="s", reason="ünïcode")


@pytest.fixture
def node() -> str:
    """Give a node of a test's own."""
    return f"test {time.monotonic_ns()} {next(_numbers)}"


class Process:
    """Be one of the processes of a node, as far as sharing goes."""

    def __init__(self) -> None:
        self.asks = False
        self.heard: list[Told] = []
        self.tell: Hear = lambda told: None
        self.scope = anyio.CancelScope()

    async def run(self, name: str) -> None:
        with self.scope:
            await share(name, self._ask, self.heard.append)

    async def _ask(self, tell: Hear) -> None:
        self.asks, self.tell = True, tell
        try:
            await anyio.sleep_forever()
        finally:
            self.asks = False


async def until(condition: object, timeout_s: float = 10) -> None:
    assert callable(condition)
    with anyio.fail_after(timeout_s):
        while not condition():  # noqa: ASYNC110 - nobody tells
            await anyio.sleep(0.01)


def test_one_asks_all_hear_and_another_goes_on_within_milliseconds(node: str) -> None:
    async def main() -> None:
        processes = [Process() for _ in range(4)]
        async with anyio.create_task_group() as tasks:
            for process in processes:
                tasks.start_soon(process.run, node)
            await until(lambda: any(p.asks for p in processes))
            [asker] = [p for p in processes if p.asks]
            asker.tell((NOTICE,))
            await until(lambda: all(p.heard[-1:] == [(NOTICE,)] for p in processes))
            late = Process()
            tasks.start_soon(late.run, node)
            await until(lambda: late.heard == [(NOTICE,)])
            asker.tell(())
            await until(lambda: all(p.heard[-1] == () for p in [*processes, late]))
            begun = time.monotonic()
            asker.scope.cancel()
            others = [p for p in [*processes, late] if p is not asker]
            await until(lambda: any(p.asks for p in others))
            assert time.monotonic() - begun < 1
            assert sum(p.asks for p in others) == 1
            tasks.cancel_scope.cancel()

    anyio.run(main)


ASKER = """
import sys, anyio
from pool.notices.sharing import share
from pool.planning.notice import Notice, NoticeKind

async def ask(tell):
    print("asks", flush=True)
    tell((Notice(kind=NoticeKind.PREEMPT, source="other"),))
    await anyio.sleep_forever()

anyio.run(share, sys.argv[1], ask, lambda told: None)
"""


def test_an_asker_that_is_killed_is_followed_and_one_that_hangs_is_not_waited_for(
    node: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sharing, "SILENCE_S", 1.0)
    command = [sys.executable, "-c", ASKER, node]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        try:
            assert other.stdout is not None
            assert other.stdout.readline() == "asks\n"

            async def main() -> None:
                process = Process()
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(process.run, node)
                    await until(lambda: process.heard)
                    assert process.heard[0][0].source == "other"
                    assert not process.asks
                    other.send_signal(signal.SIGSTOP)
                    await until(lambda: process.asks)
                    other.send_signal(signal.SIGCONT)
                    await until(lambda: not process.asks)
                    other.kill()
                    begun = time.monotonic()
                    await until(lambda: process.asks)
                    assert time.monotonic() - begun < 2
                    tasks.cancel_scope.cancel()

            monkeypatch.setattr(sharing, "SILENCE_S", 3.0)
            anyio.run(main)
        finally:
            other.kill()


class Source(NodeNoticeSource):
    """Say what a test wants."""

    def __init__(self, name: str = "s", shared_as: str | None = None) -> None:
        self.name = name
        self.period_s = 1.0
        self.shared_as = shared_as
        self.says: Notice | Exception | None = None
        self.asked: list[float] = []

    async def check(self, node_id: str, address: str) -> Notice | None:
        self.asked.append(anyio.current_time())
        if isinstance(self.says, Exception):
            raise self.says
        return self.says


class Several(Source):
    """Be several sources, once it has looked around."""

    def __init__(self, parts: Sequence[NodeNoticeSource]) -> None:
        super().__init__("several")
        self.parts = parts

    async def resolve(self) -> Sequence[NodeNoticeSource]:
        return self.parts


def test_what_was_said_stays_said_while_a_source_is_in_trouble_which_is_counted() -> None:
    """INV-9."""

    async def main() -> None:
        source, heard = Source(), list[Told]()
        watch = NodeWatch([source], "n1", "a", heard.append)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(watch.run)
            source.says = NOTICE
            await anyio.sleep(1.5)
            assert heard[-1] == (replace(NOTICE, node_id="n1"),)
            source.says = SourceUnavailable("no route")
            await anyio.sleep(100)
            assert len(heard) == 1
            tally = watch.tallies["s"]
            assert tally.unavailable == tally.in_a_row == tally.asked - 2
            assert tally.trouble == "no route"
            assert source.asked[-1] - source.asked[-2] == pytest.approx(BACK_OFF_MAX_S)
            source.says = None
            await anyio.sleep(BACK_OFF_MAX_S)
            assert list(heard[-1]) == []
            assert (tally.in_a_row, tally.trouble) == (0, "")
            tasks.cancel_scope.cancel()

    run(main)


def test_sources_that_were_found_on_the_node_are_told_as_one() -> None:
    async def main() -> None:
        one, other, heard = Source("one"), Source("other"), list[Told]()
        watch = NodeWatch([Several([one, other]), Several([])], "n1", "a", heard.append)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(watch.run)
            await anyio.sleep(0.5)
            one.says = replace(NOTICE, source="one")
            await anyio.sleep(1)
            other.says = replace(NOTICE, source="other")
            await anyio.sleep(1)
            assert [notice.source for notice in heard[-1]] == ["one", "other"]
            one.says = None
            await anyio.sleep(1)
            assert [notice.source for notice in heard[-1]] == ["other"]
            tasks.cancel_scope.cancel()

    run(main)


def test_who_takes_over_withdraws_nothing_before_it_has_asked(node: str) -> None:
    """INV-9: the process that asked is gone; the notice is not."""

    async def main() -> None:
        first, second = (Source("s", shared_as=node) for _ in range(2))
        first.says = NOTICE
        second.says = SourceUnavailable("not yet")
        heard: tuple[list[Told], list[Told]] = ([], [])
        async with anyio.create_task_group() as tasks:
            leading = anyio.CancelScope()

            async def lead() -> None:
                with leading:
                    await NodeWatch([first], "n1", "a", heard[0].append, "node").run()

            tasks.start_soon(lead)
            await until(lambda: heard[0])
            tasks.start_soon(NodeWatch([second], "n1", "a", heard[1].append, "node").run)
            await until(lambda: heard[1])
            assert not second.asked, "the first asks for both"
            leading.cancel()
            await until(lambda: second.asked)
            # Heard a little later by somebody else, it is the same announcement.
            second.says = replace(NOTICE, deadline=2e9 + 20)
            await until(lambda: len(second.asked) >= 2)
            assert {notice.deadline for told in heard[1] for notice in told} == {2e9}
            assert () not in heard[1]
            tasks.cancel_scope.cancel()

    anyio.run(main)


def test_ten_hosts_on_a_node_ask_a_service_as_often_as_one() -> None:
    async def main() -> None:
        with FakeAws() as aws:
            heard: list[list[Told]] = [[] for _ in range(10)]
            async with anyio.create_task_group() as tasks:
                for each in heard:
                    source = AwsSpotInterruption(aws.url, period_s=0.2)
                    watch = NodeWatch([source], "n1", "a", each.append, aws.url)
                    tasks.start_soon(watch.run)
                await anyio.sleep(1)
                aws.interrupt()
                told = time.monotonic()
                await until(lambda: all(each and each[-1] for each in heard))
                assert time.monotonic() - told < 2
                tasks.cancel_scope.cancel()
            asked = [question for question in aws.questions if question.method == "GET"]
            assert len(asked) <= 1 + (time.monotonic() - asked[0].at) / 0.2
            assert sum(question.method == "PUT" for question in aws.questions) == 1

    anyio.run(main)


def test_where_nothing_can_be_shared_each_asks_for_itself(
    node: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*args: object) -> None:
        raise OSError("no such sockets here")

    monkeypatch.setattr(watch_module, "share", broken)

    async def main() -> None:
        source, heard = Source("s", shared_as=node), list[Told]()
        source.says = NOTICE
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(NodeWatch([source], "n1", "a", heard.append, "node").run)
            await until(lambda: heard)
            tasks.cancel_scope.cancel()

    anyio.run(main)


def test_a_file_is_looked_at_by_each_for_itself() -> None:
    assert FileNotice("/run/leaves").shared_as is None


def test_the_pause_grows_with_trouble_and_has_an_end() -> None:
    assert pause_s(5.0, 0) == 5.0
    assert [pause_s(1.0, n) for n in (1, 2, 3, 4, 50)] == [2.0, 4.0, 8.0, 15.0, 15.0]
    assert pause_s(60.0, 3) == 60.0
