"""Launching one process: what it gets, what is said of its end, and what is said if it fails."""

from __future__ import annotations

import asyncio
import errno
import os
import pickle
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from pool.errors import ConfigError, LaunchFailed, PoolError
from pool.process import marker, pids
from pool.process.exits import Exit, StopReport
from pool.process.launch import launch
from pool.process.marker import Marker
from pool.process.order import Launch, LogLimit
from tests.process.support import (
    FAMILY,
    alive,
    identity,
    left,
    log_of,
    parts,
    python,
    spec,
    tree,
    until_async,
)


def run_to_the_end(what: Launch) -> Exit:
    async def main() -> Exit:
        running = await launch(what)
        result = await running.wait()
        await running.gone()
        return result

    return asyncio.run(main())


# --- what it gets ---------------------------------------------------------------------------------


def test_the_environment_is_complete_but_for_the_marker(tmp_path: Path) -> None:
    what = spec(tmp_path, "env", "-0", env={"PATH": os.environ["PATH"], "WORD": "a=b\nc é"})
    assert run_to_the_end(what).is_clean
    env = dict(pair.split("=", 1) for pair in log_of(what).split("\0")[:-1])
    its = Marker.parse(env.pop("POOL_PROCESS"))
    assert env == what.env
    assert its is not None
    assert (its.identity, its.space, its.owner) == (identity(), marker.here(), pids.myself())


def test_arguments_arrive_as_they_are_given(tmp_path: Path) -> None:
    given = ["", " ", "a b", "*", "$HOME", "é", "\udcff", "x" * 100_000]
    what = python(tmp_path, "import sys; print(ascii(sys.argv[1:]))", *given)
    assert run_to_the_end(what).is_clean
    assert log_of(what) == f"{given!a}\n"


def test_a_large_environment_arrives(tmp_path: Path) -> None:
    """It is larger than the socket holds."""
    env = {"PATH": os.environ["PATH"], **{f"NAME_{n}": "x" * 10_000 for n in range(100)}}
    what = python(tmp_path, "import os; print(sum(map(len, os.environ.values())))", env=env)
    assert run_to_the_end(what).is_clean
    assert int(log_of(what)) > 1_000_000


def test_it_starts_with_default_signals_no_terminal_and_no_descriptor_of_ours(
    tmp_path: Path,
) -> None:
    code = (
        "cat /proc/self/status | grep -E 'Sig(Blk|Ign|Cgt)'; readlink /proc/self/fd/0; "
        "ls -m /proc/self/fd; pwd"
    )
    (tmp_path / "here").mkdir()
    with (tmp_path / "held").open("w") as held:
        os.set_inheritable(held.fileno(), True)
        what = spec(tmp_path, "sh", "-c", code, cwd=str(tmp_path / "here"))
        assert run_to_the_end(what).is_clean
    blocked, ignored, caught, stdin, descriptors, folder = log_of(what).splitlines()
    assert {line.split()[1] for line in (blocked, ignored, caught)} == {"0" * 16}
    assert (stdin, descriptors, folder) == ("/dev/null", "0, 1, 2, 3", str(tmp_path / "here"))


def test_no_working_directory_is_that_of_the_owner(tmp_path: Path) -> None:
    what = spec(tmp_path, "pwd")
    assert run_to_the_end(what).is_clean
    assert log_of(what) == f"{os.getcwd()}\n"


def test_a_program_is_found_as_a_shell_finds_it(tmp_path: Path) -> None:
    for name, mode in (("one", 0o644), ("two", 0o755)):
        (tmp_path / name).mkdir()
        program = tmp_path / name / "program"
        program.write_text(f"#!/bin/sh\necho {name}\n")
        program.chmod(mode)
    path = f"{tmp_path}/none:{tmp_path}/one:{tmp_path}/two"
    what = spec(tmp_path, "program", env={"PATH": path})
    assert run_to_the_end(what).is_clean
    assert log_of(what) == "two\n"


def test_the_kernel_is_not_asked_to_kill_the_warden_first(tmp_path: Path) -> None:
    """Ray asks it to kill its workers first, and their children inherit that."""

    def score_of(pid: int) -> str:
        return Path(f"/proc/{pid}/oom_score_adj").read_text().strip()

    async def main() -> None:
        running = await launch(spec(tmp_path, "sleep", "60"))
        assert (score_of(running.pid), score_of(running.warden.pid)) == ("300", "0")
        await running.stop()

    mine = Path("/proc/self/oom_score_adj")
    before = mine.read_text()
    mine.write_text("300")
    try:
        asyncio.run(main())
    finally:
        mine.write_text(before)


