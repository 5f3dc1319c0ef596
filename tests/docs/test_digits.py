"""The training example: by itself under torchrun, and on a pool that loses a node half way."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import psutil
import pytest

pytest.importorskip("sklearn", reason='the example needs `pip install "ray-actor-pool[examples]"`')
pytest.importorskip("torch", reason="likewise")

import torch

import pool
from docs.examples.digits import launched
from docs.examples.digits.elastic import train
from docs.examples.digits.train import Config
from tests.docs import held
from tests.docs.held import Held, hold, hold_at
from tests.tree import BRIEF, HASTY, QUICK, eventually, every_gpu_taken
from tests.world import World, is_alive

ROOT = Path(__file__).parents[2]
EPOCHS = 20
HELD_AT = 8
GOOD = 0.95


def torchrun(folder: Path, processes: int, epochs: int) -> dict[str, Any]:
    """Train under torchrun, and return what the first process says."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += [f"--nproc-per-node={processes}", "-m", "docs.examples.digits.train"]
    done = subprocess.run(
        [*command, f"--folder={folder}", f"--epochs={epochs}"],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    [told] = [line for line in done.stdout.splitlines() if line.startswith("{")]
    result: dict[str, Any] = json.loads(told)
    return result


def epochs_done(config: Config) -> int:
    """Return how many epochs are in the checkpoint."""
    if not config.checkpoint.exists():
        return 0
    return len(torch.load(config.checkpoint, weights_only=True)["history"])


@pytest.mark.slow
def test_a_run_that_is_cut_off_goes_on_where_it_was_with_more_processes_or_fewer(
    tmp_path: Path,
) -> None:
    whole = torchrun(tmp_path / "whole", 2, epochs=30)
    assert whole["accuracy"] > GOOD
    torchrun(tmp_path / "cut", 2, epochs=10)
    again = torchrun(tmp_path / "cut", 1, epochs=20)
    assert (again["resumed_at"], again["world"]) == (10, 1)
    last = torchrun(tmp_path / "cut", 2, epochs=30)
    assert last["resumed_at"] == 20
    assert last["accuracy"] == pytest.approx(whole["accuracy"], abs=0.01)
    # Sums are taken in another order, which is all that a change of size makes.
    losses = [[epoch["loss"] for epoch in result["history"]] for result in (last, whole)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


@pytest.mark.ray
@pytest.mark.slow
def test_the_program_trains_on_a_pool_of_two_nodes_without_devices(
    world: World, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "docs.examples.digits.elastic", f"--folder={tmp_path}"],
        cwd=ROOT,
        env=os.environ | {"RAY_ADDRESS": world.cluster.address},
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    last = done.stdout.splitlines()[-1]
    assert "of the held-out digits are recognised, after 1 tries" in last
    assert float(last.split("%")[0]) / 100 > GOOD
    epochs = torch.load(tmp_path / "digits.pt", weights_only=True)["history"]
    assert {epoch["world"] for epoch in epochs} == {4}


async def on_a_pool(config: Config) -> pool.Outcome[list[dict[str, Any]]]:
    """Train on two nodes, one rank on each."""
    shape = pool.ReplicaShape(devices=8)
    return await train(config, shape, 1, Held, health=HASTY, restart=QUICK, drain=BRIEF)


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_training_that_loses_a_node_half_way_ends_with_what_it_would_have(
    world: World, tmp_path: Path
) -> None:
    """Row E24. Two nodes are added for this alone, and are the only ones with room."""
    cluster = world.cluster.cluster
    nodes: list[Any] = []

    async def disturbed(config: Config) -> pool.Outcome[list[dict[str, Any]]]:
        outcomes = []

        async def run() -> None:
            outcomes.append(await on_a_pool(config))

        hold_at(config, HELD_AT)
        async with anyio.create_task_group() as tasks:
            with every_gpu_taken():
                nodes.extend(cluster.add_node(num_cpus=8, num_gpus=4) for _ in range(2))
                tasks.start_soon(run)
                await eventually(lambda: epochs_done(config) == HELD_AT, 120)
            lost_at = time.monotonic()
            workers = processes_of(nodes[-1])
            await anyio.to_thread.run_sync(cluster.remove_node, nodes.pop(), False)
            # They end a moment after their raylet, and could train on for some epochs until then.
            await eventually(lambda: not any(map(is_alive, workers)), 60)
            hold(config).unlink()  # The other one goes on, into a collective with nobody.
            await eventually(lambda: epochs_done(config) > HELD_AT, 120)
            print(f"the next epoch is done {time.monotonic() - lost_at:.1f} s after the loss")
        return outcomes[0]

    async def main() -> None:
        outcome = await disturbed(Config(str(tmp_path), EPOCHS))
        lost = dict(outcome.lost)
        assert sum(lost.values()) == outcome.attempts - 1 > 0, outcome
        first, second = outcome.unwrap()
        assert (first["rank"], second["rank"]) == (0, 1)
        assert first["resumed_at"] == HELD_AT
        assert [epoch["epoch"] for epoch in first["history"]] == list(range(EPOCHS))
        (tmp_path / "calm").mkdir()
        calm = (await on_a_pool(Config(str(tmp_path / "calm"), EPOCHS))).unwrap()[0]
        assert calm["resumed_at"] == 0
        assert first["accuracy"] == calm["accuracy"] > GOOD
        assert first["weights"] == second["weights"] == calm["weights"], "to the last bit"

    try:
        anyio.run(main)
    finally:
        for node in nodes:
            cluster.remove_node(node)


def processes_of(node: Any) -> list[psutil.Process]:
    """Return the processes below a node's raylet."""
    [raylet] = node.all_processes["raylet"]
    return psutil.Process(raylet.process.pid).children(recursive=True)


def trainers(folder: Path) -> list[psutil.Process]:
    """Return the processes that train in a folder, without those that launched them."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or ()
        if f"--folder={folder}" in words and "torch.distributed.run" not in words:
            found.append(process)
    return found


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_torchrun_on_every_host_goes_on_when_one_is_lost_by_itself_or_with_its_node(
    world: World, tmp_path: Path
) -> None:
    """Two nodes are added for this alone, one launcher runs on each, and one node is lost."""
    cluster, config = world.cluster.cluster, Config(str(tmp_path), 4)
    nodes: list[Any] = []
    outcomes: list[pool.Outcome[dict[str, Any]]] = []

    async def run() -> None:
        # One CPU for each: numbers are added in another order by more threads.
        shape, program = pool.ReplicaShape(devices=8, cpus=2), Path(held.__file__)
        policies = {"health": HASTY, "restart": QUICK, "drain": BRIEF}
        outcomes.append(await launched.train(config, shape, 1, program, **policies))

    async def main() -> None:
        hold_at(config, 1)
        async with anyio.create_task_group() as tasks:
            with every_gpu_taken():
                nodes.extend(cluster.add_node(num_cpus=8, num_gpus=4) for _ in range(2))
                tasks.start_soon(run)
                await eventually(lambda: epochs_done(config) == 1, 150)
                hold_at(config, 2)
                one, other = trainers(tmp_path)
                world.watch(one.pid, other.pid)
                other.kill()
                await eventually(lambda: epochs_done(config) == 2, 150)
            gang = trainers(tmp_path)
            world.watch(*(process.pid for process in gang))
            await anyio.to_thread.run_sync(cluster.remove_node, nodes.pop(), False)
            # What ran there is ended a little later, and must not finish the work meanwhile.
            await eventually(lambda: not all(map(is_alive, gang)), 60)
            hold(config).unlink()

    try:
        anyio.run(main)
    finally:
        for node in nodes:
            cluster.remove_node(node)
    [outcome] = outcomes
    result = outcome.unwrap()
    assert outcome.lost.get(pool.Cause.CRASH), outcome
    assert sum(outcome.lost.values()) == outcome.attempts - 1 >= 2, outcome
    assert (result["resumed_at"], result["world"]) == (2, 2)
    assert [epoch["epoch"] for epoch in result["history"]] == [0, 1, 2, 3]
    calm = torchrun(tmp_path / "calm", 2, config.epochs)
    assert result["weights"] == calm["weights"], "to the last bit"
