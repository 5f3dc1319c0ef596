"""Calls per second over a pool, beside bare Ray, `ray.util.ActorPool` and Ray Data.

All contestants have the same number of actors and the same bound in flight, and take turns. The
bare loop calls a plain actor of its own, with nothing around it; so does `ActorPool`. Ray Data is
left out where pandas and pyarrow are not installed, which is said.

Usage: python -m benchmarks.dispatch [--actors 4] [--in-flight 8] [--rounds 5] [--items 2000]
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import logging
import os
import random
import resource
import shutil
import signal
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

import anyio
import ray
from anyio.from_thread import BlockingPortal, start_blocking_portal

import pool
from benchmarks.harness import Measured, report

SIZES = {"empty": 0, "1 KB": 1_000, "1 MB": 1_000_000}
WARM_CALLS = 50
LATENCY_CALLS = 1_000
KILL_EVERY_S = 5.0
CPUS = 64
"""Logical ones: nothing here may wait for a CPU to be free in Ray's books."""


def same(item: Any) -> Any:
    """Return what is given."""
    return item


def same_of_each(items: list[Any]) -> list[Any]:
    """Return what is given, for a batch."""
    return list(items)


class Plain:
    """Do the same in an actor by hand."""

    def same(self, item: Any) -> Any:
        """Return what is given."""
        return item

    async def same_soon(self, item: Any) -> Any:
        """Return what is given, on a loop."""
        return item


_make: Any = ray.remote
PlainActor: Any = _make(Plain)


class PlainSync:
    """Have plain methods alone: the cheapest actor there is."""

    def same(self, item: Any) -> Any:
        """Return what is given."""
        return item


PlainSyncActor: Any = _make(PlainSync)


def bare_loop(actors: list[Any], in_flight: int, items: list[Any]) -> None:
    """Call by hand, with a bound for each actor."""
    left = iter(items)
    pending: dict[Any, Any] = {}
    for actor in actors * in_flight:
        for item in islice(left, 1):
            pending[actor.same.remote(item)] = actor
    done = 0
    while pending:
        ready, _ = ray.wait(list(pending), num_returns=1)
        for ref in ready:
            actor = pending.pop(ref)
            ray.get(ref)
            done += 1
            for item in islice(left, 1):
                pending[actor.same.remote(item)] = actor
    assert done == len(items)


def actor_pool(actors: list[Any], items: list[Any]) -> None:
    """Call with Ray's own pool, which has one call in flight for each actor."""
    work: Any = lambda actor, item: actor.same.remote(item)  # noqa: E731
    assert sum(1 for _ in ray.util.ActorPool(actors).map_unordered(work, items)) == len(items)


