"""What `import pool` gives: a sorted list of documented names, and no Ray."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import pool
from tests.api import surface


def imported_names() -> set[str]:
    """Return the public names that the package's `__init__` imports, lazily or not."""
    tree = ast.parse(Path(pool.__file__).read_text())
    names = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "pool"
        for alias in node.names
    }
    return {name for name in names if not name.startswith("_")}


def test_all_is_sorted_and_names_nothing_twice() -> None:
    assert list(pool.__all__) == sorted(set(pool.__all__))


def test_all_names_exactly_what_is_exported() -> None:
    public = {name for name in pool.__all__ if not name.startswith("_")}
    assert public == imported_names()


@pytest.mark.parametrize("name", pool.__all__)
def test_an_export_is_there_and_documented(name: str) -> None:
    export = getattr(pool, name)
    if inspect.ismodule(export) or inspect.isclass(export) or inspect.isroutine(export):
        assert export.__doc__, f"{name} has no docstring"
        # A dataclass without a docstring gets its signature for one.
        assert not export.__doc__.startswith(f"{name}("), f"{name} has no docstring of its own"


def test_importing_the_package_does_not_import_ray() -> None:
    program = "import pool, sys; assert 'ray' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_the_public_api_changes_only_on_purpose() -> None:
    """Deprecate first: see "Versions" in the reference. Then `python -m tests.api.surface`."""
    assert surface.surface() == surface.PATH.read_text()
