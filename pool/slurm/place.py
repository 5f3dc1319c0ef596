"""Where a node program is: the job, the run of it, the node's role, and the names that follow."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from pool.errors import ConfigError
from pool.slurm.environment import KEY
from pool.slurm.job import SlurmJob
from pool.slurm.roles import Role, assign, expand, padded

MARK = "POOL_SLURM_NODE"
"""The variable that every process of ours on a node has: job, attempt and rank."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One node program's place, from what Slurm says in the environment.

    Args:
        job_id: The job's number.
        attempt: How often it was started again before.
        key: The secret of this run.
        roles: All nodes, by rank.
        role: This one.
    """

    job_id: str
    attempt: int
    key: str
    roles: tuple[Role, ...]
    role: Role

    @classmethod
    def of(cls, environ: Mapping[str, str], head: str = "") -> Place:
        """Read the environment of a task of `srun`.

        Raises:
            ConfigError: Something is missing, so this is no such task.
        """

        def need(*names: str) -> str:
            for name in names:
                if environ.get(name):
                    return environ[name]
            raise ConfigError(
                f"there is no {names[0]} in the environment; this program is started by the batch "
                "script of `pool slurm`"
            )

        hosts = expand(need("SLURM_STEP_NODELIST", "SLURM_JOB_NODELIST", "SLURM_NODELIST"))
        roles = assign(hosts, head)
        index = int(need("SLURM_NODEID"))
        if index >= len(hosts):
            raise ConfigError(f"SLURM_NODEID is {index}, and there are {len(hosts)} nodes")
        # A site may have its tasks in another order; the name is the node's own.
        named = environ.get("SLURMD_NODENAME")
        host = named if named in hosts else hosts[index]
        return cls(
            job_id=need("SLURM_JOB_ID"),
            attempt=int(environ.get("SLURM_RESTART_COUNT") or 0),
            key=need(KEY),
            roles=roles,
            role=next(role for role in roles if role.host == host),
        )

    @property
    def cluster(self) -> str:
        """What this run's cluster is known by: it tells nothing of the key."""
        return sha256(f"pool {self.job_id} {self.attempt} {self.key}".encode()).hexdigest()[:16]

    @property
    def mark(self) -> str:
        """The value of `MARK`."""
        return f"{self.job_id}.{self.attempt}.{self.role.rank}"

    @property
    def rank(self) -> str:
        """The rank, with as many digits as the last has."""
        return padded(self.role.rank, len(self.roles))

    def folder(self, job: SlurmJob) -> Path:
        """Where this run keeps its files; see `folder_of`."""
        return folder_of(Path(job.directory), self.job_id, self.attempt)

    def home(self, job: SlurmJob) -> Path:
        """The node's own folder. The user is in it, as others may have a job of this number."""
        return Path(job.temp_root) / f"pool-{os.geteuid()}" / self.mark


def folder_of(directory: Path, job_id: str, attempt: int) -> Path:
    """Return the folder of a run: one each, so that a job that is put back loses no log."""
    return directory / (f"{job_id}-r{attempt}" if attempt else job_id)


def log_of_ray(folder: Path, rank: int, count: int) -> Path:
    """Return where the output of `ray start` goes."""
    name = "ray-head" if rank == 0 else f"ray-worker-{padded(rank, count)}"
    return folder / "logs" / f"{name}.log"


def log_of_service(folder: Path, service: str, rank: int, count: int) -> Path:
    """Return where the output of a service goes."""
    return folder / "logs" / f"service-{service}-{padded(rank, count)}.log"


def log_of_node(folder: Path, rank: int, count: int) -> Path:
    """Return where a node program writes."""
    return folder / "logs" / f"node-{padded(rank, count)}.log"


def log_of_driver(folder: Path) -> Path:
    """Return where the output of the driver goes."""
    return folder / "logs" / "driver.log"
