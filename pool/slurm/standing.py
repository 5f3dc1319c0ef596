"""Where each node and each service stands, as the head has heard it. Pure: it only remembers.

Whatever is heard goes in by a method of its own, which upholds what has to hold: who is lost stays
lost, and what is said of a Ray that is no more does not count. What comes out is never changed
afterwards, so that it can be judged, compared and published.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from pool.slurm.job import Service
from pool.slurm.judge import NodeView, Seen, ServiceView, Stage
from pool.slurm.quorum import ranks_of
from pool.slurm.roles import Role


class Standing:
    """The nodes and the services of one job. Times are seconds since the head's program began.

    Args:
        roles: All nodes, by rank.
        services: What is to run beside Ray.
        least: How many nodes are enough.
        changed: Called after a change that somebody may wait for.
    """

    def __init__(
        self,
        roles: Sequence[Role],
        services: Sequence[Service],
        least: int,
        changed: Callable[[], None],
    ) -> None:
        self._least = least
        self._changed = changed
        self._nodes = tuple(NodeView(rank=role.rank, host=role.host) for role in roles)
        self._services = {
            service.name: ServiceView(
                name=service.name,
                quorum=service.quorum,
                states=dict.fromkeys(ranks_of(service.where, len(roles)), "starting"),
                details={},
            )
            for service in services
        }
        self._addresses: dict[int, str] = {}
        self._tails: dict[tuple[int, str], str] = {}
        self._turn = 0
        self._head_listens = False
        self._quorate_at_s: float | None = None

    # --- what is heard ---

    def admit(self, rank: object, host: object, address: str, now_s: float) -> str:
        """Take a node that calls.

        Returns:
            Why it is refused, or nothing.
        """
        if not isinstance(rank, int) or not 0 < rank < len(self._nodes):
            return f"there is no rank {rank!r}"
        node = self._nodes[rank]
        if node.host != host or node.stage is not Stage.ABSENT:
            return f"rank {rank} is {node.host}, {node.stage.word}"
        self._addresses[rank] = address
        self.move(rank, Stage.CALLED, now_s)
        return ""

    def place_head(self, address: str, now_s: float) -> None:
        """Take the head itself, which calls nobody and sees the directory."""
        self._addresses[0] = address
        self.move(0, Stage.SEEN, now_s)

    def move(self, rank: int, stage: Stage, now_s: float, detail: str = "") -> None:
        """Say how far a node is, and what else is known. One that is lost stays so."""
        before = self._nodes[rank]
        if before.stage is Stage.LOST:
            return
        now = replace(before, stage=stage, detail=detail)
        self._nodes = (*self._nodes[:rank], now, *self._nodes[rank + 1 :])
        if sum(node.stage is Stage.JOINED for node in self._nodes) < self._least:
            self._quorate_at_s = None
        elif self._quorate_at_s is None:
            self._quorate_at_s = now_s
        self._changed()

    def report(
        self,
        rank: int,
        stage: Stage,
        now_s: float,
        *,
        detail: str = "",
        tail: str = "",
        turn: object = None,
    ) -> bool:
        """Take what a node says of its Ray.

        Args:
            rank: Who says it.
            stage: How far it is.
            now_s: When.
            detail: What else it says.
            tail: The last lines of Ray's log, if something went wrong.
            turn: Of which Ray of the head it speaks; the head's own word is always of its latest.

        Returns:
            Whether it counts: it does not if it is of a Ray that is no more.
        """
        if tail:
            self._tails[rank, ""] = tail
        if rank == 0 and stage is Stage.STARTING:
            self._begin_turn(now_s)
        elif rank != 0 and turn != self._turn and stage is not Stage.LOST:
            return False
        self.move(rank, stage, now_s, detail)
        return True

    def report_service(
        self, rank: int, name: str, state: str, *, detail: str = "", tail: str = ""
    ) -> None:
        """Take what a node says of a service; nothing is made of one that is not to run there."""
        self._set_service(name, rank, state, detail)
        if tail:
            self._tails[rank, name] = tail
        self._changed()

    def lose(self, rank: int, why: str, now_s: float) -> str:
        """Give a node up, and what was to run there.

        Returns:
            Why it is lost: it may have said so itself before, and knew better.
        """
        for name in self._services:
            self._set_service(name, rank, "failed", why)
        self.move(rank, Stage.LOST, now_s, why)
        return self._nodes[rank].detail

    def listen(self) -> None:
        """Say that the head's Ray takes others now."""
        self._head_listens = True
        self._changed()

    def _begin_turn(self, now_s: float) -> None:
        """Begin anew with a Ray that does not listen yet: who had joined another has not."""
        self._turn += 1
        self._head_listens = False
        for node in self._nodes[1:]:
            if node.stage in (Stage.STARTING, Stage.JOINED):
                self.move(node.rank, Stage.SEEN, now_s)

    def _set_service(self, name: str, rank: int, state: str, detail: str) -> None:
        before = self._services.get(name)
        if before is not None and rank in before.states:
            self._services[name] = replace(
                before,
                states={**before.states, rank: state},
                details={**before.details, rank: detail},
            )

    # --- what is known ---

    @property
    def nodes(self) -> tuple[NodeView, ...]:
        """All nodes, by rank."""
        return self._nodes

    @property
    def services(self) -> tuple[ServiceView, ...]:
        """Each service."""
        return tuple(self._services.values())

    @property
    def turn(self) -> int:
        """How often the head's Ray was started."""
        return self._turn

    @property
    def head_listens(self) -> bool:
        """Whether the head's Ray takes others."""
        return self._head_listens

    def name(self, rank: int) -> str:
        """Return what a node is called in messages."""
        return f"node {self._nodes[rank].host} (rank {rank})"

    def tail(self, rank: int, service: str = "") -> str:
        """Return the last lines that a node has sent of a service's log, or of Ray's, if any."""
        return self._tails.get((rank, service), "")

    def seen(self, now_s: float) -> Seen:
        """Return what is judged."""
        return Seen(
            nodes=self._nodes,
            services=self.services,
            head_listens=self._head_listens,
            elapsed_s=now_s,
            quorate_s=None if self._quorate_at_s is None else now_s - self._quorate_at_s,
        )

    def status(self) -> dict[str, Any]:
        """Return what is published."""
        return {
            "min_nodes": self._least,
            "nodes": [
                {
                    "rank": node.rank,
                    "host": node.host,
                    "address": self._addresses.get(node.rank),
                    "state": node.stage.name.lower(),
                    "detail": node.detail,
                }
                for node in self._nodes
            ],
            "services": [
                {
                    "name": service.name,
                    "needed": service.needed,
                    "states": {str(rank): state for rank, state in service.states.items()},
                    "details": {str(rank): said for rank, said in service.details.items() if said},
                }
                for service in self.services
            ],
        }
