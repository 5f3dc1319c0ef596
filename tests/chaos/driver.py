"""A driver of its own, for tests that end it: it opens a pool in each phase that it is given.

It begins a phase when it reads a line, says so on a line of its own when it is there, and waits for
what the test does to it. What it says last is how it went out. It goes on with the next phase in
the same process: what a phase left could not have been removed by the end of the driver.

Usage: python -m tests.chaos.driver ADDRESS FOLDER PHASE...

A phase is one of `ALL`, with `stop:` before it inside of `stop_on(SIGINT, SIGTERM)`, with
`blocking:` before it in a script without asyncio, and with both in that order; and there is
`blocking:scaling`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import anyio
import ray

import pool
import pool.blocking
from tests import hosts
from tests.tree import ON_ONE_NODE, eventually, hosts_of, is_busy, until

DRAIN = pool.DrainPolicy(timeout_s=25)
SIGNALS = (signal.SIGINT, signal.SIGTERM)


def say(**facts: object) -> None:
    """Print one line that the test reads."""
    print(json.dumps(facts), flush=True)


def say_where(replicas: pool.ReplicaPool | pool.blocking.ReplicaPool) -> None:
    """Say that the phase has begun, and which processes are the pool's."""
    members = replicas.members()
    say(
        pids=[host.pid for member in members if member.info for host in hosts_of(member)],
        states=[str(member.state) for member in members],
    )


async def reserving(replicas: pool.ReplicaPool) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(replicas.scale, 1)
        await until(replicas, lambda: [m.state for m in replicas.members()] == ["pending"])
        await anyio.sleep(0.5)
        say_where(replicas)
        await anyio.sleep_forever()


async def starting(replicas: pool.ReplicaPool) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(replicas.scale, 1)
        await until(replicas, lambda: [m.state for m in replicas.members()] == ["starting"])
        # Its actor is made a moment later, and nobody tells of that.
        await eventually(lambda: replicas.members()[0].actor is not None)
        say_where(replicas)


async def ready(replicas: pool.ReplicaPool) -> None:
    await replicas.scale(1, timeout_s=60)
    say_where(replicas)
    await anyio.sleep_forever()


async def draining(replicas: pool.ReplicaPool) -> None:
    await replicas.scale(1, timeout_s=60)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(replicas.broadcast, hosts.nap, 60.0)
        await eventually(lambda: is_busy(replicas))
        tasks.start_soon(replicas.scale, 0)
        await until(replicas, lambda: [m.state for m in replicas.members()] == ["draining"])
        await anyio.sleep(0.2)
        say_where(replicas)


async def closing(replicas: pool.ReplicaPool) -> None:
    """Leave the block: the pool closes, and waits for a hook that hangs."""
    await replicas.scale(1, timeout_s=60)
    say_where(replicas)


Block = Callable[[pool.ReplicaPool], Coroutine[Any, Any, None]]
ALL: dict[str, tuple[Block, type[pool.NodeHost]]] = {
    "reserving": (reserving, pool.NodeHost),
    "starting": (starting, hosts.Slow),
    "ready": (ready, hosts.Farewell),
    "stuck": (ready, hosts.Reluctant),
    "draining": (draining, pool.NodeHost),
    "closing": (closing, hosts.Reluctant),
}


def options(host: type[pool.NodeHost], folder: Path) -> dict[str, Any]:
    args = (folder,) if host is hosts.Farewell else ()
    return {"shape": ON_ONE_NODE, "host": host, "host_args": args, "drain": DRAIN}


async def wait_in(phase: str, folder: Path) -> None:
    block, host = ALL[phase]
    replicas = pool.ReplicaPool("driven", **options(host, folder))
    try:
        async with replicas:
            await block(replicas)
    finally:
        say(
            reports=[[report.rung, *report.troubles] for report in replicas.reports],
            leftovers=[str(e) for e in replicas.events() if e.kind == "leftover"],
        )


def scale_blocking(folder: Path) -> None:
    """Catch Ctrl-C in the block: the call that it broke must not be waited for."""
    with (
        pool.blocking.ReplicaPool("driven", **options(hosts.Slow, folder)) as replicas,
        contextlib.suppress(KeyboardInterrupt),
    ):
        # From a thread, once the call waits: before that there is nothing to break.
        threading.Timer(0.5, say_where, [replicas]).start()
        replicas.scale(1, timeout_s=None)


def wait_blocking(phase: str, folder: Path) -> None:
    if phase == "scaling":
        scale_blocking(folder)
        return
    _, host = ALL[phase]
    with pool.blocking.ReplicaPool("driven", **options(host, folder)) as replicas:
        replicas.scale(1, timeout_s=60)
        say_where(replicas)
        while phase != "closing":
            time.sleep(0.1)


async def wait_to_be_stopped(phase: str, folder: Path) -> None:
    async with pool.stop_on(*SIGNALS) as stop:
        await wait_in(phase, folder)
    say(received=stop.received, count=stop.count, exit_code=stop.exit_code)


def wait_blocking_to_be_stopped(phase: str, folder: Path) -> None:
    with pool.blocking.stop_on(*SIGNALS) as stop:
        wait_blocking(phase, folder)
    say(received=stop.received, count=stop.count, exit_code=stop.exit_code)


def run(phase: str, folder: Path) -> None:
    """Run one phase, and say how it ended: by Ctrl-C, by a signal of `stop_on`, or by itself."""
    *how, phase = phase.split(":")
    if "blocking" in how:
        (wait_blocking_to_be_stopped if "stop" in how else wait_blocking)(phase, folder)
    else:
        asyncio.run((wait_to_be_stopped if "stop" in how else wait_in)(phase, folder))


def main() -> None:
    address, folder, *phases = sys.argv[1:]
    ray.init(address=address, log_to_driver=False)
    for phase in phases:
        sys.stdin.readline()
        interrupted = False
        with contextlib.suppress(KeyboardInterrupt):
            interrupted = True
            run(phase, Path(folder))
            interrupted = False
        say(end=phase, interrupted=interrupted)


if __name__ == "__main__":
    main()
