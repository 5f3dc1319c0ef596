"""The body of a node host, without Ray: admission, environments, notices, and the end."""

from __future__ import annotations

import os
from collections.abc import Callable, Coroutine
from typing import Any

import anyio
import pytest

import pool
from pool.cluster.body import Context
from pool.cluster.interface import Identity
from pool.host.body import HostBody
from pool.host.plan import HostPlace, HostPlan
from pool.manager.policies import Policies
from pool.testing import run

IDENTITY = Identity(pool="p/0.1", instance="abc", slot=1, generation=1, level="host")
GPUS = pool.Resources({"GPU": 4})
PLACE = HostPlace(1, pool.Reservation("g", ("node-0", "node-1"), (GPUS, GPUS)))


class Source(pool.notices.NodeNoticeSource):
    """Say what the test wants, or that nobody can be asked."""

    def __init__(self, name: str = "test") -> None:
        self.name = name
        self.period_s = 1.0
        self.says: pool.Notice | Exception | None = None

    async def check(self, node_id: str, address: str) -> pool.Notice | None:
        if isinstance(self.says, Exception):
            raise self.says
        return self.says


async def started(
    host: type[pool.NodeHost] = pool.NodeHost, *sources: pool.notices.NodeNoticeSource
) -> HostBody:
    body = HostBody(HostPlan(host_class=host, notices=sources, policies=Policies()), PLACE)
    nowhere: Any = None
    await body.start(Context(nowhere, IDENTITY, "node-1", "10.0.0.1"))
    return body


def in_virtual_time(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """Run an async test in virtual time, within an hour of it."""

    def sync() -> None:
        run(test, limit_s=3600)

    sync.__name__, sync.__doc__ = test.__name__, test.__doc__
    return sync


@in_virtual_time
async def test_it_tells_of_itself_what_the_place_and_the_host_say() -> None:
    class Host(pool.NodeHost):
        async def start(self) -> str:
            return f"{self.index} of {self.hosts} on {self.context.node_id}"

    body = HostBody(HostPlan(host_class=Host, policies=Policies()), PLACE)
    nowhere: Any = None
    info = await body.start(Context(nowhere, IDENTITY, "node-1", "10.0.0.1"))
    assert (info.index, info.hosts, info.node_id) == (1, 2, "node-1")
    assert (info.address, info.pid, info.bundle["GPU"]) == ("10.0.0.1", os.getpid(), 4)
    assert info.extra == "1 of 2 on node-1"


@in_virtual_time
async def test_a_drain_waits_for_the_work_in_flight_and_admits_no_more() -> None:
    body = await started()
    ends: list[str] = []

    async def work() -> None:
        await anyio.sleep(30)
        ends.append("work")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(body.execute, work, ())
        tasks.start_soon(body.execute, work, ())
        await anyio.sleep(1)

        async def drain() -> None:
            await body.drain(60)
            ends.append("drain")

        tasks.start_soon(drain)
        await anyio.sleep(1)
        with pytest.raises(pool.NotAdmitted, match=r"p/0\.1/1\.1 takes no new work"):
            await body.execute(abs, (-1,))
    assert ends == ["work", "work", "drain"]
    await body.restore()
    assert await body.execute(abs, (-1,)) == 1


@in_virtual_time
async def test_a_drain_ends_with_its_budget() -> None:
    body = await started()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(body.execute, anyio.sleep, (1000,))
        await anyio.sleep(1)
        began = anyio.current_time()
        await body.drain(5)
        assert anyio.current_time() - began == 5
        tasks.cancel_scope.cancel()


@in_virtual_time
async def test_calls_with_an_environment_run_one_after_the_other_and_leave_none_behind() -> None:
    body = await started()
    os.environ["POOL_TEST_SET"] = "before"
    seen: list[tuple[str | None, str | None]] = []

    async def look() -> None:
        seen.append((os.environ.get("POOL_TEST_SET"), os.environ.get("POOL_TEST_NEW")))
        await anyio.sleep(10)
        seen.append((os.environ.get("POOL_TEST_SET"), os.environ.get("POOL_TEST_NEW")))

    try:
        async with anyio.create_task_group() as tasks:
            for word in ("one", "two"):
                variables = {"POOL_TEST_SET": word, "POOL_TEST_NEW": word}
                tasks.start_soon(body.execute, look, (), variables)
        assert sorted(seen) == [("one", "one")] * 2 + [("two", "two")] * 2
        assert seen[0] == seen[1], "the second waits for the first"

        def fail() -> None:
            raise ValueError("with an environment")

        with pytest.raises(ValueError, match="with an environment"):
            await body.execute(fail, (), {"POOL_TEST_NEW": "x"})
        assert os.environ["POOL_TEST_SET"] == "before"
        assert "POOL_TEST_NEW" not in os.environ
    finally:
        del os.environ["POOL_TEST_SET"]


@in_virtual_time
async def test_what_a_source_says_is_news_and_what_it_cannot_be_asked_stays_known() -> None:
    """INV-9; and a withdrawal is news as well."""
    source, other = Source("one"), Source("other")
    source.says = notice = pool.Notice(kind=pool.NoticeKind.PREEMPT, source="one")
    body = await started(pool.NodeHost, source, other)
    news = await body.lifeline(0)
    assert [told.kind for told in news.notices] == [notice.kind]
    assert [told.source for told in news.notices] == ["one"]
    source.says = pool.SourceUnavailable("no route")
    await anyio.sleep(5)
    with anyio.move_on_after(5) as scope:
        await body.lifeline(news.version)
    assert scope.cancelled_caught, "nothing was learnt, and nothing is told"
    source.says = None
    news = await body.lifeline(news.version)
    assert news.notices == ()
    await body.shutdown(5)


@in_virtual_time
async def test_a_source_with_a_bug_does_not_silence_itself_or_the_others() -> None:
    source, other = Source("broken"), Source("other")
    source.says = ZeroDivisionError("a bug in the source")
    body = await started(pool.NodeHost, source, other)
    await anyio.sleep(3)
    other.says = pool.Notice(kind=pool.NoticeKind.PREEMPT, source="other")
    news = await body.lifeline(0)
    assert [told.source for told in news.notices] == ["other"]
    source.says = pool.Notice(kind=pool.NoticeKind.MAINTENANCE, source="broken")
    news = await body.lifeline(news.version)
    assert {told.source for told in news.notices} == {"broken", "other"}
    await body.shutdown(5)


@in_virtual_time
async def test_a_shutdown_hook_that_hangs_is_cut_off_at_its_budget_and_the_ports_go() -> None:
    class Host(pool.NodeHost):
        async def shutdown(self) -> None:
            await anyio.sleep_forever()

    body = await started(Host)
    port = await body.lease_port()
    began = anyio.current_time()
    with pytest.raises(TimeoutError):
        await body.shutdown(7)
    assert anyio.current_time() - began == 7
    again = await (await started()).lease_port()
    assert again == port, "the lease was given back"
