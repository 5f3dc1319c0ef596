"""What a pool costs in processes and memory, beside bare Ray with the same number of actors.

Run it with `python -m benchmarks.footprint`, or `--quick` for the smallest pool alone.

A process's USS is what would be free again if it ended alone. Its PSS counts what it shares with
others in equal parts; the sum over all processes is what they take together. RSS counts shared
pages in full in each process, so that its sums say too much; it is given for those who look at
`ps`. What Ray shares among its workers is mostly its own library.
"""

from __future__ import annotations

import json
import logging
import os
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import anyio
import psutil
from rich.console import Console
from rich.table import Table

import pool
from benchmarks.bare import BareGang
from benchmarks.embedded import RELAXED, embedded_cluster, pid_of
from benchmarks.harness import OUTPUT, QUICK, WIDTH, machine

NODES = 2
GPUS = 8
SIZES = ((1, 1), (8, 1), (1, 2), (4, 2))
"""Replicas, and hosts of each."""
SETTLED_S = 3.0
"""No process came or went for so long."""
PATIENCE_S = 60.0
PATIENT = pool.HealthPolicy(period_s=5, timeout_s=5, failures=1000)
SLEEPER = [sys.executable, "-S", "-c", "import time; time.sleep(600)"]
MEGA = 2**20


@dataclass(frozen=True, slots=True)
class Row:
    """Describe processes of one kind.

    Args:
        replicas: How many replicas there were.
        hosts: How many hosts each had.
        side: Whose they are: the pool's, or bare Ray's.
        kind: What they are.
        count: How many there are.
        uss_mb: The median of their USS.
        pss_mb: The median of their PSS.
        rss_mb: The median of their RSS.
        sum_mb: Their PSS together.
    """

    replicas: int
    hosts: int
    side: str
    kind: str
    count: int
    uss_mb: float
    pss_mb: float
    rss_mb: float
    sum_mb: float


@dataclass(frozen=True, slots=True)
class Memory:
    """Hold what one process takes, in bytes."""

    uss: int
    pss: int
    rss: int


def look() -> dict[int, Memory]:
    """Return what this process and each of its descendants takes; the cluster's are among them."""
    ours = psutil.Process()
    found = {}
    for process in (ours, *ours.children(recursive=True)):
        try:
            full = process.memory_full_info()
        except psutil.NoSuchProcess:
            continue
        found[process.pid] = Memory(full.uss, full.pss, full.rss)
    return found


async def settled() -> dict[int, Memory]:
    """Wait until no process comes or goes any more, and look."""
    own = psutil.Process()
    until = time.monotonic() + PATIENCE_S
    since, before = time.monotonic(), set[int]()
    while time.monotonic() < min(until, since + SETTLED_S):
        now = {process.pid for process in own.children(recursive=True)}
        if now != before:
            since, before = time.monotonic(), now
        await anyio.sleep(0.2)
    return look()


def rows(
    size: tuple[int, int], side: str, seen: dict[int, Memory], kinds: dict[str, set[int]]
) -> Iterator[Row]:
    """Describe each kind of processes."""
    for kind, pids in kinds.items():
        there = [seen[pid] for pid in pids if pid in seen]
        if there:
            uss, pss, rss = (
                statistics.median(getattr(each, name) for each in there) / MEGA
                for name in ("uss", "pss", "rss")
            )
            whole = sum(each.pss for each in there) / MEGA
            yield Row(*size, side, kind, len(there), uss, pss, rss, whole)


def kinds_of(
    seen: dict[int, Memory], before: dict[int, Memory], **known: set[int]
) -> dict[str, set[int]]:
    """Sort processes that were not there before: those that are known, idle workers, others."""
    kinds = {name.replace("_", " "): pids for name, pids in known.items()}
    of_known = set().union(*known.values())
    idle, wardens, others = set(), set(), set()
    for pid in seen.keys() - before.keys() - of_known:
        try:
            process = psutil.Process(pid)
            title = " ".join(process.cmdline())
            parents = {each.pid for each in process.parents()}
        except psutil.NoSuchProcess:
            continue
        if "ray::IDLE" in title:
            idle.add(pid)
        elif parents & of_known:
            wardens.add(pid)
        else:
            others.add(pid)
    return kinds | {"idle workers": idle, "below them": wardens, "others": others}


def driver(
    size: tuple[int, int], side: str, seen: dict[int, Memory], before: dict[int, Memory]
) -> Row:
    """Say by how much the driver grew."""
    now, then = seen[os.getpid()], before[os.getpid()]
    grew = [(getattr(now, name) - getattr(then, name)) / MEGA for name in ("uss", "pss", "rss")]
    return Row(*size, side, "driver, more than before", 1, grew[0], grew[1], grew[2], grew[1])


