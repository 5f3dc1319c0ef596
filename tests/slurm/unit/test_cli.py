"""`pool slurm` where no Slurm is asked, or one that only says what it was given."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pool.cli import app
from pool.slurm import files
from pool.slurm.submit import JobUnknown, folder_of

JOB = 'name = "try"\nnodes = 3\npython = "/p/python"\ncommand = ["python", "train.py"]\n'
SBATCH = '#!/bin/sh\ncat >"$SEEN"\necho "42;cluster"\n'


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "job.toml").write_text(JOB)
    return tmp_path


def run(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["slurm", *words])
    return result.exit_code, result.output


def test_what_is_rendered_is_what_is_submitted(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "bin").mkdir()
    sbatch = here / "bin" / "sbatch"
    sbatch.write_text(SBATCH)
    sbatch.chmod(sbatch.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{here / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("SEEN", str(here / "seen"))
    code, rendered = run("render", "job.toml")
    assert code == 0
    assert run("submit", "job.toml") == (0, "42\n")
    assert (here / "seen").read_text() == rendered
    code, job = run("render", "--job", "job.toml")
    (file,) = (here / "pool-slurm" / "jobs").iterdir()
    assert file.read_text() == job
    for private in (file.parent, file.parent.parent):
        assert private.stat().st_mode & 0o777 == 0o700, "a job's variables are nobody else's"
    assert str(file) in rendered


def test_a_driver_can_be_given_on_the_command_line(here: Path) -> None:
    code, job = run("render", "--job", "job.toml", "--", "python", "other.py", "--lr=1")
    assert code == 0
    assert json.loads(job)["command"] == ["python", "other.py", "--lr=1"]


def test_sizes_can_be_given_on_the_command_line(here: Path) -> None:
    code, job = run("render", "--job", "--nodes=9", "--min-nodes=7", "job.toml")
    assert code == 0
    assert (json.loads(job)["nodes"], json.loads(job)["min_nodes"]) == (9, 7)
    code, said = run("render", "--min-nodes=7", "job.toml")
    assert code == 1
    assert "min_nodes" in said


def test_a_mistake_in_the_file_is_named(here: Path) -> None:
    (here / "job.toml").write_text(JOB + "nodse = 4\n")
    code, said = run("render", "job.toml")
    assert code == 1
    assert "nodse" in said


def test_without_slurm_it_says_so(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    code, said = run("submit", "job.toml")
    assert code == 1
    assert "sbatch" in said
    assert run("cancel", "7")[0] == 1


def test_a_job_without_files_is_told(here: Path) -> None:
    code, said = run("status", "7")
    assert code == 1
    assert "squeue" in said


def test_the_latest_run_is_shown(here: Path) -> None:
    for name in ("7", "7-r2", "7-r10", "71", "7-rx"):
        (here / "d" / name / "logs").mkdir(parents=True)
    assert folder_of(here / "d", "7").name == "7-r10"
    with pytest.raises(JobUnknown):
        folder_of(here / "d", "1")
    (here / "d" / "7-r10" / "logs" / "driver.log").write_text("hello\nworld")
    assert run("logs", "7", "--directory", "d") == (0, "driver\n")
    assert run("logs", "7", "driver", "--directory", "d") == (0, "hello\nworld")
    assert run("logs", "7", "none", "--directory", "d")[0] == 2


def test_nobody_is_attached_to_a_rank_that_is_not_there(here: Path) -> None:
    folder = here / "pool-slurm" / "7"
    folder.mkdir(parents=True)
    files.publish(folder / "status.json", {"nodes": [{"host": "n1"}], "gcs": "a:1"})
    code, said = run("attach", "7", "1")
    assert code == 2
    assert "rank" in said
