"""A node's own folder, ports and limits: what is taken at the start, and given back at the end.

Two jobs on one node do not see each other: each has its folder, its block of ports and a lock that
tells that it lives. What an earlier run of this user has left, because Slurm killed everything at
once, is removed by the next one that comes by: folders whose lock nobody holds, and processes whose
owner and warden are both dead (`pool.process.marker.sweep`). Nothing else is ever touched (INV-10).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import resource
import shutil
import socket
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from pool.errors import ConfigError
from pool.process import marker
from pool.slurm import mop
from pool.slurm.ports import Block, Ports, in_ephemeral_range

LOCK = "lock"
TRIES = 20
HOLD_MOST_S = 30.0
_OURS = re.compile(r"[^.]+\.\d+\.\d+")
"""Job, run and rank, as `Place.mark` has it; anything else in there is somebody else's."""
_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")


class Home:
    """A folder that is ours as long as this process lives.

    Args:
        path: Where it is to be. The folder above it is this user's alone.
        mark: Whose processes may be in it.
        grace_s: How long those have to end.
    """

    def __init__(self, path: Path, mark: str, grace_s: float) -> None:
        self.path = path
        self.ray = path / "r"
        self._mark = mark
        self._grace_s = grace_s
        self._lock = -1
        self._mop = -1

    def take(self) -> list[str]:
        """Make the folder, after what is left of earlier runs was removed. Blocks.

        Returns:
            What was removed.

        Raises:
            OSError: It cannot be made.
            ConfigError: The folder above belongs to somebody else.
        """
        swept = [f"process {process}" for process in marker.sweep()]
        for left in reversed(range(TRIES)):
            try:
                with self._alone():
                    swept += [f"folder {folder}" for folder in self._sweep()]
                    self._make()
            except FileNotFoundError:
                # A job that ends has just removed the folder above, as it was empty.
                if not left:
                    raise
            else:
                break
        self._mop = mop.start(self.path, self._mark, self._grace_s, self._lock)
        return swept

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the folder above: a folder without a lock that is seen then is being made by nobody.

        So one whose maker was killed before it had its lock is known to be left.
        """
        above = self.path.parent
        with contextlib.suppress(FileExistsError):
            above.mkdir(mode=0o700)
        seen = above.lstat()
        if seen.st_uid != os.geteuid() or above.is_symlink():
            raise ConfigError(f"{above} is not this user's own; give another temp_root")
        held = os.open(above, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            _hold(held, above)
            if not os.path.samestat(os.fstat(held), above.lstat()):
                raise FileNotFoundError(f"{above} was removed and made again")
            yield
        finally:
            os.close(held)

    def _sweep(self) -> list[Path]:
        folders = [path for path in self.path.parent.iterdir() if _OURS.fullmatch(path.name)]
        return [folder for folder in folders if _remove_if_left(folder)]

    def _make(self) -> None:
        self.path.mkdir(mode=0o700)
        lock = os.open(self.path / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._lock = lock

    def clear(self) -> None:
        """Remove what Ray has put there. Blocks."""
        shutil.rmtree(self.ray, ignore_errors=True)

    def give_back(self) -> None:
        """Remove the folder. Blocks. Idempotent."""
        if self._lock >= 0:
            shutil.rmtree(self.path, ignore_errors=True)
            os.close(self._lock)
            self._lock = -1
            if self._mop >= 0:
                with contextlib.suppress(OSError):  # somebody has killed it
                    os.write(self._mop, mop.DONE)
                os.close(self._mop)
                self._mop = -1
            with contextlib.suppress(OSError):  # another job is on this node
                self.path.parent.rmdir()


def _hold(held: int, path: Path) -> None:
    """Take a lock that nobody has for long.

    Raises:
        OSError: Somebody had it for too long.
    """
    until = time.monotonic() + HOLD_MOST_S
    while True:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until:
                raise TimeoutError(f"{path} is held by another for {HOLD_MOST_S:g} s") from None
            time.sleep(0.02)
        else:
            return


def _remove_if_left(folder: Path) -> bool:
    """Remove a folder whose owner is gone. The folder above is held."""
    try:
        lock = os.open(folder / LOCK, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        shutil.rmtree(folder, ignore_errors=True)  # killed as it was made, or being removed
        return True
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    else:
        shutil.rmtree(folder, ignore_errors=True)
        return True
    finally:
        os.close(lock)


def claim(ports: Ports, address: str) -> tuple[Block, socket.socket]:
    """Take the first block of ports that is free on this node.

    Args:
        ports: The table.
        address: The node's own.

    Returns:
        The block, and the socket that claims it: bound to its port `call`, and listening.

    Raises:
        ConfigError: None is free, or the table is in the kernel's range for connections.
    """
    with contextlib.suppress(OSError, ValueError):
        first, last = map(int, _RANGE.read_text(encoding="ascii").split())
        if wrong := in_ephemeral_range(ports, first, last):
            raise ConfigError(wrong, "ports")
    taken: list[int] = []
    for number in range(ports.blocks):
        block = ports.block(number)
        try:
            claimed = _bind(block["call"])
        except OSError:
            taken.append(block["call"])
            continue
        used = [port for name, port in block.named.items() if name != "call" and _is_taken(port)]
        if not used:
            claimed.listen(4096)
            return block, claimed
        claimed.close()
        taken += used
    raise ConfigError(
        f"no block of ports is free on {address}: {', '.join(map(str, taken))} are taken; "
        "give more ports.blocks, or another ports.base",
        "ports",
    )


def _bind(port: int) -> socket.socket:
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(("", port))
    except OSError:
        bound.close()
        raise
    return bound


def _is_taken(port: int) -> bool:
    try:
        _bind(port).close()
    except OSError:
        return True
    return False


def raise_open_files(wanted: int) -> str:
    """Raise the soft limit of open files; children inherit it.

    Returns:
        What has to be said about it, if anything.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    if most < wanted:
        return f"open files are limited to {most}, and {wanted} were asked for"
    return ""


def own_address(host: str, others: Sequence[str]) -> str:
    """Return the address at which other nodes reach this one. Blocks; nothing is sent.

    Args:
        host: This node's name for Slurm.
        others: Names of other nodes.
    """
    for other in [*others[:3], ""]:
        # Which interface is used toward another node is the kernel's to say.
        target = _resolve(other) if other else "192.0.2.1"
        if target is None:
            continue
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.connect((target, 9))
                found = str(probe.getsockname()[0])
            except OSError:
                continue
        if not found.startswith("127."):
            return found
    return _resolve(host) or _resolve(socket.gethostname()) or "127.0.0.1"


def _resolve(name: str) -> str | None:
    try:
        return str(socket.getaddrinfo(name, None, socket.AF_INET)[0][4][0])
    except OSError:
        return None
