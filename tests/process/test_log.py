"""The log of a managed process: appended to, bounded, and never in the process's way."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import textwrap
import time
from pathlib import Path

from pool.process.exits import Exit, ExitRecord, read_exit
from pool.process.launch import launch
from pool.process.order import LogLimit
from pool.process.warden import Log
from tests.process.support import log_of, python, spec, until_async


def test_each_start_appends_and_writes_one_header(tmp_path: Path) -> None:
    what = spec(
        tmp_path, "sh", "-c", "echo out\necho err >&2", log=tmp_path / "new" / "folder" / "x"
    )

    async def main() -> None:
        for _ in range(2):
            running = await launch(what)
            await running.wait()
            assert what.log.read_text().endswith("out\nerr\n"), "complete when wait returns"
            await running.gone()

    asyncio.run(main())
    header = (
        rf"--- \d{{4}}-\d\d-\d\dT\d\d:\d\d:\d\dZ {what.identity}: sh -c echo out\\necho err >&2\n"
    )
    assert re.fullmatch(f"({header}out\nerr\n){{2}}", what.log.read_text())


def test_what_a_daemon_writes_after_the_end_of_the_main_process_is_taken(tmp_path: Path) -> None:
    code = """
        import os, signal, sys, time
        def late(*_):
            time.sleep(0.1)
            os.write(1, b"late\\n")
            os._exit(0)
        signal.signal(signal.SIGTERM, late)
        if os.fork() == 0:
            os.setsid()
            os.write(1, b"daemon\\n")
            signal.alarm(60)
            while True: signal.pause()
        time.sleep(0.1)
        os._exit(0)
    """
    what = python(tmp_path, textwrap.dedent(code), grace_s=10)

    async def main() -> None:
        running = await launch(what)
        assert (await running.wait()).is_clean
        assert log_of(what) == "daemon\n"
        await running.gone()
        assert running.killed == 0
        assert log_of(what) == "daemon\nlate\n"

    asyncio.run(main())


def test_who_closes_its_output_runs_on(tmp_path: Path) -> None:
    what = spec(tmp_path, "sh", "-c", "echo a; exec >&- 2>&-; sleep 0.1; exit 6")

    async def main() -> None:
        running = await launch(what)
        await asyncio.sleep(0.05)
        assert _ticks_of(running.warden.pid) < 5, "the warden waits, and does not spin"
        assert await running.wait() == Exit(code=6)
        await running.gone()

    asyncio.run(main())
    assert log_of(what) == "a\n"


def test_huge_output_neither_blocks_nor_fills_memory_nor_the_disk(tmp_path: Path) -> None:
    what = spec(
        tmp_path, "sh", "-c", "yes 0123456789abcdef | head -c 170000000; sleep 60",
        limit=LogLimit(max_bytes=1_000_000, backups=2),
    )  # fmt: skip

    async def main() -> None:
        running = await launch(what)
        began = time.monotonic()
        await until_async((tmp_path / "log.2").exists, "output")
        await until_async(lambda: not _has_child(running.pid, "head"), "the end of output")
        took_s = time.monotonic() - began
        assert _peak_kb_of(running.warden.pid) < 20_000
        assert took_s < 10
        await running.stop(0)

    asyncio.run(main())
    files = sorted(tmp_path.glob("log*"))
    assert [file.name for file in files] == ["log", "log.1", "log.2", "log.exit"]
    for file in files[:3]:
        assert file.stat().st_size <= 1_000_000
        assert file.read_bytes().count(b"\n") * 17 == file.stat().st_size, "split between lines"
    record = read_exit(what.log)
    assert record is not None
    assert record.dropped_bytes == 0


def _ticks_of(pid: int) -> int:
    """Return how much processor time it has used: hundredths of seconds."""
    return sum(map(int, Path(f"/proc/{pid}/stat").read_text().split()[13:15]))


def _peak_kb_of(pid: int) -> int:
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1])


def _has_child(pid: int, name: str) -> bool:
    found = subprocess.run(["pgrep", "-P", str(pid), "-x", name], check=False, capture_output=True)
    return found.returncode == 0


def test_a_full_disk_is_not_in_the_way_and_what_it_cost_is_counted(tmp_path: Path) -> None:
    (tmp_path / "log").symlink_to("/dev/full")
    what = spec(tmp_path, "sh", "-c", "head -c 1000000 /dev/zero; exit 4")

    async def main() -> None:
        running = await launch(what)
        assert await running.wait() == Exit(code=4)
        await running.gone()
        record = read_exit(what.log)
        assert record is not None
        assert record.dropped_bytes > 1_000_000, "the header as well"

    asyncio.run(main())


def test_a_disk_that_is_not_full_any_more_is_written_to_and_the_gap_is_said(tmp_path: Path) -> None:
    code = f"""
        import resource
        from pool.process.warden import Log
        log = Log({os.fsencode(tmp_path / "log")!r}, 1_000_000, 1)
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
        log.put(b"one\\n")
        log.put(b"0123456789\\n")
        log.put(b"two\\n")
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        log.put(b"three\\n")
        print(log.dropped)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], check=True, capture_output=True, text=True
    )
    assert done.stdout == "9\n"
    assert (tmp_path / "log").read_text() == (
        "one\n012345\n--- 9 bytes of output were dropped: File too large\nthree\n"
    )


