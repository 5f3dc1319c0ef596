"""Ports of a node, leased so that no two consumers ever get the same one (INV-12).

A port that is probed and then let go may be given to two. So a lease is a name that only one
process can hold: an abstract Unix socket, one a port. The kernel gives the name to one, and takes
it back when that one lets go of it or ends, however it ends. Such names belong to the network
namespace, as ports do: other pools, other users and other containers see them where they share the
ports, and do not where they have ports of their own. `ss -xp` shows who holds which. Whether some
stranger, who leases nothing, uses the port is probed as well.

Limits: a stranger who takes a leased port before its consumer binds it is not kept from that. A
process that was forked, and never called exec, holds its parent's leases too until it ends.

Why not locked files: they see no other user, and no other container, and stay behind. Why not the
port itself, bound and handed over: few consumers can be given a socket.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Collection
from dataclasses import dataclass

from pool.errors import ConfigError, PoolError


def _is_port(port: object) -> bool:
    return type(port) is int and 0 < port < 65_536


@dataclass(frozen=True, slots=True)
class PortRange:
    """Say which ports may be leased.

    The default lies above the ports of Ray's workers (10002-19999), and below those that Linux
    takes for outgoing connections.

    Args:
        first: The lowest, from 1.
        last: The highest, up to 65535.
        without: Ports between them that are not to be leased; any collection, kept sorted.

    Raises:
        ConfigError: A number is no port, or no port is left; `field` says where.
    """

    first: int = 20_000
    last: int = 32_767
    without: Collection[int] = ()

    def __post_init__(self) -> None:
        for field, port in (("first", self.first), ("last", self.last)):
            if not _is_port(port):
                raise ConfigError(f"{field} is {port!r}; give a port from 1 to 65535", field)
        if self.first > self.last:
            message = f"the ports {self.first} to {self.last} are none; give the lower one first"
            raise ConfigError(message, "last")
        odd = [port for port in self.without if not _is_port(port)]
        if odd:
            raise ConfigError(f"without has {odd[0]!r}; give ports from 1 to 65535", "without")
        object.__setattr__(self, "without", tuple(sorted(set(self.without))))
        if not self.ports:
            message = f"without leaves no port from {self.first} to {self.last}; leave some"
            raise ConfigError(message, "without")

    @property
    def ports(self) -> tuple[int, ...]:
        """The ports that may be leased, ascending."""
        without = frozenset(self.without)
        return tuple(port for port in range(self.first, self.last + 1) if port not in without)


DEFAULT_RANGE = PortRange()


class PortLeases:
    """Lease ports on this node.

    Args:
        ports: Which ports may be leased.
        names: What the names of leases begin with; leases of different beginnings do not see each
            other. For tests.
    """

    def __init__(self, ports: PortRange = DEFAULT_RANGE, names: str = "pool-port") -> None:
        self._held: dict[int, socket.socket] = {}
        self._range = ports
        self._ports = ports.ports
        self._names = names
        # Processes begin at different places, so that they seldom try the same port.
        self._next = os.getpid() % len(self._ports)

    def lease(self) -> int:
        """Return a port that is free now, and hold it until `release` or the process's end.

        Each port is tried once. One that was given back is tried after all others: whoever still
        calls its last consumer is not to reach the next one.

        Raises:
            PoolError: Every port of the range is leased or in use.
        """
        others = strangers = 0
        mine = len(self._held)
        for step in range(len(self._ports)):
            at = (self._next + step) % len(self._ports)
            port = self._ports[at]
            if port in self._held:
                continue
            if not self._take(port):
                others += 1
            elif not _is_free(port):
                self.release(port)
                strangers += 1
            else:
                self._next = (at + 1) % len(self._ports)
                return port
        raise PoolError(
            f"none of the {len(self._ports)} ports from {self._range.first} to {self._range.last} "
            f"is free on this node: {mine} are leased by this process, {others} by others, and "
            f"{strangers} are used by programs that lease none; end some of them, or widen the "
            "range"
        )

    def release(self, port: int) -> None:
        """Give a lease back. Idempotent."""
        name = self._held.pop(port, None)
        if name is not None:
            name.close()

    def close(self) -> None:
        """Give every lease back."""
        for port in list(self._held):
            self.release(port)

    def __del__(self) -> None:
        # A simulated host that was killed is dropped, and gives back what its process would have.
        self.close()

    def _take(self, port: int) -> bool:
        name = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            name.bind(f"\0{self._names}-{port}")
        except OSError as error:
            name.close()
            if error.errno != errno.EADDRINUSE:
                raise
            return False
        self._held[port] = name
        return True


def _is_free(port: int) -> bool:
    return _can_bind(socket.AF_INET, "", port) and (
        not socket.has_ipv6 or _can_bind(socket.AF_INET6, "::", port)
    )


def _can_bind(family: socket.AddressFamily, address: str, port: int) -> bool:
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            # A connection of the last consumer that is not quite over does not count.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            probe.bind((address, port))
    except OSError as error:
        # A node without this family, or without an address of it, has no ports of it in use.
        return error.errno in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)
    return True
