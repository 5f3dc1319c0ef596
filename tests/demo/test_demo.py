"""`pool demo` as its user runs it: a process of its own, its output and its exit status."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import psutil
import pytest

from pool.demo.checks import check_all
from tests.demo.records import good_record

DEMO = [sys.executable, "-m", "pool.cli", "demo"]


def test_help_is_quick_because_it_imports_no_ray() -> None:
    program = (
        "import sys\n"
        "from typer.testing import CliRunner\n"
        "from pool.cli import app\n"
        "done = CliRunner().invoke(app, ['--help'])\n"
        "assert done.exit_code == 0, done.output\n"
        "assert 'demo' in done.output, done.output\n"
        "assert 'ray' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_the_version_is_printed() -> None:
    command = [sys.executable, "-m", "pool.cli", "--version"]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip()[0].isdigit()


def test_a_process_that_is_connected_to_a_cluster_is_refused_politely() -> None:
    program = (
        "import sys, ray\n"
        "ray.is_initialized = lambda: True\n"
        "from pool.demo.run import run_demo\n"
        "sys.exit(run_demo(as_json=True))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert "call ray.shutdown() first" in done.stderr
    assert not done.stdout


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(500)
def test_everything_that_the_demo_claims_happens() -> None:
    done = subprocess.run(
        [*DEMO, "--json"],
        capture_output=True,
        text=True,
        timeout=450,
        check=False,
    )
    told = json.loads(done.stdout)
    failed = [check for check in told["checks"] if not check["ok"]]
    assert not failed, done.stderr
    assert {check["name"] for check in told["checks"]} == {
        check.name for check in check_all(good_record())
    }
    assert done.returncode == 0
    assert told["ok"]
    assert told["error"] is None


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(180)
def test_ctrl_c_ends_everything_that_the_demo_started() -> None:
    with subprocess.Popen(
        DEMO, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as demo:
        assert demo.stdout is not None
        for line in demo.stdout:
            if " ready: " in line:
                break
        started = psutil.Process(demo.pid).children(recursive=True)
        # As a terminal does it: to all processes in the foreground.
        os.killpg(demo.pid, signal.SIGINT)
        output, _ = demo.communicate(timeout=60)
    assert demo.returncode == 130, output
    assert "Interrupted. What is left: nothing." in output
    assert len(started) > 8
    psutil.wait_procs(started, timeout=5)
    assert not [process for process in started if process.is_running()]
