"""The mistakes that a new user makes first: each is met with what to do instead.

Three more are met on a real Ray: a process that is not connected, a function that cannot be
pickled, and devices that no node has; `tests/cluster/test_errors.py` has them.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

import pool
import pool.blocking
from pool.testing import SimNode, SimulatedCluster, run

SHAPE = pool.ReplicaShape(devices=1)


def play(main: Callable[[Callable[..., pool.ReplicaPool]], Awaitable[None]]) -> None:
    cluster = SimulatedCluster([SimNode(gpus=4)])

    def make(**options: Any) -> pool.ReplicaPool:
        return pool.ReplicaPool("a", **{"shape": SHAPE, "cluster": cluster, **options})

    async def play_it() -> None:
        await main(make)

    run(play_it)


def says(text: str) -> str:
    return f"(?s).*{re.escape(text)}"


def test_more_devices_than_there_are_names_what_would_fit() -> None:
    async def main(make: Callable[..., pool.ReplicaPool]) -> None:
        async with make() as replicas:
            with pytest.raises(pool.InfeasibleError, match="would fit: 4 replicas"):
                await replicas.scale(5)
        async with make(shape=pool.ReplicaShape(devices=8)) as replicas:
            with pytest.raises(pool.InfeasibleError, match="The nearest that would fit: 4 GPU"):
                await replicas.scale(1)

    play(main)


@pytest.mark.parametrize("size", [10**6, 2**40])
def test_a_size_that_nobody_could_count_to_is_refused_as_any_other(size: int) -> None:
    """In a moment: no list of so many is made."""

    async def main(make: Callable[..., pool.ReplicaPool]) -> None:
        for placement in (pool.Separate(), pool.Shared(), pool.Deferred()):
            async with make(placement=placement) as replicas:
                with pytest.raises(pool.InfeasibleError, match="would fit: 4 replicas") as caught:
                    await replicas.scale(size)
                assert "together they need" in str(caught.value)
                assert replicas.desired == 0
        async with pool.Program(make()) as program:
            with pytest.raises(pool.InfeasibleError, match="would fit: 4 replicas"):
                await program.scale({"a": size})

    play(main)


def test_a_name_that_is_taken_says_how_to_go_on_with_who_has_it() -> None:
    async def main(make: Callable[..., pool.ReplicaPool]) -> None:
        async with make(detached=True):
            with pytest.raises(pool.PoolExists, match=says("attach('a') to go on with it")):
                await make(detached=True).__aenter__()

    play(main)


def test_a_second_driver_is_told_who_has_the_pool_and_how_to_take_it_over() -> None:
    async def main(make: Callable[..., pool.ReplicaPool]) -> None:
        async with make(detached=True) as replicas:
            with pytest.raises(pool.PoolHeld, match=says("attach('a', takeover=True)")):
                async with pool.attach("a", cluster=replicas.cluster):
                    pass

    play(main)


def test_an_await_that_is_missing_is_pointed_to() -> None:
    async def main(make: Callable[..., pool.ReplicaPool]) -> None:
        async with make() as replicas:
            with pytest.warns(RuntimeWarning, match="scale' was never awaited"):
                replicas.scale(1)  # type: ignore[unused-coroutine]
            with pytest.raises(pool.PoolError, match=says("`await pool.scale(1)`")):
                await replicas.broadcast(abs, 1)
            await replicas.scale(1)
            with pytest.raises(TypeError, match="with `async for`"):
                list(replicas.map(abs, [1]))

    play(main)


def test_a_pool_that_is_opened_by_with_names_async_with_and_the_blocking_pool() -> None:
    async def main(make: Callable[..., pool.ReplicaPool]) -> None:
        with pytest.raises(pool.ConfigError, match=says("write `async with")), make():
            pass

    play(main)


def test_a_pool_that_is_scaled_outside_of_its_block_is_told_of_it() -> None:
    async def main(make: Callable[..., pool.ReplicaPool]) -> None:
        replicas = make()
        with pytest.raises(pool.PoolClosed, match=says("use it inside `async with")):
            await replicas.scale(1)
        async with replicas:
            await replicas.scale(1)
        with pytest.raises(pool.PoolClosed, match="is closed; use it inside"):
            await replicas.scale(1)
        with pytest.raises(pool.PoolClosed, match="make a new one"):
            async with replicas:
                pass

    play(main)


@pytest.mark.parametrize("placement", ["shared", pool.Shared, {"GPU": 1}])
def test_a_placement_that_is_none_is_refused_with_those_there_are(placement: Any) -> None:
    async def main(make: Callable[..., pool.ReplicaPool]) -> None:
        with pytest.raises(pool.ConfigError, match=says("give Separate(), Shared()")) as caught:
            make(placement=placement)
        assert caught.value.field == "placement"

    play(main)


class Wants(pool.NodeHost):
    def __init__(self, model: str) -> None:
        self.model = model


class Starts(pool.NodeHost):
    def start(self, context: object) -> None:  # type: ignore[override]
        pass


class Stops(pool.NodeHost):
    async def shutdown(self, *, budget_s: float) -> None:  # type: ignore[override]
        pass


class Right(Wants):
    def start(self, again: bool = False) -> None:
        pass


@pytest.mark.parametrize(
    ("host", "args", "field", "text"),
    [
        (Wants, (), "host_args", "Wants(model: 'str') "),
        (Wants, ("a", "b"), "host_args", "too many positional arguments"),
        (Wants, "a", "host_args", "give a tuple of arguments"),
        (Starts, (), "host", "is called with nothing but self: missing a required argument"),
        (Stops, (), "host", "Stops.shutdown(self, *, budget_s: 'float')"),
        (pool.NodeHost, (1,), "host_args", "too many positional arguments"),
        (object, (), "host", "give a subclass of NodeHost"),
    ],
)
def test_a_node_host_that_could_not_be_made_or_started_is_refused_where_it_is_given(
    host: Any, args: Any, field: str, text: str
) -> None:
    async def main(make: Callable[..., pool.ReplicaPool]) -> None:
        with pytest.raises(pool.ConfigError, match=says(text)) as caught:
            make(host=host, host_args=args)
        assert caught.value.field == field
        async with make(host=Right, host_args=("a",)) as replicas:
            await replicas.scale(1)
            with pytest.raises(pool.ConfigError, match=says(text)):
                await replicas.change(host=host, host_args=args)

    play(main)


MAKING: list[tuple[dict[str, Any], str, str]] = [
    ({"cluster": "ray"}, "cluster", "leave it out, after `ray.init(...)`"),
    ({"processes": pool.Process(["true"])}, "processes", "give a list of pool.Process values"),
    ({"processes": "true"}, "processes", "give a list of pool.Process values"),
    ({"notices": pool.notices.DrainingNodes()}, "notices", "give a list of sources from"),
    ({"host_restart": 1}, "host_restart", "host_restart is 1; give a RestartPolicy"),
    ({"shares": 0.5}, "shares", "give Peers(...) or MainAndSides(...)"),
    ({"ports": "8000-9000"}, "ports", "give a PortRange"),
    ({"runtime_env": ["x"]}, "runtime_env", "runtime_env is ['x']; give a dict"),
    ({"detached": "yes"}, "detached", "detached is 'yes'; give True or False"),
    ({"cluster_grows": 1}, "cluster_grows", "give True or False"),
    ({"hosts_hold_devices": "no"}, "hosts_hold_devices", "give True or False"),
    ({"instance": "a/b"}, "instance", "instance is 'a/b'; give 1 to 100 letters"),
    ({"instance": "a:b"}, "instance", "or leave it out"),
    ({"lease_s": True}, "lease_s", "lease_s is True; give more than 0 seconds"),
]


@pytest.mark.parametrize(("options", "field", "text"), MAKING)
def test_a_value_of_another_kind_is_refused_where_it_is_given(
    options: dict[str, Any], field: str, text: str
) -> None:
    async def main(make: Callable[..., pool.ReplicaPool]) -> None:
        with pytest.raises(pool.ConfigError, match=says(text)) as caught:
            make(**options)
        assert caught.value.field == field

    play(main)


def test_what_a_pool_is_changed_to_is_checked_alike() -> None:
    async def main(make: Callable[..., pool.ReplicaPool]) -> None:
        async with make() as replicas:
            changes: list[dict[str, Any]] = [
                {"runtime_env": ["x"]},
                {"processes": pool.Process(["true"])},
            ]
            for change in changes:
                with pytest.raises(pool.ConfigError, match="give a"):
                    await replicas.change(**change)

    play(main)


@pytest.mark.parametrize("timeout_s", ["5", -1, True, float("nan"), [5]])
def test_a_time_out_that_is_none_is_refused_before_anything_is_asked(timeout_s: Any) -> None:
    async def main(make: Callable[..., pool.ReplicaPool]) -> None:
        async with make() as replicas:
            asked: list[Callable[..., Awaitable[Any]]] = [
                lambda **options: replicas.scale(1, **options),
                lambda **options: replicas.broadcast(abs, 1, **options),
                lambda **options: replicas.run(abs, 1, **options),
                replicas.drain,
                replicas.wait_settled,
                replicas.roll,
                replicas.roll_back,
                replicas.change,
            ]
            for ask in asked:
                with pytest.raises(pool.ConfigError, match="give a number of seconds") as caught:
                    await ask(timeout_s=timeout_s)
                assert caught.value.field == "timeout_s"
            assert (replicas.desired, replicas.revision) == (0, 0)
        role = make()
        async with pool.Program(role) as program:
            with pytest.raises(pool.ConfigError, match="give a number of seconds"):
                await program.scale({"a": 1}, timeout_s=timeout_s)
            assert role.desired == 0

    play(main)


def test_a_scale_without_time_still_says_what_it_waited_for() -> None:
    async def main(make: Callable[..., pool.ReplicaPool]) -> None:
        async with make() as first:
            await first.scale(4)
            async with pool.ReplicaPool("b", shape=SHAPE, cluster=first.cluster) as second:
                with pytest.raises(pool.SizeUnreachable, match=says("a holds")) as caught:
                    await second.scale([1], timeout_s=0.5)
                assert "pending" not in str(caught.value)
                told = [e for e in second.events() if e.kind is pool.EventKind.SLOT_WAITING]
                assert "a holds" in told[0].facts["reason"]

    play(main)


def test_a_wait_that_took_too_long_says_for_what() -> None:
    async def main(make: Callable[..., pool.ReplicaPool]) -> None:
        async with make(shape=pool.ReplicaShape(devices=3)) as replicas:
            await replicas.scale(1)
            with pytest.raises(TimeoutError, match=says("broadcast of sleep to 1 hosts of pool")):
                await replicas.broadcast(anyio.sleep, 60, timeout_s=5)

            async def fail() -> None:
                raise TimeoutError("of its own")

            with pytest.raises(TimeoutError, match="of its own"):
                await replicas.broadcast(fail, timeout_s=5)
            with pytest.raises(TimeoutError, match=says("Run(sleep on 'a/0.1') took longer")):
                await replicas.run(anyio.sleep, 60, timeout_s=5)
            with pytest.raises(TimeoutError, match="of its own"):
                await replicas.run(fail, timeout_s=5)
            replicas.cluster.crash(replicas[0].actor)  # type: ignore[attr-defined]
            while replicas.is_settled:
                await replicas.changed()
            with pytest.raises(TimeoutError, match=says("within 0.001 s: 0 of 1 members")):
                await replicas.wait_settled(0.001)

    play(main)


@pytest.mark.parametrize("env", [{"A": "1"}, "torch", pool.rendezvous.torch])
def test_an_env_that_builds_no_environments_is_refused(env: Any) -> None:
    async def main(make: Callable[..., pool.ReplicaPool]) -> None:
        async with make() as replicas:
            await replicas.scale(1)
            for call in (replicas.broadcast, replicas.run):
                with pytest.raises(pool.ConfigError, match=says("rendezvous.torch()")) as caught:
                    await call(abs, 1, env=env)
                assert caught.value.field == "env"

    play(main)


@pytest.mark.parametrize("name", ["a/3", "a/b/0", "a/0.1"])
def test_a_name_that_reads_like_a_slot_is_refused(name: str) -> None:
    async def main(make: Callable[..., pool.ReplicaPool]) -> None:
        cluster = make().cluster
        with pytest.raises(pool.ConfigError, match=says("not ending like a slot's")) as caught:
            pool.ReplicaPool(name, shape=SHAPE, cluster=cluster)
        assert caught.value.field == "name"
        for good in ("a/b", "a/3b", "a/3/b", "a3", "3", "a/v3", "a/b.3"):
            pool.ReplicaPool(good, shape=SHAPE, cluster=cluster)

    play(main)


def test_a_pool_that_is_made_outside_of_a_loop_is_told_where_to_make_it() -> None:
    cluster = SimulatedCluster([SimNode(gpus=4)])
    with pytest.raises(pool.ConfigError, match=says("`asyncio.run(main())`")) as caught:
        pool.ReplicaPool("a", shape=SHAPE, cluster=cluster)
    assert "async with ReplicaPool(...)" in str(caught.value)
    assert "with pool.blocking.ReplicaPool(...)" in str(caught.value)


def test_a_health_check_that_returns_false_counts_as_a_failure() -> None:
    class Says(pool.NodeHost):
        is_well = True

        def check_health(self) -> bool:
            return self.is_well

        def fall_ill(self) -> None:
            self.is_well = False

    async def main(make: Callable[..., pool.ReplicaPool]) -> None:
        async with make(host=Says, health=pool.HealthPolicy(grace_s=0)) as replicas:
            await replicas.scale(1)
            await anyio.sleep(60)
            assert not replicas.failures
            await replicas.broadcast("fall_ill")
            while not replicas.failures:
                await replicas.changed()
            [failure] = replicas.failures
            assert failure.cause is pool.Cause.UNHEALTHY
            assert "Says.check_health returned False; raise an error" in failure.detail

    play(main)


@pytest.mark.parametrize("name", ["index", "hosts", "bundle", "context", "desk"])
def test_a_node_host_that_asks_in_its_constructor_where_it_is_is_told_when(name: str) -> None:
    class Hasty(pool.NodeHost):
        def __init__(self, asks: bool) -> None:
            if asks:
                getattr(self, name)

        def start(self) -> str:
            return f"{getattr(self, name)!r}"

    with pytest.raises(AttributeError, match=says(f"Hasty.{name} is there from start() on")):
        Hasty(True)
    assert not hasattr(Hasty(False), name)

    async def main(make: Callable[..., pool.ReplicaPool]) -> None:
        async with make(host=Hasty, host_args=(False,)) as replicas:
            await replicas.scale(1)
            info = replicas[0].info
            assert info is not None
            assert info.hosts[0].extra
        async with make(host=Hasty, host_args=(True,)) as replicas:
            with pytest.raises(pool.SizeUnreachable, match=says("not yet in __init__")):
                await replicas.scale(1)

    play(main)


def test_a_blocking_pool_on_an_event_loop_is_refused_with_what_to_use() -> None:
    async def main() -> None:
        with (
            pytest.raises(pool.ConfigError, match=says("`async with pool.ReplicaPool")),
            pool.blocking.ReplicaPool("a", shape=SHAPE),
        ):
            pass

    anyio.run(main)
