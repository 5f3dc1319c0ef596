"""The owner of the detached pool, as a process of its own, so that it can be killed.

`python -m tests.soak.owner ADDRESS FOLDER found|attach` tells, a JSON object a line, all that
happens in the pool and how it looks. It closes the pool when it is told so on standard input.
"""

from __future__ import annotations

import json
import sys
import time
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import ray

import pool
from tests.soak.pools import KEPT, make, picture, tell

LOOK_S = 0.5
ATTACH_S = 60.0


def say(line: dict[str, Any]) -> None:
    """Print one line."""
    print(json.dumps(line), flush=True)


def look(replicas: pool.ReplicaPool) -> None:
    """Say how the pool looks."""
    say({"what": "look", "at": time.time(), "picture": picture(replicas)})


async def opened(folder: Path, how: str) -> AbstractAsyncContextManager[pool.ReplicaPool]:
    """Return the pool; one whose last owner Ray still thinks alive is asked for again."""
    if how == "found":
        return make(KEPT, folder)
    until = time.monotonic() + ATTACH_S
    while True:
        block = pool.attach(KEPT)
        try:
            replicas = await block.__aenter__()
        except pool.PoolHeld:
            if time.monotonic() > until:
                raise
            await anyio.sleep(0.2)
        else:
            return _Entered(block, replicas)


class _Entered(AbstractAsyncContextManager[pool.ReplicaPool]):
    """Give a block that was entered before."""

    def __init__(
        self, block: AbstractAsyncContextManager[pool.ReplicaPool], replicas: pool.ReplicaPool
    ) -> None:
        self._block = block
        self._replicas = replicas

    async def __aenter__(self) -> pool.ReplicaPool:
        return self._replicas

    async def __aexit__(self, *error: Any) -> bool | None:
        return await self._block.__aexit__(*error)


async def main(folder: Path, how: str) -> None:
    """Own the pool until a line comes."""
    async with await opened(folder, how) as replicas:
        for event in replicas.events():
            say(tell(event, picture(replicas)))
        replicas.follow(lambda event: say(tell(event, picture(replicas))))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(look_forever, replicas)
            if how == "found":
                await replicas.scale(1, timeout_s=120)
            say({"what": "ready", "at": time.time()})
            await anyio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True)
            tasks.cancel_scope.cancel()
    say({"what": "closed", "at": time.time()})


async def look_forever(replicas: pool.ReplicaPool) -> None:
    """Say again and again how the pool looks."""
    while True:
        look(replicas)
        await anyio.sleep(LOOK_S)


if __name__ == "__main__":
    ray.init(address=sys.argv[1], log_to_driver=False)
    anyio.run(main, Path(sys.argv[2]), sys.argv[3])
