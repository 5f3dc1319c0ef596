"""The mark that every process of a managed tree carries, so that it is found when all else is lost.

It is an environment variable, which children inherit: who this is, where its pids hold, who owns
it, and who its warden is. A warden finds its tree by itself. The mark is for what is left when the
warden was killed: then its owner calls `remove`. And if the owner was killed as well, whoever comes
by next calls `sweep`.

What is never touched: a process whose owner or whose warden lives, whose pids are of another
machine, boot or PID namespace, or which another user runs (INV-10).

Limits: a process that clears its environment, or writes its title over it, as ``setproctitle``
does, is not found by the mark; `remove` finds it still if it is in the main process's session. And
whoever hands its environment to a batch system on the same node hands the mark on.
"""

from __future__ import annotations

import functools
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pool.process import pids
from pool.process.pids import ProcessId

VARIABLE = "POOL_PROCESS"

QUIET_SCANS = 2
"""So often in a row must nobody be found: one look can miss who is forked behind its back."""
GONE_S = 0.5
"""How long one round waits for those that it has killed."""
GIVE_UP_S = 10.0
"""How long anybody is hunted for. Whom the kernel does not end in that time, it may never end."""


@functools.cache
def here() -> str:
    """Return where pids of this process hold: this boot of this machine, this PID namespace."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return f"{boot}/{os.stat('/proc/self/ns/pid').st_ino}"


@dataclass(frozen=True, slots=True)
class Marker:
    """What the variable says.

    Attributes:
        identity: Whose process it is, and which.
        space: Where the pids hold; see `here`.
        owner: Who has launched it.
        warden: Who watches it.
    """

    identity: str
    space: str
    owner: ProcessId
    warden: ProcessId

    def __str__(self) -> str:
        return f"{start(self.identity, self.space, self.owner)}|{self.warden}"

    @classmethod
    def parse(cls, text: str) -> Marker | None:
        """Return what the variable says; None if it says nothing that can be understood."""
        try:
            identity, space, owner, warden = text.split("|")
            return cls(identity, space, ProcessId.parse(owner), ProcessId.parse(warden))
        except ValueError:
            return None

    @property
    def is_orphan(self) -> bool:
        """Whether its pids hold here, and neither the owner nor the warden is there any more."""
        return self.space == here() and not (
            pids.is_alive(self.warden) or pids.is_alive(self.owner)
        )


def start(identity: str, space: str, owner: ProcessId) -> str:
    """Return the marker's text up to the warden, who adds itself."""
    return f"{identity}|{space}|{owner}"


def of(pid: int) -> Marker | None:
    """Return the marker of a process; None if it has none, or this user may not read it."""
    try:
        if os.stat(f"/proc/{pid}").st_uid != os.geteuid():
            return None
        environment = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return None
    for entry in environment.split(b"\0"):
        name, _, value = entry.partition(b"=")
        if name == VARIABLE.encode():
            return Marker.parse(value.decode(errors="replace"))
    return None


def marked() -> dict[ProcessId, Marker]:
    """Return every process of this user that has a marker whose pids hold here."""
    found = {}
    for seen in pids.everybody():
        # Its environment is read between two looks at who has the pid.
        process = ProcessId(seen.pid, seen.created)
        if seen.is_ended or (marker := of(seen.pid)) is None or marker.space != here():
            continue
        if pids.is_alive(process):
            found[process] = marker
    return found


def find(marker: Marker) -> list[ProcessId]:
    """Return the processes with exactly this marker."""
    return [process for process, its in marked().items() if its == marker]


def remove(marker: Marker, main: ProcessId | None = None) -> int:
    """Kill whatever has this marker, and wait until it is gone.

    Blocks; for whoever has launched the process and sees that its warden is dead.

    Args:
        marker: Exactly this one.
        main: The main process, if you know it: others of its session are killed as well, whether
            they have a marker or not. Give it only right after the warden's death: later, its
            pid may be somebody else's.

    Returns:
        How many were killed.
    """
    uid = os.geteuid()

    def remains() -> list[ProcessId]:
        return sorted({*find(marker), *(_of_session(main, uid) if main is not None else ())})

    return len(_hunt(remains))


def sweep() -> tuple[ProcessId, ...]:
    """Kill what is left of processes whose owner and warden are both gone, and wait for its end.

    Blocks, for milliseconds where there is nothing to do. Anybody may call it at any time; whoever
    is in such a tree itself does not kill itself.

    Returns:
        Who was killed.
    """
    me = pids.myself()
    return _hunt(
        lambda: [process for process, its in marked().items() if its.is_orphan and process != me]
    )


def _of_session(main: ProcessId, uid: int) -> list[ProcessId]:
    found = []
    for seen in pids.everybody():
        if seen.pid == main.pid and seen.created != main.created:
            return []  # the number is used again, so none of the session can be left
        if seen.session == main.pid and seen.created >= main.created and not seen.is_ended:
            found.append(ProcessId(seen.pid, seen.created))
    return [process for process in found if _is_of_user(process.pid, uid)]


def _is_of_user(pid: int, uid: int) -> bool:
    try:
        return os.stat(f"/proc/{pid}").st_uid == uid
    except OSError:
        return False


def _hunt(remains: Callable[[], list[ProcessId]]) -> tuple[ProcessId, ...]:
    killed: dict[ProcessId, None] = {}
    ends_at = time.monotonic() + GIVE_UP_S
    quiet = 0
    while quiet < QUIET_SCANS and time.monotonic() < ends_at:
        found = remains()
        quiet = 0 if found else quiet + 1
        for process in found:
            if pids.send(process, signal.SIGKILL):
                killed[process] = None
        pids.wait_gone(found, GONE_S)
    return tuple(killed)
