"""A job from `submit` to its end: one `srun`, who is who, what is published, logged and exited."""

from __future__ import annotations

import json
import subprocess
import time
import tomllib
from collections.abc import Callable

import pytest

from tests.lab.slurm import SlurmLab
from tests.slurm.cluster import Cluster

SOON_S = 30.0
"""However busy the cores are; a minute is what others wait."""
SHOW = """
import json, os, sys
print("the driver is here")
print("and complains", file=sys.stderr)
with open({path!r}, "w") as out:
    json.dump(dict(os.environ), out)
sys.exit({code})
"""


def show(cluster: Cluster, code: int = 0) -> str:
    return SHOW.format(path=str(cluster.folder / "environ"), code=code)


def test_a_job_is_one_srun_of_all_nodes_and_ends_as_its_driver_does(cluster: Cluster) -> None:
    job = cluster.submit(show(cluster), nodes=3, env={"PMI_RANK": "7"})
    assert cluster.end(job) == ("COMPLETED", "0:0"), cluster.describe(job)
    assert cluster.srun_count() == 1
    status = cluster.status(job)
    assert status["phase"] == "ended"
    assert [node["host"] for node in status["nodes"]] == ["n1", "n2", "n3"]
    assert [node["rank"] for node in status["nodes"]] == [0, 1, 2]
    assert status["outcome"]["code"] == 0
    assert status["driver"]["exit"] == 0
    # The driver's output is in its log and in the job's, and each node has its own.
    logs = cluster.logs(job)
    assert {"driver", "ray-head", "ray-worker-1", "ray-worker-2"} <= set(logs)
    for said in (logs["driver"], cluster.output(job)):
        assert "the driver is here" in said
        assert "and complains" in said


def test_the_driver_sees_the_job_and_nothing_of_the_launcher(cluster: Cluster) -> None:
    job = cluster.submit(show(cluster), env={"OWN": "value"})
    assert cluster.end(job) == ("COMPLETED", "0:0")
    seen = json.loads((cluster.folder / "environ").read_text())
    assert seen["OWN"] == "value"
    assert seen["RAY_ADDRESS"] == cluster.status(job)["gcs"]
    assert seen["SLURM_JOB_ID"] == job
    assert seen["POOL_SLURM_RESTART_COUNT"] == "0"
    assert "POOL_SLURM_KEY" not in seen, "the run's secret is not the driver's"
    assert not {"SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID", "SLURM_STEP_ID"} & set(seen)


@pytest.mark.parametrize(
    ("driver", "status"),
    [
        ("raise SystemExit(7)", "7:0"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "137:0"),
    ],
    ids=["a code", "a signal"],
)
def test_a_driver_that_fails_fails_the_job_with_its_code(
    cluster: Cluster, driver: str, status: str
) -> None:
    job = cluster.submit(driver, nodes=2)
    assert cluster.end(job) == ("FAILED", status)


def test_what_a_driver_has_started_does_not_outlive_it(cluster: Cluster) -> None:
    driver = "import subprocess; subprocess.Popen(['setsid', '--fork', 'sleep', '600'])"
    job = cluster.submit(driver, nodes=1)
    assert cluster.end(job) == ("COMPLETED", "0:0")


def test_all_leave_soon_after_the_drivers_end(
    cluster: Cluster, record_property: Callable[..., None]
) -> None:
    """What it takes is recorded, and said in the documentation: this machine may be busy."""
    driver = f"import time; print(time.time(), file=open({str(cluster.folder / 'end')!r}, 'w'))"
    job = cluster.submit(driver)
    cluster.jobs.until(
        lambda: cluster.jobs.noted_end(job) is not None, lambda: cluster.describe(job)
    )
    took_s = (cluster.jobs.noted_end(job) or 0.0) - float((cluster.folder / "end").read_text())
    record_property("from the driver's end to the job's, in seconds", round(took_s, 2))
    assert took_s < SOON_S
    assert "did not leave" not in cluster.output(job)


