"""What goes wrong while a job runs: whose end it is, how soon, and that nothing is left.

The fixture checks after each test that no process and no file of a job is left on any node.
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable

import psutil
import pytest

from tests.lab.slurm import SlurmLab
from tests.slurm.cluster import Cluster

NEWS_S = 60.0
"""How long the news of a death may take on however busy cores; what it took is recorded."""
WAIT = "import time; time.sleep(600)"
STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("it stays", flush=True)
time.sleep(600)
"""
TRIES = {"head": 2, "worker": 2, "pause_s": 0.1, "pause_most_s": 0.1}


def running(cluster: Cluster, driver: str = WAIT, **given: object) -> str:
    """Submit a job, and wait until its driver runs."""
    job = cluster.submit(driver, **given)
    cluster.until(job, "running")
    cluster.jobs.until(
        lambda: cluster.status(job)["driver"] is not None, lambda: cluster.describe(job)
    )
    return job


def on(slurm: SlurmLab, node: str, words: str) -> psutil.Process:
    """Return the oldest process on a node whose command line has these words."""
    return slurm.find(node, words)[0]


def program(slurm: SlurmLab, node: str) -> psutil.Process:
    """Return a node's program, which has Ray's and the services' wardens for children."""
    return on(slurm, node, "-m pool.slurm.node")


def failed_soon(cluster: Cluster, job: str, record: Callable[..., None], *words: str) -> None:
    """Fail unless the job fails soon, and says why in these words; no deadline was waited for."""
    began = time.monotonic()
    state, code = cluster.end(job)
    assert (state, code != "0:0") == ("FAILED", True), cluster.describe(job)
    took_s = time.monotonic() - began
    record("from the death to the job's end, in seconds", round(took_s, 2))
    assert took_s < NEWS_S
    for each in words:
        assert each in cluster.output(job)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["KILL", "TERM"])
def test_a_node_program_that_is_killed_ends_the_job_with_its_name(
    cluster: Cluster,
    slurm: SlurmLab,
    number: signal.Signals,
    record_property: Callable[..., None],
) -> None:
    job = running(cluster)
    program(slurm, "n2").send_signal(number)
    if number is signal.SIGKILL:
        failed_soon(cluster, job, record_property, "node n2 (rank 1) is lost")
        return
    # Slurm asks all at once: one that is asked waits for the head's word, and then leaves.
    assert cluster.end(job)[0] == "FAILED", cluster.describe(job)
    assert "node n2 (rank 1) is lost: it was asked to end" in cluster.output(job)


def test_a_node_program_that_hangs_is_lost_after_a_while(cluster: Cluster, slurm: SlurmLab) -> None:
    job = running(cluster, silence_s=3.0)
    stopped = program(slurm, "n3")
    stopped.suspend()
    # Nobody can tell it to leave, and `srun` would wait for it: Slurm is asked to kill it.
    assert cluster.end(job) == ("FAILED", "1:0"), cluster.describe(job)
    assert "node n3 (rank 2) is lost: nothing was heard of it" in cluster.output(job)


def test_the_heads_program_that_is_killed_takes_all_with_it(
    cluster: Cluster, slurm: SlurmLab
) -> None:
    job = running(cluster)
    program(slurm, "n1").kill()
    state, code = cluster.end(job)
    assert (state, code != "0:0") == ("FAILED", True), cluster.describe(job)


def test_a_loss_that_is_allowed_leaves_the_driver_alone(cluster: Cluster, slurm: SlurmLab) -> None:
    until = f"""
import os, time
while not os.path.exists({str(cluster.folder / "go")!r}):
    time.sleep(0.1)
"""
    job = running(cluster, until, min_nodes=2)
    program(slurm, "n3").kill()
    cluster.jobs.until(
        lambda: cluster.status(job)["nodes"][2]["state"] == "lost", lambda: cluster.describe(job)
    )
    (cluster.folder / "go").touch()
    # `srun` has the greatest code of all tasks', which is that of the killed one.
    assert cluster.end(job) == ("COMPLETED", "0:0"), cluster.describe(job)
    assert cluster.status(job)["driver"]["exit"] == 0


def test_a_ray_that_dies_on_a_node_is_started_again(cluster: Cluster, slurm: SlurmLab) -> None:
    job = running(cluster)
    on(slurm, "n2", "ray_stub.py").kill()
    cluster.jobs.until(
        lambda: cluster.logs(job)["ray-worker-1"].count("Ray runtime started") == 2,
        lambda: cluster.describe(job),
    )
    assert cluster.status(job)["phase"] == "running"
    cluster.jobs.cancel(job)
    cluster.end(job)


def test_a_ray_that_dies_for_good_ends_the_job_with_its_name_and_log(cluster: Cluster) -> None:
    job = cluster.submit(WAIT, env={"RAY_STUB": "n2=die:1"}, tries=TRIES)
    assert cluster.end(job) == ("FAILED", "1:0"), cluster.describe(job)
    assert "node n2 (rank 1) is lost: Ray ended (exit code 3)" in cluster.output(job)
    assert "  | it dies because it was told to" in cluster.output(job)


