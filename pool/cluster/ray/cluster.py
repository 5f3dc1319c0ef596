"""The cluster interface on Ray.

Why it is as it is: actors never restart by themselves (`max_restarts=0`), for only so does a
pending call learn of a death within about ten milliseconds. Groups and actors are owned by the
process that makes them, so that Ray removes them when that process dies.

Calls that block on the GCS run in a thread; calls to actors are awaited on the loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import anyio
import anyio.to_thread
import ray
from ray import cloudpickle as _cloudpickle
from ray import exceptions
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group
from ray.util.scheduling_strategies import (
    NodeAffinitySchedulingStrategy,
    PlacementGroupSchedulingStrategy,
)

from pool.cluster.culprit import name_culprit
from pool.cluster.interface import (
    Actor,
    ActorSpec,
    Cluster,
    Death,
    Done,
    Found,
    Identity,
    Lease,
    News,
    Reply,
    ReplyKind,
    Reservation,
)
from pool.cluster.meters import Meter, Record
from pool.cluster.ray import capacity, inventory, meters, private, reach
from pool.cluster.ray.arrivals import Arrivals
from pool.cluster.ray.bulk import BULK_BYTES, Bulk
from pool.cluster.ray.deaths import death_of, error_of, first_line
from pool.cluster.ray.observer import ask
from pool.cluster.ray.placing import Room
from pool.cluster.ray.shell import actor_class, sendable
from pool.cluster.ray.topology import ray_topology
from pool.errors import (
    CallTimeout,
    ConfigError,
    Fenced,
    NameTaken,
    Permanent,
    ReservationFailed,
    SourceUnavailable,
)
from pool.planning.shape import BundlePlan
from pool.planning.topology import Topology

UNREACHABLE_PAUSE_S = 0.1
"""Pause before a lifeline is asked again after Ray called the actor unavailable."""

REACH_TIMEOUT_S = 5.0
PRESTART_TIMEOUT_S = 0.5
"""A node answers in milliseconds; a hint is not worth more than half a process start."""

NODE_LABEL = "ray.io/node-id"
"""By which a bundle is pinned to a node; every node of Ray's has it."""

# Ray's type stubs do not know what it has of this.
cloudpickle: Any = _cloudpickle


