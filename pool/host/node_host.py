"""`NodeHost`: what a framework author subclasses, one object on each node of a replica."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from pool.cluster.body import Context
from pool.planning.resources import Resources

if TYPE_CHECKING:
    from pool.process.managed import ProcessStatus
    from pool.process.spec import Process

T = TypeVar("T")


class Desk(Protocol):
    """Be what a node host can ask the pool for."""

    async def start_process(
        self, spec: Process, environment: Mapping[str, str], essential: bool
    ) -> ProcessStatus:
        """Start a managed process, and return when it is ready."""
        ...

    async def lease_port(self) -> int:
        """Lease a port of the node."""
        ...


class _FromStartOn(Generic[T]):
    """Be an attribute that the pool sets on an object that was made, and say so to who is early."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __set__(self, host: object, value: T) -> None:
        vars(host)[self._name] = value

    def __get__(self, host: object, owner: type) -> T:
        if host is not None and self._name in vars(host):
            value: T = vars(host)[self._name]
            return value
        raise AttributeError(
            f"{owner.__name__}.{self._name} is there from start() on, not yet in __init__: the "
            "pool sets it on the object that was made; do in start() what needs it",
            name=self._name,
            obj=host,
        )


class NodeHost:
    """Do what has to be done on one node of a replica. Subclass it and override what you need.

    Attributes:
        index: Which host of its replica this is, from 0.
        hosts: How many hosts the replica has.
        bundle: What the host's bundle holds.
        context: Where it runs, and whom it belongs to.
        desk: What the pool does for it; `start_process` and `lease_port` go there.

    The pool sets them on the object that it has made: they are there from `start` on, and not in
    `__init__`.

    `start` and `shutdown` run on the actor's main loop. `check_health` runs on a thread of its own
    and must not wait for what the others do. Each may be a plain or an async method.
    """

    index = _FromStartOn[int]()
    hosts = _FromStartOn[int]()
    bundle = _FromStartOn[Resources]()
    context = _FromStartOn[Context]()
    desk = _FromStartOn[Desk]()

    def start(self) -> Any:
        """Get ready; what is returned (or awaited) becomes `HostInfo.extra`.

        Raises:
            Temporary: Not yet; try again after the time it says.
            Permanent: Trying again is no use.
        """

    async def start_process(self, process: Process, *, essential: bool = True) -> ProcessStatus:
        """Start a process on this node, kept for as long as the host is; see `pool.Process`.

        Call it from `start`, or from a method that is called later.

        Args:
            process: What it is.
            essential: Whether the host is lost with it, when it ends for good without having been
                asked to.

        Returns:
            The process as it is now: ready.

        Raises:
            LaunchFailed, ProcessFailed, ProcessTimeout: It did not get ready.
            ConfigError: The host has not what it needs, or a process of its name is there.

        Cancelling it stops the process first, and leaves nothing.
        """
        return await self.desk.start_process(process, {}, essential)

    async def lease_port(self) -> int:
        """Lease a port of this node until the host ends; nobody else is given it (INV-12).

        Raises:
            PoolError: No port is free.
        """
        return await self.desk.lease_port()

    def check_health(self) -> Any:
        """Return when all is well; raise, saying what is wrong, when not.

        What it returns is not looked at, but for False, which counts as an error that says nothing.
        """

    def shutdown(self) -> Any:
        """Put down what `start` and later calls set up. It is given a part of the drain's time."""
