"""Clearing devices of what a predecessor left (row E11, INV-10). Ordinary files stand for devices.

The holders are real processes; their mark is the text that the pool gives to its own.
"""

from __future__ import annotations

import fcntl
import os
import pickle
import signal
import stat
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import anyio
import pytest

from pool.errors import ConfigError
from pool.host.cleaner import CleanReport, DeviceCleaner

HOLD = """
    import fcntl, os, signal, sys, time
    if sys.argv[2] == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    file = open(sys.argv[1], "a")
    if sys.argv[2] == "locked":
        fcntl.flock(file, fcntl.LOCK_EX)
    print("holds", flush=True)
    time.sleep(600)
"""
GONE = "999999999:1"
Hold = Callable[..., subprocess.Popen[str]]


def created(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]


def here() -> str:
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{boot}/{os.stat('/proc/self/ns/pid').st_ino}"


def mark(owner: str = GONE, warden: str = GONE, space: str | None = None) -> str:
    return f"trainers/0.1|{space or here()}|{owner}|{warden}"


ME = f"{os.getpid()}:{created(os.getpid())}"


@pytest.fixture
def device(tmp_path: Path) -> Path:
    path = tmp_path / "vfio0"
    path.touch()
    return path


@pytest.fixture
def hold() -> Iterator[Hold]:
    with ExitStack() as stack:

        def start(path: Path, marker: str | None = None, how: str = "") -> subprocess.Popen[str]:
            process = subprocess.Popen(
                [sys.executable, "-c", textwrap.dedent(HOLD), str(path), how],
                stdout=subprocess.PIPE,
                text=True,
                env=os.environ | ({} if marker is None else {"POOL_PROCESS": marker}),
            )
            stack.callback(process.communicate)
            stack.callback(process.kill)
            assert process.stdout is not None
            assert process.stdout.readline() == "holds\n"
            return process

        yield start


def clean(*paths: Path, **options: Any) -> CleanReport:
    options.setdefault("grace_s", 5)
    return anyio.run(DeviceCleaner(paths=[*map(str, paths)], **options).clean)


def test_what_the_pool_left_behind_is_ended_and_said(device: Path, hold: Hold) -> None:
    process = hold(device, mark())
    report = clean(device)
    assert process.wait(0) == -signal.SIGTERM
    name = report.ended[0].split("(")[1].split(")")[0]
    assert report.ended == (f"process {process.pid} ({name}), which holds {device}",)
    assert report.is_clean
    assert pickle.loads(pickle.dumps(report)) == report


def test_who_does_not_end_when_asked_is_killed_after_the_grace(device: Path, hold: Hold) -> None:
    process = hold(device, mark(), "stubborn")
    assert len(clean(device, grace_s=0.1).ended) == 1
    assert process.wait(0) == -signal.SIGKILL


@pytest.mark.parametrize(
    ("marker", "why"),
    [
        (None, "the pool did not start it"),
        (mark(owner=ME), f"process {os.getpid()}, which keeps it, lives"),
        (mark(warden=ME), f"process {os.getpid()}, which keeps it, lives"),
        (mark(space="another-boot/4026531836"), "another container, or of another boot"),
        ("nonsense", "says nothing that can be understood"),
        (f"a|{here()}|b|c", "says nothing that can be understood"),
    ],
    # Without the ids of processes, which would differ between those who share the tests out.
    ids=["no marker", "owner lives", "warden lives", "another boot", "nonsense", "no numbers"],
)
def test_everybody_else_is_left_alone_and_reported(
    device: Path, hold: Hold, marker: str | None, why: str
) -> None:
    """INV-10."""
    process = hold(device, marker)
    report = clean(device)
    assert process.poll() is None
    assert report.ended == ()
    [said] = report.left
    assert f"process {process.pid} (" in said
    assert f"which holds {device}: " in said
    assert why in said
    assert not report.is_clean


def test_a_pid_that_was_used_again_does_not_keep_a_leftover_alive(device: Path, hold: Hold) -> None:
    process = hold(device, mark(owner=f"{os.getpid()}:{int(created(os.getpid())) + 1}"))
    assert len(clean(device).ended) == 1
    assert process.wait(0) == -signal.SIGTERM


def test_anybody_is_ended_where_that_is_asked_for_but_not_who_asks(
    device: Path, hold: Hold
) -> None:
    process = hold(device)
    kept = hold(device, mark(owner=ME))
    with device.open():
        report = clean(device, anybody=True)
    assert (process.wait(0), kept.wait(0)) == (-signal.SIGTERM, -signal.SIGTERM)
    assert len(report.ended) == 2
    assert report.is_clean


