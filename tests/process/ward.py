"""A process with a guard, for tests that end it. Run as a script: `ward.py <folder> <identity>`.

It starts a stubborn family, and forks a daemon that closes nothing; then it does as it is told:
`exit` ends it in good order.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from pool.process.guard import guard
from pool.process.launch import launch
from pool.process.order import Launch

TREES = Path(__file__).with_name("trees.py")


def fork_a_daemon(folder: Path) -> None:
    """Have a child of a child, which runs no program of its own."""
    pid = os.fork()
    if pid == 0:
        os.setsid()
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if os.fork() == 0:
            (folder / "forked").write_text(str(os.getpid()))
            time.sleep(60)
        os._exit(0)
    os.waitpid(pid, 0)


def start(command: list[str]) -> None:
    """Have a child in a session of its own."""
    subprocess.Popen(command, start_new_session=True)


async def main(folder: Path, identity: str) -> None:
    await guard(identity)
    command = [sys.executable, "-I", "-S", str(TREES)]
    fork_a_daemon(folder)
    start([*command, "stubborn", str(folder)])
    (folder / "nested").mkdir()
    nested = Launch(
        argv=(*command, "stubborn", str(folder / "nested")),
        env={},
        cwd=None,
        log=folder / "log",
        grace_s=30,
        identity=f"{identity}/nested",
    )
    await launch(nested)
    print("up", flush=True)
    sys.stdin.readline()
    os._exit(0)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
