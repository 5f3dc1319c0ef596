"""What a node program takes on its node, and what is left when it is killed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import anyio
import pytest

from pool.errors import ConfigError
from pool.slurm import files, home
from pool.slurm.home import Home
from pool.slurm.ports import OFFSETS, Ports

HOLDER = """
import sys, time
from pathlib import Path
from pool.slurm.home import Home
home = Home(Path(sys.argv[1]), "9.0.0", 0.1)
home.take()
home.ray.mkdir()
print("taken", flush=True)
time.sleep(600)
"""


def wait_until_gone(path: Path) -> bool:
    until = time.monotonic() + 30
    while path.exists() and time.monotonic() < until:
        time.sleep(0.05)
    return not path.exists()


def mops_of(path: Path) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"pool.slurm.mop" in words and os.fsencode(path) in words:
            found.append(int(entry.name))
    return found


def test_a_folder_is_taken_and_given_back(tmp_path: Path) -> None:
    path = tmp_path / "me" / "7.0.0"
    own = Home(path, "7.0.0", 0.1)
    own.take()
    own.ray.mkdir()
    assert path.parent.stat().st_mode & 0o777 == 0o700
    own.clear()
    assert not own.ray.exists()
    own.give_back()
    own.give_back()
    assert not path.parent.exists()
    until = time.monotonic() + 30
    while mops_of(path) and time.monotonic() < until:
        time.sleep(0.05)
    assert not mops_of(path)


def test_a_node_program_that_is_killed_leaves_no_folder(tmp_path: Path) -> None:
    path = tmp_path / "me" / "9.0.0"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    with holder.stdout:
        assert holder.stdout.readline() == "taken\n"
        assert path.exists()
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    assert wait_until_gone(path)


def test_what_a_dead_run_has_left_goes_and_what_a_live_one_has_stays(tmp_path: Path) -> None:
    live, dead = tmp_path / "me" / "1.0.0", tmp_path / "me" / "2.0.0"
    other = Home(live, "1.0.0", 0.1)
    other.take()
    dead.mkdir()
    (dead / home.LOCK).touch()
    unborn = tmp_path / "me" / "4.0.0"
    unborn.mkdir()  # killed before it had its lock
    strange = tmp_path / "me" / "not-ours"
    strange.mkdir()
    own = Home(tmp_path / "me" / "3.0.0", "3.0.0", 0.1)
    try:
        assert sorted(own.take()) == [f"folder {dead}", f"folder {unborn}"]
        assert live.exists()
        assert strange.exists()
        assert not dead.exists()
        assert not unborn.exists()
    finally:
        own.give_back()
        other.give_back()


def test_jobs_that_come_and_go_do_not_hinder_each_other(tmp_path: Path) -> None:
    def come_and_go(number: int) -> None:
        for turn in range(4):
            own = Home(tmp_path / "me" / f"{number}.{turn}.0", f"{number}.{turn}.0", 0.1)
            own.take()
            own.give_back()

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(come_and_go, range(4)))
    assert not (tmp_path / "me").exists()


def test_what_was_left_of_this_very_run_is_no_hindrance(tmp_path: Path) -> None:
    own = Home(tmp_path / "me" / "7.0.0", "7.0.0", 0.1)
    own.path.mkdir(parents=True)
    (own.path / "r").mkdir()
    assert own.take() == [f"folder {own.path}"]
    assert not own.ray.exists()
    own.give_back()


def test_a_folder_of_somebody_else_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "me").symlink_to(tmp_path / "real")
    with pytest.raises(ConfigError, match="temp_root"):
        Home(tmp_path / "me" / "7.0.0", "7.0.0", 0.1).take()


def free_ports(blocks: int) -> Ports:
    """Return a table whose ports are free now, below the range for connections."""
    # Not the same first for each: another run of these tests may look at this very moment.
    first = os.getpid() % 20 * 500
    for base in (20_000 + (first + more) % 10_000 for more in range(0, 10_000, 500)):
        ports = Ports(base=base, workers=base + 100, worker_count=100, blocks=blocks)
        named, _ = ports.spans()
        if not any(home._is_taken(port) for port in named):
            return ports
    raise AssertionError("no ports are free")


def test_two_jobs_on_a_node_have_different_ports() -> None:
    ports = free_ports(3)
    claims = [home.claim(ports, "127.0.0.1") for _ in range(3)]
    try:
        assert [block.number for block, _ in claims] == [0, 1, 2]
        with pytest.raises(ConfigError, match="no block of ports is free"):
            home.claim(ports, "127.0.0.1")
    finally:
        for _, claimed in claims:
            claimed.close()


def test_a_block_of_which_a_port_is_taken_is_left_out() -> None:
    ports = free_ports(2)
    with socket.socket() as taken:
        taken.bind(("", ports.base + OFFSETS["gcs"]))
        taken.listen()
        block, claimed = home.claim(ports, "127.0.0.1")
        claimed.close()
    assert block.number == 1


LIMITS = """
import resource, sys
from pool.slurm.home import raise_open_files
resource.setrlimit(resource.RLIMIT_NOFILE, (100, 300))
print([raise_open_files(int(wanted)) for wanted in sys.argv[1:]])
print(resource.getrlimit(resource.RLIMIT_NOFILE))
"""


@pytest.mark.parametrize(
    ("wanted", "said", "soft"),
    [
        (50, "", 100),
        (200, "", 200),
        (900, "open files are limited to 300, and 900 were asked for", 300),
    ],
)
def test_open_files_are_as_many_as_asked_for_if_the_limit_allows(
    wanted: int, said: str, soft: int
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LIMITS, str(wanted)], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == [str([said]), str((soft, 300))]


def test_half_a_file_is_never_read(tmp_path: Path) -> None:
    path = tmp_path / "head.json"
    assert files.read(path) is None
    files.publish(path, {"a": 1})
    assert files.read(path) == {"a": 1}
    assert path.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in tmp_path.iterdir()] == ["head.json"]
    path.write_text("{")
    assert files.read(path) is None
    assert files.read(tmp_path / "none" / "x.json") is None


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    path = tmp_path / "file" / "head.json"
    with pytest.raises(NotADirectoryError) as caught:
        files.write(path, "x")
    assert str(path) in str(caught.value)


def test_looks_get_rarer() -> None:
    waits = [pause for pause, _ in zip(files.pauses(), range(20), strict=False)]
    assert waits[0] == 0.2
    assert waits == sorted(waits)
    assert waits[-1] == 2.0


def test_a_file_that_comes_is_found(tmp_path: Path) -> None:
    async def run() -> None:
        path = tmp_path / "x"
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.to_thread.run_sync, files.publish, path, {"b": 2})
            with anyio.fail_after(30):
                assert await files.wait_for(lambda: files.read(path)) == {"b": 2}

    anyio.run(run)
