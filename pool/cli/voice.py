"""What a command says, and whom it asks: text or JSON on stdout, all else on stderr."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import typer

from pool.cli.exits import Exit, Stop

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

VERSION = 1
"""Of the JSON documents; see `docs/reference/cli-json.md`."""


class Voice:
    """Say things.

    Args:
        as_json: Whether results are JSON documents.
        yes: Whether every question is answered with yes.
        width: Columns of the text; by default those of the terminal.
    """

    def __init__(
        self, *, as_json: bool = False, yes: bool = False, width: int | None = None
    ) -> None:
        self.as_json = as_json
        self._yes = yes
        self._width = width

    @property
    def console(self) -> Console:
        """Where text goes."""
        from rich.console import Console

        return Console(width=self._width, highlight=False, markup=False, emoji=False)

    def show(self, text: RenderableType) -> None:
        """Print a result for people."""
        self.console.print(text)

    def document(self, **facts: Any) -> None:
        """Print a result as a JSON document, on one line."""
        from pool.window.codec import to_json

        sys.stdout.write(json.dumps({"version": VERSION, **to_json(facts)}) + "\n")
        sys.stdout.flush()

    def tell(self, text: str) -> None:
        """Say how it goes, on stderr."""
        typer.echo(text, err=True)

    def confirm(self, deed: str) -> None:
        """Say what will be done, and ask whether to.

        Raises:
            Stop: The answer is no, or there is nobody to ask.
        """
        self.tell(deed)
        if self._yes:
            return
        if not sys.stdin.isatty():
            raise Stop(Exit.NOT_CONFIRMED, "There is no terminal to ask on; give --yes to do it.")
        if not typer.confirm("Do it?", err=True):
            raise Stop(Exit.NOT_CONFIRMED, "Nothing was done.")
