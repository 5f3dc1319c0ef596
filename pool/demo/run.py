"""The demo from beginning to end: cluster, pool, job, story, and what is left."""

from __future__ import annotations

import io
import json
import logging
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from functools import partial

import anyio
import anyio.to_thread

import pool
from pool.demo.checks import check_all
from pool.demo.corpus import Reader, batches, count_all
from pool.demo.embedded import EmbeddedShape, embedded_cluster
from pool.demo.footprint import Footprint
from pool.demo.job import Job
from pool.demo.leftovers import look_behind
from pool.demo.record import Record
from pool.demo.report import document
from pool.demo.show import Lines, Screen, Show
from pool.demo.signals import held_signals, sigterm_as_interrupt
from pool.demo.story import SIZE, Provider, Story
from pool.demo.words import report_in_words
from pool.errors import ConfigError

SHAPE = EmbeddedShape(nodes=8, gpus=4, cpus=4)
GPUS_OF_A_REPLICA = 8
"""Twice what a node has, so that each replica spans two."""
FRAME_S = 0.25
LOOK_S = 0.5
OPEN_TIMEOUT_S = 90.0

OK, FAILED, REFUSED, INTERRUPTED = 0, 1, 2, 130


def run_demo(*, as_json: bool = False) -> int:
    """Run the demo, and write its report on standard output.

    Args:
        as_json: Write one JSON document instead; the story goes to standard error.

    Returns:
        The exit status: 0 if everything it claims happened, 1 if not, 2 if it refused to start,
        130 if it was interrupted. Whatever it started was ended in each case.
    """
    # The pool's warnings say what the story says; whoever wants them sets logging up.
    logging.getLogger("pool").addHandler(logging.NullHandler())
    footprint = Footprint()
    record = Record()
    began = time.monotonic()
    overheard = io.StringIO()
    show = _show(as_json)
    try:
        # NB: Ray prints on standard output of each worker process that dies, wanted or not.
        with sigterm_as_interrupt(), redirect_stdout(overheard), show:
            _run(record, footprint, show)
    except ConfigError as error:
        print(f"pool demo: {error}", file=sys.stderr)
        return REFUSED
    except KeyboardInterrupt:
        left = record.left_behind.after_cluster
        print(f"Interrupted. What is left: {', '.join(left or ()) or 'nothing'}.", file=sys.stderr)
        return INTERRUPTED
    record.took_s["total"] = time.monotonic() - began
    checks = check_all(record)
    if as_json:
        print(json.dumps(document(record, checks), indent=2))
    else:
        for line in report_in_words(record, checks):
            show.report(line)
    if all(check.ok for check in checks):
        return OK
    print(overheard.getvalue(), end="", file=sys.stderr)
    return FAILED


def _show(as_json: bool) -> Show:
    if as_json:
        return Lines(sys.stderr, None)
    return Screen(sys.stdout) if sys.stdout.isatty() else Lines(sys.stdout, sys.stdout)


def _run(record: Record, footprint: Footprint, show: Show) -> None:
    work = batches()
    lap = _laps(record.took_s)
    show.say(f"the job: {sum(map(len, work)):,} files in {len(work):,} batches")
    try:
        with embedded_cluster(SHAPE, partial(_say_nodes, show, footprint)):
            lap("cluster")
            anyio.run(partial(_drive, Job(work), record, footprint, show, lap))
    except ConfigError:
        raise
    except Exception as error:
        # What was claimed and did not happen is a check that fails; the report says the rest.
        record.error = _in_words(error)
    finally:
        with held_signals():
            record.left_behind.after_cluster = footprint.end()
            record.left_behind.processes_seen = footprint.size
    show.say("the cluster is down; the same job by one thread, to compare")
    lap("down")
    record.serial = count_all(work)
    lap("serial")


def _say_nodes(show: Show, footprint: Footprint, nodes: int) -> None:
    footprint.look()
    if nodes in (0, SHAPE.nodes):
        done = "starts" if nodes == 0 else "is up"
        show.say(
            f"the cluster {done}: {SHAPE.nodes} nodes with {SHAPE.gpus} logical GPUs each "
            "on this machine"
        )


async def _drive(
    job: Job, record: Record, footprint: Footprint, show: Show, lap: Callable[[str], None]
) -> None:
    """Open the pool, let it work while the story happens, and look at what is left."""
    provider = Provider()
    replicas = pool.ReplicaPool(
        "demo",
        shape=pool.ReplicaShape(devices=GPUS_OF_A_REPLICA),
        host=Reader,
        health=pool.HealthPolicy(period_s=1, timeout_s=2),
        restart=pool.RestartPolicy(delay_s=0.1),
        drain=pool.DrainPolicy(timeout_s=20),
        notices=[pool.notices.FunctionNotices(provider.ask, period_s=0.2)],
        start_timeout_s=60,
    )
    replicas.follow(show.event)
    story = Story(replicas, job, provider, show.step)
    record.steps = story.steps
    try:
        async with replicas, anyio.create_task_group() as watch:
            watch.start_soon(_draw, replicas, job, show)
            watch.start_soon(_look, footprint)
            await replicas.scale(SIZE, timeout_s=OPEN_TIMEOUT_S)
            lap("pool")
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(job.run, replicas)
                await story.run()
                record.results_by_then = job.received
                job.let_end()
            lap("map")
            show.frame(replicas.snapshot(), job)
            watch.cancel_scope.cancel()
        lap("close")
    finally:
        record.passes, record.items_sent, record.results = job.passes, job.sent, job.received
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(look_behind, record.left_behind, footprint)


async def _draw(replicas: pool.ReplicaPool, job: Job, show: Show) -> None:
    while True:
        show.frame(replicas.snapshot(), job)
        await anyio.sleep(FRAME_S)


async def _look(footprint: Footprint) -> None:
    while True:
        await anyio.to_thread.run_sync(footprint.look)
        await anyio.sleep(LOOK_S)


def _laps(took_s: dict[str, float]) -> Callable[[str], None]:
    """Return a function that notes the seconds since it was last called."""
    began = time.monotonic()

    def lap(phase: str) -> None:
        nonlocal began
        now = time.monotonic()
        took_s[phase], began = now - began, now

    return lap


def _in_words(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error) or repr(error)
