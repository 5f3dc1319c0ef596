"""What is ours in a Ray cluster, found by the names that identities are written as.

Ray's own tables are read, whole and without a limit; its dashboard is not needed. All our actors
are in one namespace of ours, whichever their drivers are in.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from typing import Any

import ray

from pool.cluster.interface import Actor, Found, Identity, Reservation
from pool.cluster.ray import private
from pool.planning.resources import Resources

NAMESPACE = "pool"
"""Ray's namespace of all our actors, or a pool could be found only from its driver's."""


def find_actor(identity: Identity) -> Actor | None:
    """Return the live actor of an identity."""
    return next((a for i, a in _actors() if str(i) == str(identity)), None)


def inventory(pool: str, instance: str) -> list[Found]:
    """Return the live actors and groups of a pool, and of all below it."""
    actors = {i: a for i, a in _actors() if i.is_of(pool, instance)}
    groups = {i: (r, whole) for i, r, whole in _groups() if i.is_of(pool, instance)}
    return [
        Found(
            identity,
            actors.get(identity),
            _whole(groups.get(identity)),
            _broken(groups.get(identity)),
        )
        for identity in dict.fromkeys([*actors, *groups])
    ]


def _whole(group: tuple[Reservation, bool] | None) -> Reservation | None:
    return group[0] if group is not None and group[1] else None


def _broken(group: tuple[Reservation, bool] | None) -> Reservation | None:
    return group[0] if group is not None and not group[1] else None


def _actors() -> list[tuple[Identity, Actor]]:
    found = []
    for actor_id, record in private.actor_table().items():
        identity = Identity.parse(record["Name"])
        if identity is None or record["State"] == "DEAD":
            continue
        try:
            handle = ray.get_actor(record["Name"], namespace=NAMESPACE)
        except ValueError:
            continue  # It died meanwhile.
        found.append((identity, Actor(actor_id, identity, handle)))
    return found


def _groups() -> list[tuple[Identity, Reservation, bool]]:
    found = []
    for record in ray.util.placement_group_table().values():
        identity = Identity.parse(record["name"])
        if identity is not None and record["state"] != "REMOVED":
            found.append((identity, _reservation(record), record["state"] == "CREATED"))
    return found


def _reservation(record: Mapping[str, Any]) -> Reservation:
    group_id = record["placement_group_id"]
    order = sorted(record["bundles"])
    return Reservation(
        id=group_id,
        nodes=tuple(record["bundles_to_node_id"].get(index, "") for index in order),
        bundles=tuple(Resources(record["bundles"][index]) for index in order),
        handle=private.group_of(group_id),
    )


def whoami() -> str:
    """Return a word for this process: its actor's id, or else that of its driver's job."""
    context = ray.get_runtime_context()
    actor_id = context.get_actor_id()
    where = f"{socket.gethostname()} pid {os.getpid()}"
    if actor_id is not None:
        return f"actor {actor_id} on {where}"
    return f"driver {context.get_job_id()} on {where}"


def is_gone(process: str) -> bool:
    """Return whether a process named by `whoami` has ended, by Ray's tables."""
    kind, number, *_ = process.split()
    if kind == "actor":
        record = private.actor_table().get(number)
        return record is None or record["State"] == "DEAD"
    return private.is_job_dead(number)
