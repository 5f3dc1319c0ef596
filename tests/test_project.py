"""The repository itself: what is tracked, and that its few promises about itself hold."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

MACHINE_PATH = re.compile(r"(?<![\w.*/])/(?:home|root|Users|work|opt/venv)/\w")
REGISTRY_HOST = re.compile(r"pypi\.org|pythonhosted\.org|npmjs\.org|anaconda\.org|docker\.io")
LOCK_FILE = re.compile(r"(\.lock|-lock\.(json|yaml)|^requirements.*\.txt)$")


def tracked() -> list[Path]:
    """Return the files that git tracks, or would if they were added."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listing = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    paths = [ROOT / name for name in listing.stdout.split("\0") if name]
    return [path for path in paths if path.is_file()]


def texts() -> Iterator[tuple[Path, str]]:
    for path in tracked():
        try:
            yield path.relative_to(ROOT), path.read_text()
        except UnicodeDecodeError:
            continue


@pytest.mark.parametrize("pattern", [MACHINE_PATH, REGISTRY_HOST], ids=["paths", "registries"])
def test_no_file_names_a_machine(pattern: re.Pattern[str]) -> None:
    found = [
        f"{path}:{number}: {line.strip()}"
        for path, text in texts()
        for number, line in enumerate(text.splitlines(), start=1)
        if pattern.search(line)
    ]
    assert not found, "\n".join(found)


def test_no_lock_file_is_tracked() -> None:
    found = [path.name for path in tracked() if LOCK_FILE.search(path.name)]
    assert not found


def test_the_version_stands_in_one_place() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert importlib.metadata.version("ray-actor-pool") == version
    quoted = re.compile(rf"""["']{re.escape(version)}["']""")
    found = [
        str(path)
        for path, text in texts()
        if path.suffix in {".py", ".toml"}
        and path != Path("pyproject.toml")
        and quoted.search(text)
    ]
    assert not found


def sessions() -> list[str]:
    """Return the names of nox's sessions, without needing nox."""
    names = []
    for node in ast.parse((ROOT / "noxfile.py").read_text()).body:
        if not isinstance(node, ast.FunctionDef):
            continue
        for decorator in node.decorator_list:
            if ast.unparse(decorator).startswith("nox.session"):
                keywords = decorator.keywords if isinstance(decorator, ast.Call) else []
                given = [ast.literal_eval(k.value) for k in keywords if k.arg == "name"]
                names.append(given[0] if given else node.name)
    return names


def test_contributing_documents_each_session_and_no_other() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    documented = set(re.findall(r"^\| `nox -s ([\w-]+)`", text, re.MULTILINE))
    assert documented == set(sessions())


def test_the_readme_gives_the_commands_that_ci_runs() -> None:
    readme = (ROOT / "README.md").read_text()
    script = (ROOT / ".ci/run").read_text()
    assert 'pip install -e ".[dev]" && nox\n' in readme
    assert 'pip install --quiet -e ".[dev]"' in script
    assert re.search(r"^nox ", script, re.MULTILINE)