class RayCluster(Cluster):
    """Reach the Ray cluster that this process is connected to.

    Raises:
        ConfigError: The process is not connected to Ray.
    """

    def __init__(self) -> None:
        if not ray.is_initialized():
            raise ConfigError(
                "this process is not connected to Ray; call ray.init(), or "
                'ray.init(address="auto") to join a running cluster, before you open a pool'
            )
        self._arrivals = Arrivals()
        self._room = Room()

    async def topology(self) -> Topology:
        return await ask(ray_topology)

    def meter(self, meter: Meter) -> Record | None:
        return meters.record_of(meter)

    async def draining(self) -> Mapping[str, float | None]:
        nodes = await ask(private.draining_nodes)
        return {node: ms / 1000 if ms else None for node, ms in nodes.items()}

    async def tell_draining(self, node_id: str, reason: str, deadline: float | None) -> bool:
        def tell() -> bool:
            return private.drain_node(node_id, reason, deadline)

        try:
            return await anyio.to_thread.run_sync(tell, abandon_on_cancel=True)
        except Exception as error:
            raise SourceUnavailable(f"Ray was not told that {node_id} drains: {error!r}") from error

    async def reserve(
        self,
        plan: BundlePlan,
        identity: Identity,
        timeout_s: float,
        *,
        detached: bool = False,
        nodes: Sequence[str] = (),
    ) -> Reservation:
        if nodes and identity.generation > 1:
            await self._room.until_given_back(plan.bundles, nodes)
        create = functools.partial(_create_group, plan, str(identity), detached, nodes)
        group = await anyio.to_thread.run_sync(create)
        try:
            with anyio.fail_after(timeout_s):
                await group.ready()
            placed = await anyio.to_thread.run_sync(_nodes_of_bundles, group, len(plan.bundles))
        except BaseException as error:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(remove_placement_group, group)
            if isinstance(error, TimeoutError | exceptions.RayError | LookupError):
                raise ReservationFailed(
                    f"the placement group of {identity.member} ({plan.reason}) "
                    f"was not ready within {timeout_s:g} s: {first_line(error)}"
                ) from error
            raise
        return Reservation(group.id.hex(), placed, plan.bundles, group)

    async def release(self, reservation: Reservation) -> None:
        # Whoever gives up waiting leaves the thread to it: it goes on when the GCS is back.
        await anyio.to_thread.run_sync(
            remove_placement_group, reservation.handle, abandon_on_cancel=True
        )

    async def prestart(self, nodes: Sequence[str]) -> None:
        # What is not had in time, or not at all, is started when it is needed.
        prestart = functools.partial(private.prestart_workers, nodes, PRESTART_TIMEOUT_S)
        with anyio.move_on_after(PRESTART_TIMEOUT_S), contextlib.suppress(Exception):
            await anyio.to_thread.run_sync(prestart, abandon_on_cancel=True)

    async def request_capacity(
        self,
        bundles: Sequence[Mapping[str, float]],
        labels: Sequence[Mapping[str, str]],
        lasts_s: float,
    ) -> str:
        try:
            return await capacity.request(bundles, labels, lasts_s)
        except Exception as error:
            raise SourceUnavailable(f"Ray was not asked for capacity: {error!r}") from error

    async def start(self, spec: ActorSpec) -> Actor:
        # NB: in a thread, for Ray asks its GCS whether the name is free, and waits for an answer.
        return await anyio.to_thread.run_sync(_start, spec)

    def kill(self, actor: Actor) -> None:
        ray.kill(actor.handle, no_restart=True)

    async def call(
        self, actor: Actor, method: str, *args: Any, timeout_s: float | None = None
    ) -> Any:
        shell = actor.handle
        ref = shell.start.remote() if method == "start" else _send(shell.call, method, args)
        try:
            with anyio.fail_after(timeout_s):
                return await ref
        except TimeoutError as error:
            # NB: a TimeoutError of the member's own code arrives as a RayTaskError as well.
            if isinstance(error, exceptions.RayError):
                raise error_of(error, actor.identity.member) from None
            raise CallTimeout(
                f"{actor.identity.member} did not answer {method}() within {timeout_s:g} s"
            ) from None
        except exceptions.RayError as error:
            raise error_of(error, actor.identity.member) from None

    def begin(self, actor: Actor, method: str, *args: Any, done: Done) -> Callable[[], None]:
        try:
            ref = _send(actor.handle.call, method, args)
        except Exception as error:
            # In a later turn: whoever begins calls has yet to take note of this one.
            told = error_of(error, actor.identity.member)
            asyncio.get_running_loop().call_soon(done, None, told)
            return _nothing
        return self._arrivals.expect(ref, actor.identity.member, done)

    def share(self, value: Any) -> Any:
        return ray.put(value)

    async def fetch(self, reference: Any) -> Any:
        return await reference

    def bulky(self, value: Any) -> Any:
        return Bulk(value) if type(value) is bytes and len(value) >= BULK_BYTES else value

    def sendable(self, error: Exception) -> Exception:
        return sendable(error)

    async def refer(self, actor: Actor, method: str, *args: Any) -> Any:
        done, result = _send(actor.handle.refer, method, args)
        try:
            await done
        except exceptions.RayError as error:
            raise error_of(error, actor.identity.member) from None
        return result

    async def lifeline(self, actor: Actor, seen: int) -> News | Death:
        while True:
            try:
                news: News = await actor.handle.lifeline.remote(seen)
                return news
            except exceptions.RayError as error:
                death = death_of(error)
                if death is not None:
                    return death
            await anyio.sleep(UNREACHABLE_PAUSE_S)

    async def poll(
        self, actors: Sequence[Actor], timeout_s: float, lease: Lease | None = None
    ) -> list[Reply]:
        futures = [
            asyncio.wrap_future(actor.handle.check_health.remote(lease).future())
            for actor in actors
        ]
        if not futures:
            return []
        try:
            await asyncio.wait(futures, timeout=timeout_s)
            return [_reply(future, timeout_s) for future in futures]
        finally:
            for future in futures:
                future.cancel()

    async def silent_nodes(self, nodes: Sequence[str], actor: Actor) -> list[str]:
        with anyio.fail_after(REACH_TIMEOUT_S):
            return await reach.silent_nodes(nodes, actor)

    def renew(self, actors: Sequence[Actor], lease: Lease) -> None:
        for actor in actors:
            actor.handle.renew.remote(lease)

    async def find(self, identity: Identity) -> Actor | None:
        return await ask(inventory.find_actor, identity)

    async def inventory(self, pool: str | None = None, instance: str | None = None) -> list[Found]:
        return await ask(inventory.inventory, pool, instance)

    def whoami(self) -> str:
        return inventory.whoami()

    async def is_gone(self, process: str) -> bool:
        return await ask(inventory.is_gone, process)

    def freeze(self, value: Any) -> bytes:
        try:
            frozen: bytes = cloudpickle.dumps(value)
        except Exception as error:
            raise unsendable(error) from error
        return frozen

    def thaw(self, frozen: bytes) -> Any:
        return cloudpickle.loads(frozen)

    async def leftovers(self, pool: str, instance: str) -> list[str]:
        return await ask(_leftovers, pool, instance)

    async def publish(self, values: Mapping[str, bytes]) -> None:
        await ask(private.publish, private.gcs_client(), values)

    async def published(self, prefix: str) -> Mapping[str, bytes]:
        return await ask(private.published, private.gcs_client(), prefix)

    async def withdraw(self, prefix: str) -> None:
        await ask(private.withdraw, private.gcs_client(), prefix)

    def unix_time(self) -> float:
        return time.time()


def _send(method: Any, *args: Any) -> Any:
    """Call an actor's method.

    Raises:
        ConfigError: The arguments cannot be sent.
    """
    try:
        return method.remote(*args)
    except exceptions.RayError:
        raise
    except TypeError as error:
        # Ray's own text goes on for pages; what could not be pickled is said by its cause.
        raise unsendable(error.__cause__ or error) from error
    except Exception as error:
        # What an argument's own way of being pickled raises.
        raise unsendable(error) from error


def _nothing() -> None:
    """Stop nothing: the call was not sent."""


def unsendable(error: BaseException) -> ConfigError:
    """Return what to say of a function, or its arguments, that cannot be pickled."""
    return ConfigError(
        f"what is to be sent to other processes cannot be pickled: {first_line(error)}; a "
        "function, and its arguments, must not hold locks, open files, connections or the pool "
        "itself: give paths or addresses, and open them inside of the function"
    )


def _start(spec: ActorSpec) -> Actor:
    if spec.node_id is not None:
        reach.remember((spec.node_id,))
    try:
        shell = actor_class(spec.label).options(**_actor_options(spec))
        handle = shell.remote(spec, RayCluster)
    except exceptions.ActorAlreadyExistsError:
        raise NameTaken(f"there is an actor {spec.identity} already") from None
    except Exception as error:
        if not (culprit := _culprit_of(spec)):
            raise
        # NB: Ray's own text shows all of what it was given; and no other try would be better.
        advice = "give what can be, such as paths or addresses, and open them where they are used"
        raise Permanent(f"{culprit}; {advice}") from error.__cause__
    return Actor(handle._actor_id.hex(), spec.identity, handle)


