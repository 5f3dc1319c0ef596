"""Pass notices on to the cluster, where the pool's policy allows it (row P9).

The cluster then places nothing more on the node, and everybody who asks it hears of the notice.
"""

from __future__ import annotations

import anyio

from pool.cluster.interface import Cluster
from pool.manager.events import EventKind, EventLog
from pool.planning.notice import Notice
from pool.planning.notice_policy import NoticePolicy

CLUSTER_SOURCE = "ray"
"""The name of the notices that the cluster itself gave; it need not be told of those."""
TIMEOUT_S = 5.0


class ClusterTeller:
    """Tell the cluster of notices, once for each node.

    Args:
        cluster: Whom to tell.
        emit: Where to say so.
        policy: Of which notices.
    """

    def __init__(self, cluster: Cluster, emit: EventLog, policy: NoticePolicy) -> None:
        self._cluster = cluster
        self._emit = emit
        self._policy = policy
        self._waiting: dict[str, Notice] = {}
        self._told: set[str] = set()
        self._trouble = ""

    def note(self, notice: Notice) -> None:
        """Have the cluster told of a notice, if that is allowed."""
        node = notice.node_id
        if notice.source == CLUSTER_SOURCE:
            self._told.add(node)
            self._waiting.pop(node, None)
        elif self._policy.passes_on(notice) and node not in self._told:
            self._waiting.setdefault(node, notice)

    def withdraw(self, notice: Notice) -> None:
        """Forget a notice, if the cluster was not told yet."""
        if self._waiting.get(notice.node_id) == notice:
            del self._waiting[notice.node_id]
        self._told.discard(notice.node_id)

    async def tell(self) -> bool:
        """Tell the cluster what it was not told yet.

        Returns:
            Whether all of it was.
        """
        for node, notice in list(self._waiting.items()):
            try:
                with anyio.fail_after(TIMEOUT_S):
                    accepted = await self._cluster.tell_draining(node, str(notice), notice.deadline)
            except Exception as error:
                trouble = repr(error)
                if trouble != self._trouble:
                    self._trouble = trouble
                    self._emit(EventKind.SOURCE_UNAVAILABLE, source=CLUSTER_SOURCE, reason=trouble)
                # Whoever waits for us has other notices to answer; we are called again.
                return False
            self._trouble = ""
            self._waiting.pop(node, None)
            self._told.add(node)
            self._emit(EventKind.CLUSTER_TOLD, node=node, accepted=accepted, reason=str(notice))
        return not self._waiting
