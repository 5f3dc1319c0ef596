"""Who is who: the order of the nodes and the head, from what Slurm says. Pure.

Slurm gives a task the list of hosts, compressed (``n[1-3,07],x``), and its place in it
(``SLURM_NODEID``). Every node works the same order out by itself, so nobody has to be asked: the
head has rank 0, the others follow as Slurm has them, which puts neighbours in the network beside
each other.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from pool.errors import ConfigError

HOSTS_MOST = 1_000_000
_BRACKETS = re.compile(r"\[([^\[\]]*)\]")


@dataclass(frozen=True, slots=True)
class Role:
    """What one node is.

    Args:
        rank: Its number; the head has 0.
        host: Its name for Slurm.
    """

    rank: int
    host: str

    @property
    def is_head(self) -> bool:
        """Whether it is the head."""
        return self.rank == 0


def expand(hosts: str) -> tuple[str, ...]:
    """Return the names in a list of hosts as Slurm compresses it.

    `scontrol show hostnames` does it as well, but is not in every container.

    Raises:
        ConfigError: It is no such list.
    """
    found: list[str] = []
    for piece in _split(hosts):
        found += _expand_one(piece)
        if len(found) > HOSTS_MOST:
            raise ConfigError(f"the list of hosts {hosts[:80]!r} is too long")
    return tuple(found)


def assign(hosts: Sequence[str], head: str = "") -> tuple[Role, ...]:
    """Return the roles by rank.

    Args:
        hosts: As Slurm has them.
        head: The host that is to be the head; empty takes the first.

    Raises:
        ConfigError: A host is there twice, or the head is not.
    """
    if len(set(hosts)) != len(hosts) or not hosts:
        raise ConfigError(f"the hosts are {list(hosts)}; there has to be one task on each node")
    if head and head not in hosts:
        raise ConfigError(f"head is {head!r}, which is none of {', '.join(hosts)}", "head")
    first = head or hosts[0]
    ordered = [first, *(host for host in hosts if host != first)]
    return tuple(Role(rank, host) for rank, host in enumerate(ordered))


def padded(rank: int, count: int) -> str:
    """Return a rank with as many digits as the last of `count` ranks has."""
    return f"{rank:0{len(str(max(0, count - 1)))}d}"


def _split(hosts: str) -> list[str]:
    """Cut at the commas that are in no brackets."""
    pieces, depth, piece = [], 0, ""
    for char in hosts.strip():
        depth += (char == "[") - (char == "]")
        if depth not in (0, 1):
            break
        if char == "," and depth == 0:
            pieces.append(piece)
            piece = ""
        else:
            piece += char
    if depth:
        raise ConfigError(f"{hosts[:80]!r} is no list of hosts: a bracket is alone")
    pieces.append(piece)
    if not all(pieces):
        raise ConfigError(f"{hosts[:80]!r} is no list of hosts: a name is empty")
    return pieces


def _expand_one(piece: str) -> list[str]:
    bracket = _BRACKETS.search(piece)
    if bracket is None:
        return [piece]
    before, rest = piece[: bracket.start()], _expand_one_or_nothing(piece[bracket.end() :])
    return [before + number + after for number in _numbers(bracket[1]) for after in rest]


def _expand_one_or_nothing(piece: str) -> list[str]:
    return _expand_one(piece) if piece else [""]


def _numbers(text: str) -> list[str]:
    numbers = []
    for part in text.split(","):
        first, dash, last = part.partition("-")
        last = last if dash else first
        if not (first.isdecimal() and last.isdecimal() and int(first) <= int(last)):
            raise ConfigError(f"[{text[:80]}] is no range of hosts")
        if int(last) - int(first) >= HOSTS_MOST:
            raise ConfigError(f"[{text[:80]}] has too many hosts")
        numbers += [f"{n:0{len(first)}d}" for n in range(int(first), int(last) + 1)]
    return numbers
