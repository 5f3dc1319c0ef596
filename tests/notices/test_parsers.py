"""Whatever bytes a service sends: a notice, nothing, or `SourceUnavailable`, and never more."""

from __future__ import annotations

import json
import math
import pickle
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool.errors import SourceUnavailable
from pool.notices import aws, azure, gce, kubernetes, sharing, slurm
from pool.notices.service import Reply
from pool.planning.notice import Notice, NoticeKind

NOW = 1_700_000_000.0

PARSERS: dict[str, Callable[[Reply], Notice | None]] = {
    "gce preempted": lambda reply: gce.parse_preempted(reply, "s", 30.0),
    "gce event": lambda reply: gce.parse_maintenance_event(reply, "s", 60.0),
    "gce upcoming": lambda reply: gce.parse_upcoming_maintenance(reply, "s"),
    "aws action": lambda reply: aws.parse_instance_action(reply, "s"),
    "aws rebalance": lambda reply: aws.parse_rebalance(reply, "s"),
    "aws scheduled": lambda reply: aws.parse_scheduled(reply, "s"),
    "azure": lambda reply: azure.parse_events(reply, "s", "vm-1"),
    "pod": lambda reply: kubernetes.parse_pod(reply, "s"),
    "node": lambda reply: kubernetes.parse_node(reply, "s"),
}

WORDS = [
    *("action", "time", "noticeTime", "State", "active", "NotBefore", "Code", "Events"),
    *("Resources", "vm-1", "EventStatus", "Started", "EventType", "Preempt", "metadata", "spec"),
    *("deletionTimestamp", "status", "conditions", "type", "DisruptionTarget", "True", "taints"),
    *("key", "value", "labels", "window_start_time", "maintenance_status", "ONGOING", "TRUE"),
    *(kubernetes.GKE_ACTIVE, kubernetes.GKE_MAINTENANCE, *kubernetes.TAINTS),
    *("2017-09-18T08:22:00Z", "21 Jan 2019 09:00:43 GMT", "9999-12-31T23:59:59-23:59", "\ud800"),
]
text = st.sampled_from(WORDS) | st.text(max_size=8)
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=5),
    max_leaves=30,
)


def check(parse: Callable[[Reply], Notice | None], body: bytes, skew_s: float) -> None:
    try:
        notice = parse(Reply(200, {}, body, NOW, skew_s))
    except SourceUnavailable:
        return
    if notice is not None:
        assert notice.deadline is None or (math.isfinite(notice.deadline))
        assert notice.deadline is None or notice.deadline >= NOW
        assert len(notice.reason) <= 300
        notice.reason.encode()
        assert pickle.loads(pickle.dumps(notice)) == notice
        assert sharing.read(sharing.write((notice,))) == (notice,)


@pytest.mark.parametrize("name", PARSERS)
@given(body=st.binary(max_size=200), skew_s=st.floats(-1e9, 1e9))
def test_any_bytes(name: str, body: bytes, skew_s: float) -> None:
    check(PARSERS[name], body, skew_s)


@pytest.mark.parametrize("name", PARSERS)
@given(value=anything, skew_s=st.sampled_from([0.0, 5.0, -86400.0]))
def test_any_json(name: str, value: Any, skew_s: float) -> None:
    check(PARSERS[name], json.dumps(value).encode(), skew_s)


@pytest.mark.parametrize("name", PARSERS)
def test_json_deeper_than_the_stack(name: str) -> None:
    check(PARSERS[name], b"[" * 100_000, 0.0)


@given(
    output=st.binary(max_size=200) | st.text(max_size=60).map(lambda end: f"EndTime={end}".encode())
)
def test_any_output_of_slurms_commands(output: bytes) -> None:
    for parse in (slurm.parse_squeue, slurm.parse_scontrol):
        try:
            end = parse(output)
        except SourceUnavailable:
            continue
        assert end is None or math.isfinite(end)


@given(line=st.binary(max_size=200) | anything.map(lambda value: json.dumps(value).encode()))
def test_any_line_of_whoever_shares(line: bytes) -> None:
    try:
        told = sharing.read(line)
    except (ValueError, TypeError):
        return
    assert all(isinstance(notice, Notice) for notice in told)


