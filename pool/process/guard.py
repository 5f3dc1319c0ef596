"""The guard of this process: when this one ends, however it does, nothing it has started is left.

For processes that run the user's code and that somebody else starts and kills, as Ray does its
workers: children that called `setsid`, or whose parent has ended, are nobody's then, and may hold
devices and ports for ever. The guard (`pool.process.warden.Guard`) finds them by the mark in their
environment, and those that were forked and called no other program by a descriptor.

Limits: those of the mark (`pool.process.marker`), for children that run another program; and who
was forked is not found when it has closed what it inherited. Linux only; elsewhere nobody watches.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys

from pool.errors import LaunchFailed
from pool.process import marker, pids
from pool.process.marker import Marker
from pool.process.pids import ProcessId
from pool.process.spawn import aside, spawn

GRACE_S = 1.0
"""How long those may take to end whom this process leaves behind."""
START_TIMEOUT_S = 60.0

_lines: list[socket.socket] = []
"""The end of the guard's line. It is held to the end: whoever is forked holds it too."""


async def guard(identity: str) -> None:
    """Start the guard of this process, and mark all that is started from now on.

    Args:
        identity: Whose process this is, for `ps` and for the mark; see `pool.process.launch`.

    Raises:
        LaunchFailed: It could not be started.

    Cancelled, it may be started all the same; it does no harm.
    """
    if sys.platform == "linux":
        its = await aside(asyncio.get_running_loop(), lambda: _start(identity))
        os.environ[marker.VARIABLE] = str(its)


def _start(identity: str) -> Marker:
    me = pids.myself()
    ours, theirs = socket.socketpair()
    ours.settimeout(START_TIMEOUT_S)
    try:
        # NB: its end of the line must be known before anybody is forked.
        order = _order(identity, me, f"socket:[{os.fstat(ours.fileno()).st_ino}]")
        spawn(identity, order, ours, theirs)
        with ours.makefile("r") as line:
            said = line.readline().split()
        match said:
            case ["warden", pid, created]:
                _lines.append(ours)
                return Marker(identity, marker.here(), me, ProcessId(int(pid), int(created)))
            case _:
                raise OSError(f"it said {' '.join(said)!r}")
    except OSError as error:
        ours.close()
        raise LaunchFailed("the guard of this process", error.strerror or str(error)) from None


def _order(identity: str, me: ProcessId, end_of_line: str) -> bytes:
    """Return an order for a guard; see `pool.process.warden.Order`."""
    fields = [
        marker.start(identity, marker.here(), me),
        str(me.pid),
        str(me.created),
        repr(GRACE_S),
        "",  # no log, of no size, with no older ones; no folder, and no arguments
        "0",
        "0",
        "",
        "0",
        f"LINE={end_of_line}",
    ]
    body = b"".join(field.encode() + b"\0" for field in fields)
    return len(body).to_bytes(8, "big") + body
