"""Text with gaps that are filled on the node, where ports and addresses are known."""

from __future__ import annotations

import re
import string
from collections.abc import Mapping
from dataclasses import dataclass

from pool.errors import ConfigError

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")


@dataclass(frozen=True, slots=True)
class Fill:
    """Stand for a text that is completed on the node, just before its process is started.

    `{name}` is replaced by a leased port of that name, by the node's address (`{address}`), or by
    a variable of the process's environment; `{{` and `}}` are braces.

    Args:
        template: The text, such as `--rdzv-endpoint={MASTER_ADDR}:{MASTER_PORT}`.

    Raises:
        ConfigError: The braces do not match, or hold more than a name.
    """

    template: str

    def __post_init__(self) -> None:
        if not isinstance(self.template, str):
            raise ConfigError(f"template is {self.template!r}; give a str", "template")
        self._parts()

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the gaps, in their order."""
        return tuple(name for _, name in self._parts() if name is not None)

    def fill(self, values: Mapping[str, object]) -> str:
        """Return the whole text.

        Args:
            values: Name to what goes into its gap.

        Raises:
            ConfigError: A name has no value.
        """
        text = ""
        for before, name in self._parts():
            text += before
            if name is None:
                continue
            if name not in values:
                there = ", ".join(sorted(values)) or "none"
                message = f"{self} names {name!r}, which is not there; there are: {there}"
                raise ConfigError(message, "template")
            text += str(values[name])
        return text

    def _parts(self) -> list[tuple[str, str | None]]:
        """Return each text with the name of the gap behind it."""
        try:
            parts = list(string.Formatter().parse(self.template))
        except ValueError as error:
            message = (
                f"template is {self.template!r} ({error}); write a brace itself as {{{{ or }}}}"
            )
            raise ConfigError(message, "template") from None
        for _, name, layout, conversion in parts:
            if name is None:
                continue
            if layout or conversion or not _NAME.fullmatch(name):
                gap = (
                    name
                    + (f"!{conversion}" if conversion else "")
                    + (f":{layout}" if layout else "")
                )
                message = (
                    f"template is {self.template!r}, with the gap {{{gap}}}; "
                    "put a name there and nothing else, and write a brace itself as {{ or }}"
                )
                raise ConfigError(message, "template")
        return [(before, name) for before, name, _, _ in parts]

    def __str__(self) -> str:
        return f"Fill({self.template!r})"
