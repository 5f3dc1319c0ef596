"""Whether a user's node host can be made, and its hooks called, found where it is given.

What is wrong with a class would otherwise be said by a process on another node, after a placement
group was made for it.
"""

from __future__ import annotations

import inspect
from typing import Any

from pool.errors import ConfigError
from pool.host.node_host import NodeHost

HOOKS = ("start", "check_health", "shutdown")


def check_host_class(host: Any, args: tuple[Any, ...]) -> None:
    """Refuse what is no node host, or cannot be made from these arguments.

    Args:
        host: The class.
        args: Its constructor's arguments.

    Raises:
        ConfigError: It cannot be right; `field` names what.
    """
    if not (isinstance(host, type) and issubclass(host, NodeHost)):
        raise ConfigError(f"host is {host!r}; give a subclass of NodeHost", "host")
    if not isinstance(args, tuple):
        raise ConfigError(f"host_args is {args!r}; give a tuple of arguments", "host_args")
    why = _why_not(host, args)
    if why:
        raise ConfigError(
            f"{host.__name__}{_signature(host)} cannot be made from host_args={args!r}: {why}; "
            "give the arguments of its constructor as host_args",
            "host_args",
        )
    for name in HOOKS:
        hook = inspect.getattr_static(host, name)
        why = _why_not(hook, (None,)) if inspect.isfunction(hook) else ""
        if why:
            raise ConfigError(
                f"{host.__name__}.{name}{_signature(hook)} is called with nothing but self: {why}; "
                "what it needs is in self.context, self.index, self.bundle, or in what you give "
                "to its constructor",
                "host",
            )


def _why_not(called: Any, args: tuple[Any, ...]) -> str:
    try:
        inspect.signature(called).bind(*args)
    except TypeError as error:
        return str(error)
    except ValueError:
        pass  # It does not tell its signature, as what is written in C.
    return ""


def _signature(called: Any) -> str:
    try:
        return str(inspect.signature(called))
    except ValueError:
        return "(…)"