# --- how it ends ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "result", "text"),
    [
        ("exit 0", Exit(code=0), "exit code 0"),
        ("exit 3", Exit(code=3), "exit code 3"),
        ("exit 255", Exit(code=255), "exit code 255"),
        ("kill -9 $$", Exit(signal=9), "killed by SIGKILL (9)"),
        ("kill -SEGV $$", Exit(signal=11), "killed by SIGSEGV (11)"),
        ("kill -40 $$", Exit(signal=40), "killed by signal (40)"),
    ],
)
def test_an_end_is_reported_as_it_was(code: str, result: Exit, text: str, tmp_path: Path) -> None:
    assert run_to_the_end(spec(tmp_path, "sh", "-c", f"ulimit -c 0; {code}")) == result
    assert str(result) == text
    assert result.is_clean == (code == "exit 0")
    assert not result.lost


def test_any_number_of_tasks_wait_and_cancelling_one_is_nothing_to_the_others(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        running = await launch(spec(tmp_path, "sleep", "60"))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(running.wait(), 0.02)
        waiters = [asyncio.create_task(running.wait()) for _ in range(3)]
        await asyncio.sleep(0)
        assert running.signal(signal.SIGINT)
        assert await asyncio.gather(*waiters) == [Exit(signal=2)] * 3
        await running.gone()
        assert running.is_gone
        assert not running.signal(signal.SIGINT), "it has ended"

    asyncio.run(main())


def test_the_stop_whose_grace_is_over_first_counts(tmp_path: Path) -> None:
    async def main() -> None:
        running = await launch(tree(tmp_path, "stubborn"))
        parts(tmp_path, FAMILY)
        patient = asyncio.create_task(running.stop(30))
        await asyncio.sleep(0.02)
        async with asyncio.timeout(5):
            assert await running.stop(0) == await patient == StopReport(Exit(signal=9), "killed", 5)

    asyncio.run(main())


def test_a_stop_that_is_cancelled_goes_on(tmp_path: Path) -> None:
    async def main() -> None:
        running = await launch(tree(tmp_path, "stubborn"))
        family = parts(tmp_path, FAMILY)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(running.stop(0.1), 0.02)
        await running.gone()
        assert alive(family) == []

    asyncio.run(main())


def test_who_lets_go_hears_nothing_more(tmp_path: Path) -> None:
    async def main() -> None:
        running = await launch(spec(tmp_path, "sleep", "60"))
        waiter = asyncio.create_task(running.wait())
        await asyncio.sleep(0)
        running.close()
        running.close()
        for hearing in (waiter, running.gone(), running.stop()):
            with pytest.raises(PoolError, match="was let go of"):
                await hearing

    asyncio.run(main())


# --- the host -------------------------------------------------------------------------------------


def test_many_are_launched_at_once(tmp_path: Path) -> None:
    async def main() -> None:
        specs = [spec(tmp_path, "sh", "-c", f"exit {n}", log=tmp_path / str(n)) for n in range(10)]
        running = await asyncio.gather(*map(launch, specs))
        assert [(await one.wait()).code for one in running] == list(range(10))
        await asyncio.gather(*(one.gone() for one in running))

    asyncio.run(main())


def test_the_loop_may_run_in_any_thread(tmp_path: Path) -> None:
    results: list[Exit] = []
    what = spec(tmp_path, "sh", "-c", "exit 4")
    thread = threading.Thread(target=lambda: results.append(run_to_the_end(what)))
    thread.start()
    thread.join()
    assert results == [Exit(code=4)]


def test_the_host_may_ignore_the_end_of_its_children(tmp_path: Path) -> None:
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        assert run_to_the_end(spec(tmp_path, "sh", "-c", "(exit 5); exit $?")) == Exit(code=5)
    finally:
        signal.signal(signal.SIGCHLD, before)


@pytest.fixture
def slow_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have programs take long to start, as from a busy file system."""
    slow = tmp_path / "slow"
    slow.write_text(f'#!/bin/sh\nsleep 0.3\nexec {sys.executable} "$@"\n')
    slow.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(slow))


@pytest.mark.usefixtures("slow_python")
def test_the_loop_runs_on_while_a_warden_starts_and_no_thread_is_left(tmp_path: Path) -> None:
    threads = threading.active_count()

    async def main() -> None:
        launching = asyncio.create_task(launch(spec(tmp_path, "true")))
        ticks = 0
        while not launching.done():
            await asyncio.sleep(0.01)
            ticks += 1
        assert ticks > 10
        await (await launching).gone()

    asyncio.run(main())
    assert threading.active_count() == threads


@pytest.mark.usefixtures("slow_python")
def test_a_launch_that_is_cancelled_before_its_warden_lives_leaves_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(launch(tree(tmp_path, "stubborn")), 0.1)
        assert left() == []
        assert not (tmp_path / "main").exists()

    asyncio.run(main())


def test_a_launch_that_is_cancelled_at_any_moment_leaves_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        for step in range(16):
            launching = asyncio.create_task(launch(tree(tmp_path, "stubborn")))
            await asyncio.sleep(step * 0.004)
            if launching.cancel():
                with pytest.raises(asyncio.CancelledError):
                    await launching
            else:
                await (await launching).stop(0)
            assert left() == [], f"cancelled after {step * 4} ms"

    asyncio.run(main())


def test_a_launch_that_is_cancelled_as_its_order_is_read_leaves_nothing(tmp_path: Path) -> None:
    """Both are on the line then: the order, and that it is taken back."""

    async def main() -> None:
        launching = asyncio.create_task(launch(tree(tmp_path, "stubborn")))
        await until_async(left, "the warden")
        launching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await launching
        assert left() == []

    asyncio.run(main())


# --- what cannot be started -----------------------------------------------------------------------


def failure(what: Launch) -> LaunchFailed:
    async def main() -> None:
        await launch(what)

    with pytest.raises(LaunchFailed) as info:
        asyncio.run(main())
    assert left() == []
    return info.value


def script(path: Path, text: str, mode: int = 0o755) -> str:
    path.write_text(text)
    path.chmod(mode)
    return str(path)


def test_what_cannot_be_run_says_what_was_seen_and_what_to_do(tmp_path: Path) -> None:
    env = {"PATH": "/nowhere:/usr/bin"}
    for argv, number, text in (
        (["nope"], errno.ENOENT, r"cannot start 'nope': no such program on the PATH that it was "
         r"given, '/nowhere:/usr/bin'; install it on this node, give its full path, or add"),
        ([f"{tmp_path}/nope"], errno.ENOENT, r"there is no .*/nope on this node; install it"),
        ([script(tmp_path / "plain", "", 0o644)], errno.EACCES, r"may not be run \(Perm.* chmod"),
        ([str(tmp_path)], errno.EACCES, r"is a folder; name a program"),
        ([script(tmp_path / "bad", "#!/no/python\n")], errno.ENOENT, r"line for '/no/python'"),
        ([script(tmp_path / "odd", "echo\n")], errno.ENOEXEC, r"cannot be run: Exec format error"),
        (["true", "x" * 3_000_000], errno.E2BIG, r"cannot be run: Argument list too long"),
    ):  # fmt: skip
        raised = failure(spec(tmp_path, *argv, env=env))
        assert raised.errno == number
        with pytest.raises(LaunchFailed, match=text):
            raise raised


def test_no_such_working_directory_and_no_such_log_are_said(tmp_path: Path) -> None:
    what = spec(tmp_path, "true", cwd=f"{tmp_path}/none")
    assert "its working directory" in failure(what).detail
    assert "make it there, or give another cwd" in failure(what).detail
    what = spec(tmp_path, "true", log=tmp_path)
    assert f"its log {tmp_path} cannot be written: Is a directory" in failure(what).detail
    (tmp_path / "file").touch()
    what = spec(tmp_path, "true", log=tmp_path / "file" / "log")
    assert "Not a directory" in failure(what).detail


@pytest.mark.parametrize("text", [None, "#!/bin/sh\necho is broken >&2\nexit 3\n"])
def test_a_warden_that_cannot_be_started_is_said(
    text: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "broken-python"
    if text:
        script(broken, text)
    monkeypatch.setattr(sys, "executable", str(broken))
    detail = failure(spec(tmp_path, "true")).detail
    assert "broken-python" in detail
    assert ("ended (3): is broken" if text else "No such file") in detail


def test_a_launch_failure_crosses_processes() -> None:
    error = LaunchFailed("x", "why", 2)
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), copy.errno) == ("cannot start 'x': why", 2)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"argv": ()}, "argv"),
        ({"argv": ("",)}, "argv"),
        ({"argv": ("a\0b",)}, "argv"),
        ({"argv": ("\ud800",)}, "argv"),
        ({"env": {"A": "\0"}}, "env"),
        ({"env": {"A=B": ""}}, "env"),
        ({"env": {"": ""}}, "env"),
        ({"cwd": "\0"}, "cwd"),
        ({"identity": "a|b"}, "identity"),
        ({"identity": "a b"}, "identity"),
        ({"identity": 'a"'}, "identity"),
        ({"identity": ""}, "identity"),
        ({"grace_s": -1}, "grace_s"),
        ({"grace_s": float("inf")}, "grace_s"),
        ({"grace_s": float("nan")}, "grace_s"),
    ],
)
def test_what_no_process_can_be_given_is_refused(
    changes: dict[str, Any], field: str, tmp_path: Path
) -> None:
    fields: dict[str, Any] = {"argv": ("true",), "env": {}, "cwd": None, "log": tmp_path / "log"}
    with pytest.raises(ConfigError) as info:
        Launch(**{**fields, "identity": "x", **changes})
    assert info.value.field == field


def test_a_log_has_to_hold_something() -> None:
    with pytest.raises(ConfigError, match="1024 or more"):
        LogLimit(max_bytes=1023)
    with pytest.raises(ConfigError, match="0 or more"):
        LogLimit(backups=-1)
