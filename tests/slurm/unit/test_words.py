"""The small pure parts: the wire, what `srun` says, the warning, `ray start`, what is shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool.errors import ConfigError
from pool.notices.file import parse
from pool.planning.notice import NoticeKind
from pool.slurm import raystart, warning, wire
from pool.slurm.deaths import ended
from pool.slurm.interactive import attach_argv, attach_script
from pool.slurm.job import SlurmJob
from pool.slurm.place import Place, folder_of
from pool.slurm.ports import OFFSETS
from pool.slurm.status import describe

ENVIRON = {
    "SLURM_JOB_ID": "7",
    "SLURM_STEP_NODELIST": "n[1-3]",
    "SLURM_NODEID": "1",
    "POOL_SLURM_KEY": "k",
}


@given(
    st.dictionaries(
        st.text(min_size=1).filter(lambda name: name != "what"), st.one_of(st.text(), st.integers())
    )
)
def test_what_is_said_is_heard(fields: dict[str, Any]) -> None:
    line = wire.encode("did", **fields)
    assert line.count(b"\n") == 1
    assert wire.decode(line) == {"what": "did", **fields}


@pytest.mark.parametrize("line", [b"", b"[]", b"{}", b'{"what": 3}', b"\xff\xfe", b"GET / HTTP/1"])
def test_strangers_are_not_understood(line: bytes) -> None:
    with pytest.raises(ValueError, match=r".*"):
        wire.decode(line)


@pytest.mark.parametrize(
    ("line", "hosts", "how"),
    [
        ("srun: error: n3: task 2: Killed", ("n3",), "Killed"),
        ("srun: error: n[2-3]: tasks 1-2: Exited with exit code 127", ("n2", "n3"), "127"),
        ("srun: Force Terminated StepId=1.0", (), ""),
        ("a driver: srun: error", (), ""),
        ("srun: error: n[2-: task 1: Killed", (), ""),
    ],
)
def test_tasks_that_ended_are_known_from_sruns_words(
    line: str, hosts: tuple[str, ...], how: str
) -> None:
    found, words = ended(line)
    assert found == hosts
    assert words.endswith(how)


def test_a_warning_near_the_end_is_of_the_wall_time() -> None:
    found = warning.notice("SIGUSR1", 120, now=1000.0, end=1150.0)
    assert (found["kind"], found["deadline"]) == ("walltime", 1150.0)


@pytest.mark.parametrize("end", [None, 9000.0, 900.0])
def test_any_other_warning_is_of_a_preemption(end: float | None) -> None:
    found = warning.notice("SIGUSR1", 120, now=1000.0, end=end)
    assert (found["kind"], found["deadline"]) == ("preempt", 1120.0)


@given(st.floats(0, 1e9), st.floats(1, 1e4), st.one_of(st.none(), st.floats(0, 2e9)))
def test_pools_understand_the_notice(now: float, lead_s: float, end: float | None) -> None:
    import json

    notice = parse(json.dumps(warning.notice("SIGUSR1", lead_s, now, end)), "file")
    assert notice.kind in (NoticeKind.WALLTIME, NoticeKind.PREEMPT)
    assert notice.deadline is not None
    assert notice.deadline >= now
    assert "plain notice" not in notice.reason


def test_a_place_is_what_slurm_says() -> None:
    place = Place.of(ENVIRON)
    assert (place.role.host, place.role.rank, place.attempt, place.mark) == ("n2", 1, 0, "7.0.1")
    assert Place.of({**ENVIRON, "SLURMD_NODENAME": "n3"}).role.rank == 2
    moved = Place.of({**ENVIRON, "SLURM_RESTART_COUNT": "2"}, head="n2")
    assert (moved.role.rank, moved.mark) == (0, "7.2.0")
    assert "k" not in place.cluster or len(place.cluster) == 16


def test_each_run_is_another_cluster() -> None:
    here = Place.of(ENVIRON).cluster
    for name, value in [
        ("SLURM_JOB_ID", "8"), ("SLURM_RESTART_COUNT", "1"), ("POOL_SLURM_KEY", "l"),
    ]:  # fmt: skip
        assert Place.of({**ENVIRON, name: value}).cluster != here
    assert Place.of({**ENVIRON, "SLURM_NODEID": "2"}).cluster == here


@pytest.mark.parametrize("name", ENVIRON)
def test_what_is_no_task_of_slurm_is_told(name: str) -> None:
    with pytest.raises(ConfigError, match="batch script"):
        Place.of({key: value for key, value in ENVIRON.items() if key != name})


def test_a_run_that_is_repeated_has_a_folder_of_its_own() -> None:
    assert folder_of(Path("/d"), "7", 0) == Path("/d/7")
    assert folder_of(Path("/d"), "7", 2) == Path("/d/7-r2")


def test_ray_gets_every_port_of_the_block() -> None:
    job = SlurmJob(name="a", nodes=2, devices=2, ray_head=("--labels=a=b",))
    block = job.ports.block(1)
    head = raystart.head(job, "/venv/bin/python", "10.0.0.1", block, Path("/tmp/x"))
    worker = raystart.worker(
        job, "/venv/bin/python", "10.0.0.2", "10.0.0.1:1", block, Path("/tmp/x")
    )
    assert head[0] == worker[0] == "/venv/bin/ray"
    given_ports = {
        int(word.partition("=")[2]) for word in head if word.partition("=")[2].isdecimal()
    }
    apart = {block[name] for name in OFFSETS if name == "call" or "_metrics" in name}
    assert set(block.named.values()) - apart <= given_ports
    for argv in (head, worker):
        assert "--block" in argv
        assert "--temp-dir=/tmp/x" in argv
        assert "--num-gpus=2" in argv
    assert head[-1] == "--labels=a=b"


def test_a_dedicated_head_has_nothing_to_schedule_on() -> None:
    job = SlurmJob(name="a", nodes=2, devices=2, cpus=4, dedicated_head=True)
    head = raystart.head(job, "/p/python", "10.0.0.1", job.ports.block(0), Path("/tmp/x"))
    assert {"--num-cpus=0", "--num-gpus=0"} <= set(head)
    assert not {"--num-cpus=4", "--num-gpus=2"} & set(head)


def test_a_named_container_is_entered() -> None:
    options = ["--container-image=x", "--container-name=pool", "--container-mounts=/a"]
    argv = attach_argv("7", "n2", options, ["RAY_ADDRESS=a:1"], [])
    assert "--container-name=pool" in argv
    assert "--container-image=x" not in argv
    assert argv[-3:] == ["env", "RAY_ADDRESS=a:1", "bash"]
    assert "--pty" in argv
    assert "--overlap" in argv
    assert "--pty" not in attach_argv("7", "n2", [], [], ["hostname"])


def test_the_attach_script_names_the_job_and_passes_its_arguments() -> None:
    job = SlurmJob(name="a", nodes=3, python="/p/python", directory="/d")
    script = attach_script(job, Place.of(ENVIRON))
    assert script.startswith("#!/bin/sh\n")
    assert script.endswith('slurm attach --directory=/d 7 "$@"\n')


def test_a_status_is_shown_with_its_age() -> None:
    status = {
        "job": "7", "name": "a", "attempt": 0, "phase": "running", "gcs": "a:1", "min_nodes": 2,
        "dashboard": "a:2", "cluster": "c", "started_at": 0.0, "updated_at": 10.0,
        "nodes": [
            {"rank": 0, "host": "n1", "address": "a", "state": "joined", "detail": ""},
            {"rank": 1, "host": "n2", "address": None, "state": "absent", "detail": ""},
        ],
        "services": [
            {"name": "web", "needed": 1, "states": {"0": "failed"}, "details": {"0": "no port"}}
        ],
        "driver": {"pid": 4, "exit": None},
        "notice": {"reason": "soon", "deadline": 130.0},
        "outcome": None,
    }  # fmt: skip
    text = describe(status, now=100.0)
    assert "1 of 2 nodes (at least 2), since 0:01:40" in text
    assert "0:01:30 old" in text
    assert "soon; 30 s are left" in text
    assert "driver: pid 4, runs" in text
    assert "rank 0, failed: no port" in text
    assert "old" not in describe({**status, "phase": "ended"}, now=100.0)
