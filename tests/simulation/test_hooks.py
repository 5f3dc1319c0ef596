"""Hooks of a pool that do not do as they should, told to their end: the pool goes on."""

from __future__ import annotations

import functools
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, ClassVar

import anyio
import pytest

import pool
from pool.cluster.body import Bulletin, Context
from pool.cluster.interface import Fault, Reply
from pool.manager.events import level_of
from pool.testing import SimNode, SimulatedCluster, run
from pool.testing.watch import Watch

LEASE_S = 21.0
Story = Callable[[SimulatedCluster, Any], Awaitable[None]]


def tell(kind: type[pool.ReplicaPool], story: Story, **options: Any) -> None:
    """Tell a story of two replicas, of two hosts each, in a pool of a class."""

    async def main() -> None:
        cluster = SimulatedCluster([SimNode(gpus=8)] * 6)
        shape = pool.ReplicaShape(devices=16)
        replicas = kind("r", shape=shape, cluster=cluster, lease_s=LEASE_S, **options)
        cluster.listen(replicas)
        watch = Watch(replicas, cluster)
        async with replicas:
            await replicas.scale(2, timeout_s=60)
            await story(cluster, replicas)
        watch.check_closed()

    run(main, limit_s=86_400)


def said(replicas: Any, kind: pool.EventKind) -> list[Mapping[str, Any]]:
    return [event.facts for event in replicas.events() if event.kind is kind]


class Raising(pool.ReplicaPool):
    """Have plain hooks that raise."""

    def take_notices(self, identity: pool.Identity, notices: tuple[pool.Notice, ...]) -> bool:
        raise KeyError("no such node")

    def on_pool_failed(self, failure: pool.PoolFailed) -> None:
        raise OSError("the pager does not answer")

    def show_info(self, info: pool.ReplicaInfo) -> Mapping[str, Any]:
        raise ZeroDivisionError("no hosts")


def test_plain_hooks_that_raise_are_told_of_once_and_their_defaults_hold() -> None:
    async def story(cluster: SimulatedCluster, replicas: Raising) -> None:
        for rank in (0, 1):
            cluster.crash(replicas[rank].info.hosts[0].actor)  # type: ignore[union-attr]
            await anyio.sleep(60)
        assert [member.generation for member in replicas.members(serving=True)] == [2, 2]
        assert [failure.detail[:7] for failure in replicas.failures] == ["host 0:"] * 2
        for _ in range(2):
            slots = replicas.picture()["snapshot"]["slots"]
            assert slots[0]["member"]["info"] == {}
        replicas._note_fault(replicas._incarnations()[0], Fault(pool.Cause.VERDICT, "no use"))
        with pytest.raises(pool.PoolFailed):
            await replicas.wait_settled(60)
        told = said(replicas, pool.EventKind.HOOK_FAILED)
        assert {facts["hook"]: facts["reason"] for facts in told} == {
            "take_notices": "KeyError: 'no such node'",
            "show_info": "ZeroDivisionError: no hosts",
            "on_pool_failed": "OSError: the pager does not answer",
        }
        assert len(told) == 3
        assert any('raise KeyError("no such node")' in facts["trace"] for facts in told)
        await replicas.scale(2, timeout_s=60)
        assert len(replicas.members(serving=True)) == 2

    tell(Raising, story)


class Forgetful(pool.ReplicaPool):
    """Remember once, and then no more."""

    asked = 0

    def remember(self) -> Any:
        self.asked += 1
        if self.asked > 1:
            raise RuntimeError("no more")
        return super().remember()


def test_a_detached_pool_lives_on_though_it_cannot_remember() -> None:
    async def story(cluster: SimulatedCluster, replicas: Forgetful) -> None:
        await replicas.scale(1, timeout_s=60)
        await anyio.sleep(3 * LEASE_S)
        assert replicas.asked > 2
        [facts] = said(replicas, pool.EventKind.HOOK_FAILED)
        assert (facts["hook"], facts["reason"]) == ("remember", "RuntimeError: no more")
        assert len(replicas.members(serving=True)) == 1
        assert not replicas.failures

    tell(Forgetful, story, detached=True)


class Checking(pool.ReplicaPool):
    """Have a checker that does as it is told."""

    way: Callable[[list[Reply]], Any] = staticmethod(lambda replies: replies)

    async def check_members(self, actors: Sequence[pool.Actor], timeout_s: float) -> list[Reply]:
        way = type(self).way
        if way is hangs:
            await anyio.sleep_forever()
        # Without a lease: whoever asks in another way has nothing to say of the owner.
        return way(await self.cluster.poll(actors, timeout_s, None))  # type: ignore[no-any-return]


