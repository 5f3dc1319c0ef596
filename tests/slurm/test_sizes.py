"""What depends on the site: many nodes, tracking by cgroup, a `WaitTime`, and the real Ray."""

from __future__ import annotations

import pytest

from tests.lab.slurm import SlurmLab, cgroups_are_possible
from tests.slurm.cluster import Cluster
from tests.slurm.conftest import cluster_on

OWN_OF_EACH_NODE = {"MESSAGE_EPILOG_COMPLETE", "MESSAGE_NODE_REGISTRATION_STATUS"}
"""Slurm's own: a node says that it is through with a job, and now and then that it is there."""


def requests_of_a_job(cluster: Cluster) -> dict[str, int]:
    """Run a job, and return what the controller was asked on its account."""
    cluster.jobs.forget_requests()
    job = cluster.submit("")
    # Its log tells the end without asking.
    cluster.jobs.until(
        lambda: cluster.jobs.noted_end(job) is not None, lambda: cluster.describe(job)
    )
    requests = cluster.jobs.requests()
    assert cluster.end(job) == ("COMPLETED", "0:0"), cluster.describe(job)
    return {kind: count for kind, count in requests.items() if kind not in OWN_OF_EACH_NODE}


@pytest.mark.slow
def test_what_slurm_is_asked_does_not_grow_with_the_nodes(cluster: Cluster) -> None:
    few = requests_of_a_job(cluster)
    with SlurmLab(nodes=32) as lab, cluster_on(lab) as large:
        many = requests_of_a_job(large)
        assert large.srun_count() == 1
    print(few, many)
    assert many.pop("REQUEST_STEP_COMPLETE") <= few.pop("REQUEST_STEP_COMPLETE") + 2
    assert many == few


@pytest.mark.skipif(cgroups_are_possible() is not None, reason=str(cgroups_are_possible()))
def test_where_slurm_tracks_by_cgroup_it_is_the_same(slurm: SlurmLab) -> None:
    del slurm  # it says whether any can be had
    with SlurmLab(nodes=2, cgroups=True) as lab, cluster_on(lab) as cluster:
        job = cluster.submit("print('it runs')")
        assert cluster.end(job) == ("COMPLETED", "0:0"), cluster.describe(job)
        job = cluster.submit("raise SystemExit(5)")
        assert cluster.end(job) == ("FAILED", "5:0"), cluster.describe(job)


def test_a_sites_wait_time_does_not_end_the_nodes_that_are_left(slurm: SlurmLab) -> None:
    del slurm
    driver = "import time; time.sleep(4); print('it ran to its end')"
    with SlurmLab(nodes=3, wait_time_s=1) as lab, cluster_on(lab) as cluster:
        job = cluster.submit(
            driver,
            min_nodes=2,
            env={"RAY_STUB": "n3=fail"},
            tries={"worker": 1, "pause_s": 0.1},
        )
        cluster.end(job)
        assert "it ran to its end" in cluster.output(job), cluster.describe(job)


DRIVER = """
import ray
ray.init(log_to_driver=False)
nodes = [node for node in ray.nodes() if node["Alive"]]
print("nodes", sorted(node["NodeManagerAddress"] for node in nodes))
print("resources", ray.cluster_resources()["CPU"], ray.cluster_resources()["GPU"])

@ray.remote(num_gpus=2)
def where():
    import os
    return os.uname().nodename

print("ran on", sorted(ray.get([where.remote() for _ in range(2)])))
"""


@pytest.mark.ray
@pytest.mark.slow
def test_a_real_ray_has_all_nodes_devices_and_leaves_nothing(slurm: SlurmLab) -> None:
    with cluster_on(slurm, is_real=True) as cluster:
        script = cluster.folder / "driver.py"
        script.write_text(DRIVER)
        python = str(cluster.folder / "bin" / "python")
        job = cluster.submit(
            None, command=[python, str(script)], devices=2, cpus=2, dedicated_head=True
        )
        assert cluster.end(job) == ("COMPLETED", "0:0"), cluster.describe(job)
        said = cluster.output(job)
        assert "nodes ['10.79.0.1', '10.79.0.2', '10.79.0.3']" in said
        assert "resources 4.0 4.0" in said, "the head has neither"
        assert "ran on ['n2', 'n3']" in said or "ran on ['n2', 'n2']" in said
