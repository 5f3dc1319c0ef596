"""The page on subclasses names every hook that there is with its signature, and no other."""

from __future__ import annotations

import inspect
import re

from pool.manager.hooks import Hooks
from tests.docs.snippets import ROOT

PAGE = ROOT / "docs" / "how-to" / "subclass.md"
ASKED, *_ = re.findall(r"^\| Hook \|.*?(?=\n\n)", PAGE.read_text(), re.MULTILINE | re.DOTALL)
HOOKS = {name: it for name, it in vars(Hooks).items() if callable(it) and not name.startswith("_")}


def signature(name: str) -> str:
    """Return how a hook is declared, `self` left out."""
    hook = HOOKS[name]
    declared = inspect.signature(hook)
    arguments = [str(each).replace("'", "") for each in list(declared.parameters.values())[1:]]
    kind = "async def" if inspect.iscoroutinefunction(hook) else "def"
    return f"{kind} {name}({', '.join(arguments)}) -> {declared.return_annotation}"


def test_the_table_has_every_hook_with_its_signature_and_no_other() -> None:
    # A bar within a cell is written with a backslash.
    rows = [re.split(r"(?<!\\)\|", row) for row in ASKED.splitlines()[2:]]
    shown = {row[1].strip(): row[2].strip().replace(r"\|", "|") for row in rows}
    assert shown == {f"`{name}`": f"`{signature(name)}`" for name in HOOKS}