def breaks(replies: list[Reply]) -> Any:
    raise ConnectionError("nobody can be asked")


def hangs(replies: list[Reply]) -> Any:
    raise AssertionError("it does not come to that")


@pytest.mark.parametrize(
    ("way", "says"),
    [
        (hangs, "check_members did not return within 3 times its"),
        (breaks, "ConnectionError('nobody can be asked')"),
        (lambda replies: replies[:1], "returned 1 replies for 2 members"),
        (lambda replies: [*replies, *replies], "returned 4 replies for 2 members"),
        (lambda replies: None, "returned NoneType"),
        (lambda replies: [True for _ in replies], "returned True, not a Reply"),
    ],
)
def test_a_checker_that_fails_judges_nobody_and_nobody_ends_by_its_lease(
    way: Callable[[list[Reply]], Any], says: str
) -> None:
    """INV-9: the owner is alive, whatever its checker does."""

    async def story(cluster: SimulatedCluster, replicas: Checking) -> None:
        await anyio.sleep(10 * LEASE_S)
        assert not replicas.failures
        assert [member.id for member in replicas.members(serving=True)] == ["r/0.1", "r/1.1"]
        told = said(replicas, pool.EventKind.SOURCE_UNAVAILABLE)
        assert any(facts["source"] == "health" and says in facts["reason"] for facts in told)

    kind = type("Checks", (Checking,), {"way": staticmethod(way)})
    tell(kind, story)


class Opening(pool.ReplicaPool):
    """Forget to return what the member said."""

    async def open_member(self, actor: pool.Actor, timeout_s: float) -> Any:
        await super().open_member(actor, timeout_s)


def test_an_open_member_that_returns_nothing_is_refused_with_a_sentence() -> None:
    async def story(cluster: SimulatedCluster, replicas: Opening) -> None:
        raise AssertionError("it serves")

    with pytest.raises(pool.SizeUnreachable) as told:
        tell(Opening, story)
    assert isinstance(told.value.__cause__, pool.PoolFailed)
    assert told.value.__cause__.detail == (
        "Opening.open_member returned None; return the ReplicaInfo that super().open_member() "
        "returns"
    )


class Killing(pool.ReplicaPool):
    """Raise where the actor is to be killed, after it was."""

    def kill_member(self, actor: pool.Actor, info: Any) -> None:
        super().kill_member(actor, info)
        raise RuntimeError("the lock is held")


def test_who_has_troubles_on_the_way_out_leaves_louder(caplog: pytest.LogCaptureFixture) -> None:
    async def story(cluster: SimulatedCluster, replicas: Any) -> None:
        await replicas.drain()
        for event in replicas.events():
            if event.kind is pool.EventKind.MEMBER_DRAINED:
                levels.add(level_of(event.kind, event.facts))

    levels: set[str] = set()
    with caplog.at_level(logging.INFO, "pool"):
        tell(Killing, story)
        assert levels == {"warning"}
        drained = [r for r in caplog.records if "member_drained" in r.getMessage()]
        loud = [r for r in drained if "the lock is held" in r.getMessage()]
        assert len(loud) == 2
        assert {record.levelno for record in loud} == {logging.WARNING}
        levels.clear()
        tell(pool.ReplicaPool, story)
        assert levels == {"info"}


class Silent:
    """Be a body that has nothing to say of itself."""

    shut: ClassVar[list[str]] = []

    def __init__(self, trouble: Exception | None = None) -> None:
        self.bulletin = Bulletin()
        self.trouble = trouble

    async def start(self, context: Context) -> None:
        self.name = context.identity.member
        if self.trouble is not None:
            raise self.trouble

    async def tell(self, trouble: str) -> None:
        self.bulletin.tell(trouble)

    async def check_health(self) -> None: ...

    async def lifeline(self, seen: int) -> object:
        return await self.bulletin.after(seen)

    async def drain(self, budget_s: float) -> None: ...

    async def restore(self) -> None: ...

    async def shutdown(self, budget_s: float) -> Sequence[str]:
        self.shut.append(self.name)
        return ()


class Silents(pool.ResourcePoolManager[None]):
    level = "silent"
    trouble: Exception | None = None

    async def describe_member(
        self, identity: pool.Identity, reservation: pool.Reservation | None
    ) -> pool.ActorSpec:
        return pool.ActorSpec(body=Silent, args=(self.trouble,), label="Silent", identity=identity)


