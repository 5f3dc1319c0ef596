"""What a user does with a running job: `status`, `logs`, `attach`, and a cluster without driver."""

from __future__ import annotations

import json

import pytest

from tests.lab.slurm import SlurmLab
from tests.slurm.cluster import Cluster
from tests.slurm.test_faults import running
from tests.slurm.test_sizes import OWN_OF_EACH_NODE


def test_a_running_job_is_looked_at_and_entered(cluster: Cluster, slurm: SlurmLab) -> None:
    job = running(cluster, "import time; print('hello', flush=True); time.sleep(600)")
    cluster.jobs.forget_requests()
    where = f"--directory={cluster.directory}"
    shown = cluster.pool("status", job, where)
    assert "running" in shown.stdout, shown
    for node in slurm.nodes:
        assert node in shown.stdout
    found = json.loads(cluster.pool("status", job, where, "--json").stdout)
    assert found["phase"] == "running"
    assert "driver" in cluster.pool("logs", job, where).stdout.split()
    assert "hello" in cluster.pool("logs", job, "driver", where).stdout
    asked = set(cluster.jobs.requests()) - OWN_OF_EACH_NODE
    assert asked <= {"REQUEST_STATS_INFO"}, "files told all of it"
    for rank, node in enumerate(slurm.nodes):
        entered = cluster.pool("attach", job, str(rank), where, "--", "hostname")
        assert entered.stdout.strip() == node, entered
    unknown = cluster.pool("status", "999999", where)
    assert unknown.returncode == 1
    assert "999999" in unknown.stderr
    outside = cluster.pool("attach", job, "3", where, "--", "hostname")
    assert outside.returncode
    assert "0 to 2" in outside.stderr
    cluster.pool("cancel", job)
    assert cluster.end(job)[0] == "CANCELLED"


def test_without_a_driver_the_cluster_stays_until_it_is_cancelled(
    cluster: Cluster, slurm: SlurmLab
) -> None:
    job = cluster.submit(None)
    cluster.until(job, "running")
    cluster.jobs.until(
        lambda: "the cluster is up" in cluster.output(job), lambda: cluster.describe(job)
    )
    script = cluster.folder / f"{job}-attach.sh"
    entered = slurm.run(str(script), "2", "hostname", environment={"PATH": "/usr/bin:/bin"})
    assert entered.strip() == "n3"
    cluster.jobs.cancel(job)
    assert cluster.end(job)[0] == "CANCELLED"


@pytest.mark.parametrize("words", [("logs", "1", "no-such-log"), ("render", "/no/such/file")])
def test_what_is_not_there_is_said(cluster: Cluster, words: tuple[str, ...]) -> None:
    done = cluster.pool(*words)
    assert done.returncode
    assert "Traceback" not in done.stderr
