"""The one narrow interface between the managers and the world, with its contract.

Two implementations keep it: `pool.cluster.ray.RayCluster`, and the simulated cluster of
`pool.testing`. A manager runs on either unchanged.

The contract:

1. *Start and kill only initiate.* They wait for nothing that happens. Whether an actor lives is
   said by its lifeline, and by nothing else: one source of truth.
2. *A lifeline ends only with the end.* `lifeline` returns when the actor is dead for good, with the
   cause. Between, it may return `News`; then it is asked again. Actors are never restarted by the
   cluster: restarting is the manager's decision, and only so is death known in milliseconds.
3. *Every wait has a limit and can be cancelled.* A cancelled or timed-out `reserve` leaves no group
   behind, not even a queued one. A cancelled `call` may still run on the actor; one that was begun
   by `begin` is asked to stop there.
4. *Errors have our names.* `CallTimeout` (no answer in time), `MemberLost` (the actor is dead),
   `ReservationFailed`; an error raised by the member's own code arrives as itself.
5. *Whoever hears nothing ends itself.* A member lives for as long as it hears from its owner: each
   health poll renews its lease, and when that is over it winds itself up, removes its own group and
   ends. Only so can an owner know that a member which it cannot reach is gone. A poll in the name
   of an owner that was replaced is refused, and tells that owner so.
6. *Time.* Durations and deadlines of a manager are on its event loop's clock, which a simulation
   replaces. What crosses machines is a duration or a UNIX time.

Longer than most modules here: it is all that whoever writes another cluster has to read.
"""

from __future__ import annotations

import asyncio
import enum
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pool.cluster.meters import Meter, Record
from pool.planning.notice import Notice
from pool.planning.resources import Resources
from pool.planning.restart import Cause
from pool.planning.shape import BundlePlan
from pool.planning.topology import Topology

NOTHING = Resources({})

Done = Callable[[Any, BaseException | None], None]
"""Is told what came of a call: its result, or its error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Name whom something belongs to. It is written on groups and actors, and read by reapers.

    Args:
        pool: The pool's name.
        instance: A random word for this very pool, so that two pools of one name differ.
        slot: The slot's index.
        generation: Which incarnation of the slot's member.
        level: `replica`, `host`, or a user's own word for the kind of member.
        serial: How many members the pool had begun by then.
        revision: Which revision of the pool the member was made from.
    """

    pool: str
    instance: str
    slot: int
    generation: int
    level: str = "member"
    serial: int = 0
    revision: int = 0

    @property
    def member(self) -> str:
        """The member's id as people read it: `pool/slot.generation`."""
        return f"{self.pool}/{self.slot}.{self.generation}"

    def __str__(self) -> str:
        where = f"{self.pool}:{self.instance}:{self.level}:{self.slot}.{self.generation}"
        return f"pool:{where}:{self.serial}.{self.revision}"

    @classmethod
    def parse(cls, name: str) -> Identity | None:
        """Return the identity that a name was written from; None for names that are not ours."""
        match = _NAME.fullmatch(name)
        if match is None:
            return None
        pool, instance, level, *numbers = match.groups()
        slot, generation, serial, revision = map(int, numbers)
        return cls(
            pool=pool,
            instance=instance,
            slot=slot,
            generation=generation,
            level=level,
            serial=serial,
            revision=revision,
        )

    def is_of(self, pool: str | None, instance: str | None) -> bool:
        """Whether it belongs to a pool, or to a member of it, at whatever level; None is any."""
        if instance not in (None, self.instance):
            return False
        if pool is None or self.pool == pool:
            return True
        # The pool of a member's members is called `pool/slot.generation`.
        is_below = _MEMBER.fullmatch(self.pool.removeprefix(pool)) is not None
        return self.pool.startswith(pool) and is_below