def test_patterns_links_and_several_files_of_one_process(
    tmp_path: Path, device: Path, hold: Hold
) -> None:
    link = tmp_path / "link"
    link.symlink_to(device)
    process = hold(link, mark())
    bystander = hold(tmp_path / "other", mark())
    report = clean(tmp_path / "vfio*", tmp_path / "none*")
    assert process.wait(0) == -signal.SIGTERM
    assert len(report.ended) == 1
    assert bystander.poll() is None


def test_a_device_is_known_by_its_number_wherever_it_lies(tmp_path: Path, hold: Hold) -> None:
    """As in a container that has it under another path: here it is another node of that number."""
    node = tmp_path / "full"
    try:
        os.mknod(node, stat.S_IFCHR | 0o666, os.stat("/dev/full").st_rdev)
        node.open().close()
    except PermissionError:
        pytest.skip("this user may not make device files here")
    process = hold(Path("/dev/full"), mark())
    report = clean(node)
    assert process.wait(0) == -signal.SIGTERM
    assert any(f"process {process.pid} " in one for one in report.ended)


def test_nothing_is_said_where_nothing_is_held(tmp_path: Path, device: Path) -> None:
    report = clean(device, tmp_path / "none", lock_files=[str(tmp_path / "none")])
    assert report == CleanReport(unseen=report.unseen)
    assert str(CleanReport()) == "nothing was held"
    assert str(CleanReport(("a",), ("b",), ("c",), ("d",), 2)) == (
        "ended a; left b; removed c; kept d; could not read the open files of 2 processes"
    )


# --- lock files -----------------------------------------------------------------------------------


def locks(*paths: Path) -> CleanReport:
    return anyio.run(DeviceCleaner(lock_files=[*map(str, paths)]).clean)


def test_a_lock_file_that_nobody_holds_is_removed(tmp_path: Path) -> None:
    lock = tmp_path / "libtpu_lockfile"
    lock.touch()
    assert locks(lock, tmp_path / "none").removed == (str(lock),)
    assert not lock.exists()


@pytest.mark.parametrize("how", ["", "locked"])
def test_a_lock_file_that_somebody_has_open_is_kept(tmp_path: Path, hold: Hold, how: str) -> None:
    lock = tmp_path / "libtpu_lockfile"
    process = hold(lock, how=how)
    [said] = locks(lock).kept
    assert said.startswith(f"{lock}: process {process.pid} (")
    assert lock.exists()
    assert process.poll() is None


def test_the_lock_of_a_leftover_is_removed_once_that_is_ended(
    tmp_path: Path, device: Path, hold: Hold
) -> None:
    lock = tmp_path / "libtpu_lockfile"
    hold(lock, mark(), "locked")
    report = clean(lock, lock_files=[str(lock)])
    assert len(report.ended) == 1
    assert report.removed == (str(lock),)


def test_a_lock_that_is_had_by_who_cannot_be_seen_is_kept(tmp_path: Path) -> None:
    """As that of another user. This process is not looked at, so it stands for one."""
    lock = tmp_path / "libtpu_lockfile"
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert locks(lock).kept == (f"{lock}: somebody has it locked",)
    assert lock.exists()


def test_what_is_no_file_of_its_own_is_kept(tmp_path: Path) -> None:
    folder, link, pipe = (tmp_path / name for name in ("folder", "link", "pipe"))
    folder.mkdir()
    link.symlink_to(tmp_path / "none")
    os.mkfifo(pipe)
    report = locks(folder, link, pipe)
    assert report.removed == ()
    assert [said.rpartition(": ")[2] for said in report.kept] == [
        "Is a directory",
        "Too many levels of symbolic links",
        "it is no regular file",
    ]


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({}, "paths"),
        ({"paths": ["dev/vfio"]}, "paths"),
        ({"paths": "/dev/vfio"}, "paths"),
        ({"lock_files": ["lock"]}, "lock_files"),
        ({"paths": ["/dev/vfio"], "grace_s": -1}, "grace_s"),
    ],
)
def test_a_cleaner_that_cannot_be_right_is_refused(options: dict[str, Any], field: str) -> None:
    with pytest.raises(ConfigError) as refused:
        DeviceCleaner(**options)
    assert refused.value.field == field


def test_a_cleaner_prints_as_it_can_be_typed() -> None:
    cleaner = DeviceCleaner(paths=["/dev/vfio/*"], lock_files=["/tmp/libtpu_lockfile"])
    assert eval(repr(cleaner)) == cleaner
    assert pickle.loads(pickle.dumps(cleaner)) == cleaner