def test_the_heads_ray_that_dies_ends_the_job(
    cluster: Cluster, slurm: SlurmLab, record_property: Callable[..., None]
) -> None:
    job = running(cluster)
    on(slurm, "n1", "ray_stub.py").kill()
    failed_soon(cluster, job, record_property, "node n1 (rank 0) is lost: Ray ended (killed by")


def test_a_service_that_falls_below_its_quorum_while_the_driver_runs_ends_the_job(
    cluster: Cluster, slurm: SlurmLab, record_property: Callable[..., None]
) -> None:
    service = "print('it serves', flush=True); import time; time.sleep(599)"
    aside = {"name": "aside", "command": [sys.executable, "-c", service], "quorum": 2}
    job = running(cluster, services=[{**aside, "log": "^it serves$"}])

    def states() -> list[str]:
        return list(cluster.status(job)["services"][0]["states"].values())

    on(slurm, "n3", "time.sleep(599)").kill()
    cluster.jobs.until(lambda: states().count("failed") == 1, lambda: cluster.describe(job))
    assert cluster.status(job)["phase"] == "running", "two are enough"
    on(slurm, "n2", "time.sleep(599)").kill()
    failed_soon(cluster, job, record_property, "service aside failed on node n", "  | it serves")


# -- scancel, requeue, warnings -------------------------------------------------------------------


def test_a_job_that_is_cancelled_while_it_comes_up_leaves_nothing(cluster: Cluster) -> None:
    job = cluster.submit(WAIT, env={"RAY_STUB": "n3=hang"})
    cluster.jobs.until(
        lambda: (
            [node["state"] for node in cluster.status(job).get("nodes", [])]
            == ["joined", "joined", "starting"]
        ),
        lambda: cluster.describe(job),
    )
    assert not cluster.pool("cancel", job).returncode
    assert cluster.end(job)[0] == "CANCELLED", cluster.describe(job)


def test_a_job_that_is_cancelled_at_once_leaves_nothing(cluster: Cluster) -> None:
    job = cluster.submit(WAIT)
    cluster.jobs.until(lambda: cluster.jobs.state(job) == "RUNNING", lambda: cluster.describe(job))
    cluster.jobs.cancel(job)
    assert cluster.end(job)[0] == "CANCELLED", cluster.describe(job)


def test_a_driver_may_clean_up_when_its_job_is_cancelled(cluster: Cluster) -> None:
    clean = f"""
import signal, sys, time
def leave(*_):
    open({str(cluster.folder / "clean")!r}, "w").write("clean")
    sys.exit(0)
signal.signal(signal.SIGTERM, leave)
open({str(cluster.folder / "there")!r}, "w").close()
time.sleep(600)
"""
    job = running(cluster, clean)
    cluster.until_file(job, "there")
    cluster.jobs.cancel(job)
    assert cluster.end(job)[0] == "CANCELLED"
    assert cluster.until_file(job, "clean") == "clean"


def test_a_driver_that_does_not_end_is_ended(cluster: Cluster) -> None:
    job = running(cluster, STUBBORN)
    cluster.jobs.until(lambda: "it stays" in cluster.output(job), lambda: cluster.describe(job))
    cluster.jobs.cancel(job)
    assert cluster.end(job)[0] == "CANCELLED"


def test_what_slurm_kills_at_once_leaves_no_process(cluster: Cluster, slurm: SlurmLab) -> None:
    """As after KillWait. Folders are the next job's to remove, which the second one does."""
    job = running(cluster, nodes=3)
    slurm.run("scancel", "--signal=KILL", "--full", job)
    assert cluster.end(job)[0] in {"CANCELLED", "FAILED"}, cluster.describe(job)
    again = cluster.submit("", nodes=3)
    assert cluster.end(again) == ("COMPLETED", "0:0"), cluster.describe(again)


def test_a_job_that_is_requeued_keeps_its_logs_and_knows_its_run(
    cluster: Cluster, slurm: SlurmLab
) -> None:
    driver = """
import os, time
print("run", os.environ["POOL_SLURM_RESTART_COUNT"], flush=True)
if os.environ["POOL_SLURM_RESTART_COUNT"] == "0":
    time.sleep(600)
"""
    job = running(cluster, driver, requeue="notice", signal="USR1@60")
    cluster.jobs.until(lambda: "run 0" in cluster.output(job), lambda: cluster.describe(job))
    slurm.run("scontrol", "requeue", job)
    cluster.until(job, "ended", attempt=1)
    assert cluster.end(job) == ("COMPLETED", "0:0"), cluster.describe(job)
    assert "run 0" in cluster.logs(job)["driver"]
    assert "run 1" in cluster.logs(job, attempt=1)["driver"]
    assert cluster.status(job, attempt=1)["attempt"] == 1


