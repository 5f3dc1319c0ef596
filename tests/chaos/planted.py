"""Trees that ignore SIGTERM, planted wherever a pool lets processes be started.

`python -m tests.chaos.planted ADDRESS FOLDER OPTIONS` is a driver that plants one in a managed
process, one in a run and one in a rank actor, and then waits to be ended; the options are those of
its pools, as JSON. The workers import this too.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import anyio

import pool
from tests.process import trees
from tests.process.support import FAMILY, parts
from tests.process.trees import fork
from tests.tree import BRIEF, HASTY, ON_ONE_NODE, QUICK

LIFE_S = 180
"""How long a tree lives that nobody ends: longer than any test."""
GRACE_S = 1.0
GROWN_S = 90.0
SERVED, TRAINED = "served", "trained"
TREE = FAMILY
PLANTED = (*FAMILY, "forked", "worker")
"""The tree that a worker started, a daemon that it forked, and the worker itself."""


def command(folder: Path) -> list[str]:
    """Return the command of a tree."""
    return [sys.executable, "-I", "-S", trees.__file__, "stubborn", str(folder), str(LIFE_S)]


def process(folder: Path, **options: Any) -> pool.Process:
    """Describe a managed process that is such a tree."""
    folder.mkdir(exist_ok=True)
    given: dict[str, Any] = {"devices": 1, "ports": ["api"], "grace_s": GRACE_S}
    return pool.Process(
        command(folder), name="tree", ready=pool.probes.file(folder / "main"), **(given | options)
    )


def plant(folder: Path) -> None:
    """Start a tree from the code of a worker, and fork a daemon."""
    folder.mkdir(exist_ok=True)
    subprocess.Popen(command(folder), start_new_session=True)
    os.waitpid(fork(lambda: _be_a_daemon(folder)), 0)
    _write(folder / "worker", os.getpid())


def _be_a_daemon(folder: Path) -> None:
    os.setsid()
    if os.fork() == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        _write(folder / "forked", os.getpid())
        time.sleep(LIFE_S)
        os._exit(0)


def _write(path: Path, pid: int) -> None:
    path.with_suffix(".new").write_text(str(pid))
    path.with_suffix(".new").rename(path)


def plant_and_stay(folder: Path) -> None:
    """Plant a tree, and never return."""
    plant(folder)
    time.sleep(3600)


class Planter:
    """Be a rank actor that plants a tree."""

    def __init__(self, folder: Path) -> None:
        plant(folder)

    def rank(self) -> str:
        return os.environ["RANK"]


def make(name: str, **options: Any) -> pool.ReplicaPool:
    """Return a pool that hears of deaths soon."""
    given: dict[str, Any] = {
        "shape": ON_ONE_NODE,
        "drain": BRIEF,
        "health": HASTY,
        "restart": QUICK,
    }
    return pool.ReplicaPool(name, **(given | options))


def make_trained(folder: Path, **options: Any) -> pool.ReplicaPool:
    """Return a pool whose replicas have one rank actor, which plants a tree."""
    ranks = pool.Ranks(Planter, (folder,), per_host=1)
    return make(TRAINED, ranks=ranks, **options)


async def drive(folder: Path, options: dict[str, Any]) -> None:
    async with AsyncExitStack() as stack:
        served = await stack.enter_async_context(make(SERVED, **options))
        trained = await stack.enter_async_context(make_trained(folder / "rank", **options))
        await served.scale(1, timeout_s=GROWN_S)
        await trained.scale(1, timeout_s=GROWN_S)
        [[host]] = served.hosts()
        started = await host.start_process(process(folder / "process"))
        host.begin_run(plant_and_stay, folder / "run", options=pool.RunOptions(devices=1))
        await anyio.to_thread.run_sync(parts, folder / "run", PLANTED, GROWN_S)
        print(json.dumps({"port": started.ports["api"]}), flush=True)
        await anyio.sleep_forever()


def main() -> None:
    import ray

    address, folder, options = sys.argv[1:]
    ray.init(address=address, log_to_driver=False)
    anyio.run(drive, Path(folder), json.loads(options))


if __name__ == "__main__":
    main()
