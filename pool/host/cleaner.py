"""Clear devices of what a predecessor left behind, before a worker starts. Off unless asked for.

Who holds a device is found by the open files of every process, without the help of other programs,
and never with more rights than this process has.

By default only processes are ended that the pool itself left behind: they carry its mark, and
neither the process that started them nor the one that watched them lives. Everybody else is
reported and left alone (INV-10). `anybody=True` ends every holder that this user may end. This
process and those above it are never ended.

A lock file that a dead process left (libtpu's `/tmp/libtpu_lockfile`) is removed only when no
process has it open and its lock can be had, and while it is locked by us.

Limits: a process that mapped a device into its memory and closed the file is not seen. Nor is one
of another user, whose open files this user may not read: how many there were is reported.
"""

from __future__ import annotations

import errno
import fcntl
import glob
import os
import select
import signal
import stat
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import anyio.to_thread

from pool.errors import ConfigError
from pool.log import Word, say
from pool.planning.environment import MARKER

KILLED_S = 5.0
"""How long a process that was killed may take to be gone; one in the kernel may take for ever."""


@dataclass(frozen=True, slots=True)
class CleanReport:
    """Say what a cleaner did, a sentence each.

    Args:
        ended: The processes that were ended.
        left: The holders that were left alone, or did not end, and why.
        removed: The lock files that were removed.
        kept: The lock files that were kept, and why.
        unseen: How many processes' open files could not be read.
    """

    ended: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    unseen: int = 0

    @property
    def is_clean(self) -> bool:
        """Whether, as far as can be seen, nobody holds a device and no lock file is left."""
        return not self.left and not self.kept

    def __str__(self) -> str:
        parts = [
            *(f"ended {one}" for one in self.ended),
            *(f"left {one}" for one in self.left),
            *(f"removed {one}" for one in self.removed),
            *(f"kept {one}" for one in self.kept),
        ]
        if self.unseen:
            parts.append(f"could not read the open files of {self.unseen} processes")
        return "; ".join(parts) or "nothing was held"


@dataclass(frozen=True, slots=True)
class Holder:
    """Name a process that has a device open.

    Args:
        pid: Its number.
        created: When it was created, in clock ticks since the start of the machine.
        name: What it is called.
        path: The device.
    """

    pid: int
    created: int
    name: str
    path: str

    def __str__(self) -> str:
        return f"process {self.pid} ({self.name}), which holds {self.path}"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceCleaner:
    """Say which devices and lock files to clear before a worker starts.

    Args:
        paths: Device files, or patterns such as `/dev/vfio/*`.
        lock_files: Files such as `/tmp/libtpu_lockfile`, to be removed when nobody holds them.
        anybody: Whether to end every holder, and not only what the pool left behind.
        grace_s: Seconds between asking a process to end and killing it.

    Raises:
        ConfigError: A path is not absolute, or there is none; `grace_s` is below 0.
    """

    paths: Sequence[str] = ()
    lock_files: Sequence[str] = ()
    anybody: bool = False
    grace_s: float = 5.0

    def __post_init__(self) -> None:
        for name in ("paths", "lock_files"):
            value = getattr(self, name)
            if isinstance(value, str):
                raise ConfigError(f"{name} is the text {value!r}; give a list of paths", name)
            for path in value:
                if not os.path.isabs(path):
                    raise ConfigError(f"{path!r} is no absolute path; give one", name)
            object.__setattr__(self, name, tuple(map(str, value)))
        if not self.paths and not self.lock_files:
            raise ConfigError("there is nothing to clear; give paths or lock_files", "paths")
        if not self.grace_s >= 0:
            raise ConfigError(f"grace_s is {self.grace_s!r}; give 0 or more seconds", "grace_s")

    async def clean(self) -> CleanReport:
        """Clear the devices, then the lock files, and say what was done. It raises nothing.

        It takes as long as `grace_s` and 5 seconds at most, and two looks at all processes.

        On cancellation, processes that were asked to end are not waited for.
        """
        seen = await anyio.to_thread.run_sync(_look, self.paths)
        ended: list[str] = []
        left: list[str] = []
        doomed: dict[int, Holder] = {}
        for holder in seen.holders:
            reason = "" if self.anybody else _not_left_behind(holder)
            if reason:
                left.append(f"{holder}: {reason}")
            elif holder.pid not in doomed:
                doomed[holder.pid] = holder
        for number, wait_s in ((signal.SIGTERM, self.grace_s), (signal.SIGKILL, KILLED_S)):
            for holder in [one for one in doomed.values() if _is_alive(one.pid, one.created)]:
                if not _send(holder, number):
                    left.append(f"{holder}: this user may not end it")
                    del doomed[holder.pid]
            await anyio.to_thread.run_sync(
                _wait_gone, tuple(doomed.values()), wait_s, abandon_on_cancel=True
            )
        for holder in doomed.values():
            if _is_alive(holder.pid, holder.created):
                left.append(f"{holder}: it did not end when it was killed")
            else:
                ended.append(str(holder))
        removed, kept = await anyio.to_thread.run_sync(_remove_locks, self.lock_files)
        report = CleanReport(tuple(ended), tuple(left), removed, kept, seen.unseen)
        if ended or left or removed or kept:
            say(Word.DEVICES_CLEARED, report=str(report))
        return report


@dataclass(slots=True)
class _Seen:
    holders: list[Holder] = field(default_factory=list)
    unseen: int = 0


