"""The program that the job's `srun` starts once on each node: ``python -m pool.slurm.node FILE``.

It finds out which node it is, and is the head's program or a worker's. It exits with the driver's
code on the head, and with 0 on a node that was told to leave, so that the job's exit code is the
driver's. What keeps a node from taking part is told to the head, over the network if the directory
is not there, and said in the job's output with the node's name.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import anyio

from pool.errors import ConfigError, PoolError
from pool.slurm import files, place, setting
from pool.slurm.board import HEAD_FILE
from pool.slurm.head import Head
from pool.slurm.job import SlurmJob, from_json
from pool.slurm.place import Place
from pool.slurm.reception import NODE_FOLDER
from pool.slurm.telling import Teller
from pool.slurm.worker import HeadGone, Worker, complain, find_head

SIGNALS = (
    signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2,
)  # fmt: skip
GIVE_UP_S = 30.0
"""How long a node that cannot take part tries to say so."""
JOB_FILE_S = 3.0
"""How long a shared file system may take to show the job file, which is older than the job."""


def main() -> None:
    """Run the node program."""
    parser = argparse.ArgumentParser(prog="python -m pool.slurm.node")
    parser.add_argument("--call", required=True, help="where a head may listen")
    parser.add_argument("--head", default="", help="the host that is the head")
    parser.add_argument("file", type=Path, help="the job file")
    given = parser.parse_args()
    calls = [int(port) for port in given.call.split(",")]
    code = anyio.run(run, os.environ, calls, given.head, given.file)
    # All is said and given back. A thread that a file system holds must not hold the job as well.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


async def run(environ: Mapping[str, str], calls: Sequence[int], head: str, file: Path) -> int:
    """Be the node's program; returns its exit code."""
    teller = Teller(environ.get("SLURMD_NODENAME", "?"))
    try:
        return await _take_part(environ, calls, head, file, teller)
    finally:
        teller.close()


async def _take_part(
    environ: Mapping[str, str], calls: Sequence[int], head: str, file: Path, teller: Teller
) -> int:
    signals = _Signals()
    try:
        here = Place.of(environ, head)
    except (ConfigError, ValueError) as error:
        teller.say(f"this node cannot take part: {error}")
        return 2
    teller.name = here.role.host
    try:
        job = await _read_job(file)
    except ConfigError as error:
        await _give_up(here, calls, teller, str(error))
        return 2
    try:
        return await (_lead if here.role.is_head else _follow)(job, here, teller, signals)
    except HeadGone as error:
        teller.say(f"node {here.role.host} (rank {here.role.rank}) leaves: {error}")
        return 1
    except (PoolError, OSError) as error:
        text = f"node {here.role.host} (rank {here.role.rank}) cannot take part: {error}"
        if here.role.is_head:
            teller.say(text)
            _say_failed(job, here, str(error))
        else:
            await _give_up(here, calls, teller, str(error))
        return 1


async def _lead(job: SlurmJob, here: Place, teller: Teller, signals: _Signals) -> int:
    folder = here.folder(job)
    for each in (folder, folder / NODE_FOLDER, folder / "logs"):
        each.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)  # the batch script has made it
    files.write(folder / "job.json", job.to_json())
    teller.write_to(place.log_of_node(folder, 0, len(here.roles)))
    teller.say(
        f"job {here.job_id}, run {here.attempt}, cluster {here.cluster}, {len(here.roles)} nodes"
    )
    own = await setting.set_up(job, here, teller)
    head = Head(own, teller)
    try:
        return await head.run(signals.go_to)
    finally:
        # It comes first, as Slurm ends this program with those who stay.
        own.home.give_back()
        with anyio.CancelScope(shield=True):
            await head.end_those_who_stay()


async def _follow(job: SlurmJob, here: Place, teller: Teller, signals: _Signals) -> int:
    with anyio.CancelScope() as scope:
        # Until it works, it has nothing to end: it just leaves.
        signals.go_to(lambda number: _leave(number, scope))
        card = await find_head(job, here, teller)
        teller.write_to(place.log_of_node(here.folder(job), here.role.rank, len(here.roles)))
        own = await setting.set_up(job, here, teller)
        try:
            worker = Worker(own, teller, card)
            return await worker.run(signals.go_to)
        finally:
            own.home.give_back()
    teller.say("it was asked to end; this node leaves")
    return 0


def _leave(number: int, scope: anyio.CancelScope) -> None:
    if number in (signal.SIGTERM, signal.SIGINT):
        scope.cancel()


async def _read_job(file: Path) -> SlurmJob:
    said = ""
    with anyio.move_on_after(JOB_FILE_S):
        for pause_s in files.pauses():
            try:
                text = await anyio.to_thread.run_sync(file.read_text, abandon_on_cancel=True)
                return from_json(text)
            except OSError as error:
                said = f"{file} cannot be read here ({error.strerror}); is its directory shared?"
            await anyio.sleep(pause_s)
    raise ConfigError(said or f"{file} cannot be read here in {JOB_FILE_S:g} s")


def _say_failed(job: SlurmJob, here: Place, text: str) -> None:
    """Let the others leave, who wait for the head's file."""
    try:
        card = {"cluster": here.cluster, "job": here.job_id, "attempt": here.attempt}
        files.publish(here.folder(job) / HEAD_FILE, {**card, "over": text})
    except OSError:
        pass  # they leave when their time is over


async def _give_up(here: Place, calls: Sequence[int], teller: Teller, text: str) -> None:
    """Say why this node cannot take part, to the user and to the head."""
    teller.say(f"node {here.role.host} (rank {here.role.rank}) cannot take part: {text}")
    if here.role.is_head:
        return
    with anyio.move_on_after(GIVE_UP_S):
        for pause_s in files.pauses():
            if await complain(here, calls, text):
                return
            await anyio.sleep(pause_s)


class _Signals:
    """Signals, for whoever is to have them; before anybody is, they are kept."""

    def __init__(self) -> None:
        self._kept: list[int] = []
        self._to: Callable[[int], None] = self._kept.append
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            loop.add_signal_handler(number, self._take, number)

    def _take(self, number: int) -> None:
        self._to(number)

    def go_to(self, handler: Callable[[int], None]) -> None:
        self._to = handler
        kept, self._kept = self._kept, []
        for number in kept:
            handler(number)


if __name__ == "__main__":
    main()
