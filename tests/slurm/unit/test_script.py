"""The batch script, run by a real bash with a `srun` that only says what it was given."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from pool.slurm.job import SlurmJob
from pool.slurm.script import LINES_MOST, STALE, batch_options, job_file, render, srun
from tests.slurm.unit.test_job import FOLDER, jobs

SRUN = """#!/bin/bash
ls "$RUN" >"$SEEN.run" 2>/dev/null
[[ -z ${HEAD_CODE:-} ]] || echo "$HEAD_CODE" >"$RUN/exit-code"
printf '%s\\0' srun "$@" >"$SEEN"
echo "srun: error: n3: task 2: Killed" >&2
exit "${SRUN_CODE:-0}"
"""


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("script")
    (folder / "bin").mkdir()
    (folder / "bin" / "srun").write_text(SRUN)
    (folder / "bin" / "srun").chmod(0o755)
    return folder


def run(script: str, sandbox: Path, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash"],
        input=script,
        text=True,
        capture_output=True,
        check=False,
        env={
            "PATH": f"{sandbox / 'bin'}:{os.environ['PATH']}",
            "SEEN": str(sandbox / "seen"),
            "SLURM_JOB_ID": "7",
            **more,
        },
    )


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(jobs)
def test_no_shell_reads_what_the_user_wrote(sandbox: Path, job: SlurmJob) -> None:
    job = replace(job.at(FOLDER), directory=str(sandbox))
    done = run(render(job), sandbox)
    assert done.returncode == 0, done.stderr
    seen = (sandbox / "seen").read_bytes().decode().split("\0")[:-1]
    assert seen == srun(job)


@given(jobs)
def test_it_is_short_and_has_one_srun(job: SlurmJob) -> None:
    script = render(job.at(FOLDER))
    if not job.container:
        assert len(script.splitlines()) < LINES_MOST
    assert sum(line.startswith("srun ") for line in script.splitlines()) == 1
    assert "set -euo pipefail" in script
    assert render(job.at(FOLDER)) == script


@pytest.mark.parametrize(
    ("srun_code", "head_code", "code"), [(0, None, 0), (9, None, 9), (137, 0, 0), (0, 3, 3)]
)
def test_the_code_is_the_drivers_whatever_became_of_other_nodes(
    tmp_path: Path, sandbox: Path, srun_code: int, head_code: int | None, code: int
) -> None:
    job = replace(SlurmJob(name="a", nodes=3).at(FOLDER), directory=str(tmp_path))
    said = {"RUN": str(tmp_path / "7-r2"), "HEAD_CODE": "" if head_code is None else str(head_code)}
    done = run(render(job), sandbox, SRUN_CODE=str(srun_code), SLURM_RESTART_COUNT="2", **said)
    assert done.returncode == code


def test_what_another_job_of_this_number_has_left_is_not_believed(
    tmp_path: Path, sandbox: Path
) -> None:
    folder = tmp_path / "7"
    (folder / "logs").mkdir(parents=True)
    for name in STALE:
        (folder / name).write_text("5\n")
    job = replace(SlurmJob(name="a", nodes=3).at(FOLDER), directory=str(tmp_path))
    done = run(render(job), sandbox, RUN=str(folder))
    assert done.returncode == 0
    assert set((sandbox / "seen.run").read_text().split()) <= {"logs", "srun.err"}
    assert (folder / "srun.err").read_text() == "srun: error: n3: task 2: Killed\n"


def test_what_srun_says_is_kept_and_shown(tmp_path: Path, sandbox: Path) -> None:
    job = replace(SlurmJob(name="a", nodes=3).at(FOLDER), directory=str(tmp_path))
    done = run(render(job), sandbox)
    assert "task 2: Killed" in done.stderr
    assert "task 2: Killed" in (tmp_path / "7" / "srun.err").read_text()


def test_shellcheck_has_nothing_to_say() -> None:
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not on this machine")
    job = SlurmJob(
        name="a",
        nodes=3,
        min_nodes=2,
        container=("--container-image=a b'c",),
        signal="USR1@90",
        requeue="notice",
        devices=2,
        time="1:00:00",
    ).at(FOLDER)
    done = subprocess.run(
        ["shellcheck", "-"], input=render(job), text=True, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stdout


def test_what_a_site_may_have_set_otherwise_is_set() -> None:
    job = SlurmJob(name="a", nodes=3).at(FOLDER)
    assert {"--kill-on-bad-exit=0", "--wait=0", "--mpi=none", "--ntasks=3"} <= set(srun(job))
    assert "--no-kill" not in srun(job)
    assert "--no-kill" in srun(replace(job, min_nodes=2))
    assert "--no-kill" in batch_options(replace(job, min_nodes=2))
    assert str(job_file(job)) == srun(job)[-1]
