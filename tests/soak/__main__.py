"""A soak: random faults from a seed, at pools on a real Ray of several nodes, for minutes.

`python -m tests.soak --minutes 20 --seed 7` starts a cluster of its own. The seed decides what is
thrown, at whom and when; what is going on at that moment is up to the machine. Exit status 1 says
that an invariant did not hold, that an order failed, or that something was left.
"""

from __future__ import annotations

import argparse
import json
import secrets
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from itertools import chain
from pathlib import Path

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup

import pool
from tests.soak.faults import Arsenal
from tests.soak.pools import GANG, SINGLE, make
from tests.soak.report import Report
from tests.soak.script import draws
from tests.soak.site import Site, open_site
from tests.soak.strikes import Ledger
from tests.soak.subject import Direct, Owned, Subject
from tests.soak.watch import Watch, actors, groups, live_actors

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
MEAN_GAP_S = 10.0
BEGIN_S = 120.0
SETTLE_S = 180.0
CALM_S = 5.0
VANISH_S = 20.0
"""How long Ray's tables, and processes on their way out, may lag behind the pools."""
BEGINNING = {SINGLE: 2, GANG: 1}


async def soak(site: Site, report: Report, folder: Path) -> None:
    """Open the pools, throw faults for the time given, let the pools settle, and close them."""
    ledger = Ledger()
    owned = Owned(site.address, folder, ledger)
    watch = Watch([], ledger)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(owned.close)
        direct = []
        for name in (SINGLE, GANG):
            replicas = make(name, folder)
            direct.append(Direct(replicas, ledger))
            await stack.enter_async_context(replicas)
        watch.subjects = [*direct, owned]
        await _begin(direct, owned)
        arsenal = Arsenal(site, direct, owned, ledger, folder)
        async with anyio.create_task_group() as watching:
            watching.start_soon(watch.keep)
            async with anyio.create_task_group() as tasks:
                await _throw(arsenal, report, tasks)
            for subject in watch.subjects:
                if (unsettled := await _settle(subject)) is not None:
                    report.troubles.append(unsettled)
            # A settled pool stays settled; `watch` looks on.
            await anyio.sleep(CALM_S)
            await watch.look()
            watching.cancel_scope.cancel()
    report.thrown, report.missed = dict(arsenal.thrown), dict(arsenal.missed)
    report.troubles += arsenal.troubles
    report.violations, report.warnings, report.looks = watch.violations, watch.warnings, watch.looks
    report.sum_up(ledger.strikes)
    report.count_causes(chain.from_iterable(subject.events for subject in watch.subjects))
    report.leftovers = await _leftovers(watch)
    levels = [actor.identity.level for actor in await anyio.to_thread.run_sync(actors)]
    report.replicas, report.hosts = levels.count("replica"), levels.count("host")
    _write_story(report, watch.subjects, ledger)


async def _begin(direct: list[Direct], owned: Owned) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(owned.begin, "found")
        for subject in direct:
            tasks.start_soon(subject.replicas.scale, BEGINNING[subject.name])
    for subject in direct:
        await subject.replicas.wait_settled(BEGIN_S)


async def _throw(arsenal: Arsenal, report: Report, tasks: TaskGroup) -> None:
    until = time.monotonic() + 60 * report.minutes
    for draw in draws(report.seed, MEAN_GAP_S):
        if time.monotonic() + draw.gap_s > until:
            return
        await anyio.sleep(draw.gap_s)
        print(f"{time.time():.2f} {draw.kind}", flush=True)
        arsenal.throw(draw, tasks)


async def _settle(subject: Subject) -> str | None:
    shown = None
    with anyio.move_on_after(SETTLE_S):
        # Asked and not waited for: a pool's owner may be another process.
        while (shown := subject.look()) is None or not shown["settled"]:  # noqa: ASYNC110
            await anyio.sleep(0.2)
        return None
    return f"{subject.name} did not settle within {SETTLE_S:g} s: {shown}"


async def _leftovers(watch: Watch) -> list[str]:
    until = time.monotonic() + VANISH_S
    while True:
        live = await anyio.to_thread.run_sync(live_actors)
        left = [f"actor {actor.identity} ({actor.state})" for actor in live]
        left += [f"group {name} ({s})" for name, s in await anyio.to_thread.run_sync(groups)]
        left += [f"process {pid}" for pid in watch.alive()]
        if not left or time.monotonic() > until:
            return left
        await anyio.sleep(0.2)


def _write_story(report: Report, subjects: list[Subject], ledger: Ledger) -> None:
    """Write down all that was done and said, in order, for whoever has to find out why."""
    lines = [
        {"at": event["at"], "pool": subject.name, **event}
        for subject in subjects
        for event in subject.events
    ]
    lines += [
        {
            **{"at": strike.at, "pool": strike.pool, "struck": strike.kind},
            **{"until": strike.until, "who": str(strike.members)},
            **{"detected": strike.detected_at, "recovered": strike.recovered_at},
        }
        for strike in ledger.strikes
    ]
    lines.sort(key=lambda line: line["at"])
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"soak_{report.seed}.story.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def main() -> int:
    """Run a soak, and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--seed", type=int, default=None)
    given = parser.parse_args()
    seed = secrets.randbelow(10**6) if given.seed is None else given.seed
    report = Report(seed=seed, minutes=given.minutes)
    print(f"seed: {seed}, pool: {Path(pool.__file__).parent}", flush=True)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="soak-") as folder, open_site() as site:
        anyio.run(soak, site, report, Path(folder))
    report.took_s = time.monotonic() - began
    report.show()
    report.write(RESULTS / f"soak_{seed}.json")
    return 0 if report.is_good else 1


if __name__ == "__main__":
    sys.exit(main())
