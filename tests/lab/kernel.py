"""What labs need of the kernel: namespaces that end with us, and a look into them from outside."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path

import psutil

PATIENCE_S = 90.0
"""How long a node may take to start; most of that is Python's imports on busy cores."""

APART = ("unshare", "--net", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child=KILL")
DIE_WITH_US = ("setpriv", "--pdeathsig", "KILL")
# Ignoring SIGCHLD lets the kernel reap what a dead parent leaves: Ray's workers notice the end of
# their raylet only when it is no zombie.
FIRST_PROCESS = "trap '' CHLD; exec sleep infinity"


def namespace_of(pid: int, kind: str = "net") -> str | None:
    """Name the namespace of a kind that a process is in; None when it has ended."""
    try:
        return os.readlink(f"/proc/{pid}/ns/{kind}")
    except OSError:
        return None


def inner_pid(pid: int) -> int | None:
    """Return what a process is called in its own namespace; None when it has ended."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("NSpid:"):
                return int(line.split()[-1])
    return None


def processes_in(namespace: str) -> list[psutil.Process]:
    """List the processes in a namespace, which is named as by `namespace_of`."""
    kind = namespace.partition(":")[0]
    return [each for each in psutil.process_iter() if namespace_of(each.pid, kind) == namespace]


def until(condition: Callable[[], bool], trouble: str, patience_s: float = PATIENCE_S) -> None:
    """Wait for a condition, or fail with what the trouble is."""
    end = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < end, f"{trouble} within {patience_s} s"
        time.sleep(0.05)