def test_a_log_that_cannot_be_renamed_loses_its_beginning_and_does_not_grow(tmp_path: Path) -> None:
    (tmp_path / "log.1").mkdir()
    log = Log(os.fsencode(tmp_path / "log"), 10, 1)
    for text in (b"01234567\n", b"abcdefgh\n"):
        log.put(text)
    assert (tmp_path / "log").read_bytes() == b"abcdefgh\n"
    os.close(log._descriptor)


def test_lines_longer_than_a_file_are_split_and_no_byte_is_lost(tmp_path: Path) -> None:
    log = Log(os.fsencode(tmp_path / "log"), 10, 100)
    log.put(b"ab\n" + b"x" * 25 + b"\ncd\n")
    log.put(b"ef\n")
    os.close(log._descriptor)
    names = [*(f"log.{n}" for n in range(100, 0, -1)), "log"]
    files = [(tmp_path / name).read_bytes() for name in names if (tmp_path / name).exists()]
    assert files == [b"ab\n", b"x" * 10, b"x" * 10, b"xxxxx\ncd\n", b"ef\n"]
    assert log.dropped == 0


def test_no_backups_means_that_the_file_begins_anew(tmp_path: Path) -> None:
    log = Log(os.fsencode(tmp_path / "log"), 10, 0)
    for number in range(5):
        log.put(b"line %d\n" % number)
    os.close(log._descriptor)
    assert os.listdir(tmp_path) == ["log"]
    assert (tmp_path / "log").read_bytes() == b"line 4\n"


def test_the_record_of_an_end_outlives_everybody_and_goes_with_the_next_start(
    tmp_path: Path,
) -> None:
    what = spec(tmp_path, "sleep", "60", grace_s=10)

    async def main() -> None:
        running = await launch(what)
        assert read_exit(what.log) is None
        before = time.time()
        await running.stop()
        record = read_exit(what.log)
        assert record is not None
        assert before - 1 < record.ended_at < time.time() + 1
        assert record == ExitRecord(
            identity=what.identity, process=running.process, exit=Exit(signal=15),
            ended_at=record.ended_at, stopped_by="asked", is_gone=True, killed=0, dropped_bytes=0,
        )  # fmt: skip
        running = await launch(what)
        assert read_exit(what.log) is None
        await running.stop()

    asyncio.run(main())


def test_no_record_and_no_sense_are_no_record(tmp_path: Path) -> None:
    assert read_exit(tmp_path / "log") is None
    (tmp_path / "log.exit").write_text("{}")
    assert read_exit(tmp_path / "log") is None
    (tmp_path / "log.exit").write_text("[")
    assert read_exit(tmp_path / "log") is None