async def ours(size: tuple[int, int]) -> list[Row]:
    """Open a pool, look, start a process on one host, and look again."""
    replicas, hosts = size
    before = await settled()
    shape = pool.ReplicaShape(devices=hosts, min_nodes=hosts)
    async with pool.ReplicaPool("ours", shape=shape, health=PATIENT) as opened:
        result = await opened.scale(replicas, timeout_s=300)
        assert result.is_complete, result
        members = opened.members(serving=True)
        actors = {pid_of(member.actor.id) for member in members if member.actor}
        below = {host.pid for member in members if member.info for host in member.info.hosts}
        seen = await settled()
        kinds = kinds_of(seen, before, replica_actors=actors - below, node_hosts=below)
        found = [*rows(size, "pool", seen, kinds), driver(size, "pool", seen, before)]
        [first, *_] = opened.hosts()[0]
        started = await first.start_process(pool.Process(SLEEPER, name="sleeper", devices=0))
        # It is nobody's child, so that nothing which Ray kills takes it along.
        pid = (await started.status()).pid
        warden = None if pid is None else psutil.Process(pid).parent()
        if warden is not None:
            full = warden.memory_full_info()
            more = {warden.pid: Memory(full.uss, full.pss, full.rss)}
            found += rows(size, "pool", more, {"warden of a process": {warden.pid}})
        await started.stop(0)
    return found


def _title(pid: int) -> str:
    try:
        return " ".join(psutil.Process(pid).cmdline())
    except psutil.NoSuchProcess:
        return "ray::gone"


async def bare(size: tuple[int, int]) -> list[Row]:
    """Make as many groups with as many actors by hand, and look."""
    replicas, hosts = size
    before = await settled()
    gangs = [BareGang([{"GPU": 1.0, "CPU": 1.0}] * hosts) for _ in range(replicas)]
    for gang in gangs:
        await gang.build()
    seen = await settled()
    kinds = kinds_of(
        seen,
        before,
        supervisors={pid for gang in gangs for pid in gang.pids[:-hosts]},
        actors_of_hosts={pid for gang in gangs for pid in gang.pids[-hosts:]},
    )
    found = [*rows(size, "bare Ray", seen, kinds), driver(size, "bare Ray", seen, before)]
    for gang in gangs:
        gang.remove()
    return found


def report(found: list[Row], idle: list[Row]) -> None:
    """Print a table, and write the same as JSON."""
    table = Table(title="Footprint, MB")
    for name in ("pool", "side", "kind"):
        table.add_column(name)
    for name in ("count", "USS", "PSS", "RSS", "PSS in all"):
        table.add_column(name, justify="right")
    for row in (*idle, *found):
        size = f"{row.replicas} x {row.hosts}" if row.replicas else "no pool"
        numbers = (row.uss_mb, row.pss_mb, row.rss_mb, row.sum_mb)
        cells = (f"{number:.1f}" for number in numbers)
        table.add_row(size, row.side, row.kind, str(row.count), *cells)
    console = Console()
    (console if console.is_terminal else Console(width=WIDTH)).print(table)
    folder = QUICK if "--quick" in sys.argv else OUTPUT
    folder.mkdir(parents=True, exist_ok=True)
    document = {
        "title": "Footprint",
        "machine": machine(),
        "rows": [asdict(row) for row in (*idle, *found)],
        "measured": [],
    }
    (folder / "footprint.json").write_text(json.dumps(document, indent=1) + "\n")


async def empty() -> list[Row]:
    """Say what Ray runs for an idle cluster of one driver."""
    seen = await settled()
    kinds: dict[str, set[int]] = {"idle workers": set(), "raylets": set(), "Ray's own rest": set()}
    for pid in seen.keys() - {os.getpid()}:
        program = _title(pid).partition(" ")[0]
        kind = "raylets" if program.endswith("/raylet") else "Ray's own rest"
        kinds["idle workers" if program.startswith("ray::IDLE") else kind].add(pid)
    driver_row = rows((0, 0), "Ray", seen, {"driver": {os.getpid()}})
    return [*rows((0, 0), "Ray", seen, kinds), *driver_row]


async def main(sizes: tuple[tuple[int, int], ...]) -> None:
    """Measure and report."""
    # What is imported once is no part of what a pool adds.
    idle = await empty()
    await ours((1, 1))
    await bare((1, 1))
    found: list[Row] = []
    for size in sizes:
        found += await ours(size)
        found += await bare(size)
    report(found, idle)


if __name__ == "__main__":
    logging.getLogger("pool").setLevel(logging.CRITICAL)
    with embedded_cluster(nodes=NODES, gpus=GPUS, **RELAXED):
        anyio.run(main, SIZES[:1] if "--quick" in sys.argv else SIZES)