def _look(patterns: Iterable[str]) -> _Seen:
    """Find who has one of the files open; this process and those above it are not looked at."""
    wanted: dict[str, str] = {}
    devices: dict[int, str] = {}
    for path in sorted(path for pattern in patterns for path in glob.glob(pattern)):
        with suppress(OSError):
            wanted[os.path.realpath(path)] = path
            status = os.stat(path)
            if stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode):
                devices[status.st_rdev] = path
    seen = _Seen()
    if not wanted:
        return seen
    above = set(_ancestors())
    for pid in (int(name) for name in os.listdir("/proc") if name.isdecimal()):
        created = _created(pid)
        if pid in above or created is None:
            continue
        try:
            open_files = list(_open_files(pid, wanted, devices))
        except PermissionError:
            seen.unseen += 1
            continue
        except OSError:
            continue  # It has ended meanwhile.
        name = _name(pid)
        # Who has the pid now may be another than who had the files.
        if _created(pid) == created:
            seen.holders += [Holder(pid, created, name, path) for path in dict.fromkeys(open_files)]
    return seen


def _open_files(pid: int, wanted: dict[str, str], devices: dict[int, str]) -> Iterator[str]:
    folder = f"/proc/{pid}/fd"
    for descriptor in os.listdir(folder):
        link = f"{folder}/{descriptor}"
        with suppress(FileNotFoundError):
            target = os.readlink(link)
            if target in wanted:
                yield wanted[target]
            # A device may have another path where that process lives. NB: nothing else is
            # looked into: the status of a file on a network that is down is waited for.
            elif devices and target.startswith("/dev/"):
                status = os.stat(link)
                is_device = stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode)
                if is_device and status.st_rdev in devices:
                    yield devices[status.st_rdev]


# --- lock files -----------------------------------------------------------------------------------


def _remove_locks(paths: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    removed: list[str] = []
    kept: list[str] = []
    holders: dict[str, Holder] = {}
    for holder in _look(map(glob.escape, paths)).holders:
        holders.setdefault(holder.path, holder)
    for path in paths:
        try:
            if path in holders:
                kept.append(
                    f"{path}: process {holders[path].pid} ({holders[path].name}) has it open"
                )
            elif _remove_lock(path):
                removed.append(path)
        except FileNotFoundError:
            pass
        except BlockingIOError:
            kept.append(f"{path}: somebody has it locked")
        except OSError as error:
            kept.append(f"{path}: {error.strerror}")
    return tuple(removed), tuple(kept)


def _remove_lock(path: str) -> bool:
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is no regular file")
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # It may have been removed and made anew since; then it is somebody's who lives.
        if os.path.samestat(os.fstat(descriptor), os.lstat(path)):
            os.unlink(path)
            return True
        raise OSError(errno.EBUSY, "somebody has just made it anew")
    finally:
        os.close(descriptor)


# --- processes ------------------------------------------------------------------------------------


def _not_left_behind(holder: Holder) -> str:
    """Return why a process is not one that the pool left behind; "" if it is one."""
    try:
        if os.stat(f"/proc/{holder.pid}").st_uid != os.geteuid():
            return "it is another user's"
        variables = Path(f"/proc/{holder.pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return "its environment cannot be read"
    prefix = f"{MARKER}=".encode()
    marks = [each[len(prefix) :] for each in variables if each.startswith(prefix)]
    if not marks:
        return "the pool did not start it; anybody=True ends it all the same"
    try:
        _, space, owner, warden = marks[0].decode(errors="replace").split("|")
        keepers = [tuple(map(int, each.split(":"))) for each in (owner, warden)]
        alive = [pid for pid, created in keepers if _is_alive(pid, created)]
    except ValueError:
        return f"its {MARKER} says nothing that can be understood"
    if space != _space():
        return "the process that started it is in another container, or of another boot"
    return f"process {alive[0]}, which keeps it, lives" if alive else ""


def _space() -> str:
    """Return where pids of this process mean something: this boot, this pid namespace."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return f"{boot}/{os.stat('/proc/self/ns/pid').st_ino}"


def _send(holder: Holder, number: int) -> bool:
    """Send a signal to exactly this process; returns False if that is not allowed."""
    try:
        descriptor = os.pidfd_open(holder.pid)
    except ProcessLookupError:
        return True
    try:
        # The descriptor is of whoever has the pid now, and stays so: then compare.
        if _is_alive(holder.pid, holder.created):
            signal.pidfd_send_signal(descriptor, number)
    except ProcessLookupError:
        pass
    except PermissionError:
        return False
    finally:
        os.close(descriptor)
    return True


def _wait_gone(holders: Sequence[Holder], limit_s: float) -> None:
    """Block until all of them have ended, or the time is up."""
    ends_at = time.monotonic() + limit_s
    for holder in holders:
        with suppress(ProcessLookupError):
            descriptor = os.pidfd_open(holder.pid)
            try:
                if _is_alive(holder.pid, holder.created):
                    waiter = select.poll()
                    waiter.register(descriptor, select.POLLIN)
                    waiter.poll(max(0.0, ends_at - time.monotonic()) * 1000)
            finally:
                os.close(descriptor)


def _is_alive(pid: int, created: int) -> bool:
    return _created(pid) == created


def _created(pid: int) -> int | None:
    """Return when a process was created; None for nobody, and for one that is only not buried."""
    fields = _status(pid)
    return None if fields is None or fields[0] in "ZX" else int(fields[19])


def _ancestors() -> Iterator[int]:
    pid = os.getpid()
    while pid > 0:
        yield pid
        fields = _status(pid)
        pid = int(fields[1]) if fields is not None else 0


def _status(pid: int) -> list[str] | None:
    """Return the fields of /proc/<pid>/stat after the name, which may hold spaces and brackets."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text(errors="replace").strip()
    except OSError:
        return "?"
