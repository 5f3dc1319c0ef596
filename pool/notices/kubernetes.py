"""Kubernetes: what the API server says of this pod and its node, where it may be read.

After the Kubernetes documentation: "Pod Lifecycle", "Disruptions", "Well-Known Labels, Annotations
and Taints"; and that of GKE, Karpenter, the cluster autoscaler and AWS's node termination handler
for their taints. A pod may read itself and its node only with a Role and a ClusterRole that allow
`get`; without them this source is left out, and SIGTERM or a preStop hook is all there is.

A node that is not ready, or not reachable, is none of this: Ray and the health polls see it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pool.errors import SourceUnavailable
from pool.notices.deadlines import deadline_at, parse_slurm_time
from pool.notices.http_source import HttpNoticeSource, fields_of, read_json, words
from pool.notices.service import Reply
from pool.notices.source import NodeNoticeSource
from pool.planning.notice import Notice, NoticeKind

ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
"""Where a pod finds its token, its namespace and the API server's certificate."""
POD_LEAD_S = 30.0

TAINTS: Mapping[str, tuple[NoticeKind, bool, float | None]] = MappingProxyType(
    {
        # Kind; whether it is advisory; seconds that are left, where that is known.
        "cloud.google.com/impending-node-termination": (NoticeKind.PREEMPT, False, 15.0),
        "aws-node-termination-handler/spot-itn": (NoticeKind.PREEMPT, False, 120.0),
        "aws-node-termination-handler/asg-lifecycle-termination": (NoticeKind.PREEMPT, False, None),
        "aws-node-termination-handler/scheduled-maintenance": (NoticeKind.MAINTENANCE, False, None),
        "aws-node-termination-handler/rebalance-recommendation": (NoticeKind.REBALANCE, True, None),
        "karpenter.sh/disrupted": (NoticeKind.PREEMPT, False, None),
        "karpenter.sh/disruption": (NoticeKind.PREEMPT, False, None),
        "ToBeDeletedByClusterAutoscaler": (NoticeKind.PREEMPT, False, None),
        "node.kubernetes.io/out-of-service": (NoticeKind.PREEMPT, False, 0.0),
        # Somebody cordoned it. A drain may follow, and then the pod says so.
        "node.kubernetes.io/unschedulable": (NoticeKind.MAINTENANCE, True, None),
    }
)
"""What each taint of a node means."""
GKE_MAINTENANCE = "cloud.google.com/scheduled-maintenance-time"
GKE_ACTIVE = "cloud.google.com/active-node-maintenance"


class KubernetesObject(HttpNoticeSource):
    """Read one object of the API server, with the pod's own token.

    Args:
        url: The API server.
        path: The object's path.
        account: The folder of the service account.
        period_s: Seconds between two questions.
    """

    nothing = frozenset()

    def __init__(self, name: str, url: str, path: str, account: str, period_s: float) -> None:
        super().__init__(name, url, period_s, timeout_s=5.0)
        self.path = path
        self.account = account
        if self.url.startswith("https"):
            self.verify = str(Path(account, "ca.crt"))

    async def ask(self) -> Reply:
        try:
            # Each time, for the kubelet renews it.
            token = _read(self.account, "token")
        except (OSError, UnicodeDecodeError) as error:
            raise SourceUnavailable(f"{self.name}: no token: {error}") from error
        headers = {"Authorization": f"Bearer {token}", "Accept": "application/json"}
        # From the server's cache: what it knows, without a look at its store.
        params = {"resourceVersion": "0"}
        return await self.service.ask(
            self.path, headers=headers, params=params, timeout_s=self.timeout_s
        )


class KubernetesPod(KubernetesObject):
    """Hear that this pod is deleted, or evicted.

    Args:
        url: The API server.
        namespace: The pod's namespace.
        pod: The pod's name.
        account: The folder of the service account.
        period_s: Seconds between two questions.
    """

    def __init__(
        self, url: str, namespace: str, pod: str, account: str = ACCOUNT, period_s: float = 2.0
    ) -> None:
        path = f"/api/v1/namespaces/{namespace}/pods/{pod}"
        super().__init__("kubernetes:pod", url, path, account, period_s)

    def identify(self, reply: Reply) -> object:
        return repr(_pod_facts(reply, self.name))

    def parse(self, reply: Reply) -> Notice | None:
        return parse_pod(reply, self.name)


class KubernetesNode(KubernetesObject):
    """Hear from its taints and labels that this pod's node will go.

    Args:
        url: The API server.
        node: The node's name.
        account: The folder of the service account.
        period_s: Seconds between two questions.
    """

    def __init__(self, url: str, node: str, account: str = ACCOUNT, period_s: float = 5.0) -> None:
        super().__init__("kubernetes:node", url, f"/api/v1/nodes/{node}", account, period_s)

    def identify(self, reply: Reply) -> object:
        return repr(_node_facts(reply, self.name))

    def parse(self, reply: Reply) -> Notice | None:
        return parse_node(reply, self.name)


