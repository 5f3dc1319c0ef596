"""What a node program has taken on its node, and the environment of what runs there."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass

import anyio

from pool.errors import ConfigError
from pool.slurm import environment, home
from pool.slurm import place as places
from pool.slurm.home import Home
from pool.slurm.job import SlurmJob
from pool.slurm.place import Place
from pool.slurm.ports import Block
from pool.slurm.telling import Teller
from pool.slurm.warning import VARIABLE

SOCKET_PATH_MOST = 107
RAY_SOCKET_PART = len("/session_2026-01-01_00-00-00_000000_1234567/sockets/plasma_store")


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One node, set up.

    Args:
        job: What is to run.
        place: Which node this is.
        home: Its folder.
        block: Its ports.
        claim: The socket that holds them.
        address: Where others reach it.
        environ: The environment of what runs here.
    """

    job: SlurmJob
    place: Place
    home: Home
    block: Block
    claim: socket.socket
    address: str
    environ: Mapping[str, str]


async def set_up(job: SlurmJob, place: Place, teller: Teller) -> Setting:
    """Take what a node needs. Blocks nothing.

    Raises:
        ConfigError: The node is not as the job wants it; the error says how.
        OSError: The folder cannot be made.
    """
    check_devices(job, place, os.environ)
    others = [role.host for role in place.roles if role is not place.role]
    address = await anyio.to_thread.run_sync(home.own_address, place.role.host, others)
    if said := home.raise_open_files(job.open_files):
        teller.note(said)
    own = Home(place.home(job), place.mark, job.stop_grace_s)
    if len(os.fsencode(own.ray)) + RAY_SOCKET_PART > SOCKET_PATH_MOST:
        raise ConfigError(f"{own.ray} is too long for Ray's sockets; give another temp_root")
    try:
        for what in await anyio.to_thread.run_sync(own.take):
            teller.note(f"removed {what}, left by an earlier run")
        block, claim = home.claim(job.ports, address)
    except BaseException:  # cancelled, too
        own.give_back()
        raise
    environ = _environ(job, place, block)
    if job.print_env:
        shown = environment.redact(environ)
        teller.note("\n".join(["environment:", *(f"  {n}={v}" for n, v in shown.items())]))
    return Setting(
        job=job, place=place, home=own, block=block, claim=claim, address=address, environ=environ
    )


def check_devices(job: SlurmJob, place: Place, environ: Mapping[str, str]) -> None:
    """Compare the devices that Slurm gave with those that the job counts on.

    Raises:
        ConfigError: They differ. Ray would schedule onto devices that are not ours.
    """
    if not job.devices or (place.role.is_head and job.dedicated_head):
        return
    given = environment.devices_given(environ)
    if given != job.devices:
        raise ConfigError(
            f"Slurm gave {given if given is not None else 'no'} devices to {place.role.host}, and "
            f"the job says devices = {job.devices}; change that, or gres ({job.asked_gres!r})",
            "devices",
        )


def _environ(job: SlurmJob, place: Place, block: Block) -> dict[str, str]:
    folder = place.folder(job)
    return {
        **environment.clean(os.environ),
        **job.env,
        # Ray has no argument for these two, which are the same for every cluster otherwise.
        "AUTOSCALER_METRIC_PORT": str(block["autoscaler_metrics"]),
        "DASHBOARD_METRIC_PORT": str(block["dashboard_metrics"]),
        places.MARK: place.mark,
        "POOL_SLURM_DIR": str(folder),
        "POOL_SLURM_RANK": str(place.role.rank),
        "POOL_SLURM_NODES": str(len(place.roles)),
        "POOL_SLURM_RESTART_COUNT": str(place.attempt),
        "POOL_SLURM_START_EPOCH": f"{time.time():.3f}",
        VARIABLE: str(folder / "notice.json"),
    }
