"""Node programs on this machine, as `srun` would start them, with a `ray start` that is none."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest

from pool.process import marker
from pool.slurm import files, node, setting
from pool.slurm.environment import KEY
from pool.slurm.job import SlurmJob, from_mapping
from pool.slurm.place import Place, log_of_node
from tests.slurm.unit.test_home import free_ports

NODES = 3
PATIENCE_S = 60
FAKE = Path(__file__).with_name("fake_ray.py")
ASKED = '#!/bin/sh\necho "$(basename "$0") $*" >>"$ASKED"\n'
"""A program of Slurm that notes what it was asked."""
SLOW = """
import os, shutil, socket, time
names = os.environ.get("SLOW", "").split()
def slow(module, name):
    fast = getattr(module, name)
    def slowly(*words, **named):
        time.sleep(float(os.environ.get("SLOW_S", "6")))
        return fast(*words, **named)
    setattr(module, name, slowly)
for name in names:
    slow(*{"copy": (shutil, "copyfile"), "names": (socket, "getaddrinfo")}[name])
"""
"""What Python runs as it begins: copying, or asking for names, is slow as on a busy network."""


class Run:
    """One run of a job: a node program for each node."""

    def __init__(self, folder: Path, **fields: Any) -> None:
        self.folder = folder
        (folder / "bin").mkdir()
        for name, script in (("python", ""), ("ray", f' "{FAKE}"')):
            path = folder / "bin" / name
            path.write_text(f'#!/bin/sh\nexec "{sys.executable}"{script} "$@"\n')
            path.chmod(0o755)
        for name in ("scontrol", "squeue", "scancel"):
            (folder / "bin" / name).write_text(ASKED)
            (folder / "bin" / name).chmod(0o755)
        (folder / "bin" / "sitecustomize.py").write_text(SLOW)
        ports = free_ports(NODES)
        self.job: SlurmJob = from_mapping(
            {
                "name": "test",
                "nodes": NODES,
                "python": str(folder / "bin" / "python"),
                "temp_root": "/tmp",
                "ports": {
                    "base": ports.base,
                    "workers": ports.workers,
                    "worker_count": 100,
                    "blocks": NODES,
                },
                "tries": {"head": 1, "worker": 1},
                **fields,
            }
        ).at(folder)
        (folder / "job.json").write_text(self.job.to_json())
        # No job of Slurm has such a number, and no other test either.
        self.job_id = f"t{os.getpid()}{time.monotonic_ns() % 100_000}"
        self.programs: list[subprocess.Popen[bytes]] = []

    @property
    def files(self) -> Path:
        return Path(self.job.directory) / self.job_id

    def start(
        self, ranks: Sequence[int] = range(NODES), soft_files: int = 0, **environ: str
    ) -> None:
        limit = ["prlimit", f"--nofile={soft_files}:"] if soft_files else []
        for rank in ranks:
            with (self.folder / f"out-{rank}").open("wb") as out:
                self.programs.append(
                    subprocess.Popen(
                        [
                            *limit, sys.executable, "-m", "pool.slurm.node",
                            "--call=" + ",".join(map(str, self.job.ports.calls())),
                            str(self.folder / "job.json"),
                        ],
                        stdin=subprocess.DEVNULL,
                        stdout=out,
                        stderr=subprocess.STDOUT,
                        env=self.environ(rank) | environ,
                    )
                )  # fmt: skip

    def start_blind(self, rank: int) -> str:
        """Start the program of a node that does not see the job file, and return its words."""
        file = self.folder / "job.json"
        program = subprocess.Popen(
            [
                sys.executable, "-m", "pool.slurm.node",
                "--call=" + ",".join(map(str, self.job.ports.calls())), str(file) + ".none",
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=self.environ(rank) | {"SLURM_STEP_NODELIST": "localhost,node[1-2]"},
        )  # fmt: skip
        self.programs.append(program)
        return program.communicate(timeout=PATIENCE_S)[0].decode()

    def environ(self, rank: int) -> dict[str, str]:
        return {
            "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}",
            "ASKED": str(self.folder / "asked"),
            "PYTHONPATH": os.pathsep.join([str(self.folder / "bin"), *sys.path]),
            "SLURM_JOB_ID": self.job_id,
            "SLURM_STEP_NODELIST": f"node[0-{NODES - 1}]",
            "SLURM_NODEID": str(rank),
            KEY: "the key",
        }

    def out(self, rank: int = 0) -> str:
        return (self.folder / f"out-{rank}").read_text()

    def outs(self) -> list[Path]:
        return sorted(self.folder.glob("out-*"))

    def asked(self) -> list[str]:
        """What Slurm was asked."""
        path = self.folder / "asked"
        return path.read_text().splitlines() if path.exists() else []

    def until(self, holds: Callable[[], object]) -> None:
        ends_at = time.monotonic() + PATIENCE_S
        while not holds():
            assert time.monotonic() < ends_at, "\n".join(map(Path.read_text, self.outs()))
            time.sleep(0.05)

    def codes(self) -> list[int]:
        return [program.wait(PATIENCE_S) for program in self.programs]

    def status(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = json.loads((self.files / "status.json").read_text())
        return found

    def left(self) -> list[str]:
        marks = [its.identity for its in marker.marked().values()]
        folders = Path(f"/tmp/pool-{os.geteuid()}").glob(f"{self.job_id}.*")
        return [mark for mark in marks if self.job_id in mark] + list(map(str, folders))


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[..., Run]]:
    runs: list[Run] = []

    def make(**fields: Any) -> Run:
        runs.append(Run(tmp_path, **fields))
        return runs[0]

    yield make
    for each in runs:
        for program in each.programs:
            if program.poll() is None:
                program.kill()
                program.wait()
        each.until(lambda: not each.left())  # noqa: B023  # asked in this very round


def pending(pid: int) -> bool:
    """Whether a process has yet to take a signal that was sent."""
    status = Path(f"/proc/{pid}/status").read_text()
    masks = [line.split()[1] for line in status.splitlines() if line[:7] in ("SigPnd:", "ShdPnd:")]
    return any(int(mask, 16) for mask in masks)


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_the_drivers_code_and_words_are_the_jobs(run: Callable[..., Run]) -> None:
    job = run(command=python("import os; print(os.environ['RAY_ADDRESS']); raise SystemExit(7)"))
    job.start()
    assert job.codes() == [7, 0, 0]
    assert not job.left()
    status = job.status()
    assert status["gcs"] in job.out()
    assert status["driver"]["exit"] == 7
    assert [node["state"] for node in status["nodes"]] == ["joined"] * NODES
    assert (job.files / "exit-code").read_text() == "7\n"
    logs = {path.name for path in (job.files / "logs").iterdir()}
    assert {"driver.log", "ray-head.log", "ray-worker-1.log", "node-2.log", "ray"} <= logs
    assert (job.files / "logs" / "ray" / "2" / "raylet.out").exists()


def test_a_good_end_leaves_no_logs_of_ray(run: Callable[..., Run]) -> None:
    job = run(command=["true"])
    job.start()
    assert job.codes() == [0, 0, 0]
    assert not job.left()
    assert not (job.files / "logs" / "ray").exists()


@pytest.mark.parametrize("phase", ["bring-up", "running"])
def test_a_node_program_that_is_killed_ends_the_job_with_its_name(
    run: Callable[..., Run], phase: str
) -> None:
    job = run(command=["sleep", "600"])
    job.start(FAKE_HANGS="1" if phase == "bring-up" else "")
    job.until(lambda: "2 of 3" in job.out() or "the driver runs" in job.out())
    if phase == "running":
        job.until(lambda: "the driver runs" in job.out())
    job.programs[2].kill()
    assert job.codes() == [1, 0, -signal.SIGKILL]
    assert "node node2 (rank 2) is lost: its node program is gone" in job.out()
    job.until(lambda: not job.left())


def test_a_head_that_is_killed_takes_all_with_it(run: Callable[..., Run]) -> None:
    job = run(command=["sleep", "600"])
    job.start()
    job.until(lambda: "the driver runs" in job.out())
    job.programs[0].kill()
    assert job.codes() == [-signal.SIGKILL, 1, 1]
    job.until(lambda: not job.left())


def test_a_job_goes_on_without_a_node_that_it_can_spare(run: Callable[..., Run]) -> None:
    until_go = "import os, time\nwhile not os.path.exists('go'): time.sleep(0.05)"
    job = run(command=python(until_go), min_nodes=2)
    job.start()
    job.until(lambda: "the driver runs" in job.out())
    job.programs[1].kill()
    job.until(lambda: job.status()["nodes"][1]["state"] == "lost")
    (job.folder / "go").touch()
    assert job.codes() == [0, -signal.SIGKILL, 0]
    assert job.status()["nodes"][1]["state"] == "lost"
    job.until(lambda: not job.left())


def test_ray_that_does_not_start_ends_the_job_with_its_words(run: Callable[..., Run]) -> None:
    job = run(command=["true"])
    job.start(FAKE_FAILS="1")
    assert job.codes()[0] == 1
    assert "node node1 (rank 1) is lost: Ray ended (exit code 1)" in job.out()
    assert "  | the fake fails" in job.out()
    assert not job.left()


def test_ray_is_tried_as_often_as_the_job_says(run: Callable[..., Run]) -> None:
    tries = {"head": 1, "worker": 4, "pause_s": 0.1, "pause_most_s": 0.2}
    job = run(command=["true"], tries=tries)
    job.start(FAKE_FAILS="1")
    assert job.codes()[0] == 1
    log = (job.files / "logs" / "ray-worker-1.log").read_text()
    assert log.count("the fake fails") == 4
    assert not job.left()


def test_the_driver_and_ray_have_as_many_open_files_as_the_job_says(
    run: Callable[..., Run],
) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 777 if hard == resource.RLIM_INFINITY else min(777, hard)
    job = run(command=["sh", "-c", "echo open files $(ulimit -n)"], open_files=wanted)
    job.start(soft_files=wanted - 100)
    assert job.codes() == [0, 0, 0]
    assert f"open files {wanted}" in job.out()
    assert not job.left()


def test_a_service_below_its_quorum_ends_the_job_with_its_words(run: Callable[..., Run]) -> None:
    job = run(
        command=["sleep", "600"],
        services=[
            {"name": "good", "command": ["sh", "-c", "echo up; sleep 600"], "log": "^up$"},
            {"name": "bad", "command": ["sh", "-c", "echo oh dear; exit 3"], "where": 1},
        ],
    )
    job.start()
    assert job.codes()[0] == 1
    assert "service bad failed on node node1 (rank 1): it ended (exit code 3)" in job.out()
    assert "  | oh dear" in job.out()
    assert not job.left()


def test_a_cluster_without_a_driver_stays_until_it_is_asked_to_end(run: Callable[..., Run]) -> None:
    job = run()
    job.start()
    job.until(lambda: "the cluster is up" in job.out())
    job.until(lambda: job.status()["phase"] == "running")
    assert (job.folder / f"{job.job_id}-attach.sh").exists()
    for program in job.programs:
        program.terminate()
    assert job.codes() == [0, 0, 0]
    assert not job.left()


def test_the_driver_hears_of_the_end_once_and_of_the_warning_if_it_listens(
    run: Callable[..., Run],
) -> None:
    code = """
