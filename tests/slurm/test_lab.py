"""The Slurm of the tests is a real one, and nothing of it is seen outside or left behind."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import psutil
import pytest

from tests.lab.jobs import Jobs
from tests.lab.slurm import SlurmLab, cgroups_are_possible
from tests.lab.slurm_conf import FREEZERS, address_of

DAEMON = "setsid --fork sleep 600"
"""A child that leaves its job's tree of processes, as those of `ray start` do."""


def look_around() -> tuple[set[str], set[str], set[str], set[Path]]:
    """Return what is seen of labs outside of them; other tests may have theirs beside ours."""
    links = subprocess.run(["ip", "-o", "link"], check=True, capture_output=True, text=True)
    processes = {
        process.name()
        for process in psutil.process_iter()
        if process.name().startswith(("slurm", "munge", "unshare")) and not _is_inside(process)
    }
    folders = set(FREEZERS.glob("slurm*"))
    names = {line.split(":")[1] for line in links.stdout.splitlines()}
    return names, set(Path("/proc/mounts").read_text().splitlines()), processes, folders


def _is_inside(process: psutil.Process) -> bool:
    """Whether a process lives in a lab, whose processes count for themselves."""
    try:
        return os.readlink(f"/proc/{process.pid}/ns/pid") != os.readlink("/proc/self/ns/pid")
    except FileNotFoundError:
        return True  # it ended meanwhile


def test_each_node_has_its_own_address_name_processes_and_devices(slurm: SlurmLab) -> None:
    show = "echo $SLURMD_NODENAME $(hostname) $(hostname -I) $CUDA_VISIBLE_DEVICES; touch /tmp/own"
    printed = slurm.run("srun", "-N3", "--ntasks-per-node=1", "--gres=gpu:2", "sh", "-c", show)
    assert sorted(printed.splitlines()) == [
        f"{node} {node} {address_of(node)} 0,1" for node in slurm.nodes
    ]
    for node in slurm.nodes:
        (slurm.tmp_of(node) / "own").unlink()
        assert slurm.strangers(node) == []


def test_what_becomes_a_daemon_escapes_where_slurm_tracks_no_cgroups(
    slurm: SlurmLab, jobs: Jobs
) -> None:
    job = jobs.submit(f"#!/bin/sh\nexec >/dev/null 2>&1\n{DAEMON}\n")
    assert jobs.status(job) == ("COMPLETED", "0:0")
    [(node, [daemon])] = jobs.left().items()
    assert "sleep 600" in daemon
    psutil.Process(int(daemon.split()[0])).kill()
    assert node == "n1"


@pytest.mark.skipif(cgroups_are_possible() is not None, reason=str(cgroups_are_possible()))
def test_where_it_tracks_cgroups_it_does_not(slurm: SlurmLab) -> None:
    del slurm  # it says whether any can be had
    with SlurmLab(nodes=1, cgroups=True) as lab:
        jobs = Jobs(lab)
        job = jobs.submit(f"#!/bin/sh\nexec >/dev/null 2>&1\n{DAEMON}\n")
        assert jobs.status(job) == ("COMPLETED", "0:0")
        jobs.until(lambda: not jobs.left(), lambda: str(jobs.left()))


def test_a_folder_that_is_not_shared_is_empty_on_that_node(slurm: SlurmLab, jobs: Jobs) -> None:
    folder = slurm.folder / "shared"
    folder.mkdir()
    (folder / "file").touch()
    slurm.hide("n2", folder)
    command = ("srun", "-N3", "--label", "ls", str(folder))
    assert slurm.run(*command).split() in [
        ["0:", "file", "2:", "file"],
        ["2:", "file", "0:", "file"],
    ]
    slurm.show("n2", folder)
    assert slurm.run(*command).count("file") == 3
    assert not jobs.left()


def test_a_slurmd_that_is_killed_and_started_again_takes_jobs(slurm: SlurmLab, jobs: Jobs) -> None:
    slurm.kill_slurmd("n3")
    slurm.start_slurmd("n3")
    jobs.until(lambda: "slurmd" in _names(slurm, "n3"), lambda: str(_names(slurm, "n3")))
    assert slurm.run("srun", "--nodelist=n3", "hostname").strip() == "n3"


def _names(slurm: SlurmLab, node: str) -> list[str]:
    return [process.name() for process in slurm.processes(node)]


def test_many_nodes_leave_nothing_on_the_machine(slurm: SlurmLab) -> None:
    before = look_around()
    with SlurmLab(nodes=32) as lab:
        assert len(lab.run("srun", "-N32", "hostname").split()) == 32
        assert look_around() == before, "nothing is to be seen outside"
        folder = lab.folder
    assert look_around() == before
    assert not folder.exists()
