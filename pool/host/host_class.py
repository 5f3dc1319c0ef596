"""Whether a user's node host can be made, and its hooks called, found where it is given.

What is wrong with a class would otherwise be said by a process on another node, after a placement
group was made for it.
"""

from __future__ import annotations

import inspect
from typing import Any

from pool.errors import ConfigError
from pool.host.node_host import NodeHost
from pool.manager.hook_check import signature_of, why_not

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
    why = why_not(host, args)
    if why:
        raise ConfigError(
            f"{host.__name__}{signature_of(host)} cannot be made from host_args={args!r}: {why}; "
            "give the arguments of its constructor as host_args",
            "host_args",
        )
    for name in HOOKS:
        hook = inspect.getattr_static(host, name)
        why = why_not(hook, (None,)) if inspect.isfunction(hook) else ""
        if why:
            raise ConfigError(
                f"{host.__name__}.{name}{signature_of(hook)} is called with nothing but self: "
                f"{why}; what it needs is in self.context, self.index, self.bundle, or in what "
                "you give to its constructor",
                "host",
            )
