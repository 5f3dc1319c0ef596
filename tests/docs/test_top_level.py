"""A page whose code is no file, as it awaits at top level, says where the code is to go."""

from __future__ import annotations

import ast
import textwrap

import pytest

from tests.docs.snippets import Page, pages

SAYS = (
    "Code that awaits at top level is for a notebook or `python -m asyncio`; in a file, put it "
    "inside of `async def main():` and end with `asyncio.run(main())`."
)


def is_file(code: str) -> bool:
    try:
        compile(code, "page", "exec")
    except SyntaxError:
        compile(code, "page", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        return False
    return True


def awaits_at_top_level(page: Page) -> bool:
    skipped = ["\n".join(block.lines) for block in page.blocks if block.skip is not None]
    return not all(is_file(code) for code in (page.program, *map(textwrap.dedent, skipped)))


GUIDES = [page for page in pages() if page.name.startswith("docs/") and page.blocks]


@pytest.mark.parametrize("page", [pytest.param(page, id=page.name) for page in GUIDES])
def test_a_page_says_that_its_code_awaits_at_top_level(page: Page) -> None:
    text = " ".join(page.path.read_text().split())
    assert (SAYS in text) == awaits_at_top_level(page)
    if SAYS in text:
        assert text.index(SAYS) < text.index("```python")


def test_what_awaits_at_top_level_is_told_from_a_file() -> None:
    assert not is_file("async with x:\n    pass")
    assert is_file("async def main():\n    await x")