class Bench:
    """Run contestants in turn, and count calls and the driver's CPU.

    Args:
        rounds: Counted rounds of each.
    """

    def __init__(self, rounds: int) -> None:
        self._rounds = rounds
        self.facts: dict[str, object] = {}

    def race(self, contestants: dict[str, Callable[[], object]], calls: int) -> list[Measured]:
        """Return seconds a call of each."""
        measured = {name: Measured(name) for name in contestants}
        cpu: dict[str, list[float]] = {name: [] for name in contestants}
        for number in range(self._rounds + 1):
            for name, run in contestants.items():
                began, used = time.perf_counter(), time.process_time()
                run()
                took_s, cpu_s = time.perf_counter() - began, time.process_time() - used
                if number:
                    measured[name].rounds_s.append(took_s / calls)
                    cpu[name].append(cpu_s / calls)
        for name, used_s in cpu.items():
            rate = 1 / measured[name].median_s
            cpu_us = statistics.median(used_s) * 1e6
            self.facts[name] = f"{rate:,.0f} calls/s, {cpu_us:.0f} us of the driver's CPU a call"
        return list(measured.values())


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--actors", type=int, default=4)
    parser.add_argument("--in-flight", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--items", type=int, default=2000)
    parser.add_argument("--long", type=int, default=0, help="items of one lazy input, for memory")
    parser.add_argument("--killed", type=int, default=0, help="items while members are killed")
    parser.add_argument("--quick", action="store_true", help="only prove that all of it runs")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.items, options.actors = 1, 100, min(options.actors, 2)
    bench = Bench(options.rounds)
    with one_node(options.actors), start_blocking_portal() as portal:
        run(bench, portal, options)


@contextmanager
def one_node(gpus: int) -> Iterator[None]:
    """Start a Ray of one node with logical GPUs, and CPUs for whatever Ray Data wants of them."""
    folder = tempfile.mkdtemp(prefix="pool-")
    os.environ.update(RAY_AUTH_MODE="disabled", RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO="0")
    ray.init(
        address="local",
        num_cpus=CPUS,
        num_gpus=gpus,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        _temp_dir=folder,
    )
    try:
        yield
    finally:
        ray.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


def run(bench: Bench, portal: BlockingPortal, options: Any) -> None:
    """Race all contestants on one pool."""
    shape = pool.ReplicaShape(devices=1)
    count, in_flight = options.actors, options.in_flight
    make: Any = pool.ReplicaPool
    inside = portal.wrap_async_context_manager(
        portal.call(lambda: make("bench", shape=shape, restart=pool.RestartPolicy(intensity=1000)))
    )
    with inside as replicas:
        portal.call(lambda: replicas.scale(count, timeout_s=600))
        plain = [PlainSyncActor.options(num_cpus=0).remote() for _ in range(count)]
        soon = [PlainActor.options(num_cpus=0).remote() for _ in range(count)]
        ray.get([actor.same.remote(0) for actor in [*plain, *soon]])

        def spread(items: Any, **how: Any) -> None:
            async def take() -> int:
                return sum([1 async for _ in replicas.map_unordered(same, items, **how)])

            assert portal.call(take) == len(items)

        def in_order(items: Any) -> None:
            async def take() -> int:
                return sum([1 async for _ in replicas.map(same, items, in_flight=in_flight)])

            assert portal.call(take) == len(items)

        for name, size in SIZES.items():
            # Several times as many as may be in flight, or a burst is all that is measured.
            enough = 4 * count * in_flight
            calls = options.items if size < 10_000 else max(options.items // 10, enough)
            items: list[Any] = [bytes(size) for _ in range(calls)]
            by_hand = functools.partial(bare_loop, in_flight=in_flight, items=items)
            contestants: dict[str, Callable[[], object]] = {
                f"bare loop, {name}": functools.partial(by_hand, plain),
                f"bare loop, async actors, {name}": functools.partial(by_hand, soon),
                f"ActorPool, {name}": functools.partial(actor_pool, plain, items),
                f"map_unordered, {name}": functools.partial(spread, items, in_flight=in_flight),
                f"map, {name}": functools.partial(in_order, items),
            }
            measured = bench.race(contestants, calls)
            bare, bare_soon, util, ours, ordered = measured
            ours.beside, ours.goal_ratio = bare, 1 / 0.9
            ordered.beside, ordered.goal_ratio = util, 1 / 1.3
            report(f"dispatch {name} {count} actors", measured, **bench.facts)
            print(f"map_unordered / bare {bare.median_s / ours.median_s:.2f} x (goal 0.9)")
            print(f"map_unordered / bare async {bare_soon.median_s / ours.median_s:.2f} x")
            print(f"map_unordered / ActorPool {util.median_s / ours.median_s:.2f} x (goal 1.3)")
            bench.facts.clear()
        latency(replicas, portal, plain[0], soon[0])
        data(replicas, portal, options)
        if options.long:
            memory(replicas, portal, options)
        if options.killed:
            kills(replicas, portal, options)


def latency(replicas: Any, portal: BlockingPortal, plain: Any, soon: Any) -> None:
    """Measure one call at a time, by hand and by the pool, in an order drawn anew each time.

    Whoever is asked right after a call to the same process finds it awake, so no kind of call may
    always follow the same other.
    """
    kinds: dict[str, Callable[[], Any]] = {
        "Ray, plain method": lambda: plain.same.remote(0),
        "Ray, async method": lambda: soon.same_soon.remote(0),
        "submit, plain function": lambda: replicas.submit(same, 0),
        "submit, async function": lambda: replicas.submit(same_soon, 0),
    }
    measured = {name: Measured(name) for name in kinds}

    async def measure() -> None:
        order = list(kinds)
        for number in range(LATENCY_CALLS + WARM_CALLS):
            random.shuffle(order)
            for name in order:
                began = time.perf_counter()
                await kinds[name]()
                if number >= WARM_CALLS:
                    measured[name].rounds_s.append(time.perf_counter() - began)

    portal.call(measure)
    by_hand, by_hand_soon, ours, ours_soon = measured.values()
    ours.beside, ours_soon.beside = by_hand, by_hand_soon
    facts = {
        f"{one.name} adds": f"{(one.median_s - other.median_s) * 1e3:.2f} ms (goal 0.3)"
        for one, other in ((ours, by_hand), (ours_soon, by_hand_soon))
    }
    report("dispatch latency", list(measured.values()), **facts)


async def same_soon(item: Any) -> Any:
    """Return what is given, on the loop."""
    return item


class SameOfEach:
    """Return what is given, for Ray Data."""

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Return a batch as it is."""
        return batch


def data(replicas: Any, portal: BlockingPortal, options: Any) -> None:
    """Do batches with Ray Data, its actors started anew, as it does, and with the pool."""
    missing = [name for name in ("pandas", "pyarrow") if importlib.util.find_spec(name) is None]
    if missing:
        print(f"Ray Data is left out: {' and '.join(missing)} not installed")
        return
    import ray.data as ray_data

    context = ray_data.DataContext.get_current()
    context.enable_progress_bars = False
    calls, batch = options.items * 10, 100

    def by_data() -> None:
        mapped = ray_data.range(calls).map_batches(
            SameOfEach,
            batch_size=batch,
            compute=ray_data.ActorPoolStrategy(
                size=options.actors, max_tasks_in_flight_per_actor=options.in_flight
            ),
            num_cpus=0.1,
        )
        assert sum(1 for _ in mapped.iter_rows()) == calls

    def by_pool() -> None:
        async def take() -> int:
            results = replicas.map_unordered(
                same_of_each, range(calls), in_flight=options.in_flight, batch=batch
            )
            return sum([1 async for _ in results])

        assert portal.call(take) == calls

    bench = Bench(min(options.rounds, 3))
    theirs, ours = bench.race({"Ray Data": by_data, "map_unordered, batch": by_pool}, calls)
    ours.beside, ours.goal_ratio = theirs, 1.0
    report(f"dispatch batches {options.actors} actors", [theirs, ours], **bench.facts)


def memory(replicas: Any, portal: BlockingPortal, options: Any) -> None:
    """Map a long lazy input, and see what the driver holds meanwhile."""

    async def take() -> list[int]:
        peaks: list[int] = []
        done = 0
        lazy = (number for number in range(options.long))
        began = time.perf_counter()
        results = replicas.map(same_of_each, lazy, in_flight=options.in_flight, batch=50)
        async for _ in results:
            done += 1
            if done % max(1, options.long // 10) == 0:
                peaks.append(resident_kb())
        print(f"{done:,} items in {time.perf_counter() - began:.0f} s")
        return peaks

    peaks = portal.call(take)
    print(f"resident after each tenth, MB: {[kb // 1024 for kb in peaks]}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(f"peak resident: {peak} MB")


def kills(replicas: Any, portal: BlockingPortal, options: Any) -> None:
    """Map items while a host is killed each five seconds, and count what comes out."""

    async def strike() -> int:
        struck = 0
        while True:
            await anyio.sleep(KILL_EVERY_S)
            hosts = [host for row in replicas.hosts() for host in row]
            if hosts:
                struck += 1
                os.kill(hosts[struck % len(hosts)].info.pid, signal.SIGKILL)
                print(f"  {struck} killed, {counted.total():,} items out", flush=True)

    counted: Counter[int] = Counter()

    async def take() -> dict[str, int]:
        results = replicas.map_unordered(
            doze, range(options.killed), in_flight=options.in_flight, attempts=100
        )
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(strike)
            async for item in results:
                counted[item] += 1
            tasks.cancel_scope.cancel()
        return dict(results.counts)

    began = time.perf_counter()
    counts = portal.call(take)
    took_s = time.perf_counter() - began
    assert counted == Counter(range(options.killed)), "an item was lost or doubled"
    print(f"{options.killed:,} items, each once in the output, in {took_s:.0f} s: {counts}")


def doze(item: int) -> int:
    """Take a thousandth of a second, so that a kill meets somebody at work."""
    time.sleep(0.001)
    return item


def resident_kb() -> int:
    """Return what this process holds in memory, in kilobytes."""
    with open("/proc/self/status") as status:
        line = next(line for line in status if line.startswith("VmRSS"))
    return int(line.split()[1])


if __name__ == "__main__":
    main()
