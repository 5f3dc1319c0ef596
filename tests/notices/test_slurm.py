"""Slurm: the job's end from its environment or its controller, and its signals, as processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import anyio
import pytest

from pool.errors import ConfigError, SourceUnavailable
from pool.notices import FileNotice, SignalNotices, SlurmWallTime
from pool.notices.slurm import end_by_environment
from pool.planning.notice import NoticeKind
from pool.testing.notices import FakeSlurm
from tests.notices.asking import ask


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSlurm:
    fake = FakeSlurm(tmp_path, lasts_s=3600)
    for name, value in fake.environ.items():
        monkeypatch.setenv(name, value)
    return fake


def test_the_end_is_in_the_environment(slurm: FakeSlurm) -> None:
    notice = ask(SlurmWallTime(margin_s=60))
    assert notice is not None
    assert notice.kind is NoticeKind.WALLTIME
    assert notice.deadline == slurm.launched_end - 60
    assert slurm.asked == []


@pytest.mark.parametrize("command", ["squeue", "scontrol"])
@pytest.mark.parametrize("old", [False, True], ids=["seconds", "local time"])
def test_an_end_that_was_moved_is_heard_of_by_asking(
    slurm: FakeSlurm, command: str, old: bool
) -> None:
    slurm.move_end(120)
    if old:
        slurm.be_old()
    notice = ask(SlurmWallTime(ask=command))
    assert notice is not None
    assert notice.deadline == pytest.approx(time.time() + 120, abs=5)
    [asked] = slurm.asked
    assert asked.startswith(command)
    assert "4711" in asked


@pytest.mark.parametrize("command", ["squeue", "scontrol"])
def test_a_job_without_a_limit_has_no_notice(slurm: FakeSlurm, command: str) -> None:
    slurm.move_end(None)
    assert ask(SlurmWallTime(ask=command)) is None


def test_a_controller_that_cannot_be_reached_is_no_answer(slurm: FakeSlurm) -> None:
    slurm.break_down()
    with pytest.raises(SourceUnavailable, match="Unable to contact"):
        ask(SlurmWallTime(ask="squeue"))


def test_outside_of_a_job_there_is_nobody_to_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    with pytest.raises(SourceUnavailable, match="no job"):
        ask(SlurmWallTime())
    with pytest.raises(SourceUnavailable, match="squeue"):
        end_by_environment({})
    with pytest.raises(ConfigError):
        SlurmWallTime(ask="sacct")


LISTENER = """
import signal, sys, anyio
from pool.notices import SignalNotices

async def main():
    source = SignalNotices(signal.Signals[sys.argv[1]], within_s=120)
    assert await source.check(None, ["n1", "n2"]) == {}
    print("listens", flush=True)
    with anyio.fail_after(30):
        while not (told := await source.check(None, ["n1", "n2"])):
            await anyio.sleep(0.02)
    print(sorted(told), told["n1"].deadline, told["n1"].reason, flush=True)

anyio.run(main)
"""


@pytest.mark.parametrize("name", ["SIGUSR1", "SIGTERM"])
def test_a_signal_to_the_driver_is_a_notice_for_every_node(name: str) -> None:
    """Rows P5: `--signal=USR1@120`, and the SIGTERM of a preemption or of a pod's end."""
    with subprocess.Popen(
        [sys.executable, "-c", LISTENER, name], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "listens\n"
        process.send_signal(signal.Signals[name])
        told = process.stdout.readline()
        assert process.wait(30) == 0
    assert told.startswith("['n1', 'n2']")
    assert float(told.split()[2]) == pytest.approx(time.time() + 120, abs=10)
    assert name in told


def test_a_signal_is_given_back_and_its_notice_withdrawn() -> None:
    async def main() -> None:
        cluster: object = None
        source = SignalNotices(signal.SIGUSR2, within_s=60)
        before = signal.getsignal(signal.SIGUSR2)
        assert await source.check(cluster, ["n"]) == {}  # type: ignore[arg-type]
        os.kill(os.getpid(), signal.SIGUSR2)
        told = await source.check(cluster, ["n"])  # type: ignore[arg-type]
        assert told["n"].kind is NoticeKind.PREEMPT
        assert await source.check(cluster, ["n"]) == told  # type: ignore[arg-type]
        source.forget()
        assert signal.getsignal(signal.SIGUSR2) == before

    anyio.run(main)


def test_off_the_main_thread_signals_cannot_be_asked_for() -> None:
    async def main() -> None:
        source = SignalNotices(signal.SIGUSR2)
        with pytest.raises(SourceUnavailable, match="main thread"):
            await anyio.to_thread.run_sync(source.listen)

    anyio.run(main)
    with pytest.raises(ConfigError):
        SignalNotices(signal.SIGKILL)


def test_a_trap_in_the_batch_script_turns_a_signal_into_a_file(tmp_path: Path) -> None:
    """As does a preStop hook: for nodes whose own processes cannot catch it."""
    leaves = tmp_path / "leaves"
    script = f"""
    leave() {{
        printf '{{"deadline": %s}}' "$(($(date +%s) + 90))" > {leaves}.new
        mv {leaves}.new {leaves}
    }}
    trap leave TERM
    echo ready
    until [ -e {leaves} ]; do sleep 0.05; done
    """
    with subprocess.Popen(["bash", "-c", script], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.terminate()
        process.wait(30)
    notice = ask(FileNotice(leaves))
    assert notice is not None
    assert notice.deadline == pytest.approx(time.time() + 90, abs=5)
