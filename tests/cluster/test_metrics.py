"""Metrics on their whole way: from a pool through Ray's agents into a real Prometheus."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import anyio
import pytest
import ray

import pool
from pool.metrics import FOLDER
from tests.metrics.test_files import expressions
from tests.world import World

PROMETHEUS = shutil.which("prometheus")
WAIT_S = 90
"""Ray's workers hand over each ten seconds, and agents take a while to listen."""

pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.skipif(PROMETHEUS is None, reason="there is no Prometheus here"),
    pytest.mark.skipif(
        find_spec("prometheus_client") is None,
        reason="Ray's metrics agent is not here; `nox -s metrics` runs this with it",
    ),
]


class Prometheus:
    """A Prometheus of the test's own, that scrapes what Ray's nodes export."""

    def __init__(self, folder: Path, targets: list[str]) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.address = f"127.0.0.1:{free.getsockname()[1]}"
        config = {
            "global": {"scrape_interval": "3s", "evaluation_interval": "3s"},
            "rule_files": [str(FOLDER / "alerts.yml")],
            "scrape_configs": [{"job_name": "ray", "static_configs": [{"targets": targets}]}],
        }
        file = folder / "prometheus.yml"
        file.write_text(json.dumps(config))  # JSON is YAML.
        self.process = subprocess.Popen(
            [
                str(PROMETHEUS),
                f"--config.file={file}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address={self.address}",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def ask(self, path: str, **query: str) -> Any:
        url = f"http://{self.address}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            told = json.load(answer)
        assert told["status"] == "success"
        return told["data"]

    def value(self, expression: str) -> float | None:
        """Return what an expression gives now; None for nothing."""
        try:
            result = self.ask("query", query=expression)["result"]
        except OSError:
            return None
        return float(result[0]["value"][1]) if result else None


@pytest.fixture
def prometheus(world: World, tmp_path: Path) -> Iterator[Prometheus]:
    nodes = [node for node in ray.nodes() if node["Alive"]]
    targets = [f"{node['NodeManagerAddress']}:{node['MetricsExportPort']}" for node in nodes]
    started = Prometheus(tmp_path, targets)
    yield started
    started.process.terminate()
    started.process.wait(timeout=30)


async def until(prometheus: Prometheus, expression: str, wanted: float) -> None:
    with anyio.move_on_after(WAIT_S):
        # Prometheus tells nobody when it has scraped.
        while await anyio.to_thread.run_sync(prometheus.value, expression) != wanted:  # noqa: ASYNC110
            await anyio.sleep(1)
        return
    pytest.fail(f"{expression} is {prometheus.value(expression)}, not {wanted}")


def test_a_pool_is_seen_in_prometheus_and_every_panel_and_rule_can_be_evaluated(
    prometheus: Prometheus,
) -> None:
    async def main() -> None:
        shape = pool.ReplicaShape(devices=4)
        async with pool.ReplicaPool("seen", shape=shape) as replicas:
            await replicas.scale(2, timeout_s=120)
            await until(prometheus, 'max(ray_pool_ready_members{pool="seen"})', 2)
            await until(prometheus, 'max(ray_pool_members{pool="seen", state="ready"})', 2)
            replicas.kill_member(replicas.handles()[0], None)
            await until(prometheus, 'sum(ray_pool_failures_total{pool="seen",cause="crash"})', 1)
            await until(prometheus, 'sum(ray_pool_recovery_seconds_count{pool="seen"})', 1)
            await until(prometheus, 'sum(ray_pool_starts_total{pool="seen"})', 3)
            for expression in expressions():
                prometheus.ask("query", query=expression.replace("$pool", ".*"))
            [group] = prometheus.ask("rules")["groups"]
            assert {rule["health"] for rule in group["rules"]} == {"ok"}

    anyio.run(main)
