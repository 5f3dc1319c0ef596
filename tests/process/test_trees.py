"""A managed process is its whole tree: however it comes to end, nothing of it is left (INV-4)."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from pool.process import marker, pids
from pool.process.exits import Exit, StopReport, read_exit
from pool.process.launch import Running, launch
from pool.process.pids import ProcessId
from tests.process.support import (
    FAMILY,
    NAMELESS,
    Owner,
    alive,
    identity,
    log_of,
    parts,
    python,
    spec,
    tree,
    until,
    until_async,
)

KILLED = Exit(signal=signal.SIGKILL)


async def _stop(running: Running) -> None:
    assert await running.stop() == StopReport(KILLED, "killed", killed=5)


async def _stop_at_once(running: Running) -> None:
    began = asyncio.get_running_loop().time()
    assert await running.stop(0) == StopReport(KILLED, "killed", killed=5)
    assert asyncio.get_running_loop().time() - began < 0.19


async def _kill_main(running: Running) -> None:
    assert running.signal(signal.SIGKILL)
    assert await running.wait() == KILLED
    await running.gone()
    assert running.killed == 4


async def _kill_warden(running: Running) -> None:
    assert pids.send(running.warden, signal.SIGKILL)
    result = await running.wait()
    assert result.lost
    assert str(result) == "killed with its warden, unseen"
    await running.gone()


async def _stop_as_the_warden_dies(running: Running) -> None:
    stopping = asyncio.create_task(running.stop(30))
    await asyncio.sleep(0.05)
    assert pids.send(running.warden, signal.SIGKILL)
    assert (await stopping).exit.lost


async def _close(running: Running) -> None:
    running.close()
    warden = running.warden
    await until_async(lambda: not pids.is_alive(warden), "the warden's end")


@pytest.mark.parametrize(
    "end", [_stop, _stop_at_once, _kill_main, _kill_warden, _stop_as_the_warden_dies, _close]
)
def test_nothing_of_a_stubborn_tree_is_left_by(
    end: Callable[[Running], Awaitable[None]], tmp_path: Path
) -> None:
    async def main() -> None:
        running = await launch(tree(tmp_path, "stubborn"))
        family = parts(tmp_path, FAMILY)
        assert alive(family) == list(FAMILY)
        assert len(marker.find(running.marker)) == 5
        await end(running)
        assert alive(family) == []
        assert not pids.is_alive(running.warden)

    asyncio.run(main())


def test_an_obedient_tree_is_not_killed_and_its_stopped_part_is_woken(tmp_path: Path) -> None:
    async def main() -> None:
        running = await launch(tree(tmp_path, "obedient"))
        family = parts(tmp_path, FAMILY)
        report = await running.stop(30)
        assert report == StopReport(Exit(signal=signal.SIGTERM), "terminated", killed=0)
        assert alive(family) == []

    asyncio.run(main())


def test_what_a_main_process_leaves_behind_ends_with_it(tmp_path: Path) -> None:
    async def main() -> None:
        running = await launch(tree(tmp_path, "leaving"))
        assert await running.wait() == Exit(code=3)
        await running.gone()
        assert running.killed == 4
        # Who is stopped afterwards hears that there was nothing to stop.
        assert await running.stop() == StopReport(Exit(code=3), "already", killed=4)
        assert [name for name in FAMILY if pids.of(int((tmp_path / name).read_text()))] == []

    asyncio.run(main())


@pytest.mark.parametrize("grace_s", [0, 0.1])
def test_who_forks_while_being_killed_is_killed(tmp_path: Path, grace_s: float) -> None:
    async def main() -> None:
        running = await launch(tree(tmp_path, "breeding"))
        parts(tmp_path, ("main",))
        await asyncio.sleep(0.1)
        async with asyncio.timeout(10):
            report = await running.stop(grace_s)
        assert report.rung == "killed"

    asyncio.run(main())


def test_who_forks_while_its_warden_is_killed_is_removed_by_the_owner(tmp_path: Path) -> None:
    async def main() -> None:
        running = await launch(tree(tmp_path, "breeding"))
        parts(tmp_path, ("main",))
        await asyncio.sleep(0.1)
        pids.send(running.warden, signal.SIGKILL)
        async with asyncio.timeout(15):
            await running.gone()

    asyncio.run(main())


def test_who_has_lost_its_mark_is_removed_by_the_owner_as_of_the_session(tmp_path: Path) -> None:
    """As programs do that write their title over their environment."""

    async def main() -> None:
        running = await launch(tree(tmp_path, "nameless"))
        both = parts(tmp_path, NAMELESS)
        assert marker.find(running.marker) == [both["main"]]
        pids.send(running.warden, signal.SIGKILL)
        await running.gone()
        assert alive(both) == []

    asyncio.run(main())


def test_a_process_whose_first_thread_alone_has_ended_is_not_taken_for_a_zombie(
    tmp_path: Path,
) -> None:
    code = (
        "import ctypes, signal, threading, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "threading.Thread(target=time.sleep, args=(60,)).start()\n"
        "ctypes.CDLL(None).pthread_exit.restype = None\n"
        "print('there', flush=True)\n"
        "ctypes.CDLL(None).syscall(ctypes.c_long(EXIT), 0)\n"
    ).replace("EXIT", {"x86_64": "60"}.get(os.uname().machine, "93"))

    async def main() -> None:
        what = python(tmp_path, code)
        running = await launch(what)
        await until_async(lambda: "there" in log_of(what), "its word")
        path = Path(f"/proc/{running.pid}/stat")
        await until_async(lambda: ") Z " in path.read_text(), "its first thread's end")
        assert pids.is_alive(running.process)
        assert running.exit is None
        assert (await running.stop()).rung == "killed"

    asyncio.run(main())


# --- the owner's end ------------------------------------------------------------------------------


def test_an_owner_that_is_killed_takes_a_stubborn_tree_with_it(tmp_path: Path) -> None:
    what = tree(tmp_path, "stubborn")
    with Owner(what) as owner:
        family = parts(tmp_path, FAMILY)
        owner.kill()
        until(lambda: not pids.is_alive(owner.warden), "the warden's end")
        assert alive(family) == []
    record = read_exit(what.log)
    assert record is not None
    assert record.process == owner.main
    assert record.exit == KILLED
    assert (record.stopped_by, record.killed, record.is_gone) == ("owner", 5, True)


def test_an_owner_that_is_killed_leaves_the_tree_its_grace(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: (time.sleep(0.5), print('bye'), sys.exit(7)))\n"
        "print('there', flush=True)\n"
        "signal.pause()\n"
    )
    what = python(tmp_path, code, grace_s=10)
    with Owner(what) as owner:
        until(lambda: "there" in log_of(what), "its word")
        owner.kill()
        until(lambda: not pids.is_alive(owner.warden), "the warden's end")
    record = read_exit(what.log)
    assert record is not None
    assert (record.exit, record.stopped_by, record.killed) == (Exit(code=7), "owner", 0)
    assert what.log.read_text().endswith("there\nbye\n")


def test_an_owner_that_is_killed_is_missed_though_a_fork_of_it_keeps_its_socket(
    tmp_path: Path,
) -> None:
    with Owner(tree(tmp_path, "obedient")) as owner:
        family = parts(tmp_path, FAMILY)
        fork = pids.of(int(owner.tell("fork")))
        assert fork is not None
        owner.process.kill()
        owner.process.wait()
        until(lambda: not pids.is_alive(owner.warden), "the warden's end")
        assert pids.send(fork, signal.SIGKILL)
    assert alive(family) == []


def test_an_owner_in_another_process_that_closes_its_end_has_the_tree_stopped(
    tmp_path: Path,
) -> None:
    with Owner(tree(tmp_path, "stubborn")) as owner:
        family = parts(tmp_path, FAMILY)
        assert owner.tell("close") == "closed"
        until(lambda: not pids.is_alive(owner.warden), "the warden's end")
        assert alive(family) == []


def test_when_owner_and_warden_are_both_killed_main_dies_and_a_sweep_gets_the_rest(
    tmp_path: Path,
) -> None:
    with Owner(tree(tmp_path, "stubborn")) as owner:
        family = parts(tmp_path, FAMILY)
        os.kill(owner.process.pid, signal.SIGSTOP)  # so that it cannot see its warden die
        pids.send(owner.warden, signal.SIGKILL)
        until(lambda: not pids.is_alive(owner.main), "the main process's end")
        assert alive(family) == ["child", "session", "stopped", "daemon"]
        rest = {process for name, process in family.items() if name != "main"}
        assert not rest & set(marker.sweep()), "their owner lives"
        owner.kill()
        marker.sweep()
        assert alive(family) == []


# --- the warden -----------------------------------------------------------------------------------


def test_a_warden_survives_signals_to_its_group_and_outlives_them(tmp_path: Path) -> None:
    async def main() -> None:
        running = await launch(tree(tmp_path, "obedient"))
        family = parts(tmp_path, FAMILY)
        warden = running.warden.pid
        assert os.getpgid(warden) == os.getsid(warden) == warden
        assert os.getpgid(running.pid) == os.getsid(running.pid) == running.pid
        for number in ("TERM", "INT", "HUP", "QUIT", "USR1", "USR2", "ALRM", "PIPE", "TSTP"):
            os.killpg(warden, getattr(signal, f"SIG{number}"))
        await asyncio.sleep(0.05)
        assert pids.is_alive(running.warden)
        assert alive(family) == list(FAMILY), "the tree is in no group of the warden's"
        await running.stop()

    asyncio.run(main())


def test_a_warden_is_nobodys_child_whom_ray_would_kill(
    tmp_path: Path, others: frozenset[ProcessId]
) -> None:
    async def main() -> None:
        running = await launch(tree(tmp_path, "obedient"))
        assert set(pids.descendants(pids.myself())) <= others
        assert running.process in pids.descendants(running.warden)
        await running.stop()

    asyncio.run(main())


def test_a_warden_adopts_and_buries_orphans_while_the_main_process_runs(tmp_path: Path) -> None:
    code = (
        "import os, sys, time\n"
        "for _ in range(20):\n"
        "    if not os.fork():\n"
        "        if not os.fork(): time.sleep(0.02)\n"
        "        os._exit(0)\n"
        "    os.wait()\n"
        "print('there', flush=True)\n"
        "time.sleep(60)\n"
    )

    async def main() -> None:
        what = python(tmp_path, code)
        running = await launch(what)
        await until_async(lambda: "there" in log_of(what), "its word")
        await until_async(
            lambda: (
                [one.pid for one in pids.everybody() if one.parent == running.warden.pid]
                == [running.pid]
            ),
            "the burial of the orphans",
        )
        await running.stop()

    asyncio.run(main())


def test_a_tree_is_nested_in_another_and_ends_with_it(tmp_path: Path) -> None:
    """A managed process may own managed processes."""
    inner, outer = tmp_path / "inner", tmp_path / "outer"
    inner.mkdir()
    outer.mkdir()
    code = (
        "import asyncio, sys\n"
        "from pathlib import Path\n"
        "from pool.process.launch import launch\n"
        "from tests.process.support import tree\n"
        "async def main():\n"
        "    what = tree(Path(sys.argv[1]), 'stubborn', identity=sys.argv[2])\n"
        "    await launch(what)\n"
        "    await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )

    async def main() -> None:
        path = os.pathsep.join(folder for folder in sys.path if folder)
        what = spec(
            outer,
            *(sys.executable, "-c", code, str(inner), identity()),
            env={"PATH": os.environ["PATH"], "PYTHONPATH": path},
        )
        running = await launch(what)
        family = parts(inner, FAMILY)
        await running.stop()
        await until_async(lambda: not alive(family), "the inner tree's end")

    asyncio.run(main())
