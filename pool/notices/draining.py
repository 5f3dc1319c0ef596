"""Nodes that Ray itself says are leaving: drained by the autoscaler, KubeRay, or an operator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pool.cluster.interface import Cluster
from pool.notices.source import ClusterNoticeSource
from pool.planning.notice import Notice, NoticeKind


class DrainingNodes(ClusterNoticeSource):
    """Ask the cluster which nodes it drains.

    Args:
        period_s: Seconds between two questions; one costs well under a millisecond.
    """

    def __init__(self, period_s: float = 1.0) -> None:
        self.name = "ray"
        self.period_s = period_s

    async def check(self, cluster: Cluster, node_ids: Sequence[str]) -> Mapping[str, Notice]:
        draining = await cluster.draining()
        return {
            node_id: Notice(
                kind=NoticeKind.PREEMPT,
                deadline=draining[node_id],
                source=self.name,
                reason="the cluster drains the node",
            )
            for node_id in node_ids
            if node_id in draining
        }
