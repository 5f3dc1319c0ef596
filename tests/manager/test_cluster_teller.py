"""Telling the cluster of notices: what cannot be told now is told later, and holds nobody up."""

from __future__ import annotations

from typing import Any

import anyio

import pool
from pool.manager.cluster_teller import TIMEOUT_S, ClusterTeller
from pool.manager.events import Event, EventKind, EventLog
from pool.planning.notice import Notice, NoticeKind
from pool.planning.notice_policy import NoticePolicy
from pool.testing import run


class Deaf:
    """Be as much of a cluster as is told; it does not listen until it is well."""

    def __init__(self, *, hangs: bool) -> None:
        self.hangs = hangs
        self.is_well = False
        self.asked: list[str] = []

    async def tell_draining(self, node: str, reason: str, deadline: float | None) -> bool:
        self.asked.append(node)
        if not self.is_well:
            if self.hangs:
                await anyio.sleep_forever()
            raise pool.SourceUnavailable("it is away")
        return True


def telling(cluster: Any) -> tuple[ClusterTeller, list[Event]]:
    emit, heard = EventLog("p", lambda: 0.0), list[Event]()
    emit.follow(heard.append)
    teller = ClusterTeller(cluster, emit, NoticePolicy(tell_cluster={NoticeKind.PREEMPT}))
    for node in ("n1", "n2", "n3"):
        teller.note(Notice(kind=NoticeKind.PREEMPT, node_id=node, deadline=100.0))
    return teller, heard


def test_a_cluster_that_does_not_answer_is_asked_once_and_not_for_each_node() -> None:
    async def main() -> None:
        deaf = Deaf(hangs=True)
        teller, heard = telling(deaf)
        begun = anyio.current_time()
        assert not await teller.tell()
        assert anyio.current_time() - begun < TIMEOUT_S + 1
        assert deaf.asked == ["n1"]
        assert [event.kind for event in heard] == [EventKind.SOURCE_UNAVAILABLE]

    run(main)


def test_what_could_not_be_told_is_told_when_the_cluster_is_back() -> None:
    async def main() -> None:
        deaf = Deaf(hangs=False)
        teller, heard = telling(deaf)
        for _ in range(3):
            assert not await teller.tell()
        deaf.is_well = True
        assert await teller.tell()
        assert deaf.asked == ["n1"] * 3 + ["n1", "n2", "n3"]
        kinds = [event.kind for event in heard]
        assert kinds == [EventKind.SOURCE_UNAVAILABLE] + [EventKind.CLUSTER_TOLD] * 3
        assert await teller.tell()
        assert len(deaf.asked) == 6, "nobody is told twice"

    run(main)
