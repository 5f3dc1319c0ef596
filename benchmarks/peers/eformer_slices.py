"""Bring up two slices of two hosts: `pool.SlicePool`, eFormer's `SlicePoolManager`, and bare Ray.

The nodes only say that they have TPUs. eFormer's packages import JAX; its pool manager alone needs
none. So a folder that holds links to that module and to the one beside it, under empty packages,
comes before the installed ones on the path of everybody here.

What that needs to believe in TPUs is Ray's count of a machine's chips, which is set there too.
eFormer asks Google's metadata server whenever it tells of a host. Nothing here may: requests go to
a proxy that is not there, and are refused at once.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import ray
from ray.autoscaler.sdk import request_resources

import pool
from benchmarks.bare import BareGang
from benchmarks.embedded import RELAXED, embedded_cluster
from benchmarks.harness import Measured

KIND = "v4-16"
SLICES = ("a", "b")
HOSTS = 2
TPUS = 4
GOAL = 1 / 1.5
NOWHERE = "http://127.0.0.1:9"
PATIENCE_S = 120
CHIPS = f"""from ray._private.accelerators import TPUAcceleratorManager
TPUAcceleratorManager.get_current_node_num_accelerators = staticmethod(lambda: {TPUS})
"""


def measure(rounds: int) -> tuple[list[Measured], dict[str, object]]:
    """Return the rows of the table, and what else was seen."""
    bare = Measured("  bare Ray: two groups and six actors")
    theirs = Measured("eFormer: SlicePoolManager ready", beside=bare)
    ours = Measured("pool: SlicePool ready", beside=theirs, goal_ratio=GOAL)
    ours_to_bare = Measured("pool: SlicePool ready, once more", beside=bare, goal_ratio=1.1)
    facts: dict[str, object] = {}
    with installed(), embedded_cluster(nodes=0, gpus=0, **RELAXED) as nodes:
        for name in SLICES:
            for worker in range(HOSTS):
                nodes.add(**_tpu_node(name, worker))
        for number in range(rounds + 1):
            ours_s = anyio.run(_ours)
            theirs_s = _theirs(facts)
            bare_s = anyio.run(_bare)
            if number:
                ours.rounds_s.append(ours_s)
                ours_to_bare.rounds_s.append(ours_s)
                theirs.rounds_s.append(theirs_s)
                bare.rounds_s.append(bare_s)
    return [ours, ours_to_bare, theirs, bare], facts


@contextmanager
def installed() -> Iterator[None]:
    """Let this process, and all that Ray starts, import eFormer's pool manager without JAX."""
    spec = find_spec("eformer")
    assert spec is not None, "eFormer is not installed"
    assert spec.submodule_search_locations is not None
    origin = Path(spec.submodule_search_locations[0], "executor", "ray")
    with ExitStack() as undo:
        folder = Path(undo.enter_context(tempfile.TemporaryDirectory(prefix="eformer-")))
        inner = folder / "eformer" / "executor" / "ray"
        inner.mkdir(parents=True)
        for package in (inner, *inner.parents[:2]):
            (package / "__init__.py").touch()
        (inner / "__init__.py").write_text(CHIPS)
        for name in ("pool_manager.py", "types.py"):
            (inner / name).symlink_to(origin / name)
        for name in [each for each in sys.modules if each.split(".")[0] == "eformer"]:
            del sys.modules[name]
        before = {name: os.environ.get(name) for name in ("PYTHONPATH", "HTTP_PROXY")}
        os.environ["PYTHONPATH"] = os.pathsep.join(
            filter(None, (str(folder), before["PYTHONPATH"]))
        )
        os.environ["HTTP_PROXY"] = NOWHERE
        sys.path.insert(0, str(folder))
        try:
            yield
        finally:
            sys.path.remove(str(folder))
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value


def _tpu_node(name: str, worker: int) -> dict[str, Any]:
    return {
        "num_cpus": 8,
        "num_gpus": 0,
        "resources": {"TPU": TPUS, name: 1, **({f"TPU-{KIND}-head": 1} if worker == 0 else {})},
        "labels": {
            "ray.io/tpu-slice-name": name,
            "ray.io/tpu-worker-id": str(worker),
            "ray.io/tpu-pod-type": KIND,
        },
        "env_vars": {
            "TPU_NAME": name,
            "TPU_WORKER_ID": str(worker),
            "TPU_ACCELERATOR_TYPE": KIND,
            "TPU_WORKER_HOSTNAMES": ",".join(f"host{each}" for each in range(HOSTS)),
        },
    }


async def _ours() -> float:
    async with pool.SlicePool("ours", slice_type=KIND) as slices:
        began = time.perf_counter()
        result = await slices.scale(len(SLICES), timeout_s=PATIENCE_S)
        took_s = time.perf_counter() - began
        assert result.is_complete, result
    return took_s


def _theirs(facts: dict[str, object]) -> float:
    module = importlib.import_module("eformer.executor.ray.pool_manager")
    manager = module.SlicePoolManager(KIND)
    began = time.perf_counter()
    manager.scale_multislice(len(SLICES))
    manager.prepare_all_slices()
    slices = manager.get_all_actors_in_pool()
    ray.get([each.ensure_host_pool.remote() for each in slices])
    members = ray.get([each.get_all_pool_members.remote() for each in slices])
    took_s = time.perf_counter() - began
    assert [len(each) for each in members] == [HOSTS] * len(SLICES), members
    try:
        manager.scale_multislice(1)
        facts["eformer_shrinks"] = "yes"
    except Exception as error:
        facts["eformer_shrinks"] = f"no: {type(error).__name__}: {error}"
    manager.drain_actor_pool()
    request_resources(bundles=[])
    return took_s


async def _bare() -> float:
    gangs = [BareGang([{"TPU": float(TPUS), "CPU": 1.0, name: 1.0}] * HOSTS) for name in SLICES]
    began = time.perf_counter()
    await asyncio.gather(*(gang.build() for gang in gangs))
    took_s = time.perf_counter() - began
    for gang in gangs:
        gang.remove()
    return took_s
