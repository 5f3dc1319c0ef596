"""The `lifecycle-table` directive: the state machine, drawn from the table that the code obeys.

A hand-drawn diagram goes stale without anybody noticing. This one cannot: each build reads
`TRANSITIONS`, and the predicates that `State` offers, from `pool.planning.lifecycle`.
"""

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from sphinx.util.typing import ExtensionMetadata

from pool.planning.lifecycle import TRANSITIONS, State

HEADER = ("State", "may become", "is")


def rows() -> list[tuple[str, str, str]]:
    """Return one row per state, in the order in which `State` declares them."""
    predicates = [name for name, value in vars(State).items() if isinstance(value, property)]
    predicates = [name for name in predicates if name.startswith("is_")]
    return [
        (
            state.value,
            ", ".join(target.value for target in State if target in TRANSITIONS[state]) or "–",
            ", ".join(name.removeprefix("is_") for name in predicates if getattr(state, name)),
        )
        for state in State
    ]


class LifecycleTable(SphinxDirective):
    """Render the transitions of a member as a table."""

    def run(self) -> list[nodes.Node]:
        group = nodes.tgroup(cols=len(HEADER))
        group += [nodes.colspec(colwidth=1) for _ in HEADER]
        head, body = nodes.thead(), nodes.tbody()
        head += self._row(HEADER)
        body += [self._row(row) for row in rows()]
        group += [head, body]
        table = nodes.table()
        table += group
        return [table]

    @staticmethod
    def _row(cells: tuple[str, ...]) -> nodes.row:
        row = nodes.row()
        row += [nodes.entry("", nodes.paragraph(text=cell)) for cell in cells]
        return row


def setup(app: Sphinx) -> ExtensionMetadata:
    """Register the directive."""
    app.add_directive("lifecycle-table", LifecycleTable)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