def test_a_body_whose_start_returns_nothing_is_shut_down_all_the_same() -> None:
    async def main() -> None:
        async with Silents("s", cluster=SimulatedCluster([SimNode()])) as silents:
            await silents.scale(2, timeout_s=60)
            reports = await silents.drain()
        assert sorted(Silent.shut) == ["s/0.1", "s/1.1"]
        assert [report.rung for report in reports] == ["hook", "hook"]

    Silent.shut.clear()
    run(main)


def test_the_trouble_of_a_body_whose_start_returns_nothing_is_heard() -> None:
    async def main() -> None:
        cluster = SimulatedCluster([SimNode()])
        async with Silents("s", cluster=cluster) as silents:
            await silents.scale(1, timeout_s=60)
            await cluster.call(silents.handles()[0], "tell", "it thinks")
            await anyio.sleep(1)
            assert silents.members()[0].state is pool.State.SUSPECT

    run(main)


def test_a_time_out_in_a_start_keeps_its_own_words() -> None:
    async def main(trouble: Exception, says: str) -> None:
        kind = type("Mine", (Silents,), {"trouble": trouble})
        cluster = SimulatedCluster([SimNode()])
        restart = pool.RestartPolicy(intensity=0)
        policies = pool.manager.policies.Policies(restart=restart)
        async with kind("s", cluster=cluster, policies=policies) as silents:
            with pytest.raises(pool.SizeUnreachable):
                await silents.scale(1, timeout_s=60)
            [failure] = silents.failures
            assert failure.cause is pool.Cause.START
            assert says in failure.detail

    hub = TimeoutError("the model hub did not answer")
    run(functools.partial(main, hub, "TimeoutError: the model hub did not answer"))
    late = pool.ProcessTimeout("server", "was not ready within 5 s: GET http://10.0.0.1 said 503")
    run(functools.partial(main, late, "process 'server' was not ready within 5 s: GET http://10."))


def test_a_start_that_takes_too_long_is_named_so() -> None:
    async def story(cluster: SimulatedCluster, replicas: Any) -> None: ...

    class Slow(pool.ReplicaPool):
        async def open_member(self, actor: pool.Actor, timeout_s: float) -> Any:
            await anyio.sleep(10 * timeout_s)

    with pytest.raises(pool.SizeUnreachable) as told:
        tell(Slow, story, start_timeout_s=5, restart=pool.RestartPolicy(intensity=0))
    assert "it was not ready within its start time-out of 5 s" in str(told.value.__cause__)


class Weightless(pool.NodeHost):
    """Have a start that raises, a few calls down."""

    def start(self) -> None:
        self.load()

    def load(self) -> None:
        raise KeyError("weights.bin")


def test_where_a_start_raised_is_told_in_the_failure_the_events_and_the_error() -> None:
    async def story(cluster: SimulatedCluster, replicas: Any) -> None: ...

    kept: list[pool.ReplicaPool] = []

    class Kept(pool.ReplicaPool):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            kept.append(self)

    with pytest.raises(pool.SizeUnreachable) as told:
        tell(Kept, story, host=Weightless, restart=pool.RestartPolicy(intensity=0))
    failure = kept[0].failures[0]
    assert "start: host" not in failure.detail
    assert failure.detail.endswith("KeyError: 'weights.bin'")
    assert 'raise KeyError("weights.bin")' in failure.trace
    assert "in load" in failure.trace
    assert len(failure.trace.splitlines()) <= 21
    fact = said(kept[0], pool.EventKind.MEMBER_FAULT)[0]["trace"]
    assert fact == failure.trace
    assert said(kept[0], pool.EventKind.POOL_FAILED)[0]["trace"]
    cause = told.value.__cause__
    assert isinstance(cause, pool.PoolFailed)
    assert 'raise KeyError("weights.bin")' in cause.__notes__[0]


class Clumsy:
    """Be a rank whose constructor raises."""

    def __init__(self) -> None:
        raise ValueError("rank ctor")


def test_a_rank_that_cannot_be_made_is_told_by_its_number_and_host() -> None:
    async def main() -> None:
        cluster = SimulatedCluster([SimNode(gpus=1)] * 2)
        restart = pool.RestartPolicy(intensity=0)
        shape = pool.ReplicaShape(devices=2)
        ranks = pool.Ranks(Clumsy)
        async with pool.ReplicaPool(
            "r", shape=shape, cluster=cluster, ranks=ranks, restart=restart
        ) as replicas:
            with pytest.raises(pool.SizeUnreachable):
                await replicas.scale(1, timeout_s=60)
            [failure] = replicas.failures
            said = {f"host {number}: rank {number}: ValueError: rank ctor" for number in (0, 1)}
            assert failure.detail in said
            assert 'raise ValueError("rank ctor")' in failure.trace

    run(main)