import os, signal, sys, time
def heard(number, frame):
    print("heard", number, flush=True)
    if number == signal.SIGTERM:
        while not os.path.exists("go"):
            time.sleep(0.05)
        sys.exit(5)
signal.signal(signal.SIGTERM, heard)
signal.signal(signal.SIGUSR1, heard)
print("listening", flush=True)
while True:
    time.sleep(600)
"""
    job = run(command=python(code), signal="USR1@60")
    job.start()
    job.until(lambda: "listening" in job.out())
    head = job.programs[0]
    for number in (signal.SIGUSR2, signal.SIGUSR1, signal.SIGTERM):
        head.send_signal(number)
        job.until(lambda: f"{number.name} came" in job.out())  # noqa: B023  # asked in this round
    head.send_signal(signal.SIGTERM)
    job.until(lambda: not pending(head.pid))
    # One that is said of comes after it.
    head.send_signal(signal.SIGUSR2)
    job.until(lambda: job.out().count("SIGUSR2 came") == 2)
    job.until(lambda: "heard 15" in job.out())
    (job.folder / "go").touch()
    assert job.codes() == [5, 0, 0]
    assert job.out().count("heard 15") == 1
    assert job.out().count("heard 10") == 1
    assert "SIGUSR2 came, which the driver does not handle" in job.out()
    notice = json.loads((job.files / "notice.json").read_text())
    assert notice["kind"] == "preempt"
    assert not job.left()


ENDS_WELL = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
print("listening", flush=True)
time.sleep(600)
"""
WARNED = {"requeue": "notice", "driver_grace_s": 2.0, "requeue_margin_s": 1.0}


