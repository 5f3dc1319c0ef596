"""How a cluster comes up, or does not: tries, deadlines, the canary, ports, and who is missing."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest

from pool.slurm import Ports
from tests.lab.slurm import SlurmLab
from tests.lab.slurm_conf import address_of
from tests.slurm.cluster import Cluster

TRIES = {"head": 2, "worker": 2, "pause_s": 0.1, "pause_most_s": 0.1}
LISTEN = """
import socket, sys, time
kept = [socket.create_server(("", int(port))) for port in sys.argv[1:]]
print("listening", flush=True)
time.sleep(600)
"""


@contextmanager
def listener(slurm: SlurmLab, node: str, *ports: int) -> Iterator[None]:
    """Have somebody else listen on a node."""
    command = (sys.executable, "-S", "-c", LISTEN, *map(str, ports))
    with subprocess.Popen(slurm.line(node, *command), stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"listening\n"
            yield
        finally:
            # The process itself is one that waits for what runs in the node's namespace.
            for each in psutil.Process(process.pid).children(recursive=True):
                each.kill()


@pytest.mark.parametrize("node", ["n1", "n2"])
def test_ray_is_tried_again_on_a_node_where_it_failed(cluster: Cluster, node: str) -> None:
    job = cluster.submit("", env={"RAY_STUB": f"{node}=fail:1"}, tries=TRIES)
    assert cluster.end(job) == ("COMPLETED", "0:0"), cluster.describe(job)


@pytest.mark.parametrize("node", ["n1", "n3"])
def test_where_ray_fails_for_good_the_job_ends_with_the_nodes_name_and_log(
    cluster: Cluster, node: str
) -> None:
    job = cluster.submit("", env={"RAY_STUB": f"{node}=fail"}, tries=TRIES)
    assert cluster.end(job) == ("FAILED", "1:0"), cluster.describe(job)
    assert f"node {node} (rank {int(node[1]) - 1})" in cluster.output(job)
    assert "it fails because it was told to" in cluster.output(job)


def test_a_node_that_does_not_see_the_directory_is_named(cluster: Cluster, slurm: SlurmLab) -> None:
    slurm.hide("n2", cluster.directory)
    try:
        job = cluster.submit("", deadlines={"canary_s": 20})
        state, _ = cluster.end(job)
    finally:
        slurm.show("n2", cluster.directory)
    assert state == "FAILED"
    assert "node n2 (rank 1) is lost: " in cluster.output(job)
    assert "is its directory shared?" in cluster.output(job)


def test_a_node_that_sees_another_directory_of_that_name_is_named(
    cluster: Cluster, slurm: SlurmLab
) -> None:
    """The job file is there, as on an image that all nodes have, and the rest is not."""
    file = cluster.file("", deadlines={"canary_s": 10, "call_s": 60})
    job = cluster.pool("submit", str(file), "--", "true").stdout.strip()
    assert cluster.end(job)[0] == "COMPLETED"
    # That has written the job file; now the run's folders are not shared.
    seen = cluster.directory / "jobs"
    kept = cluster.folder / "kept"
    subprocess.run(["cp", "-r", str(seen), str(kept)], check=True)
    slurm.hide("n3", cluster.directory)
    try:
        slurm.run("cp", "-r", str(kept), str(seen), node="n3")
        job = cluster.pool("submit", str(file), "--", "true").stdout.strip()
        state, _ = cluster.end(job)
    finally:
        slurm.show("n3", cluster.directory)
    assert state == "FAILED"
    assert "node n3 (rank 2) is lost: " in cluster.output(job)
    assert "head.json is not seen here" in cluster.output(job)


def test_a_node_that_never_joins_is_named_at_the_deadline(cluster: Cluster) -> None:
    job = cluster.submit("", env={"RAY_STUB": "n3=hang"}, deadlines={"join_s": 6})
    assert cluster.end(job) == ("FAILED", "1:0"), cluster.describe(job)
    assert "after 6 s n3: starting Ray" in cluster.output(job)


def test_with_fewer_nodes_than_asked_for_it_goes_on_when_that_is_allowed(cluster: Cluster) -> None:
    job = cluster.submit(
        "print('it runs')", min_nodes=2, env={"RAY_STUB": "n3=hang"}, deadlines={"late_s": 1}
    )
    assert cluster.end(job) == ("COMPLETED", "0:0"), cluster.describe(job)
    assert "it runs" in cluster.output(job)
    assert "2 nodes have joined; n3: starting Ray" in cluster.output(job)


def test_ports_that_somebody_has_are_left_to_them(cluster: Cluster, slurm: SlurmLab) -> None:
    first, second = Ports().block(0), Ports().block(1)
    with listener(slurm, "n1", first["gcs"]), listener(slurm, "n2", first["call"]):
        job = cluster.submit("")
        assert cluster.end(job) == ("COMPLETED", "0:0"), cluster.describe(job)
    assert cluster.status(job)["gcs"] == f"{address_of('n1')}:{second['gcs']}"


def test_when_no_ports_are_free_they_are_named(cluster: Cluster, slurm: SlurmLab) -> None:
    ports = [Ports().block(number)["call"] for number in range(2)]
    with listener(slurm, "n1", *ports):
        job = cluster.submit("", ports={"blocks": 2})
        state, _ = cluster.end(job)
    assert state == "FAILED"
    assert ", ".join(map(str, ports)) in cluster.output(job)
    assert "ports.blocks" in cluster.output(job)


def test_a_head_of_another_run_is_not_followed(cluster: Cluster) -> None:
    """What an earlier job, or an attempt of the same number, has left in the directory."""
    last = cluster.submit("", nodes=1)
    cluster.end(last)
    stale = cluster.run_of(str(int(last) + 1))
    stale.mkdir()
    found = next(path for path in cluster.run_of(last).glob("head*") if path.is_file())
    (stale / found.name).write_text(found.read_text())
    job = cluster.submit("")
    assert job == stale.name
    assert cluster.end(job) == ("COMPLETED", "0:0"), cluster.describe(job)
    status = cluster.status(job)
    assert [node["state"] for node in status["nodes"]] == ["joined"] * 3
    assert status["job"] == job
    assert status["cluster"] != cluster.status(last)["cluster"]


# -- services -------------------------------------------------------------------------------------

SERVE = (
    "import http.server as h; h.HTTPServer(('', 5000), h.SimpleHTTPRequestHandler).serve_forever()"
)


def service(command: str, **given: object) -> dict[str, object]:
    return {"name": "aside", "command": [sys.executable, "-c", command], **given}


def test_services_are_ready_before_the_driver_starts_and_gone_after_it(cluster: Cluster) -> None:
    check = """
