"""A job: what one call is made for, from when it is read to its outcome."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, Literal

from pool.errors import ConfigError
from pool.host.parcel import Parcel

Errors = Literal["raise", "return"]


@dataclass(eq=False, slots=True)
class Job:
    """Hold one piece of work.

    Args:
        number: Its place among the jobs of its dispatcher.
        work: The function, or the name of a method.
        args: The arguments.
        items: How many items of the input it is made of.
        key: Jobs of one key go to one member, for as long as it lives.
        attempts: How many members it may lose.
        timeout_s: Seconds for each call; None waits for ever.
        lost: The members that died under it.
        told: Told what came of it, instead of whom the dispatcher tells.
        is_dropped: Whether nobody wants it any more.
    """

    number: int
    work: Parcel | str
    args: tuple[Any, ...]
    items: int = 1
    key: Hashable = None
    attempts: int = 1
    timeout_s: float | None = None
    lost: list[str] = field(default_factory=list)
    told: Callable[[Any], None] | None = None
    is_dropped: bool = False


@dataclass(frozen=True, slots=True)
class Raised:
    """Mark an outcome as an error, so that no result can be taken for one."""

    error: Exception


def raisable(error: Exception) -> Exception:
    """Return an error that can be raised where results are awaited.

    Two mean the end of an iteration there, and would be taken for that, or for a mistake of ours.
    """
    if not isinstance(error, StopIteration | StopAsyncIteration):
        return error
    said = RuntimeError(f"the function raised {error!r}")
    said.__cause__ = error
    return said


@dataclass(frozen=True, slots=True)
class Limits:
    """Say how much may be under way.

    Args:
        in_flight: Jobs at once on each member; 1 or more.
        in_all: Jobs at once on all of them; None for no further bound.
        together: Whether small jobs may share a call.

    Raises:
        ConfigError: A value is out of its range; `field` names it.
    """

    in_flight: int
    in_all: int | None = None
    together: bool = False

    def __post_init__(self) -> None:
        check_count("in_flight", self.in_flight)
        check_count("in_all", self.in_all, optional=True)


def check_count(name: str, value: object, *, optional: bool = False) -> None:
    """Refuse what is no whole number of 1 or more.

    Raises:
        ConfigError: It is none.
    """
    if optional and value is None:
        return
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ConfigError(f"{name} is {value!r}; give a whole number, 1 or more", name)


def check_tries(attempts: object, timeout_s: object) -> None:
    """Refuse what is no number of attempts, or no time-out.

    Raises:
        ConfigError: One of them cannot be right.
    """
    check_count("attempts", attempts)
    if timeout_s is None:
        return
    if isinstance(timeout_s, bool) or not isinstance(timeout_s, int | float) or timeout_s <= 0:
        message = f"timeout_s is {timeout_s!r}; give more than 0 seconds, or None"
        raise ConfigError(message, "timeout_s")


def check_work(work: object) -> None:
    """Refuse what cannot be called.

    Raises:
        ConfigError: It is no function, and no name of a method.
    """
    if not callable(work) and not isinstance(work, str):
        raise ConfigError(f"work is {work!r}; give a function or a method's name", "work")


def check_function(name: str, value: object, wanted: str) -> None:
    """Refuse what is neither a function nor None.

    Raises:
        ConfigError: It is something else; `wanted` says what would do.
    """
    if value is not None and not callable(value):
        raise ConfigError(f"{name} is {value!r}; give {wanted}", name)


def check_key(key: object) -> None:
    """Refuse a key that cannot be told from others.

    Raises:
        ConfigError: It has no hash.
    """
    try:
        hash(key)
    except Exception as error:
        raise ConfigError(
            f"the key {_shown(key)} cannot be hashed: {error}; give a value that can, such as a "
            "number, a string, or a tuple of them",
            "key",
        ) from error


def _shown(value: object) -> str:
    try:
        return repr(value)
    except Exception:
        return f"of {type(value).__qualname__}"
