"""Where a service runs, and how many of it are enough. Pure."""

from __future__ import annotations

import math
from fractions import Fraction

from pool.errors import ConfigError

Where = str | int
"""`all`, `head`, or how many nodes."""
Quorum = str | int
"""`all`, how many, or a share such as `95%`."""


def ranks_of(where: Where, nodes: int) -> tuple[int, ...]:
    """Return the ranks of the nodes that a service runs on.

    A number of nodes is counted from rank 1: the head has enough to do, so it comes last.
    """
    match where:
        case "all":
            return tuple(range(nodes))
        case "head":
            return (0,)
        case int():
            return tuple(sorted((*range(1, nodes), 0)[:where]))
        case _:  # pragma: no cover  # checked when it is made
            raise ConfigError(f"where is {where!r}", "where")


def enough(quorum: Quorum, of: int) -> int:
    """Return how many of `of` instances are enough; a share is rounded up."""
    if quorum == "all":
        return of
    if isinstance(quorum, int):
        return min(quorum, of)
    return math.ceil(Fraction(quorum.rstrip("%")) * of / 100)


def check_where(where: object) -> None:
    """Refuse what is no place.

    Raises:
        ConfigError: It is none.
    """
    if where in ("all", "head") or (type(where) is int and where >= 1):
        return
    raise ConfigError(f"where is {where!r}; give 'all', 'head', or a number of nodes", "where")


def check_quorum(quorum: object) -> None:
    """Refuse what is no quorum.

    Raises:
        ConfigError: It is none.
    """
    if quorum == "all" or (type(quorum) is int and quorum >= 1):
        return
    if isinstance(quorum, str) and quorum.endswith("%"):
        try:
            if 0 < Fraction(quorum[:-1]) <= 100:
                return
        except (ValueError, ZeroDivisionError):
            pass
    raise ConfigError(
        f"quorum is {quorum!r}; give 'all', a number, or a share such as '95%'", "quorum"
    )
