"""What cannot be right is refused before anything is created, with what would do."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from typing import Any

import anyio
import pytest

import pool
from tests.tree import ON_ONE_NODE, ON_TWO_NODES
from tests.world import World

pytestmark = pytest.mark.ray


@pytest.fixture(autouse=True)
def _nothing_is_created(world: World) -> Any:
    groups, actors = world.groups(), world.actors()
    yield
    assert (world.groups(), world.actors()) == (groups, actors)


def make(**options: Any) -> Callable[[], pool.ReplicaPool]:
    return lambda: pool.ReplicaPool(**{"name": "right", "shape": ON_ONE_NODE, **options})


@pytest.mark.parametrize(
    ("build", "field", "says"),
    [
        (make(name=""), "name", "letters, digits"),
        (make(name="two words"), "name", "'two words'"),
        (make(name="-dash"), "name", "beginning with a letter or digit"),
        (make(name="x" * 101), "name", "1 to 100"),
        (make(name=7), "name", "is 7"),
        (make(shape=8), "shape", "ReplicaShape(devices=8)"),
        (make(shape=None), "shape", "is None"),
        (make(host=object), "host", "NodeHost"),
        (make(host=pool.NodeHost()), "host", "NodeHost"),
        (make(health=5), "health", "HealthPolicy"),
        (make(restart="never"), "restart", "RestartPolicy"),
        (make(drain=30.0), "drain", "DrainPolicy"),
        (make(surge=-1), "surge", "0 or more"),
        (make(surge=0.5), "surge", "whole number"),
        (make(start_timeout_s=0), "start_timeout_s", "more than 0"),
        (make(start_timeout_s=float("inf")), "start_timeout_s", "more than 0"),
        (make(notices=["/run/leave"]), "notices", "pool.notices"),
        (lambda: pool.ReplicaShape(devices=0), None, "give"),
        (lambda: pool.HealthPolicy(period_s=0), "period_s", "more than 0 seconds"),
        (lambda: pool.RestartPolicy(intensity=-1), "intensity", "0 or more"),
        (lambda: pool.DrainPolicy(work_share=1), "work_share", "less than 1"),
        (lambda: pool.notices.FileNotice(""), "path", "file to look for"),
        (lambda: pool.rendezvous.torch("node"), "scope", "'replica' or 'pool'"),  # type: ignore[arg-type]
        (lambda: pool.rendezvous.torch(port=0), "port", "1 to 65535"),
    ],
)
def test_a_value_that_cannot_be_right_is_refused_with_what_would_do(
    build: Callable[[], object], field: str | None, says: str
) -> None:
    with pytest.raises(pool.ConfigError) as caught:
        build()
    assert says in str(caught.value)
    if field is not None:
        assert caught.value.field == field


@pytest.mark.parametrize("size", [-1, 1.5, True, "two", [], [0, 2], [2, -1], [2, None]], ids=repr)
def test_a_size_that_is_none_is_refused(size: Any) -> None:
    """Row E18: empty, 0 among several, negative, and what is no whole number."""

    async def main() -> None:
        async with make()() as replicas:
            with pytest.raises(pool.ConfigError, match="give"):
                await replicas.scale(size, timeout_s=5)
            assert replicas.desired == 0

    anyio.run(main)


def test_a_pool_that_was_not_opened_takes_no_calls() -> None:
    async def main() -> None:
        replicas = make()()
        with pytest.raises(pool.PoolClosed, match="was not opened"):
            await replicas.scale(1)
        with pytest.raises(pool.PoolClosed, match="async with"):
            replicas.map(abs, [1])

    anyio.run(main)


def test_work_for_a_pool_without_members_is_refused_with_advice() -> None:
    async def main() -> None:
        async with make()() as replicas:
            with pytest.raises(pool.PoolError, match="scale it first"):
                await replicas.broadcast(abs, 1)
            with pytest.raises(LookupError, match="rank 0"):
                replicas[0]

    anyio.run(main)


def test_wrong_arguments_of_map_are_refused() -> None:
    async def main() -> None:
        async with make()() as replicas:
            for options, says in (
                ({"in_flight": 0}, "in_flight is 0"),
                ({"attempts": 0}, "attempts is 0"),
                ({"errors": "ignore"}, "'raise' or 'return'"),
                ({"on": "node"}, "'replica', 'host' or 'rank'"),
            ):
                wrong: Any = options
                with pytest.raises(pool.ConfigError, match=says):
                    async for _ in replicas.map(abs, [1], **wrong):
                        pass

    anyio.run(main)


@pytest.mark.parametrize(
    ("shape", "size", "says"),
    [
        (pool.ReplicaShape(devices=5, max_nodes=1), 1, "5"),
        (pool.ReplicaShape(devices=7), 1, "7"),
        (pool.ReplicaShape(devices=100), 1, "100"),
        (pool.ReplicaShape(devices=1, device="TPU"), 1, "TPU"),
        (ON_TWO_NODES, 4, "3 fit"),
        (ON_TWO_NODES, [4, 5], "3 fit"),
    ],
)
def test_what_can_never_fit_is_refused_at_once_with_what_was_seen(
    shape: pool.ReplicaShape, size: Any, says: str
) -> None:
    """Rows C1, C3: the error names the nodes and the nearest that would fit."""

    async def main() -> None:
        async with make(shape=shape)() as replicas:
            with pytest.raises(pool.InfeasibleError) as caught:
                await replicas.scale(size, timeout_s=5)
            assert says in str(caught.value)
            assert replicas.desired == 0
            assert replicas.snapshot().slots == ()
            if shape.device == "GPU":
                assert "4 GPU" in caught.value.topology

    anyio.run(main)


def test_a_process_that_is_not_connected_to_ray_is_told_what_to_do() -> None:
    script = """
        import pool
        try:
            pool.ReplicaPool("alone", shape=pool.ReplicaShape(devices=1))
        except pool.ConfigError as error:
            print(error)
    """
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "not connected to Ray" in run.stdout
    assert "ray.init()" in run.stdout


def test_what_cannot_be_pickled_is_told_from_what_can_in_a_sentence(world: World) -> None:
    lock = threading.Lock()

    def locked(item: int) -> int:
        with lock:
            return item

    async def main() -> None:
        async with make()() as replicas:
            await replicas.scale(1, timeout_s=60)
            for call in (
                lambda: replicas.broadcast(locked, 1),
                lambda: replicas.broadcast(print, lock),
                lambda: replicas.submit(locked, 1),
                lambda: replicas.run(locked, 1),
                lambda: anext(replicas.map(locked, [1])),
            ):
                with pytest.raises(pool.ConfigError) as caught:
                    await call()
                assert "cannot pickle '_thread.lock' object" in str(caught.value)
                assert "open them inside of the function" in str(caught.value)
                assert len(str(caught.value)) < 400

    anyio.run(main)


class Unwilling:
    """Raise something of its own when it is to be pickled."""

    def __reduce__(self) -> Any:
        raise ValueError("cannot pickle it, says its class")


@pytest.mark.parametrize("bad", [threading.Lock(), Unwilling()], ids=["a lock", "unwilling"])
def test_an_argument_that_cannot_be_pickled_fails_its_own_call_alone(
    world: World, bad: Any
) -> None:
    """Nothing hangs, nothing of it counts as under way, and others in the call are done."""

    async def main() -> None:
        async with make()() as replicas:
            await replicas.scale(1, timeout_s=60)
            with anyio.fail_after(60):
                for call in (
                    lambda: replicas.submit(abs, bad),
                    lambda: anext(replicas.map(abs, [bad])),
                    lambda: anext(replicas.map_unordered(abs, [bad], in_flight=1)),
                    lambda: anext(replicas.stream(range, bad)),
                ):
                    with pytest.raises(pool.ConfigError, match="cannot pickle"):
                        await call()
                items = [*range(200), bad, *range(201, 300)]
                results = replicas.map(abs, items, in_flight=8, errors="return")
                outs = [out async for out in results]
                assert isinstance(outs.pop(200), pool.ConfigError)
                assert outs == items[:200] + items[201:]
                batches = replicas.map(sorted, [1, bad, 3, 4], batch=4, errors="return")
                outs = [out async for out in batches]
                assert isinstance(outs.pop(1), pool.ConfigError)
                assert outs == [1, 3, 4]
            assert replicas.load == 0
            assert [member.in_flight for member in replicas._incarnations()] == [0]

    anyio.run(main)


async def leave_by_and_by(code: int) -> None:
    await anyio.sleep(0.01)
    sys.exit(code)


def test_sys_exit_in_a_function_arrives_as_an_error_and_its_member_lives(world: World) -> None:
    """argparse calls it; Ray would end the actor, and the caller would hear of it half a minute on.

    Rank actors and streams have their calls made in the same place.
    """

    async def main() -> None:
        async with make()() as replicas:
            await replicas.scale(1, timeout_s=60)
            pids = await replicas.broadcast(os.getpid)
            with anyio.fail_after(20):
                for call in (
                    lambda: replicas.submit(sys.exit, 3),
                    lambda: replicas.submit(leave_by_and_by, 3),
                    lambda: anext(replicas.map(sys.exit, [3])),
                    lambda: replicas.broadcast(sys.exit, 3),
                    lambda: replicas.broadcast(leave_by_and_by, 3),
                    lambda: replicas.run(sys.exit, 3),
                ):
                    with pytest.raises(pool.RemoteError, match=r"SystemExit\(3\)") as caught:
                        await call()
                    assert "as sys.exit() does" in str(caught.value)
            assert await replicas.broadcast(os.getpid) == pids

    anyio.run(main)