def reply(value: Any, skew_s: float = 0.0) -> Reply:
    body = value if isinstance(value, str) else json.dumps(value)
    return Reply(200, {}, body.encode(), NOW, skew_s)


@pytest.mark.parametrize(
    "none", ["{}", "NONE", '"NONE"', "", '{"error": "no notifications have been received yet"}']
)
def test_google_has_several_ways_to_say_that_no_maintenance_is_planned(none: str) -> None:
    assert gce.parse_upcoming_maintenance(reply(none), "s") is None


def test_maintenance_that_google_plans() -> None:
    window = {
        "can_reschedule": "true",
        "window_start_time": "2023-11-15T00:00:00+00:00",
        "window_end_time": "2023-11-15T04:00:00+00:00",
        "maintenance_status": "PENDING",
        "type": "SCHEDULED",
        "maintenance_reasons": ["FAILURE_GPU_XID"],
    }
    notice = gce.parse_upcoming_maintenance(reply(window), "s")
    assert notice is not None
    assert notice.kind is NoticeKind.MAINTENANCE
    assert notice.deadline == 1_700_006_400
    assert notice.reason == "SCHEDULED PENDING FAILURE_GPU_XID"
    ongoing = gce.parse_upcoming_maintenance(reply(window | {"maintenance_status": "ONGOING"}), "s")
    assert ongoing is not None
    assert ongoing.deadline == NOW
    done = gce.parse_upcoming_maintenance(reply(window | {"maintenance_status": "COMPLETE"}), "s")
    assert done is None


def test_a_migration_is_advisory_and_a_termination_is_not() -> None:
    moved = gce.parse_maintenance_event(reply("MIGRATE_ON_HOST_MAINTENANCE"), "s", 60.0)
    ended = gce.parse_maintenance_event(reply("TERMINATE_ON_HOST_MAINTENANCE\n"), "s", 60.0)
    assert moved is not None
    assert ended is not None
    assert (moved.advisory, ended.advisory) == (True, False)
    assert ended.deadline == NOW + 60


def test_of_scheduled_events_the_first_that_is_active_counts() -> None:
    def event(day: int, state: str) -> dict[str, str]:
        return {
            "NotBefore": f"{day} Nov 2023 09:00:43 GMT",
            "Code": "system-reboot",
            "EventId": f"instance-event-{day}",
            "State": state,
            "Description": "scheduled reboot",
        }

    events = [event(20, "active"), event(16, "completed"), event(18, "active")]
    notice = aws.parse_scheduled(reply(events), "s")
    assert notice is not None
    assert notice.reason == "system-reboot instance-event-18 scheduled reboot"
    assert aws.parse_scheduled(reply([event(16, "canceled")]), "s") is None


def test_the_clock_of_the_service_counts_for_its_deadlines() -> None:
    told = {"action": "terminate", "time": "2023-11-14T22:25:20Z"}
    notice = aws.parse_instance_action(reply(told, skew_s=600.0), "s")
    assert notice is not None
    assert notice.deadline == NOW + 120


def azure_event(kind: str, *resources: str, **more: Any) -> dict[str, Any]:
    event = {"EventId": f"E-{kind}", "EventType": kind, "Resources": list(resources)}
    event |= {"EventStatus": "Scheduled", "NotBefore": "Tue, 14 Nov 2023 22:15:20 GMT"}
    return event | more


def test_azures_events_for_others_are_none_of_ours_and_the_most_urgent_counts() -> None:
    document = {"Events": [azure_event("Preempt", "vm-2")]}
    assert azure.parse_events(reply(document), "s", "vm-1") is None
    document["Events"] += [
        azure_event("Freeze", "VM-1", EventStatus="Started", NotBefore=""),
        azure_event("Reboot", "vm-2", "vm-1"),
    ]
    notice = azure.parse_events(reply(document), "s", "vm-1")
    assert notice is not None
    assert (notice.kind, notice.advisory) == (NoticeKind.MAINTENANCE, False)
    assert notice.deadline == NOW + 120
    assert notice.reason.split()[0] == "E-Reboot"


def test_an_azure_event_that_has_started_is_due_now() -> None:
    event = azure_event("Redeploy", "vm-1", EventStatus="Started", NotBefore="")
    notice = azure.parse_events(reply({"Events": [event]}), "s", "vm-1")
    assert notice is not None
    assert notice.deadline == NOW
