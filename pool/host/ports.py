"""Ports of a node, leased so that no two consumers ever get the same one (INV-12).

A port that is probed and then let go may be given to two. So a lease is a locked file, one a port,
held by the process that handed the port out: other pools and jobs on the node see the lock, and it
goes with the process, however that ends. Whether some stranger uses the port is probed as well.
"""

from __future__ import annotations

import fcntl
import os
import socket
import tempfile
from collections.abc import Iterable
from pathlib import Path

from pool.errors import ConfigError, PoolError

DEFAULT_RANGE = range(20_000, 32_768)
"""Above the ports of Ray's workers (10002-19999), below those of outgoing connections."""


class PortLeases:
    """Lease ports on this node.

    Args:
        ports: Which ports may be leased.
        folder: Where the locks lie; every process of the node has to use the same.
    """

    def __init__(self, ports: Iterable[int] = DEFAULT_RANGE, folder: Path | None = None) -> None:
        self._ports = tuple(ports)
        if not self._ports or not all(0 < port < 65_536 for port in self._ports):
            raise ConfigError("give one or more ports from 1 to 65535", "ports")
        self._folder = folder or Path(tempfile.gettempdir()) / f"pool-ports-{os.getuid()}"
        self._held: dict[int, int] = {}

    def lease(self) -> int:
        """Return a port that is free now, and hold it until `release` or the process's end.

        Raises:
            PoolError: Every port of the range is leased or in use.
        """
        self._folder.mkdir(mode=0o700, exist_ok=True)
        # Processes begin at different places, so that they seldom try the same port.
        first = os.getpid() % len(self._ports)
        for port in (*self._ports[first:], *self._ports[:first]):
            if port not in self._held and self._lock(port):
                if _is_free(port):
                    return port
                self.release(port)
        raise PoolError(
            f"no port from {self._ports[0]} to {self._ports[-1]} is free on this node "
            f"({len(self._held)} are leased by this process)"
        )

    def release(self, port: int) -> None:
        """Give a lease back. Idempotent."""
        descriptor = self._held.pop(port, None)
        if descriptor is not None:
            os.close(descriptor)

    def close(self) -> None:
        """Give every lease back."""
        for port in list(self._held):
            self.release(port)

    def _lock(self, port: int) -> bool:
        descriptor = os.open(self._folder / str(port), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        self._held[port] = descriptor
        return True


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True
