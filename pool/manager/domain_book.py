"""Which nodes go together: learnt from their labels when somebody has to know.

Who goes with whom is worked out by the planner, `pool.planning.domains`; here stand the labels.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pool.cluster.interface import Cluster
from pool.planning.domains import spread_notice


class DomainBook:
    """Remember the failure domain of each node.

    Args:
        cluster: Tells the nodes' labels.
        label: The label whose value nodes of one domain share; None where there are no domains.
    """

    def __init__(self, cluster: Cluster, label: str | None) -> None:
        self._cluster = cluster
        self._label = label
        self._domains: dict[str, str | None] = {}

    async def learn(self, nodes: Iterable[str]) -> None:
        """Look the labels of nodes up, if there are any that were never looked up.

        Raises:
            Exception: The cluster could not be asked.
        """
        if self._label is None or self._domains.keys() >= set(nodes):
            return
        topology = await self._cluster.topology()
        for node in topology.nodes:
            self._domains[node.node_id] = node.labels.get(self._label)
        # Whoever has gone already is not asked for again.
        for name in nodes:
            self._domains.setdefault(name, None)

    def companions(self, leaving: Mapping[str, float]) -> dict[str, str]:
        """Return the nodes that go away because another one of their domain does.

        Args:
            leaving: The nodes that have a notice of their own, and when they go, on the caller's
                clock.

        Returns:
            Node to the node whose notice it is, for those that have none of their own.
        """
        domains = {node: domain for node, domain in self._domains.items() if domain is not None}
        if not domains:
            return {}
        nodes = sorted(domains.keys() - leaving.keys())
        concerns = spread_notice(leaving, {at: (node,) for at, node in enumerate(nodes)}, domains)
        return {nodes[at]: concern.node for at, concern in concerns.items()}

    def describe(self, node: str) -> str:
        """Name the domain of a node, in words."""
        return f"{self._label} {self._domains.get(node)}"
