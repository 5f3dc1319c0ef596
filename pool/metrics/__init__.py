"""The metrics of a pool, and what shows and watches them: a Grafana dashboard, and alert rules.

`table.py` is the one list of metrics. Beside it lie `dashboard.json` and `alerts.yml`, which name
nothing that is not in it.
"""

from pathlib import Path

__all__ = ["FOLDER"]

FOLDER = Path(__file__).parent
"""Where the dashboard and the alert rules are."""