def _culprit_of(spec: ActorSpec) -> str:
    """Say which argument of an actor cannot be sent to it; empty when all can be."""
    given = [spec.body, *spec.args, spec.runtime_env]
    return next(filter(None, (name_culprit(each, cloudpickle.dumps) for each in given)), "")


def _reply(future: asyncio.Future[Any], timeout_s: float) -> Reply:
    if not future.done():
        return Reply(ReplyKind.TIMEOUT, detail=f"no answer within {timeout_s:g} s")
    error = future.exception()
    if error is None:
        return Reply(ReplyKind.ANSWER, future.result())
    if isinstance(error, exceptions.RayTaskError):
        cause = getattr(error, "cause", error)
        if isinstance(cause, Fenced):
            return Reply(ReplyKind.FENCED, cause.later, str(cause))
        return Reply(ReplyKind.ERROR, detail=str(cause))
    if isinstance(error, exceptions.ActorUnavailableError):
        return Reply(ReplyKind.UNREACHABLE, detail=first_line(error))
    # A death is told by the lifeline; a poll that meets one is no verdict (INV-9).
    return Reply(ReplyKind.UNAVAILABLE, detail=first_line(error))


def _actor_options(spec: ActorSpec) -> dict[str, Any]:
    amounts = dict(spec.holds)
    options: dict[str, Any] = {
        "num_cpus": amounts.pop("CPU", 0),
        "num_gpus": amounts.pop("GPU", 0),
        # The name is how reapers, and whoever looks at the cluster, know whose it is.
        "name": str(spec.identity),
        "namespace": inventory.NAMESPACE,
        "max_restarts": 0,
        "max_task_retries": 0,
    }
    if memory := amounts.pop("memory", 0):
        options["memory"] = int(memory)
    if amounts:
        options["resources"] = amounts
    if spec.detached:
        options["lifetime"] = "detached"
    if spec.runtime_env is not None:
        options["runtime_env"] = dict(spec.runtime_env)
    if spec.reservation is not None:
        options["scheduling_strategy"] = PlacementGroupSchedulingStrategy(
            spec.reservation.handle,
            placement_group_bundle_index=spec.bundle,
            placement_group_capture_child_tasks=False,
        )
    elif spec.node_id is not None:
        # Hard, because a zero-resource actor ignores a soft affinity.
        options["scheduling_strategy"] = NodeAffinitySchedulingStrategy(spec.node_id, soft=False)
    return options


def _create_group(
    plan: BundlePlan, name: str, detached: bool, nodes: Sequence[str]
) -> PlacementGroup:
    bundles = [dict(bundle) for bundle in plan.bundles]
    options: dict[str, Any] = {"strategy": plan.strategy, "name": name}
    if detached:
        options["lifetime"] = "detached"
    if nodes:
        options["bundle_label_selector"] = [{NODE_LABEL: node} for node in nodes]
    elif not plan.selector.is_any and (labels := plan.selector.bundle_labels(ray_topology())):
        options["bundle_label_selector"] = [labels] * len(bundles)
    group: PlacementGroup = placement_group(bundles, **options)
    return group


def _nodes_of_bundles(group: PlacementGroup, count: int) -> tuple[str, ...]:
    table = ray.util.placement_group_table(group)
    nodes = table["bundles_to_node_id"]
    found = tuple(nodes[index] for index in range(count))
    reach.remember(found)
    return found


def _leftovers(pool: str, instance: str) -> list[str]:
    def is_ours(name: str) -> bool:
        identity = Identity.parse(name)
        return identity is not None and identity.is_of(pool, instance)

    actors = [
        f"actor {actor['Name']}"
        for actor in private.actor_table().values()
        if actor["State"] != "DEAD" and is_ours(actor["Name"])
    ]
    groups = [
        f"placement group {group['name']}"
        for group in ray.util.placement_group_table().values()
        if group["state"] != "REMOVED" and is_ours(group["name"])
    ]
    return actors + groups