class Kubernetes(NodeNoticeSource):
    """Find out, on each node, which objects may be read there, and ask about those.

    Args:
        url: The API server; by default the one that the pod's environment names.
        account: The folder of the service account.
    """

    name = "kubernetes"
    period_s = 2.0

    def __init__(self, url: str | None = None, account: str = ACCOUNT) -> None:
        self.url = url
        self.account = account

    async def resolve(self) -> Sequence[NodeNoticeSource]:
        environ = os.environ
        url = self.url
        if url is None and "KUBERNETES_SERVICE_HOST" in environ:
            host = environ["KUBERNETES_SERVICE_HOST"]
            host = f"[{host}]" if ":" in host else host
            url = f"https://{host}:{environ.get('KUBERNETES_SERVICE_PORT', '443')}"
        try:
            namespace = _read(self.account, "namespace")
        except (OSError, UnicodeDecodeError):
            return ()
        # A pod's host name is its own, unless it says otherwise.
        pod_name = environ.get("POD_NAME") or environ.get("HOSTNAME")
        if url is None or not pod_name:
            return ()
        pod = KubernetesPod(url, namespace, pod_name, self.account)
        reply = await _try(pod)
        found: list[NodeNoticeSource] = [] if reply is None else [pod]
        node_name = environ.get("NODE_NAME") or (None if reply is None else _node_of(reply))
        if node_name:
            node = KubernetesNode(url, node_name, self.account)
            if await _try(node) is not None:
                found.append(node)
        return found

    async def check(self, node_id: str, address: str) -> Notice | None:
        return None


def _read(account: str, name: str) -> str:
    # From memory, where the kubelet puts it: no wait that a thread would be worth.
    return Path(account, name).read_text().strip()


async def _try(source: KubernetesObject) -> Reply | None:
    try:
        reply = await source.ask()
    except SourceUnavailable:
        return None
    return reply if reply.status == 200 else None


def _node_of(reply: Reply) -> str | None:
    spec = _part(read_json(reply, "kubernetes"), "spec")
    name = spec.get("nodeName")
    return name if isinstance(name, str) else None


def parse_pod(reply: Reply, name: str) -> Notice | None:
    """Read a pod: `deletionTimestamp` is when its grace is over."""
    deleted, disruption = _pod_facts(reply, name)
    if deleted is None and disruption is None:
        return None
    return Notice(
        kind=NoticeKind.PREEMPT,
        deadline=deadline_at(deleted, reply.at, reply.skew_s, POD_LEAD_S),
        source=name,
        reason=words("the pod is deleted" if deleted else "the pod is disrupted", disruption),
    )


def _pod_facts(reply: Reply, name: str) -> tuple[str | None, str | None]:
    pod = fields_of(read_json(reply, name), name)
    deleted = _part(pod, "metadata").get("deletionTimestamp")
    conditions = _part(pod, "status").get("conditions")
    disruption = next(
        (
            words(each.get("reason"), each.get("message"))
            for each in (conditions if isinstance(conditions, list) else [])
            if isinstance(each, dict)
            and each.get("type") == "DisruptionTarget"
            and each.get("status") == "True"
        ),
        None,
    )
    return (deleted if isinstance(deleted, str) and deleted else None), disruption


def parse_node(reply: Reply, name: str) -> Notice | None:
    """Read a node: of its taints and labels the most urgent counts."""
    taints, planned, active = _node_facts(reply, name)
    found = []
    for key, value in taints:
        kind, advisory, left_s = TAINTS[key]
        deadline = None if left_s is None else reply.at + left_s
        reason = words("taint", key, value)
        found.append(
            Notice(kind=kind, deadline=deadline, source=name, reason=reason, advisory=advisory)
        )
    if planned is not None or active is not None:
        deadline = _maintenance_at(planned, active, reply)
        reason = words("the node's maintenance", active, "from", planned)
        kind = NoticeKind.MAINTENANCE
        found.append(Notice(kind=kind, deadline=deadline, source=name, reason=reason))
    last = float("inf")
    return min(
        found,
        key=lambda notice: (notice.advisory, last if notice.deadline is None else notice.deadline),
        default=None,
    )


def _maintenance_at(planned: str | None, active: str | None, reply: Reply) -> float | None:
    if active == "ONGOING":
        return reply.at
    try:
        at = parse_slurm_time(planned or "")  # UNIX seconds, as Slurm's.
    except ValueError:
        return None
    return None if at is None else max(at - reply.skew_s, reply.at)


def _node_facts(reply: Reply, name: str) -> tuple[list[tuple[str, str]], str | None, str | None]:
    node = fields_of(read_json(reply, name), name)
    taints = _part(node, "spec").get("taints")
    labels = _part(_part(node, "metadata"), "labels")
    known = [
        (str(taint["key"]), str(taint.get("value") or ""))
        for taint in (taints if isinstance(taints, list) else [])
        if isinstance(taint, dict) and isinstance(taint.get("key"), str) and taint["key"] in TAINTS
    ]
    planned, active = labels.get(GKE_MAINTENANCE), labels.get(GKE_ACTIVE)
    return (
        sorted(known),
        planned if isinstance(planned, str) else None,
        active if isinstance(active, str) and active not in ("", "NONE", "COMPLETE") else None,
    )


def _part(value: object, name: str) -> dict[str, Any]:
    part = value.get(name) if isinstance(value, dict) else None
    return part if isinstance(part, dict) else {}
