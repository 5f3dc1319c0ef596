"""What a source of notices is: somebody who can be asked whether a node will go away.

There are two kinds. A *node source* runs on every node of a pool and speaks of that node alone, as
a cloud's metadata service does. A *cluster source* runs beside the manager and speaks of any node.

A source that cannot ask raises `SourceUnavailable`. That is neither "stays" nor "goes": what was
known before stays known (INV-9).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

from pool.cluster.interface import Cluster
from pool.planning.notice import Notice


class NodeNoticeSource(ABC):
    """Speak of the node that it runs on. It is pickled and sent there.

    Attributes:
        name: Who it is, for events and `Notice.source`.
        period_s: Seconds between two questions.
    """

    name: str
    period_s: float

    @abstractmethod
    async def check(self, node_id: str, address: str) -> Notice | None:
        """Return the notice for this node, or None when there is none.

        Args:
            node_id: The node it runs on.
            address: That node's address.

        Raises:
            SourceUnavailable: It could not ask.
        """


class ClusterNoticeSource(ABC):
    """Speak of any node, from beside the manager.

    Attributes:
        name: Who it is, for events and `Notice.source`.
        period_s: Seconds between two questions.
    """

    name: str
    period_s: float

    @abstractmethod
    async def check(self, cluster: Cluster, node_ids: Sequence[str]) -> Mapping[str, Notice]:
        """Return the notices for the nodes that the pool uses: node id to notice.

        Raises:
            SourceUnavailable: It could not ask.
        """


NoticeSource = NodeNoticeSource | ClusterNoticeSource
