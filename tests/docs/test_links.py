"""Links: within the project they lead somewhere, and those that leave it are of the right form.

Pages of the documentation are checked by Sphinx, which takes a dead link for an error; here it is
seen to do so. What Sphinx does not build is checked here. Nothing is asked of the network.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.docs.snippets import ROOT, pages

APART = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
"""What Sphinx does not build."""
ALL = [*APART, *(page.path for page in pages() if page.path not in APART)]

_FENCE = re.compile(r"^ *(`{3,}|~{3,}).*?^ *\1`*$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(<?([^)\s>]+)>?\)|^\[[^\]]+\]: *<?(\S+?)>?$", re.MULTILINE)
_BARE = re.compile(r"(?<![(<`\w])https?://[^\s<>`)]+")
_HEADING = re.compile(r"^#{1,6} +(.+?) *$", re.MULTILINE)


def prose(path: Path) -> str:
    return _FENCE.sub("", path.read_text())


def links(text: str) -> Iterator[str]:
    for found in _LINK.finditer(text):
        yield found[1] or found[2]
    yield from _BARE.findall(text)


def anchors(text: str) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    return {
        re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        for heading in _HEADING.findall(text)
    }


def dead(path: Path) -> Iterator[str]:
    for link in links(prose(path)):
        if link.startswith(("http://", "https://", "mailto:")):
            continue
        name, _, anchor = link.partition("#")
        target = path.parent / name if name else path
        if not target.exists() or (anchor and anchor not in anchors(prose(target))):
            yield link


def malformed(path: Path) -> Iterator[str]:
    for link in links(prose(path)):
        if "://" in link:
            parts = urlsplit(link)
            if parts.scheme != "https" or "." not in (parts.hostname or "") or parts.port:
                yield link


@pytest.mark.parametrize("path", APART, ids=lambda path: path.name)
def test_links_of_what_sphinx_does_not_build_lead_somewhere(path: Path) -> None:
    assert not list(dead(path))


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_that_leave_the_project_are_of_the_right_form(path: Path) -> None:
    assert not list(malformed(path))


def test_what_is_wrong_is_found(tmp_path: Path) -> None:
    """Otherwise the tests above would hold whatever the pages said."""
    page = tmp_path / "a.md"
    page.write_text(
        "# The title, and `code`\n[a](a.md#the-title-and-code) [b](b.md) [c](#none)\n"
        "[d](http://x.org) <https://fine.org/x> https://:80/ [e][e]\n\n[e]: e.md\n"
        "```md\n[f](f.md)\n```\n"
    )
    assert list(dead(page)) == ["b.md", "#none", "e.md"]
    assert list(malformed(page)) == ["http://x.org", "https://:80/"]


@pytest.mark.parametrize(
    "link", ["[a](none.md)", "[a](#none)", "[a](index.md#none)", "[](none.md)", "{doc}`none`"]
)
def test_sphinx_takes_a_dead_link_for_an_error(tmp_path: Path, link: str) -> None:
    """With the settings of this project."""
    pytest.importorskip("myst_parser")
    (tmp_path / "index.md").write_text(f"# Title\n\n{link}\n")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "sphinx", "-W", "-n", "-q", "-c", str(ROOT / "docs")),
            *(str(tmp_path), str(tmp_path / "html")),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode != 0
    assert re.search(r"xref_missing|unknown document|ref\.doc", done.stderr), done.stderr
