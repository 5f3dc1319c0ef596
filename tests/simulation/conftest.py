"""How many seeds the simulation plays: `pytest tests/simulation --seeds 200`."""

from __future__ import annotations

import pytest

SEEDS = 8
"""Seeds of an ordinary run; about half a second each."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--seeds", type=int, default=SEEDS, help="how many seeds the simulation plays")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "seed" in metafunc.fixturenames:
        # NB: where this file is not among the first that pytest reads, the option is not known.
        count = metafunc.config.getoption("--seeds", default=SEEDS)
        metafunc.parametrize("seed", range(int(count or SEEDS)))