def warned(job: Run, ranks: Sequence[int] = range(NODES)) -> None:
    """Start and warn a job whose driver listens, and wait until it has its notice."""
    job.start(ranks, SLURM_STEP_ID="4")
    head = job.programs[-len(ranks)]
    job.until(lambda: "listening" in job.out())
    head.send_signal(signal.SIGUSR1)
    job.until((job.files / "notice.json").exists)


def test_a_driver_that_ends_well_as_its_job_has_to_go_back_goes_back(
    run: Callable[..., Run],
) -> None:
    job = run(command=python(ENDS_WELL), signal="USR1@5", **WARNED)
    warned(job)
    assert job.codes() == [0, 0, 0]
    assert f"scontrol requeue {job.job_id}" in job.asked()
    assert not job.left()


def test_a_warned_job_that_is_cancelled_does_not_go_back(run: Callable[..., Run]) -> None:
    job = run(command=python(ENDS_WELL.replace("exit(0)", "exit(5)")), signal="USR1@600", **WARNED)
    warned(job)
    for program in job.programs:
        program.terminate()
    assert job.codes() == [5, 0, 0]
    assert not [asked for asked in job.asked() if "requeue" in asked]
    assert not job.left()


def test_a_warned_job_that_loses_a_node_goes_back(run: Callable[..., Run]) -> None:
    job = run(command=python(ENDS_WELL), signal="USR1@600", **WARNED)
    warned(job)
    job.programs[2].kill()
    assert job.codes() == [1, 0, -signal.SIGKILL]
    assert f"scontrol requeue {job.job_id}" in job.asked()
    job.until(lambda: not job.left())