import urllib.request
for node in range(1, 4):
    assert urllib.request.urlopen(f"http://10.79.0.{node}:5000/").status == 200
"""
    job = cluster.submit(check, services=[service(SERVE, port=5000, http="/")])
    assert cluster.end(job) == ("COMPLETED", "0:0"), cluster.describe(job)
    assert {"service-aside-0", "service-aside-1", "service-aside-2"} <= set(cluster.logs(job))


def test_a_quorum_of_a_service_is_enough(cluster: Cluster) -> None:
    on_two = f"import os, sys; sys.exit(3) if os.uname().nodename == 'n3' else None; {SERVE}"
    job = cluster.submit("", services=[service(on_two, port=5000, quorum=2)])
    assert cluster.end(job) == ("COMPLETED", "0:0"), cluster.describe(job)


def test_a_service_that_is_needed_and_fails_ends_the_job_with_its_log(cluster: Cluster) -> None:
    fails = "print('no such model'); raise SystemExit(3)"
    service_s = 600
    began = time.monotonic()
    job = cluster.submit(
        "",
        services=[service(fails, port=5000, where="head")],
        deadlines={"services_s": service_s},
    )
    assert cluster.end(job) == ("FAILED", "1:0"), cluster.describe(job)
    assert "service aside failed on node n1" in cluster.output(job)
    assert "no such model" in cluster.output(job)
    assert time.monotonic() - began < service_s / 2, "nobody waited for the deadline"
