"""The dashboard and the alert rules: they name metrics that there are, and promtool takes them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from grafana_foundation_sdk.cog import plugins
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

from pool.cluster.meters import MeterKind
from pool.metrics import FOLDER
from pool.metrics.table import METERS

ALERTS = (FOLDER / "alerts.yml").read_text()
DASHBOARD: dict[str, Any] = json.loads((FOLDER / "dashboard.json").read_text())
PROMTOOL = shutil.which("promtool")
KNOWN = {
    f"ray_{meter.name}{end}"
    for meter in METERS
    for end in (("_bucket",) if meter.kind is MeterKind.HISTOGRAM else ("",))
}


def expressions() -> Iterator[str]:
    """Yield what the dashboard's panels ask."""
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            yield str(target["expr"])


def named(text: str) -> set[str]:
    return set(re.findall(r"\bray_pool\w+", text))


def test_the_dashboard_and_the_alerts_name_only_metrics_that_there_are() -> None:
    assert named(json.dumps(DASHBOARD)) | named(ALERTS) <= KNOWN


def test_the_dashboard_shows_every_metric() -> None:
    assert KNOWN - named(json.dumps(DASHBOARD)) == {"ray_pool_settled", "ray_pool_desired_spares"}


def dropped(given: Any, read: Any, path: str = "") -> Iterator[str]:
    """Yield where what was read differs from what was given, but for defaults."""
    if isinstance(given, dict) and isinstance(read, dict):
        for key, value in given.items():
            yield from dropped(value, read.get(key), f"{path}/{key}")
    elif isinstance(given, list) and isinstance(read, list) and len(given) == len(read):
        for index, value in enumerate(given):
            yield from dropped(value, read[index], f"{path}/{index}")
    elif given != read:
        yield path


def test_grafanas_own_schema_knows_every_field_of_the_dashboard() -> None:
    """A misspelt one would be dropped without a word."""
    plugins.register_default_plugins()
    read = json.loads(JSONEncoder().encode(Dashboard.from_json(DASHBOARD)))
    # What Grafana's editor shows of a variable's query; its schema leaves it out.
    assert list(dropped(DASHBOARD, read)) == ["/templating/list/1/definition"]


def test_panels_do_not_overlap_and_say_what_they_show() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])
        }
        assert not cells & taken
        assert all(0 <= x < 24 for x, _ in cells)
        taken |= cells
        assert panel["title"]
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))


@pytest.mark.skipif(PROMTOOL is None, reason="there is no promtool here")
def test_promtool_takes_the_rules_and_each_fires_when_it_should(tmp_path: Path) -> None:
    (tmp_path / "alerts.yml").write_text(ALERTS)
    (tmp_path / "rules.yml").write_text((Path(__file__).parent / "rules.yml").read_text())
    for command in (["check", "rules", "alerts.yml"], ["test", "rules", "rules.yml"]):
        ended = subprocess.run(
            ["promtool", *command], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr
