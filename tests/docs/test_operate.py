"""The page for operators: every command on it runs, and prints what the page says.

`POOL_GOLDEN=write pytest` writes what is printed into the page.
"""

from __future__ import annotations

import getpass
import json
import os
import re
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.docs.snippets import ROOT
from tests.world import World

pytestmark = [pytest.mark.ray, pytest.mark.slow]

PAGE = ROOT / "docs" / "how-to" / "operate-from-the-command-line.md"
KILL = "<!-- the driver is killed -->"

_CHANGING = (
    (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "TIME"),
    (r"\b\d+(\.\d+)? (s|min|h|d)( \d+ (s|min|h))?\b", "SPAN"),
    (r"\b(?=[0-9a-f]*\d)[0-9a-f]{6,}\b", "ID"),
    (r"\d+(\.\d+)*", "N"),
    (r" +", " "),
    (r"\S+@host-a", "USER"),
)
"""What differs from one time to the next; the first that fits."""


def run(world: World, line: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", "from pool.cli import main; main()", *shlex.split(line)[1:]],
        env=os.environ | {"RAY_ADDRESS": world.cluster.address, "COLUMNS": "96"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=150,
        check=False,
    )
    printed = "".join(f"{each.rstrip()}\n" for each in done.stdout.splitlines())
    printed = printed.replace(f"{getpass.getuser()}@{socket.gethostname()}", "ann@host-a")
    return printed.replace(socket.gethostname(), "host-a").replace(sys.executable, "python")


def alike(printed: str) -> list[str]:
    """Return the text without what differs from one time to the next, and where lines end."""
    text = " ".join(printed.split())
    for pattern, word in _CHANGING:
        text = re.sub(pattern, word, text)
    return text.split(" ")


def until_gone(world: World) -> None:
    def views() -> dict[str, Any]:
        told = json.loads(run(world, "pool status --json"))["pools"]
        return {view["name"]: view for view in told}

    def is_over() -> bool:
        seen = views()
        gone = {view["status"] for view in seen.values()} == {"owner gone"}
        return gone and not seen["rollout"]["actors"] and not seen["rollout"]["groups"]

    world.eventually(is_over, views, 60)


@pytest.fixture
def driver(world: World) -> Iterator[subprocess.Popen[str]]:
    run(world, "pool reap --yes")  # What the killed drivers of other tests had shown.
    command = [sys.executable, "-m", "tests.cluster.cli_driver", world.cluster.address]
    driver = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    with driver:
        assert driver.stdout is not None
        assert driver.stdout.readline() == "ready\n"
        try:
            yield driver
        finally:
            driver.kill()
        ended = run(world, "pool reap eval --yes")
        while "is held by" in ended:  # Until the dead owner's lease is over.
            ended = run(world, "pool reap eval --yes")
        run(world, "pool reap --yes")


@pytest.mark.timeout(500)
def test_every_command_on_the_page_prints_what_the_page_says(
    world: World, driver: subprocess.Popen[str]
) -> None:
    world.eventually(lambda: "1 of 1" in run(world, "pool status rollout"), str, 60)
    world.eventually(lambda: "1 of 1" in run(world, "pool status eval"), str, 60)
    page: list[str] = []
    wrong: list[str] = []
    lines = iter(PAGE.read_text().splitlines())
    for line in lines:
        page.append(line)
        if line == KILL:
            driver.kill()
            driver.wait()
            until_gone(world)
        if line != "```console":
            continue
        block: dict[str, list[str]] = {}
        for inside in lines:
            if inside == "```":
                break
            if inside.startswith("$ "):
                block[inside] = []
            else:
                block[list(block)[-1]].append(inside)
        for command, said in block.items():
            printed = run(world, command.removeprefix("$ "))
            page += [command, *printed.splitlines()]
            if alike(printed) != alike("\n".join(said)):
                wrong.append(f"{command}\n{printed}")
        page.append("```")
    if os.environ.get("POOL_GOLDEN") == "write":
        PAGE.write_text("\n".join(page) + "\n")
    else:
        assert not wrong, "\n".join(wrong)