def test_the_status_tells_when_what_was(cluster: Cluster) -> None:
    before = time.time()
    job = cluster.submit(show(cluster))
    assert cluster.end(job) == ("COMPLETED", "0:0"), cluster.describe(job)
    status = cluster.status(job)
    epochs = [status[name] for name in ("started_at", "ready_at", "updated_at")]
    assert epochs == sorted(epochs)
    assert before < epochs[0]
    assert epochs[-1] < time.time()
    seen = json.loads((cluster.folder / "environ").read_text())
    assert float(seen["POOL_SLURM_READY_EPOCH"]) == round(status["ready_at"], 3)
    assert float(seen["POOL_SLURM_START_EPOCH"]) <= status["ready_at"]


def test_a_driver_that_cannot_be_started_is_named(cluster: Cluster) -> None:
    job = cluster.submit(None, nodes=1, command=["/no/such/program"])
    assert cluster.end(job) == ("FAILED", "127:0")
    assert "/no/such/program" in cluster.output(job)


def test_render_prints_exactly_what_is_submitted(cluster: Cluster, slurm: SlurmLab) -> None:
    file = cluster.file("", nodes=2, time="5", env={"OWN": 'it\'s "quoted" $HOME'})
    shown = cluster.pool("render", str(file)).stdout
    job = cluster.pool("submit", str(file)).stdout.strip()
    kept = slurm.run("scontrol", "write", "batch_script", job, "-")
    assert kept.rstrip("\n") == shown.rstrip("\n")
    assert len(shown.splitlines()) < 40
    assert "set -euo pipefail" in shown
    subprocess.run(["bash", "-n"], input=shown, text=True, check=True)
    assert cluster.end(job) == ("COMPLETED", "0:0")


def test_devices_that_were_not_given_are_an_error(cluster: Cluster) -> None:
    job = cluster.submit("", nodes=2, devices=4, gres="gpu:2")
    state, _ = cluster.end(job)
    assert state == "FAILED"
    assert "2 devices" in cluster.output(job)
    job = cluster.submit("import os; print(os.environ['CUDA_VISIBLE_DEVICES'])", nodes=2, devices=4)
    assert cluster.end(job) == ("COMPLETED", "0:0"), cluster.describe(job)
    assert "0,1,2,3" in cluster.output(job)


def test_a_chosen_host_is_the_head(cluster: Cluster) -> None:
    job = cluster.submit("", nodes=3, head="n2")
    assert cluster.end(job) == ("COMPLETED", "0:0"), cluster.describe(job)
    assert [node["host"] for node in cluster.status(job)["nodes"]] == ["n2", "n1", "n3"]


def test_the_environment_is_printed_without_secrets(cluster: Cluster) -> None:
    secret = {
        "HF_TOKEN": "do-not-show",
        "URL": "https://me:do-not-show@example.org",
        "OWN": "shown",
    }
    job = cluster.submit("", nodes=2, print_env=True, env=secret)
    assert cluster.end(job) == ("COMPLETED", "0:0")
    said = "".join(cluster.logs(job).values()) + cluster.output(job)
    assert "OWN=shown" in said
    assert "do-not-show" not in said


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"nodes": 0}, "nodes"),
        ({"min_nodes": 4, "nodes": 3}, "min_nodes"),
        ({"ports": {"base": 1900, "workers": 1905}}, "ports"),
        ({"colour": "red"}, "colour"),
        ({"signal": "soon"}, "signal"),
    ],
    ids=str,
)
def test_a_bad_job_is_refused_before_anything_is_submitted(
    cluster: Cluster, slurm: SlurmLab, given: dict[str, object], field: str
) -> None:
    before = set(slurm.run("squeue", "-h", "--states=all", "-o", "%i").split())
    file = cluster.file("", **given)
    assert tomllib.loads(file.read_text())
    done = cluster.pool("submit", str(file))
    assert done.returncode == 1
    assert field in done.stderr
    assert "Traceback" not in done.stderr
    # Slurm forgets old ones meanwhile.
    assert set(slurm.run("squeue", "-h", "--states=all", "-o", "%i").split()) <= before


def test_what_slurm_refuses_is_shown(cluster: Cluster) -> None:
    done = cluster.pool("submit", str(cluster.file("", partition="nowhere")))
    assert done.returncode == 1
    assert "sbatch" in done.stderr
