from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool.errors import ConfigError
from pool.slurm.job import OURS, Service, SlurmJob, from_json, from_toml

FOLDER = Path("/shared/me")
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True)
VARIABLES = st.dictionaries(
    st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,10}", fullmatch=True), TEXTS, max_size=3
)
COMMANDS = st.lists(TEXTS, min_size=1, max_size=4).filter(lambda words: bool(words[0])).map(tuple)

services = st.builds(
    Service,
    name=NAMES,
    command=COMMANDS,
    where=st.one_of(st.sampled_from(["all", "head"]), st.integers(1, 9)),
    port=st.one_of(st.none(), st.integers(1, 65535)),
    quorum=st.one_of(st.sampled_from(["all", "95%", "0.5%"]), st.integers(1, 9)),
    env=VARIABLES,
)
jobs = st.builds(
    SlurmJob,
    name=NAMES,
    nodes=st.integers(1, 1000),
    command=st.one_of(st.just(()), COMMANDS),
    devices=st.integers(0, 8),
    dedicated_head=st.booleans(),
    env=VARIABLES,
    signal=st.sampled_from(["", "USR1@120"]),
    container=st.lists(TEXTS.filter(str.isprintable).map("--x={}".format), max_size=3).map(tuple),
    services=st.lists(services, max_size=2, unique_by=lambda each: each.name).map(tuple),
)


def test_a_job_file_is_read() -> None:
    job = from_toml(
        """
        name = "train"
        nodes = 4
        min_nodes = 3
        command = ["python", "train.py", "--lr", "0.1; rm -rf $HOME"]
        driver_grace_s = 10
        [env]
        NCCL_DEBUG = "INFO"
        [ports]
        base = 1300
        [[services]]
        name = "sandbox"
        command = ["sandbox", "--port", "6000"]
        port = 6000
        http = "/health"
        quorum = "95%"
        """
    )
    assert job.least == 3
    assert job.command[-1] == "0.1; rm -rf $HOME"
    assert job.driver_grace_s == 10.0
    assert job.ports.block(0)["gcs"] == 1301
    assert job.services[0].quorum == "95%"
    assert job.env == {"NCCL_DEBUG": "INFO"}


@given(jobs)
def test_nodes_read_what_was_submitted(job: SlurmJob) -> None:
    full = job.at(FOLDER)
    assert from_json(full.to_json()) == full
    assert from_json(full.to_json()).digest == full.digest


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"nodes": 0}, "nodes"),
        ({"nodes": "3"}, "nodes"),
        ({"nodes": True}, "nodes"),
        ({"nodse": 3}, "nodse"),
        ({"name": "a b"}, "name"),
        ({"min_nodes": 5}, "min_nodes"),
        ({"command": "python train.py"}, "command"),
        ({"command": ["", "x"]}, "command"),
        ({"command": ["a\0b"]}, "command"),
        ({"partition": "main\n#SBATCH --exclusive"}, "partition"),
        ({"sbatch": ["--nodes=5"]}, "sbatch"),
        ({"sbatch": ["--comment=two words"]}, "sbatch"),
        ({"srun": ["--wait=60"]}, "srun"),
        ({"srun": ["ntasks"]}, "srun"),
        ({"container": ["--container-image=a\r\nb"]}, "container"),
        ({"signal": "USR1"}, "signal"),
        ({"requeue": "notice"}, "signal"),
        ({"requeue": "notice", "signal": "USR1@30"}, "signal"),
        ({"requeue": "always"}, "requeue"),
        ({"env": {"A-B": "x"}}, "env"),
        ({"env": {"A": 3}}, "env.A"),
        ({"silence_s": 1}, "silence_s"),
        ({"temp_root": "/a/very/long/path/to/a/local/disk"}, "temp_root"),
        ({"deadlines": {"join_s": 0}}, "deadlines.join_s"),
        ({"deadlines": {"joins_s": 1}}, "deadlines.joins_s"),
        ({"ports": {"base": 80}}, "ports.base"),
        ({"ports": {"base": 2000}}, "ports.base"),
        ({"tries": {"worker": 0}}, "tries.worker"),
        ({"services": [{"name": "x"}]}, "services[0].command"),
        ({"services": [{"name": "x", "command": ["x"], "quorum": "0%"}]}, "quorum"),
        ({"services": [{"name": "x", "command": ["x"], "quorum": "most"}]}, "quorum"),
        ({"services": [{"name": "x", "command": ["x"], "where": 0}]}, "where"),
        ({"services": [{"name": "x", "command": ["x"], "http": "/"}]}, "port"),
        ({"services": [{"name": "x", "command": ["x"], "log": "("}]}, "log"),
        ({"services": [{"name": "x", "command": ["x"], "log": "a", "file": "b"}]}, "log"),
        ({"services": [{"name": "x", "command": ["x"]}] * 2}, "services"),
    ],
)
def test_what_cannot_be_right_is_named(change: dict[str, Any], field: str) -> None:
    with pytest.raises(ConfigError) as caught:
        from_json(json.dumps({"name": "a", "nodes": 3, **change}))
    assert caught.value.field == field


@pytest.mark.parametrize("text", ["", "name = ", "[]", "name = 'a'"])
def test_what_is_no_job_file_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        from_toml(text)


@pytest.mark.parametrize("option", sorted(OURS))
def test_no_option_of_the_job_can_be_given_again(option: str) -> None:
    for name in ("srun", "sbatch", "container"):
        with pytest.raises(ConfigError):
            SlurmJob(name="a", nodes=1, **{name: (f"{option}=1",)})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "word",
    ["-N9", "-n=3", "-QN9", "-vvN9", "-k", "-t5", "--node=9", "--ntasks-per-n=4", "--job-n=x",
     "--req", "--no-k", "--wai=3"],
)  # fmt: skip
def test_no_other_way_to_write_an_option_of_the_job_is_taken(word: str) -> None:
    for name in ("srun", "sbatch", "container"):
        with pytest.raises(ConfigError):
            SlurmJob(name="a", nodes=1, **{name: (word,)})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "word",
    ["-C=gpu", "-CN", "-wn1,n2", "-Q", "--nodelist=n1", "--exclusive", "--wait-all-nodes=1",
     "--time-min=5", "--mem=0", "--gres-flags=x", "--ntasks-per-socket=1"],
)  # fmt: skip
def test_any_other_option_is_passed_on(word: str) -> None:
    SlurmJob(name="a", nodes=1, srun=(word,), sbatch=(word,))


def test_a_path_that_a_batch_script_cannot_hold_is_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        SlurmJob(name="a", nodes=1).at(Path("/shared/me/my files"))
    assert caught.value.field == "directory"


def test_ray_is_started_three_times_on_the_head_and_twenty_times_elsewhere() -> None:
    tries = SlurmJob(name="a", nodes=1).tries
    assert (tries.head, tries.worker) == (3, 20)


def test_devices_are_asked_for() -> None:
    assert SlurmJob(name="a", nodes=1, devices=8).asked_gres == "gpu:8"
    assert SlurmJob(name="a", nodes=1, devices=8, gres="gpu:h100:8").asked_gres == "gpu:h100:8"
    assert SlurmJob(name="a", nodes=1).asked_gres == ""


def test_another_job_has_another_name() -> None:
    job = SlurmJob(name="a", nodes=1).at(FOLDER)
    assert job.digest != dataclasses.replace(job, nodes=2).digest
