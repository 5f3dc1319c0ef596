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


def test_a_blocking_pool_on_an_event_loop_is_refused_with_what_to_use() -> None:
    async def main() -> None:
        with (
            pytest.raises(pool.ConfigError, match=says("`async with pool.ReplicaPool")),
            pool.blocking.ReplicaPool("a", shape=SHAPE),
        ):
            pass

    anyio.run(main)
