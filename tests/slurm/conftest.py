"""A real Slurm of three nodes, on which each test leaves nothing."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.lab.jobs import Jobs
from tests.lab.slurm import SlurmLab, slurm_is_possible
from tests.slurm.cluster import Cluster

LEAVING_S = 5.0
"""How long what a job left may take to leave when the job is over."""


@pytest.fixture(scope="session")
def slurm() -> Iterator[SlurmLab]:
    """Start three nodes with 16 CPUs and 8 devices each; Slurm does not find daemons there."""
    trouble = slurm_is_possible()
    if trouble is not None:
        pytest.skip(trouble)
    with SlurmLab(nodes=3) as lab:
        yield lab


@pytest.fixture
def jobs(slurm: SlurmLab) -> Iterator[Jobs]:
    """Submit and watch jobs, and check afterwards that none is left, nor anything of one."""
    jobs = Jobs(slurm)
    yield jobs
    check_nothing_is_left(jobs)


@pytest.fixture
def cluster(slurm: SlurmLab) -> Iterator[Cluster]:
    """Run jobs of `pool slurm` with a stub for Ray, and check that they leave nothing."""
    with cluster_on(slurm) as cluster:
        yield cluster


@contextmanager
def cluster_on(lab: SlurmLab, *, is_real: bool = False) -> Iterator[Cluster]:
    """Give what runs jobs on a Slurm, and check afterwards that they left nothing."""
    cluster = Cluster(lab, Path(tempfile.mkdtemp(dir=lab.folder)), is_real=is_real)
    yield cluster
    check_nothing_is_left(cluster.jobs)


def check_nothing_is_left(jobs: Jobs) -> None:
    """Fail when a process, or a file in /tmp, is left on any node by a job."""
    jobs.cancel_all()
    jobs.until(lambda: not jobs.left(), lambda: str(jobs.left()), LEAVING_S)
    jobs.lab.await_idle()
