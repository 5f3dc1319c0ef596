"""A real Slurm of three nodes, on which each test leaves nothing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.lab.jobs import Jobs
from tests.lab.slurm import SlurmLab, slurm_is_possible

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
    jobs.cancel_all()
    jobs.until(lambda: not jobs.left(), lambda: str(jobs.left()), LEAVING_S)
    slurm.await_idle()
