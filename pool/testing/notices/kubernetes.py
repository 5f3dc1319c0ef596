"""A fake of Kubernetes' API server, of which a pod may read itself and its node."""

from __future__ import annotations

import json
import secrets
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pool.testing.notices.server import FakeService, Question, Said


class FakeKubernetes(FakeService):
    """Answer for one pod and one node, to whoever has the pod's token.

    Args:
        account: An empty folder, in which the pod's service account is written.
        namespace: The pod's namespace.
        pod: The pod's name.
        node: The node's name.

    Attributes:
        may_read_nodes: Whether the pod's account has that right.
    """

    def __init__(
        self, account: Path, namespace: str = "default", pod: str = "pod-1", node: str = "node-1"
    ) -> None:
        super().__init__()
        self.may_read_nodes = True
        self._account = Path(account)
        self._token = ""
        self._paths = {
            f"/api/v1/namespaces/{namespace}/pods/{pod}": "pod",
            f"/api/v1/nodes/{node}": "node",
        }
        self.objects: dict[str, dict[str, Any]] = {
            "pod": {
                "kind": "Pod",
                "metadata": {"name": pod, "namespace": namespace},
                "spec": {"nodeName": node},
                "status": {"phase": "Running", "conditions": []},
            },
            "node": {
                "kind": "Node",
                "metadata": {"name": node, "labels": {}},
                "spec": {},
                "status": {"conditions": [{"type": "Ready", "status": "True"}]},
            },
        }
        (self._account / "namespace").write_text(namespace)
        self.renew_token()

    def renew_token(self) -> None:
        """Write a new token, as the kubelet does; the old one is refused."""
        self._token = secrets.token_urlsafe(20)
        (self._account / "token").write_text(self._token)

    def delete_pod(self, grace_s: float = 30.0) -> None:
        """Begin to delete the pod."""
        at = datetime.fromtimestamp(self.now() + grace_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        self.objects["pod"]["metadata"]["deletionTimestamp"] = at

    def disrupt_pod(self, reason: str = "EvictionByEvictionAPI", message: str = "") -> None:
        """Say that the pod is about to be disrupted."""
        condition = {
            "type": "DisruptionTarget",
            "status": "True",
            "reason": reason,
            "message": message,
        }
        self.objects["pod"]["status"]["conditions"] = [condition]

    def taint(self, key: str, value: str = "", effect: str = "NoSchedule") -> None:
        """Put a taint on the node."""
        taint = {"key": key, "value": value, "effect": effect}
        self.objects["node"]["spec"].setdefault("taints", []).append(taint)

    def untaint(self) -> None:
        """Take all taints from the node."""
        self.objects["node"]["spec"].pop("taints", None)

    def label(self, key: str, value: str) -> None:
        """Put a label on the node."""
        self.objects["node"]["metadata"]["labels"][key] = value

    def answer(self, question: Question) -> Said:
        if question.headers.get("authorization") != f"Bearer {self._token}":
            return _status(401, "Unauthorized")
        kind = self._paths.get(question.path)
        if kind is None or (kind == "node" and not self.may_read_nodes):
            return _status(403, f"{question.path} is forbidden")
        body = json.dumps(self.objects[kind]).encode()
        return Said(200, body, {"Content-Type": "application/json"})


def _status(code: int, message: str) -> Said:
    status = {"kind": "Status", "status": "Failure", "code": code, "message": message}
    return Said(code, json.dumps(status).encode(), {"Content-Type": "application/json"})
