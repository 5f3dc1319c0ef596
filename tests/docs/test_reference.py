"""The reference has all that is public, and all that the guides use.

It says that a name which it does not list is internal. What is public is in `tests/api/public.txt`.
"""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
import textwrap
import types
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.api import surface
from tests.docs.snippets import ROOT, Page, pages

ALIASES = {
    f"pool.notices.{name}": f"pool.{name}" for name in ("Notice", "NoticeKind", "NoticePolicy")
}
"""What has two names, and stands under the second."""
PROGRAMS = {"pool.slurm.node"}
"""What is run as `python -m`, and not imported."""

_LINE = re.compile(r"^( *)(?:(?:classmethod |staticmethod )?(?:async )?(?:def|class) )?([\w.]+)")
_ENTRY = re.compile(r"(.+?) py:\w+ ")
_CHAIN = re.compile(r"pool(\.\w+)+")
_SPAN = re.compile(r"`(pool\.[A-Za-z_][\w.]*)")
GUIDES = [page for page in pages() if page.name.startswith(("README", "docs/how-to", "docs/tut"))]


@pytest.fixture(scope="module")
def listed(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Build the reference, and return the names that its inventory has."""
    pytest.importorskip("sphinx")
    folder = tmp_path_factory.mktemp("reference")
    subprocess.run(
        [sys.executable, "-m", "sphinx", "-q", "-c", "docs", "docs/reference", str(folder)],
        cwd=ROOT,
        capture_output=True,
        timeout=120,
        check=True,
    )
    return entries(folder / "objects.inv")


def entries(inventory: Path) -> set[str]:
    packed = inventory.read_bytes().split(b"\n", 4)[4]
    lines = zlib.decompress(packed).decode().splitlines()
    return {found[1] for line in lines if (found := _ENTRY.match(line))}


def public() -> Iterator[str]:
    """Yield each name of the public API, members of classes among them."""
    owner = ""
    for line in surface.PATH.read_text().splitlines():
        found = _LINE.match(line)
        assert found is not None
        if not found[1]:
            owner = f"pool.{found[2]}"
            yield owner
        elif found[2] != "__init__":
            yield f"{owner}.{found[2]}"


def first_name(name: str) -> str:
    return re.sub(rf"^(?:{'|'.join(ALIASES)})\b", lambda found: ALIASES[found[0]], name)


def used(page: Page) -> Iterator[str]:
    """Yield what a page imports of `pool`, reads of it, and speaks of in full."""
    skipped = ["\n".join(block.lines) for block in page.blocks if block.skip is not None]
    for code in (page.program, *map(textwrap.dedent, skipped)):
        tree = compile(code, page.name, "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("pool"):
                yield from (f"{node.module}.{name.name}" for name in node.names)
            elif isinstance(node, ast.Attribute) and _CHAIN.fullmatch(ast.unparse(node)):
                yield ast.unparse(node)
    yield from _SPAN.findall(page.path.read_text())


def needed(name: str) -> str | None:
    """Return the entry that a name needs: what is first on its way that is no module.

    Of a class that is what is named of it as well; None where it is a module itself.
    """
    found: Any = importlib.import_module("pool")
    done = "pool"
    for part in name.rstrip(".").split(".")[1:]:
        if not hasattr(found, part):
            try:
                importlib.import_module(f"{done}.{part}")
            except ModuleNotFoundError:
                return f"{done}.{part}"
        found, was_module = getattr(found, part), isinstance(found, types.ModuleType)
        done = f"{done}.{part}"
        if not was_module or not isinstance(found, types.ModuleType | type):
            return done
    return None if isinstance(found, types.ModuleType) else done


def test_every_public_name_has_its_entry(listed: set[str]) -> None:
    names = {first_name(name) for name in public()}
    assert len(names) > 600
    assert sorted(names - listed) == []


@pytest.mark.parametrize("page", [pytest.param(page, id=page.name) for page in GUIDES])
def test_what_a_guide_uses_has_its_entry(page: Page, listed: set[str]) -> None:
    names = {first_name(needed(name) or "pool") for name in used(page)}
    assert sorted(names - listed - PROGRAMS) == []


def test_modules_are_told_from_what_is_in_them() -> None:
    assert needed("pool.testing.invariants") is None
    assert needed("pool.probes.http") == "pool.probes.http"
    assert needed("pool.Cause.START") == "pool.Cause.START"
    assert needed("pool.ReplicaPool.map.thing") == "pool.ReplicaPool.map"
    below = "pool.planning.restart.worst_case_restarts"
    assert needed(below) == below
    assert needed("pool.nothing.at_all") == "pool.nothing"
