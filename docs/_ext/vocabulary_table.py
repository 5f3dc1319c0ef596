"""Tables of what the code says: `event-table`, `word-table` and `metric-table`.

Each build reads them from the code that obeys them, and a test holds the code to them.
"""

from collections.abc import Iterable, Sequence
from typing import ClassVar

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from sphinx.util.typing import ExtensionMetadata

from pool.log import WORDS, Said
from pool.manager.events import SAYS
from pool.metrics.table import METERS

Cells = Sequence[nodes.Node]


def _code(words: Iterable[str]) -> list[nodes.Node]:
    parts: list[nodes.Node] = []
    for word in words:
        parts += [nodes.Text(", ")] if parts else []
        parts.append(nodes.literal(text=word))
    return parts


def _said(name: str, said: Said) -> list[Cells]:
    text = [nodes.Text(said.text)]
    return [_code([name]), text, [nodes.Text(said.loudness)], _code(sorted(said.facts))]


class Table(SphinxDirective):
    """Render rows of cells as a table."""

    header: ClassVar[tuple[str, ...]] = ()
    widths: ClassVar[tuple[int, ...]] = ()

    def rows(self) -> Iterable[Sequence[Cells]]:
        """Return the table's rows."""
        raise NotImplementedError

    def run(self) -> list[nodes.Node]:
        group = nodes.tgroup(cols=len(self.header))
        group += [nodes.colspec(colwidth=width) for width in self.widths]
        head, body = nodes.thead(), nodes.tbody()
        head += self._row([[nodes.Text(cell)] for cell in self.header])
        body += [self._row(row) for row in self.rows()]
        group += [head, body]
        table = nodes.table()
        table += group
        return [table]

    @staticmethod
    def _row(cells: Sequence[Cells]) -> nodes.row:
        row = nodes.row()
        for cell in cells:
            row += nodes.entry("", nodes.paragraph("", "", *cell))
        return row


class EventTable(Table):
    """Render the events of pools."""

    header = ("Event", "says", "level", "with")
    widths = (22, 40, 10, 28)

    def rows(self) -> Iterable[Sequence[Cells]]:
        """Return a row for each kind, in the order in which they are declared."""
        return [_said(kind.value, said) for kind, said in SAYS.items()]


class WordTable(EventTable):
    """Render what is said outside of a pool's events."""

    header = ("Word", "says", "level", "with")

    def rows(self) -> Iterable[Sequence[Cells]]:
        """Return a row for each word."""
        return [_said(word.value, said) for word, said in WORDS.items()]


class MetricTable(Table):
    """Render the metrics."""

    header = ("Metric", "tells", "labels")
    widths = (34, 46, 20)

    def rows(self) -> Iterable[Sequence[Cells]]:
        """Return a row for each metric."""
        return [
            [_code([meter.name]), [nodes.Text(meter.text)], _code(meter.labels)] for meter in METERS
        ]


def setup(app: Sphinx) -> ExtensionMetadata:
    """Register the directives."""
    app.add_directive("event-table", EventTable)
    app.add_directive("word-table", WordTable)
    app.add_directive("metric-table", MetricTable)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