_NAME = re.compile(r"pool:([^:]+):([^:]+):([^:]+):(\d+)\.(\d+):(\d+)\.(\d+)")
_MEMBER = re.compile(r"(/\d+\.\d+)+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """Let a member live on for a while, in the name of its owner.

    Args:
        epoch: Which owner of the pool grants it, counted from 1. A member obeys the highest that
            it has heard of.
        lasts_s: Seconds that the member lives without hearing from an owner again.
        grace_s: Seconds that it may then take to wind itself up.
    """

    epoch: int = 1
    lasts_s: float
    grace_s: float


@dataclass(frozen=True, slots=True)
class Reservation:
    """Hold a placement group that is ready.

    Args:
        id: The group's id, as the cluster writes it.
        nodes: The id of each bundle's node, in the order of the bundles.
        bundles: What each bundle holds.
        handle: The cluster's own handle; managers pass it through.
    """

    id: str
    nodes: tuple[str, ...]
    bundles: tuple[Resources, ...]
    handle: Any = field(repr=False, compare=False, default=None)


@dataclass(frozen=True, slots=True)
class Actor:
    """Name one actor. It can be sent to other processes, and calls can be made from there.

    Args:
        id: The actor's id, as the cluster writes it.
        identity: Whom it belongs to.
        handle: The cluster's own handle.
    """

    id: str
    identity: Identity
    handle: Any = field(repr=False, compare=False, default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class ActorSpec:
    """Describe an actor to be started.

    Args:
        body: The class whose object does the work inside the actor (see `pool.cluster.body`).
        args: The constructor's arguments.
        label: The name that process lists and Ray's dashboard show.
        identity: Whom the actor belongs to.
        holds: What it holds itself. Nothing, for a supervisor; what a bundle has, for a worker.
        reservation: Where to place it, together with `bundle`.
        bundle: The index of the bundle.
        node_id: The node to pin it to, when it is not placed in a bundle.
        runtime_env: Ray's runtime environment. None lets Ray use a worker that is already warm.
        own_group: Whether the group that it is placed in is its own, and is removed by it when
            its lease is over.
        lease: How long it lives without hearing from its owner. The manager fills it in; without
            one the actor lives until it is killed, or its owner dies.
        detached: Whether it outlives the process that starts it. The manager fills it in.
    """

    body: type
    args: tuple[Any, ...] = ()
    label: str
    identity: Identity
    holds: Resources = NOTHING
    reservation: Reservation | None = None
    bundle: int = 0
    node_id: str | None = None
    runtime_env: Mapping[str, Any] | None = None
    own_group: bool = True
    lease: Lease | None = None
    detached: bool = False


@dataclass(frozen=True, slots=True)
class Fault:
    """Say why a member has to be stopped.

    Args:
        cause: The budget that it counts against.
        detail: What happened, in a sentence.
        retry_in_s: Seconds until the next try that the member itself asked for, if it did.
        trace: The last lines of the traceback of what was raised, if something was.
    """

    cause: Cause
    detail: str
    retry_in_s: float | None = None
    trace: str = ""


@dataclass(frozen=True, slots=True)
class News:
    """Say what a member wants its owner to know at once.

    Args:
        version: Rises with each change; asking with it waits for the next.
        notices: Every notice that concerns the member now; empty when all were withdrawn.
        fault: Why the member is lost, although its actor still lives.
        trouble: Why the member takes no work for now, in words; empty when it does.
        info: What the member tells of itself, where that is other than when it started.
    """

    version: int = 0
    notices: tuple[Notice, ...] = ()
    fault: Fault | None = None
    trouble: str = ""
    info: Any = None


@dataclass(frozen=True, slots=True)
class Death:
    """Say that an actor is dead for good, and what is known of the cause."""

    fault: Fault


@dataclass(frozen=True, slots=True)
class Found:
    """Show an actor, a group, or both, that were found by their names.

    Args:
        identity: Whom they belong to.
        actor: The actor, if it is not dead.
        reservation: The group, if it is there and whole.
        broken: A group that is there and not whole: pending, or short of a bundle.
        detached: Whether they outlive the process that made them.
        orphaned: Whether the cluster itself knows that process to be dead.
        age_s: Seconds since the group was made; 0 without one.
    """

    identity: Identity
    actor: Actor | None = None
    reservation: Reservation | None = None
    broken: Reservation | None = None
    detached: bool = False
    orphaned: bool = False
    age_s: float = 0.0

    @property
    def group(self) -> Reservation | None:
        """The group, whole or not."""
        return self.reservation or self.broken


class ReplyKind(enum.Enum):
    """Name what came of one question of a poll."""

    ANSWER = "answer"
    ERROR = "error"
    TIMEOUT = "timeout"
    UNREACHABLE = "unreachable"
    UNAVAILABLE = "unavailable"
    FENCED = "fenced"
    """The member obeys a later owner than the one who asks; its value is that owner's epoch."""


@dataclass(frozen=True, slots=True)
class Reply:
    """Hold what came of one question: its answer, or the words of what went wrong."""

    kind: ReplyKind
    value: Any = None
    detail: str = ""


class Observer(ABC):
    """Look at a cluster, and exchange words through it, without being a part of it.

    All that is needed to show pools, and to ask something of their owners. Whoever only looks needs
    no process of the cluster, and starts none.
    """

    @abstractmethod
    async def topology(self) -> Topology:
        """Return the nodes that are alive, with totals, what is free, labels, and who drains.

        Raises:
            SourceUnavailable: The cluster could not be asked.
        """

    @abstractmethod
    async def draining(self) -> Mapping[str, float | None]:
        """Return the nodes that the cluster itself says are leaving.

        Returns:
            Node id to deadline, in UNIX seconds; None where there is no deadline.

        Raises:
            SourceUnavailable: The cluster could not be asked.
        """

    @abstractmethod
    async def inventory(self, pool: str | None = None, instance: str | None = None) -> list[Found]:
        """Return every live actor and group, whoever started them.

        Args:
            pool: Only those of this pool, and of all below it.
            instance: And of this very instance.

        Raises:
            SourceUnavailable: The cluster could not be asked.
        """

    @abstractmethod
    async def is_gone(self, process: str) -> bool:
        """Return whether the process that `whoami` named has ended, as far as the cluster knows.

        Of what `whoami` would never return nothing is known, so it has not.

        Raises:
            SourceUnavailable: The cluster could not be asked.
        """

    @abstractmethod
    async def publish(self, values: Mapping[str, bytes]) -> None:
        """Put values where every process that reaches the cluster can read them, under their keys.

        Each replaces what was there. It stays until it is withdrawn, whatever becomes of whoever
        put it there; nobody is told.

        Raises:
            SourceUnavailable: The cluster could not be asked. Some of it may be there.
        """

    @abstractmethod
    async def published(self, prefix: str) -> Mapping[str, bytes]:
        """Return what is published under keys with this beginning.

        Raises:
            SourceUnavailable: The cluster could not be asked.
        """

    @abstractmethod
    async def withdraw(self, prefix: str) -> None:
        """Take away what is published under keys with this beginning. Idempotent.

        Raises:
            SourceUnavailable: The cluster could not be asked. Some of it may be there still.
        """

    @abstractmethod
    def unix_time(self) -> float:
        """Return the wall clock's time, in UNIX seconds."""


class Cluster(Observer):
    """Reach nodes, placement groups and actors. The contract is in this module's docstring."""

    def meter(self, meter: Meter) -> Record | None:
        """Return what takes the values of a metric; None where nobody collects any, by default.

        Asked twice for one name, it means one metric.
        """
        return None

    @property
    def has_window(self) -> bool:
        """Whether pools show themselves in it, by what they publish."""
        return True

    @abstractmethod
    async def tell_draining(self, node_id: str, reason: str, deadline: float | None) -> bool:
        """Tell the cluster that a node goes away. It places nothing more there; no way back.

        Args:
            node_id: The node.
            reason: Why, in a sentence that operators will read.
            deadline: When it goes, in UNIX seconds; None where nobody knows.

        Returns:
            Whether the cluster takes it over.

        Raises:
            SourceUnavailable: The cluster could not be told.
        """

    @abstractmethod
    async def reserve(
        self,
        plan: BundlePlan,
        identity: Identity,
        timeout_s: float,
        *,
        detached: bool = False,
        nodes: Sequence[str] = (),
    ) -> Reservation:
        """Create a placement group and return it when all its bundles are placed.

        Args:
            plan: The bundles, and how they are to be placed.
            identity: Whom the group belongs to.
            timeout_s: Seconds to wait.
            detached: Whether the group outlives the process that creates it.
            nodes: The node that each bundle has to be on, in their order; empty leaves the choice
                to the cluster.

        Raises:
            ReservationFailed: It was not ready within `timeout_s` seconds. Nothing of it is left.

        On cancellation the group is removed before the cancellation goes on.
        """

    @abstractmethod
    async def release(self, reservation: Reservation) -> None:
        """Remove a placement group, and with it whatever still runs inside. Idempotent."""

    async def prestart(self, nodes: Sequence[str]) -> None:
        """Be told that on each of these nodes an actor without a runtime environment will start.

        A node is named once for each actor. A hint, for whoever can get ready for it: by default
        nothing is done, nothing is promised or raised, and nothing has to be removed.
        """

    @abstractmethod
    async def request_capacity(
        self,
        bundles: Sequence[Mapping[str, float]],
        labels: Sequence[Mapping[str, str]],
        lasts_s: float,
    ) -> str:
        """Ask for nodes that could hold all these bundles, whatever they hold now.

        For the broker of warm capacity alone (`pool.demand`): the cluster has one such request, and
        each replaces the last. Groups that wait are demand by themselves.

        Args:
            bundles: Resource name to amount, of each bundle; none takes the request back.
            labels: The labels that the node of each bundle must have, in the order of `bundles`.
            lasts_s: Seconds after which the request may be forgotten if it is not made again.
                Where it is forgotten at all is up to the cluster.

        Returns:
            Who was asked, in words.

        Raises:
            SourceUnavailable: The cluster could not be asked.
        """

    @abstractmethod
    async def start(self, spec: ActorSpec) -> Actor:
        """Initiate the start of an actor. Its lifeline says if that fails.

        It waits only for the cluster to take note of it. A cancellation comes after that.

        Raises:
            NameTaken: There is a live actor of this identity already.
        """

    @abstractmethod
    def kill(self, actor: Actor) -> None:
        """Initiate the end of an actor, without any hook. Idempotent. Its lifeline says when."""

    @abstractmethod
    async def call(
        self, actor: Actor, method: str, *args: Any, timeout_s: float | None = None
    ) -> Any:
        """Call a method of the actor's body and return its result.

        Raises:
            CallTimeout: No answer within `timeout_s` seconds. The call may still be running.
            MemberLost: The actor is dead, or died meanwhile.
            ConfigError: The arguments cannot be sent; nothing was.
        """

    def begin(self, actor: Actor, method: str, *args: Any, done: Done) -> Callable[[], None]:
        """Begin a call without waiting: the cheap way for many calls at once.

        Args:
            actor: Whom to call.
            method: The method of its body.
            *args: Its arguments.
            done: Told what came of it, once, in a later turn of the loop that this is called on.
                Its errors are those of `call`, of arguments that cannot be sent too. Results that
                arrive together are told in one turn of the loop.

        Returns:
            What asks the actor to stop the call: an async method is cancelled, code in a thread
            goes on. `done` is told all the same.
        """
        task = asyncio.ensure_future(self.call(actor, method, *args))

        def tell(task: asyncio.Future[Any]) -> None:
            if task.cancelled():
                done(None, asyncio.CancelledError())
            elif (error := task.exception()) is not None:
                done(None, error)
            else:
                done(task.result(), None)

        def stop() -> None:
            task.cancel()

        task.add_done_callback(tell)
        return stop

    @abstractmethod
    def share(self, value: Any) -> Any:
        """Put a value into the cluster once, and return the cluster's reference to it.

        It is there for as long as somebody holds the reference.
        """

    @abstractmethod
    async def fetch(self, reference: Any) -> Any:
        """Return what `share` put there."""

    def sendable(self, error: Exception) -> Exception:
        """Return an exception that arrives elsewhere: the error itself, or its description."""
        return error

    def bulky(self, value: Any) -> Any:
        """Return something cheap to send that arrives as the value itself."""
        return value

    @abstractmethod
    async def refer(self, actor: Actor, method: str, *args: Any) -> Any:
        """Call a method, wait until it is done, and return the cluster's reference to its result.

        The result stays where it was made; who holds the reference can await it.

        Raises:
            MemberLost: The actor is dead, or died meanwhile.
        """

    @abstractmethod
    async def lifeline(self, actor: Actor, seen: int) -> News | Death:
        """Wait until the actor has news beyond version `seen`, or is dead for good."""

    @abstractmethod
    async def poll(
        self, actors: Sequence[Actor], timeout_s: float, lease: Lease | None = None
    ) -> list[Reply]:
        """Ask every actor for its health at once, and return what came of each, in order.

        An actor that is busy, or whose main loop is blocked, still answers. Who is asked hears
        from its owner, which renews its lease.
        """

    @abstractmethod
    async def silent_nodes(self, nodes: Sequence[str], actor: Actor) -> list[str]:
        """Return the nodes that do not answer at all, of those named, or else the actor's own.

        Whoever is killed on such a node may live on. A machine that refuses a connection does
        answer: what ran there under the cluster is gone.
        """

    @abstractmethod
    def renew(self, actors: Sequence[Actor], lease: Lease) -> None:
        """Let actors hear from their owner, without waiting for it.

        For those that cannot be asked for their health: who is starting, or on the way out.
        """

    @abstractmethod
    async def find(self, identity: Identity) -> Actor | None:
        """Return the live actor of an identity, whoever started it; None when there is none.

        Raises:
            SourceUnavailable: The cluster could not be asked.
        """

    @abstractmethod
    def whoami(self) -> str:
        """Return a word for the process that asks, of which `is_gone` can tell."""

    @abstractmethod
    def freeze(self, value: Any) -> bytes:
        """Return a value as bytes, classes of a driver's own script included."""

    @abstractmethod
    def thaw(self, frozen: bytes) -> Any:
        """Return what was frozen."""

    @abstractmethod
    async def leftovers(self, pool: str, instance: str) -> list[str]:
        """Return, as text, every live actor and group that carries this pool's identity.

        Raises:
            SourceUnavailable: The cluster could not be asked.
        """