def test_a_warned_job_drains_and_goes_back_into_the_queue(
    cluster: Cluster, slurm: SlurmLab
) -> None:
    driver = """
import json, os, sys, time
from pathlib import Path
if os.environ["POOL_SLURM_RESTART_COUNT"] == "1":
    sys.exit(0)
notice = Path(os.environ["POOL_SLURM_DIR"]) / "notice.json"
while not notice.exists():
    time.sleep(0.1)
print("warned of", json.loads(notice.read_text())["reason"], flush=True)
sys.exit(3)
"""
    job = running(cluster, driver, requeue="notice", signal="USR1@60", time="30")
    slurm.run("scancel", "--signal=USR1", job)
    cluster.until(job, "ended", attempt=1)
    assert cluster.end(job) == ("COMPLETED", "0:0"), cluster.describe(job)
    assert "warned of" in cluster.logs(job)["driver"]


def test_a_warned_job_whose_driver_stays_is_ended_and_goes_back_in_time(
    cluster: Cluster, slurm: SlurmLab
) -> None:
    """Though its driver ends with 0 when it is asked to: it was not through."""
    driver = """
import os, signal, sys, time
if os.environ["POOL_SLURM_RESTART_COUNT"] == "1":
    sys.exit(0)
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
print("it listens", flush=True)
time.sleep(600)
"""
    job = running(cluster, driver, requeue="notice", signal="USR1@8", requeue_margin_s=2)
    cluster.jobs.until(lambda: "it listens" in cluster.output(job), lambda: cluster.describe(job))
    slurm.run("scancel", "--signal=USR1", job)
    cluster.until(job, "ended", attempt=1)
    assert cluster.end(job) == ("COMPLETED", "0:0"), cluster.describe(job)
    assert cluster.status(job)["driver"]["exit"] == 0
    assert "the driver is asked to end, as the job has to go back now" in cluster.output(job)


def test_a_warned_job_that_is_cancelled_does_not_go_back(cluster: Cluster, slurm: SlurmLab) -> None:
    job = running(cluster, requeue="notice", signal="USR1@600")
    slurm.run("scancel", "--signal=USR1", job)
    cluster.jobs.until(
        lambda: cluster.status(job)["notice"] is not None, lambda: cluster.describe(job)
    )
    assert not cluster.pool("cancel", job).returncode
    assert cluster.end(job)[0] == "CANCELLED", cluster.describe(job)
    assert not cluster.run_of(job, 1).exists()


def test_a_warning_does_not_kill_a_driver_that_has_no_use_for_it(
    cluster: Cluster, slurm: SlurmLab
) -> None:
    job = running(cluster, signal="USR1@60")
    slurm.run("scancel", "--signal=USR1", job)
    cluster.jobs.until(
        lambda: cluster.status(job)["notice"] is not None, lambda: cluster.describe(job)
    )
    assert cluster.status(job)["phase"] == "running"
    cluster.jobs.cancel(job)
    assert cluster.end(job)[0] == "CANCELLED"


@pytest.mark.slow
def test_a_node_whose_slurmd_dies_is_left_by_the_job(cluster: Cluster, slurm: SlurmLab) -> None:
    """Nobody can end what runs there then, but that itself, when the head is gone."""
    job = running(cluster)
    slurm.kill_slurmd("n3")
    try:
        cluster.jobs.until(
            lambda: cluster.jobs.state(job) != "RUNNING", lambda: cluster.describe(job)
        )
        cluster.jobs.until(lambda: not slurm.strangers("n3"), lambda: str(slurm.strangers("n3")))
    finally:
        slurm.start_slurmd("n3")
    assert cluster.end(job)[0] == "NODE_FAIL", cluster.describe(job)


@pytest.mark.slow
def test_a_job_whose_time_is_over_leaves_nothing(cluster: Cluster) -> None:
    job = running(cluster, time="1", signal="USR1@10")
    assert cluster.end(job)[0] in {"TIMEOUT", "FAILED"}, cluster.describe(job)
    assert cluster.status(job)["notice"] is not None


# -- beside each other ----------------------------------------------------------------------------


def test_two_jobs_on_one_node_do_not_see_each_other(cluster: Cluster, slurm: SlurmLab) -> None:
    one, two = cluster.submit(WAIT), cluster.submit(WAIT)
    first, second = cluster.until(one, "running"), cluster.until(two, "running")
    assert first["gcs"] != second["gcs"]
    assert first["cluster"] != second["cluster"]
    cluster.jobs.cancel(one)
    assert cluster.end(one)[0] == "CANCELLED"
    seen = cluster.status(two)
    assert seen["phase"] == "running"
    assert [node["state"] for node in seen["nodes"]] == ["joined"] * 3
    cluster.jobs.cancel(two)
    assert cluster.end(two)[0] == "CANCELLED"
