"""Which platform a node is on: found out once, quickly, by asking fakes on loopback alone."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

import pool
from pool.errors import ConfigError
from pool.testing.notices import FakeAws, FakeAzure, FakeGce, FakeKubernetes, FakeService, FakeSlurm

NO_ACCOUNT = "/nowhere"


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        *("GCE_METADATA_HOST", "AWS_EC2_METADATA_SERVICE_ENDPOINT", "AWS_EC2_METADATA_DISABLED"),
        *("KUBERNETES_SERVICE_HOST", "SLURM_JOB_ID"),
    ):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def nobody() -> Iterator[str]:
    """Give an address where nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


def names(nobody: str, **urls: str) -> list[str]:
    given = {"gce_url": nobody, "aws_url": nobody, "azure_url": nobody, "kubernetes_url": nobody}
    [source] = pool.notices.detect(**{"kubernetes_account": NO_ACCOUNT, **given, **urls})
    return [found.name for found in anyio.run(source.resolve)]


def test_nothing_is_asked_before_a_host_starts() -> None:
    with FakeGce() as gce:
        pool.notices.detect(gce_url=gce.url, aws_url=gce.url, azure_url=gce.url)
        assert not gce.questions


def test_off_any_cloud_it_is_quiet_and_quick(nobody: str, caplog: pytest.LogCaptureFixture) -> None:
    begun = time.monotonic()
    assert names(nobody) == []
    assert time.monotonic() - begun < 3
    assert not [record for record in caplog.records if record.levelname != "INFO"]


def test_an_address_where_packets_are_dropped_is_not_waited_for_long(nobody: str) -> None:
    with FakeGce() as silent:
        silent.hangs = True
        begun = time.monotonic()
        assert names(nobody, gce_url=silent.url, aws_url=silent.url, azure_url=silent.url) == []
        assert time.monotonic() - begun < 8
        assert len(silent.questions) == 6


def test_each_cloud_is_known_by_what_no_other_does(nobody: str) -> None:
    with FakeGce() as gce, FakeAws() as aws, FakeAzure() as azure:
        everywhere: dict[FakeService, list[str]] = {
            gce: ["gce:preempted", "gce:maintenance-event", "gce:upcoming-maintenance"],
            aws: ["aws:spot", "aws:rebalance", "aws:maintenance"],
            azure: ["azure:events"],
        }
        for cloud, expected in everywhere.items():
            # One address serves all, as 169.254.169.254 does.
            found = names(nobody, gce_url=cloud.url, aws_url=cloud.url, azure_url=cloud.url)
            assert found == expected
        assert not [q for q in azure.questions if q.path.endswith("scheduledevents")], (
            "detection must not switch the service on"
        )


def test_the_platforms_own_variables_name_the_services(
    nobody: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FakeGce() as gce, FakeAws() as aws:
        monkeypatch.setenv("GCE_METADATA_HOST", gce.url.removeprefix("http://"))
        monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", aws.url)
        [source] = pool.notices.detect(
            azure_url=nobody, kubernetes_url=nobody, kubernetes_account=NO_ACCOUNT
        )
        found = {each.name.split(":")[0] for each in anyio.run(source.resolve)}
        assert found == {"gce", "aws"}
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        found = {each.name.split(":")[0] for each in anyio.run(source.resolve)}
        assert found == {"gce"}


def test_kubernetes_and_slurm(nobody: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POD_NAME", "pod-1")
    with FakeKubernetes(tmp_path) as api:
        assert names(nobody, kubernetes_url=api.url, kubernetes_account=str(tmp_path)) == [
            "kubernetes:pod",
            "kubernetes:node",
        ]
    for name, value in FakeSlurm(tmp_path).environ.items():
        monkeypatch.setenv(name, value)
    assert names(nobody) == ["slurm"]


PLUGIN = """
from pool.notices import FileNotice

def sources():
    return [FileNotice("/run/leaves")]

def broken():
    raise RuntimeError("it is not installed well")

def odd():
    return ["no source"]
"""
ENTRY_POINTS = """[pool.notices]
site = notice_plugin:sources
broken = notice_plugin:broken
odd = notice_plugin:odd
missing = notice_plugin:nothing_there
"""


def test_another_package_registers_its_sources(
    nobody: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    (tmp_path / "notice_plugin.py").write_text(PLUGIN)
    info = tmp_path / "notice_plugin-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: notice-plugin\nVersion: 1\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert names(nobody) == ["file:/run/leaves"]
    left_out = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(left_out) == 3
    assert any("not installed well" in text for text in left_out)


def test_an_address_that_is_none_is_refused_where_it_was_typed() -> None:
    with pytest.raises(ConfigError) as caught:
        pool.notices.detect(aws_url="169.254.169.254")
    assert caught.value.field == "aws_url"
    with contextlib.suppress(ConfigError):
        pool.notices.detect(gce_url="http://127.0.0.1:1")
