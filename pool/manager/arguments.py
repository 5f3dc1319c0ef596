"""What the arguments of a pool may be, where a slip would otherwise show later, and elsewhere.

Each check is one sentence to whoever typed the value: what was seen, and what to give.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Mapping
from typing import Any

from pool.cluster.interface import Cluster
from pool.errors import ConfigError

_INSTANCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")


def check_timeout(timeout_s: object, field: str = "timeout_s") -> None:
    """Refuse what no wait can be limited by. None stands for a wait without a limit.

    Raises:
        ConfigError: It is no number, or below 0.
    """
    if timeout_s is None:
        return
    is_number = isinstance(timeout_s, int | float) and not isinstance(timeout_s, bool)
    # NB: NaN is not at least 0 either.
    if not (is_number and timeout_s >= 0):  # type: ignore[operator]
        raise ConfigError(
            f"{field} is {timeout_s!r}; give a number of seconds, 0 or more, or None to wait for "
            "ever",
            field,
        )


def check_flag(value: object, field: str) -> None:
    """Refuse what is neither True nor False: the text "no" counts as true.

    Raises:
        ConfigError: It is neither.
    """
    if not isinstance(value, bool):
        raise ConfigError(f"{field} is {value!r}; give True or False", field)


def check_instance(instance: object) -> None:
    """Refuse an instance that could not be read back from the name of an actor.

    Raises:
        ConfigError: It is no word.
    """
    if not (isinstance(instance, str) and _INSTANCE.fullmatch(instance)):
        raise ConfigError(
            f"instance is {instance!r}; give 1 to 100 letters, digits or any of _ . -, beginning "
            "with a letter or digit, or leave it out",
            "instance",
        )


def check_cluster(cluster: object) -> None:
    """Refuse a world that is none.

    Raises:
        ConfigError: It is no cluster, such as an address.
    """
    if not isinstance(cluster, Cluster):
        raise ConfigError(
            f"cluster is {cluster!r}; leave it out, after `ray.init(...)`, for the Ray cluster "
            "that this process is connected to, or give a SimulatedCluster of pool.testing",
            "cluster",
        )


def check_instance_of(value: object, kinds: type | tuple[type, ...], field: str, give: str) -> None:
    """Refuse a value of another class; None stands for what is left out.

    Raises:
        ConfigError: It is of another class.
    """
    if value is not None and not isinstance(value, kinds):
        raise ConfigError(f"{field} is {value!r}; give {give}", field)


def several(values: Any, field: str, give: str) -> tuple[Any, ...]:
    """Return values as a tuple, and refuse one that was given without a list around it.

    Raises:
        ConfigError: It is no list of values.
    """
    if isinstance(values, str | bytes | Mapping) or not isinstance(values, Iterable):
        raise ConfigError(f"{field} is {values!r}; give a list of {give}, as [...]", field)
    return tuple(values)


def check_on_loop(kind: str, name: str) -> None:
    """Refuse to make a pool where no event loop runs: it could be opened on none.

    Raises:
        ConfigError: None runs in this thread.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        raise ConfigError(
            f"pool {name!r} is made where no event loop runs; make it inside a coroutine, as in "
            f"`async def main(): async with {kind}(...) as pool: ...` and `asyncio.run(main())`, "
            "or in a script without asyncio write `with pool.blocking.ReplicaPool(...) as "
            "replicas:`"
        ) from None
