"""Kubernetes: a pod that is deleted or disrupted, a node that is tainted, against the fake."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from pool.errors import SourceUnavailable
from pool.notices import Kubernetes, KubernetesNode, KubernetesPod
from pool.planning.notice import NoticeKind
from pool.testing.notices import FakeKubernetes
from tests.notices.asking import ask


@pytest.fixture
def api(tmp_path: Path) -> Iterator[FakeKubernetes]:
    with FakeKubernetes(tmp_path) as fake:
        yield fake


def pod_of(api: FakeKubernetes, account: Path) -> KubernetesPod:
    return KubernetesPod(api.url, "default", "pod-1", str(account))


def node_of(api: FakeKubernetes, account: Path) -> KubernetesNode:
    return KubernetesNode(api.url, "node-1", str(account))


def test_a_pod_that_is_deleted_goes_when_its_grace_is_over(
    api: FakeKubernetes, tmp_path: Path
) -> None:
    source = pod_of(api, tmp_path)
    assert ask(source) is None
    api.delete_pod(grace_s=45)
    notice = ask(source)
    assert notice is not None
    assert notice.kind is NoticeKind.PREEMPT
    assert notice.deadline == pytest.approx(time.time() + 45, abs=3)


def test_a_pod_that_is_disrupted_has_the_usual_grace(api: FakeKubernetes, tmp_path: Path) -> None:
    api.disrupt_pod("PreemptionByScheduler", "preempting to accommodate a higher priority pod")
    notice = ask(pod_of(api, tmp_path))
    assert notice is not None
    assert notice.deadline == pytest.approx(time.time() + 30, abs=3)
    assert "PreemptionByScheduler" in notice.reason


@pytest.mark.parametrize(
    ("taint", "kind", "advisory", "left_s"),
    [
        ("cloud.google.com/impending-node-termination", NoticeKind.PREEMPT, False, 15),
        ("aws-node-termination-handler/spot-itn", NoticeKind.PREEMPT, False, 120),
        ("karpenter.sh/disrupted", NoticeKind.PREEMPT, False, None),
        ("ToBeDeletedByClusterAutoscaler", NoticeKind.PREEMPT, False, None),
        ("aws-node-termination-handler/rebalance-recommendation", NoticeKind.REBALANCE, True, None),
        ("node.kubernetes.io/unschedulable", NoticeKind.MAINTENANCE, True, None),
    ],
)
def test_a_taint_is_a_notice(
    api: FakeKubernetes,
    tmp_path: Path,
    taint: str,
    kind: NoticeKind,
    advisory: bool,
    left_s: float | None,
) -> None:
    source = node_of(api, tmp_path)
    assert ask(source) is None
    api.taint("nvidia.com/gpu", "present")
    api.taint("node.kubernetes.io/not-ready")
    assert ask(source) is None, "others are none of ours"
    api.taint(taint)
    notice = ask(source)
    assert notice is not None
    assert (notice.kind, notice.advisory) == (kind, advisory)
    left = None if left_s is None else pytest.approx(time.time() + left_s, abs=3)
    assert notice.deadline == left
    api.untaint()
    assert ask(source) is None


def test_a_deadline_stays_where_it_was_while_the_node_object_changes(
    api: FakeKubernetes, tmp_path: Path
) -> None:
    async def main() -> None:
        source = node_of(api, tmp_path)
        api.taint("cloud.google.com/impending-node-termination")
        first = await source.check("n", "a")
        api.objects["node"]["status"]["conditions"] = [{"type": "Ready", "heartbeat": "later"}]
        await anyio.sleep(0.1)
        assert await source.check("n", "a") == first

    anyio.run(main)


def test_maintenance_that_gke_plans(api: FakeKubernetes, tmp_path: Path) -> None:
    at = int(time.time()) + 7200
    api.label("cloud.google.com/scheduled-maintenance-time", str(at))
    notice = ask(node_of(api, tmp_path))
    assert notice is not None
    assert (notice.kind, notice.deadline) == (NoticeKind.MAINTENANCE, at)
    api.label("cloud.google.com/active-node-maintenance", "ONGOING")
    notice = ask(node_of(api, tmp_path))
    assert notice is not None
    assert notice.deadline == pytest.approx(time.time(), abs=3)


def test_a_token_that_the_kubelet_renewed_is_read_again(
    api: FakeKubernetes, tmp_path: Path
) -> None:
    source = pod_of(api, tmp_path)
    ask(source)
    api.renew_token()
    assert ask(source) is None
    (tmp_path / "token").write_text("stolen")
    with pytest.raises(SourceUnavailable, match="401"):
        ask(source)


def test_what_may_be_read_is_found_out(
    api: FakeKubernetes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POD_NAME", "pod-1")
    found = Kubernetes(api.url, str(tmp_path))
    assert [s.name for s in anyio.run(found.resolve)] == ["kubernetes:pod", "kubernetes:node"]
    api.may_read_nodes = False
    assert [s.name for s in anyio.run(found.resolve)] == ["kubernetes:pod"]
    monkeypatch.setenv("POD_NAME", "another")
    assert anyio.run(found.resolve) == []
    assert anyio.run(Kubernetes(api.url, str(tmp_path / "nowhere")).resolve) == ()