def test_slurm_is_asked_in_time_although_a_node_takes_long_to_leave(
    run: Callable[..., Run],
) -> None:
    job = run(command=python(ENDS_WELL), signal="USR1@6", ray_logs="always", **WARNED)
    job.start([2], SLOW="copy", SLOW_S="600")
    warned(job, [0, 1])
    head = job.programs[1]
    assert head.wait(PATIENCE_S) == 0
    assert f"scontrol requeue {job.job_id}" in job.asked()
    assert "node2 did not leave" in job.out()
    job.programs[0].kill()
    job.until(lambda: not job.left())


def test_a_node_that_does_not_see_the_job_is_named(run: Callable[..., Run]) -> None:
    job = run(command=["true"])
    job.start(range(2))
    assert "is its directory shared?" in job.start_blind(2)
    assert job.codes() == [1, 0, 2]
    assert "node node2 (rank 2) is lost" in job.out()
    assert not job.left()


def test_a_service_whose_node_cannot_take_part_has_failed_there(run: Callable[..., Run]) -> None:
    """Nobody waits for it until `services_s`: the quorum cannot be had any more."""
    service = {"name": "aside", "command": ["sleep", "600"]}
    job = run(command=["true"], min_nodes=2, services=[service])
    job.start(range(2))
    job.start_blind(2)
    assert job.codes() == [1, 0, 2]
    assert "service aside failed on node node2 (rank 2)" in job.out()
    assert not job.left()


# -- the end --------------------------------------------------------------------------------------


def test_who_is_at_work_when_the_job_ends_is_waited_for(run: Callable[..., Run]) -> None:
    job = run(command=["false"])
    job.start([0, 1], SLURM_STEP_ID="0")
    job.start([2], SLOW="copy")
    assert job.codes() == [1, 0, 0]
    assert not job.asked(), "nobody is killed"
    assert "did not leave" not in job.out()
    assert (job.files / "logs" / "ray" / "2" / "raylet.out").exists()
    assert not job.left()


