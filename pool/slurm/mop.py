"""Remove a node's folder, and what is left of its processes, when its node program was killed.

A node program that can end by itself does all that itself. But Slurm may kill it: then wardens end
the trees that they watch, and this process, which waits for nothing but that end, sees to the rest:
whoever still has the job's mark is killed, and the folder is removed. It is a child of nobody and
in no session of Slurm's, so it outlives a kill; where Slurm kills by cgroup there is nothing left
for it but the folder, which the next run on the node removes (`home`).

``python -m pool.slurm.mop <descriptor> <folder> <mark> <grace_s>``: at the end of the descriptor's
stream it begins; if a byte comes first, there is nothing to do.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from pool.process import marker, pids

PATIENCE_S = 3.0
"""How much longer than their grace wardens are left to do it."""
GIVE_UP_S = 60.0
LOOK_S = 0.2
QUIET_LOOKS = 3
DONE = b"."


def identity(mark: str, name: str) -> str:
    """Return what a process of a node is called in its mark; see `pool.process.marker`."""
    return f"slurm-{mark}/{name}"


def start(folder: Path, mark: str, grace_s: float, keep: int) -> int:
    """Start the mop of a folder. Blocks until it has begun.

    Args:
        folder: What is to be removed.
        mark: Whose processes.
        grace_s: How long their wardens give them.
        keep: A descriptor that it holds as long as it lives: the folder's lock.

    Returns:
        A descriptor: write `DONE` and close it, and the mop is no longer needed.

    Raises:
        OSError: It cannot be started.
    """
    theirs, ours = os.pipe()
    try:
        subprocess.run(
            [
                sys.executable, "-m", "pool.slurm.mop",
                str(theirs), str(folder), mark, str(grace_s),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(theirs, keep),
            start_new_session=True,
            check=True,
        )  # fmt: skip
    except (OSError, subprocess.CalledProcessError) as error:
        os.close(ours)
        raise OSError(f"the mop cannot be started: {error}") from error
    finally:
        os.close(theirs)
    return ours


def wipe(folder: Path, mark: str, grace_s: float) -> None:
    """Wait until nobody of the node is left, kill who stays too long, and remove the folder."""
    began = time.monotonic()
    quiet = 0
    while quiet < QUIET_LOOKS and time.monotonic() - began < GIVE_UP_S:
        left = [
            process
            for process, its in marker.marked().items()
            if its.identity.startswith(identity(mark, ""))
        ]
        quiet = 0 if left else quiet + 1
        if time.monotonic() - began > grace_s + PATIENCE_S:
            for process in left:
                pids.send(process, signal.SIGKILL)
        time.sleep(LOOK_S)
    shutil.rmtree(folder, ignore_errors=True)
    with contextlib.suppress(OSError):  # another job is on this node
        folder.parent.rmdir()


def main(line: int, folder: Path, mark: str, grace_s: float) -> None:
    """Be the mop."""
    # Twice forked: it is not below the node program, which is killed with all below.
    if os.fork():
        os._exit(0)
    os.setsid()
    os.chdir("/")
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    if os.read(line, 1) != DONE:
        wipe(folder, mark, grace_s)


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], float(sys.argv[4]))
