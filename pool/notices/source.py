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
        period_s: Seconds between two questions. After trouble it is asked less often.
        shared_as: A name under which one process on a node asks for all that run there. Sources
            of one name have to give one answer. None, the default, lets each process ask.
    """

    name: str
    period_s: float
    shared_as: str | None = None

    @abstractmethod
    async def check(self, node_id: str, address: str) -> Notice | None:
        """Return the notice for this node, or None when there is none.

        A notice that has not changed has to be returned equal to the last one.

        Args:
            node_id: The node it runs on.
            address: That node's address.

        Raises:
            SourceUnavailable: It could not ask.

        It may be cancelled at any `await`.
        """

    async def resolve(self) -> Sequence[NodeNoticeSource]:
        """Return who is really asked, on the node: itself, or those that it found there.

        Called once, before the first question. Those it returns are not resolved again.
        """
        return (self,)


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
