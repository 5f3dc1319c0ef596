"""Every Python block of the README and the documentation runs, page by page."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.snippets import ROOT, Block, ClusterSpec, Page, pages

PAGES = pages()
RUNNER = Path(__file__).with_name("run_page.py")
TIMEOUT_S = 150


def run(page: Page, env: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error::SyntaxWarning", str(RUNNER), page.name],
        input=page.program,
        cwd=ROOT,
        env=os.environ | env,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, f"{page.name} failed:\n{done.stdout}\n{done.stderr}"


def start_cluster(request: pytest.FixtureRequest, spec: ClusterSpec) -> dict[str, str]:
    """Start the cluster that a page asks for, and say how the page finds it.

    This is the one place that knows the fixture: `ray_cluster(nodes=, gpus=)` returns an object
    with an `address`, and removes the cluster when the test is over.
    """
    factory = request.getfixturevalue("ray_cluster")
    return {"RAY_ADDRESS": factory(nodes=spec.nodes, gpus=spec.gpus).address}


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, id=page.name, marks=[pytest.mark.ray] if page.cluster else [])
        for page in PAGES
        if page.program
    ],
)
def test_a_page_runs(page: Page, request: pytest.FixtureRequest) -> None:
    run(page, start_cluster(request, page.cluster) if page.cluster else {})


@pytest.mark.parametrize(
    "block",
    [
        pytest.param(block, id=f"{page.name}:{block.line}")
        for page in PAGES
        for block in page.blocks
        if block.skip is not None
    ],
)
def test_a_block_left_out_says_why(block: Block) -> None:
    compile("async def _():\n " + "\n ".join(block.lines), "block", "exec")
    pytest.skip(str(block.skip))
