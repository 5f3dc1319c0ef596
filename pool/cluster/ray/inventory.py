"""What is ours in a Ray cluster, found by the names that identities are written as.

Ray's own tables are read, whole and without a limit; its dashboard is not needed. All our actors
are in one namespace of ours, whichever their drivers are in.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable

import ray

from pool.cluster.interface import Actor, Found, Identity, Reservation
from pool.cluster.ray import private
from pool.planning.resources import Resources

NAMESPACE = "pool"
"""Ray's namespace of all our actors, or a pool could be found only from its driver's."""


def find_actor(identity: Identity) -> Actor | None:
    """Return the live actor of an identity."""
    try:
        handle = ray.get_actor(str(identity), namespace=NAMESPACE)
    except ValueError:
        return None
    return Actor(handle._actor_id.hex(), identity, handle)


Handle = Callable[[str, str, Identity], Actor | None]
"""Returns an actor by its id and name, with or without a handle; None when it died meanwhile."""


def with_handle(actor_id: str, name: str, identity: Identity) -> Actor | None:
    """Return an actor that can be called; only a driver, or an actor, can have that."""
    try:
        handle = ray.get_actor(name, namespace=NAMESPACE)
    except ValueError:
        return None
    return Actor(actor_id, identity, handle)


def inventory(pool: str | None, instance: str | None, handle: Handle = with_handle) -> list[Found]:
    """Return the live actors and groups of a pool, and of all below it."""
    actors, groups = _actors(pool, instance, handle), _groups(pool, instance)
    return [
        _join(actors.get(identity), groups.get(identity))
        for identity in dict.fromkeys([*actors, *groups])
    ]


def _join(actor: Found | None, group: Found | None) -> Found:
    if actor is None or group is None:
        alone = actor or group
        assert alone is not None
        return alone
    return Found(
        actor.identity,
        actor.actor,
        group.reservation,
        group.broken,
        detached=actor.detached or group.detached,
        orphaned=group.orphaned,
        age_s=group.age_s,
    )


def _actors(pool: str | None, instance: str | None, handle: Handle) -> dict[Identity, Found]:
    found = {}
    for actor_id, record in private.actor_table().items():
        identity = Identity.parse(record["Name"])
        if identity is None or record["State"] == "DEAD" or not identity.is_of(pool, instance):
            continue
        actor = handle(actor_id, record["Name"], identity)
        if actor is not None:
            found[identity] = Found(identity, actor, detached=record["IsDetached"])
    return found


def _groups(pool: str | None, instance: str | None) -> dict[Identity, Found]:
    found = {}
    for record in private.placement_groups():
        identity = Identity.parse(record.name)
        if identity is None or record.state == "REMOVED" or not identity.is_of(pool, instance):
            continue
        reservation = Reservation(
            id=record.group_id,
            nodes=record.nodes,
            bundles=tuple(Resources(bundle) for bundle in record.bundles),
            handle=private.group_of(record.group_id),
        )
        is_whole = record.state == "CREATED"
        found[identity] = Found(
            identity,
            None,
            reservation if is_whole else None,
            None if is_whole else reservation,
            detached=record.detached,
            orphaned=record.creator_dead and not record.detached,
            age_s=max(0.0, time.time() - record.created_at),
        )
    return found


def whoami() -> str:
    """Return a word for this process: its actor's id, or else that of its driver's job."""
    context = ray.get_runtime_context()
    actor_id = context.get_actor_id()
    where = f"{socket.gethostname()} pid {os.getpid()}"
    if actor_id is not None:
        return f"actor {actor_id} on {where}"
    return f"driver {context.get_job_id()} on {where}"


def is_gone(process: str) -> bool:
    """Return whether a process named by `whoami` has ended, by Ray's tables.

    Of what is no such name it is not known that it has: what lives must not be taken for dead.
    """
    match process.split():
        case ["actor", actor_id, *_, pid]:
            record = private.actor_table().get(actor_id)
            # NB: an actor that Ray started again has its old id, and is another process.
            return record is None or record["State"] == "DEAD" or str(record["Pid"]) != pid
        case ["driver", job_id, *_]:
            return private.is_job_dead(job_id)
        case _:
            return False
