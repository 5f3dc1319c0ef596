"""The page on subclasses names every hook that there is, and no other."""

from __future__ import annotations

import re

from pool.manager.hooks import Hooks
from tests.docs.snippets import ROOT

PAGE = ROOT / "docs" / "how-to" / "subclass.md"
ASKED, *_ = re.findall(r"^\| Hook \|.*?(?=\n\n)", PAGE.read_text(), re.MULTILINE | re.DOTALL)


def test_the_table_has_every_hook_and_no_other() -> None:
    named = {
        name for row in ASKED.splitlines()[2:] for name in re.findall(r"`(\w+)`", row.split("|")[1])
    }
    hooks = {name for name, it in vars(Hooks).items() if callable(it) and not name.startswith("_")}
    assert named == hooks
