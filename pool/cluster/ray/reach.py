"""Whether a node's machine answers at all.

Ray's own word for a node that it cannot hear is "alive", until it says "dead"; and an actor that
was killed there is "dead" at once, although nobody has told it. So the node's raylet is called up:
one that takes the connection is there to carry kills out, a machine that refuses it has no raylet
and so no workers any more, and from one that does not answer nothing follows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import anyio
import anyio.to_thread
import ray

from pool.cluster.interface import Actor
from pool.cluster.ray import private

CONNECT_TIMEOUT_S = 1.0


async def silent_nodes(nodes: Sequence[str], actor: Actor) -> list[str]:
    """Return those of the nodes, or else the actor's own if it does not answer."""
    places = await anyio.to_thread.run_sync(_addresses, nodes, actor, abandon_on_cancel=True)
    answers = await asyncio.gather(*(_answers(*place) for place in places.values()))
    return [node for node, answer in zip(places, answers, strict=True) if not answer]


def _addresses(nodes: Sequence[str], actor: Actor) -> dict[str, tuple[str, int]]:
    if not nodes:
        record = private.actor_table().get(actor.id)
        nodes = [record["Address"]["NodeID"]] if record is not None else []
    remember(nodes)
    return {node: _known[node] for node in dict.fromkeys(nodes) if node in _known}


def remember(nodes: Sequence[str]) -> None:
    """Note where nodes are, so that they can be called up while the GCS is away."""
    if any(node not in _known for node in nodes):
        for record in ray.nodes():
            address = record["NodeManagerAddress"], record["NodeManagerPort"]
            _known[record["NodeID"]] = address


_known: dict[str, tuple[str, int]] = {}
"""Where nodes are, by their ids; a node that comes back has another id."""


async def _answers(address: str, port: int) -> bool:
    try:
        with anyio.fail_after(CONNECT_TIMEOUT_S):
            _, writer = await asyncio.open_connection(address, port)
    except ConnectionRefusedError:
        return True
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True