@pytest.mark.slow
def test_a_file_system_that_hangs_does_not_hold_the_job(run: Callable[..., Run]) -> None:
    job = run(command=["false"])
    job.start([0, 1])
    job.start([2], SLOW="copy", SLOW_S="600")
    assert job.codes() == [1, 0, 0]
    assert "did not leave" not in job.out()
    assert not job.left()


def test_slurm_ends_who_stays_also_when_the_heads_program_breaks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []

    class Broken:
        def __init__(self, *_: object) -> None:
            self.home = self

        def give_back(self) -> None:
            done.append("given back")

        async def run(self, _: object) -> int:
            raise RuntimeError("it breaks")

        async def end_those_who_stay(self) -> None:
            done.append("ended")

    async def set_up(*_: object) -> Broken:
        return Broken()

    monkeypatch.setattr(setting, "set_up", set_up)
    monkeypatch.setattr(node, "Head", Broken)
    environ = {"SLURM_JOB_ID": "7", "SLURM_STEP_NODELIST": "a", "SLURM_NODEID": "0", KEY: "k"}
    job = SlurmJob(name="a", nodes=1).at(tmp_path)
    (tmp_path / "job.json").write_text(job.to_json())
    with pytest.raises(RuntimeError, match="it breaks"):
        anyio.run(node.run, environ, [1], "", tmp_path / "job.json")
    assert done == ["given back", "ended"]


def test_who_hangs_when_the_job_ends_is_killed_by_slurm(run: Callable[..., Run]) -> None:
    job = run(command=python(ENDS_WELL))
    job.start(SLURM_STEP_ID="4")
    job.until(lambda: "listening" in job.out())
    job.programs[2].send_signal(signal.SIGSTOP)
    job.programs[0].terminate()
    assert job.programs[0].wait(PATIENCE_S) == 0
    assert job.asked() == [f"scancel --signal=KILL {job.job_id}.4"]
    assert "node2 did not leave" in job.out()
    job.programs[2].kill()
    job.until(lambda: not job.left())


# -- signals that come early ----------------------------------------------------------------------


def test_a_warning_that_comes_while_the_head_sets_up_is_kept(run: Callable[..., Run]) -> None:
    job = run(command=["true"], signal="USR1@60")
    job.start([0], SLOW="names")
    job.until(lambda: f"job {job.job_id}, run 0" in job.out())
    job.programs[0].send_signal(signal.SIGUSR1)
    job.start([1, 2])
    assert job.codes() == [0, 0, 0]
    assert json.loads((job.files / "notice.json").read_text())["kind"] == "preempt"
    assert not job.left()


def test_a_node_that_is_asked_to_end_while_it_calls_leaves(run: Callable[..., Run]) -> None:
    job = run(command=["true"])
    place = Place.of(job.environ(0))
    (job.files / "nodes").mkdir(parents=True)
    (job.files / "logs").mkdir()
    card = {"cluster": place.cluster, "host": "node0", "address": "127.0.0.1", "call": 9}
    files.publish(job.files / "head.json", card)
    job.start([1])
    log = log_of_node(job.files, 1, NODES)
    job.until(lambda: log.exists() and "does not answer" in log.read_text())
    job.programs[0].terminate()
    assert job.codes() == [0]
    assert "it was asked to end; this node leaves" in job.out(1)
    assert not job.left()


def test_a_head_of_an_earlier_run_is_not_joined(run: Callable[..., Run]) -> None:
    job = run(command=["true"], deadlines={"call_s": 6, "canary_s": 2})
    job.files.mkdir(parents=True)
    stale = {"cluster": "0" * 16, "job": job.job_id, "attempt": 0, "address": "127.0.0.1"}
    (job.files / "head.json").write_text(json.dumps(stale))
    job.start(range(1, 2))
    assert job.codes() == [1]
    assert "head.json of this run" in job.out(1)
    assert f"what is there is of job {job.job_id}" in job.out(1)
