"""What follows from how far the nodes are: wait, start the driver, or give up. Pure.

The rows of `judge` are looked at in order, and the first that holds decides. Each verdict says why,
with the names of nodes: the sentence is what the user reads in the job's output.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pool.slurm.deadlines import WHAT, Deadlines
from pool.slurm.quorum import Quorum, enough

NAMES_MOST = 8


class Stage(enum.IntEnum):
    """How far a node is. A later one includes those before it; `LOST` is for good."""

    LOST = -1
    ABSENT = 0
    CALLED = 1
    SEEN = 2
    STARTING = 3
    JOINED = 4

    @property
    def word(self) -> str:
        """What is said of a node that is so far."""
        return _WORDS[self]


_WORDS = {
    Stage.LOST: "lost",
    Stage.ABSENT: "no call yet",
    Stage.CALLED: "has called, and is not seen in the job's directory",
    Stage.SEEN: "waiting for the head's Ray",
    Stage.STARTING: "starting Ray",
    Stage.JOINED: "joined",
}
_WANTED = {"canary_s": Stage.SEEN, "call_s": Stage.CALLED, "join_s": Stage.JOINED}


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeView:
    """One node as the head knows it.

    Args:
        rank: Its number.
        host: Its name for Slurm.
        stage: How far it is.
        detail: What else is known, as why it was lost.
    """

    rank: int
    host: str
    stage: Stage = Stage.ABSENT
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceView:
    """One service as the head knows it.

    Args:
        name: Its name.
        quorum: How many are enough.
        states: By rank: `starting`, `ready` or `failed`.
        details: Why it failed, by rank.
    """

    name: str
    quorum: Quorum
    states: dict[int, str]
    details: dict[int, str]

    @property
    def needed(self) -> int:
        """How many have to be ready."""
        return enough(self.quorum, len(self.states))

    def count(self, state: str) -> int:
        """Return how many are so."""
        return sum(each == state for each in self.states.values())

    @property
    def is_ready(self) -> bool:
        """Whether enough are ready."""
        return self.count("ready") >= self.needed

    @property
    def is_lost(self) -> bool:
        """Whether enough can never be ready."""
        return len(self.states) - self.count("failed") < self.needed


class Kind(enum.Enum):
    """What to do."""

    WAIT = "wait"
    GO = "go"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to do, and why.

    Args:
        kind: What to do.
        why: In a sentence.
        rank: The node that is to blame, if it is one.
        service: The service that is, if it is one.
    """

    kind: Kind
    why: str
    rank: int | None = None
    service: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """All that is known at one moment.

    Args:
        nodes: By rank.
        services: Each.
        head_listens: Whether the head's Ray does.
        elapsed_s: Since the head's node program began.
        quorate_s: Since `min_nodes` have joined; None if they have not.
    """

    nodes: Sequence[NodeView]
    services: Sequence[ServiceView]
    head_listens: bool
    elapsed_s: float
    quorate_s: float | None


def judge(seen: Seen, deadlines: Deadlines, least: int) -> Verdict:
    """Say what follows before the driver runs.

    Args:
        seen: How it is.
        deadlines: What may take how long.
        least: How many nodes are enough.
    """
    if (loss := judge_losses(seen, least)) is not None:
        return loss
    for name, limit_s in deadlines.rows():
        if seen.elapsed_s >= limit_s and (late := _overdue(name, limit_s, seen, least)):
            return late
    missing = [node for node in seen.nodes if node.stage is not Stage.JOINED]
    unready = [service for service in seen.services if not service.is_ready]
    joined = len(seen.nodes) - len(missing)
    if not unready and not missing:
        return Verdict(Kind.GO, "all nodes have joined" if joined > 1 else "the node has joined")
    late_enough = seen.quorate_s is not None and seen.quorate_s >= deadlines.late_s
    alive = [node for node in missing if node.stage is not Stage.LOST]
    has_head = seen.nodes[0].stage is Stage.JOINED
    if not unready and has_head and joined >= least and (late_enough or not alive):
        return Verdict(Kind.GO, f"{joined} nodes have joined; {_say(missing)}")
    words = [_say(missing)] if missing else []
    words += [_say_service(service) for service in unready]
    return Verdict(
        Kind.WAIT, f"{joined} of {len(seen.nodes)} nodes have joined; {'; '.join(words)}"
    )


def judge_losses(seen: Seen, least: int) -> Verdict | None:
    """Say whether too much is lost to go on, at any time."""
    lost = [node for node in seen.nodes if node.stage is Stage.LOST]
    if lost and (lost[0].rank == 0 or len(seen.nodes) - len(lost) < least):
        last = lost[-1]
        why = f"node {last.host} (rank {last.rank}) is lost: {last.detail}"
        if len(lost) > 1:
            why += f"; so are {_names(lost[:-1])}"
        if least < len(seen.nodes):
            why += f"; {len(seen.nodes) - len(lost)} nodes are left of the {least} that are needed"
        return Verdict(Kind.FAIL, why, last.rank)
    for service in seen.services:
        if service.is_lost:
            rank = max(rank for rank, state in service.states.items() if state == "failed")
            return Verdict(
                Kind.FAIL,
                f"service {service.name} failed on node {_host(seen, rank)} (rank {rank}): "
                f"{service.details.get(rank, '')}",
                rank,
                service.name,
            )
    return None


def _overdue(name: str, limit_s: float, seen: Seen, least: int) -> Verdict | None:
    after = f"after {limit_s:g} s"
    if name == "head_s":
        return None if seen.head_listens else Verdict(Kind.FAIL, f"{after} no {WHAT[name][4:]}", 0)
    if name == "services_s":
        unready = [service for service in seen.services if not service.is_ready]
        if not unready:
            return None
        starting = [rank for rank, state in unready[0].states.items() if state != "ready"]
        said = "; ".join(
            f"{_host(seen, rank)}: {unready[0].details.get(rank) or 'it has not begun'}"
            for rank in starting[:NAMES_MOST]
        )
        why = f"{after} {_say_service(unready[0])} ({said})"
        return Verdict(Kind.FAIL, why, starting[0], unready[0].name)
    wanted = _WANTED[name]
    # Whoever has not called at all cannot be blamed for the directory: that is another row.
    floor = Stage.CALLED if name == "canary_s" else Stage.LOST
    late = [node for node in seen.nodes if floor <= node.stage < wanted]
    # The head cannot be spared, however many there are.
    if not late or (late[0].rank != 0 and len(seen.nodes) - len(late) >= least):
        return None
    return Verdict(Kind.FAIL, f"{after} {_say(late)}", late[0].rank)


def _say(nodes: Sequence[NodeView]) -> str:
    """Return who is how far: `n3, n4 start Ray; n7 has not called`."""
    words = []
    for stage in sorted({node.stage for node in nodes}):
        those = [node for node in nodes if node.stage is stage]
        details = {node.detail for node in those if node.detail}
        detail = f" ({details.pop()})" if len(details) == 1 else ""
        words.append(f"{_names(those)}: {stage.word}{detail}")
    return "; ".join(words)


def _say_service(service: ServiceView) -> str:
    return f"service {service.name} is ready on {service.count('ready')} of {service.needed} nodes"


def _names(nodes: Iterable[NodeView]) -> str:
    hosts = [node.host for node in nodes]
    more = f" and {len(hosts) - NAMES_MOST} more" if len(hosts) > NAMES_MOST else ""
    return ", ".join(hosts[:NAMES_MOST]) + more


def _host(seen: Seen, rank: int) -> str:
    return next(node.host for node in seen.nodes if node.rank == rank)
