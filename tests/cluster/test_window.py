"""Pools are seen, and asked, from a process that is not a part of the Ray cluster."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap

import anyio
import anyio.to_thread
import pytest

import pool
from tests.tree import ON_ONE_NODE
from tests.world import World

pytestmark = pytest.mark.ray

LOOK = textwrap.dedent(
    """
    import json, sys
    import anyio, ray
    from pool.cluster.ray.observer import observe
    from pool.control.window import events_of, find, look
    from pool.window.requests import Verb, ask

    async def main():
        observer = observe(sys.argv[1])
        assert not ray.is_initialized()
        view = await find(observer, "seen")
        assert await ask(observer, view.whom, Verb.SCALE, {"size": 1}, by="the test")
        settled_at = None
        with anyio.fail_after(60):
            # A picture is put before the events that led to it; with the next one all are there.
            while settled_at in (None, view.picture.published_at):
                await anyio.sleep(0.2)
                view = await find(observer, "seen")
                if settled_at is None and view.snapshot.settled and view.snapshot.ready == 1:
                    settled_at = view.picture.published_at
        print(json.dumps({
            "status": view.status,
            "actors": view.actors,
            "groups": view.groups,
            "ready": view.snapshot.ready,
            "events": [e.event.kind for e in await events_of(observer, "seen", view.instance)],
            "nodes": len((await observer.topology()).nodes),
            "draining": len(await observer.draining()),
        }))

    anyio.run(main)
    """
)


def look(address: str) -> dict[str, object]:
    done = subprocess.run(
        [sys.executable, "-c", LOOK, address],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    told: dict[str, object] = json.loads(done.stdout)
    return told


def test_a_process_that_joins_nothing_sees_a_pool_and_scales_it(world: World) -> None:
    async def main() -> None:
        async with pool.ReplicaPool("seen", shape=ON_ONE_NODE) as replicas:
            with anyio.fail_after(100):
                while not await replicas.cluster.published("pool/1/seen:"):  # noqa: ASYNC110
                    await anyio.sleep(0.2)
                told = await anyio.to_thread.run_sync(look, world.cluster.address)
            assert replicas.desired == 1
            assert (told["status"], told["ready"]) == ("running", 1)
            assert told["actors"] == ["seen/0.1"]
            assert told["groups"] == ["seen/0.1"]
            assert told["events"] == [event.kind for event in replicas.events()]
            assert told["nodes"] == world.cluster.nodes + 1
        assert not await replicas.cluster.published("pool/1/seen:")

    anyio.run(main)
