"""The `lifecycle-diagram` directive: the states in a row, and an arrow for each transition.

Drawn at each build from `TRANSITIONS`, as an inline SVG that takes the page's own colour, so that
it reads in the light and in the dark. Straight arrows lead to the next state, arcs above skip
states, arcs below lead back.
"""

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from sphinx.util.typing import ExtensionMetadata

from pool.planning.lifecycle import TRANSITIONS, State

BOX, GAP, HEIGHT = 86, 26, 34
STEP = BOX + GAP
RISE = 20
"""How much higher an arc is for each state that it skips."""
ROWS = list(State)
TOP = RISE * (len(ROWS) - 2) * 3 // 4 + 10
"""The longest arc skips all states but two, and a curve rises three quarters of the way."""


def left(state: State) -> int:
    """Return the left edge of a state's box."""
    return ROWS.index(state) * STEP + 2


def box(state: State) -> str:
    """Draw a state."""
    style = 'stroke-dasharray="4 3"' if state.is_terminal else ""
    return (
        f'<rect x="{left(state)}" y="{TOP}" width="{BOX}" height="{HEIGHT}" rx="8" fill="none" '
        f'stroke="currentColor" {style}/>'
        f'<text x="{left(state) + BOX / 2}" y="{TOP + 22}" text-anchor="middle" '
        f'fill="currentColor" font-size="14">{state}</text>'
    )


def arrow(source: State, target: State) -> str:
    """Draw a transition."""
    skipped = ROWS.index(target) - ROWS.index(source)
    middle = TOP + HEIGHT / 2
    if skipped == 1:
        path = f"M {left(source) + BOX} {middle} L {left(target) - 5} {middle}"
    elif skipped > 0:
        start, end = left(source) + BOX * 0.7, left(target) + BOX * 0.3
        high = TOP - RISE * skipped
        path = f"M {start} {TOP} C {start} {high}, {end} {high}, {end} {TOP - 5}"
    else:
        start, end, base = left(source) + BOX * 0.3, left(target) + BOX * 0.7, TOP + HEIGHT
        path = (
            f"M {start} {base} C {start} {base - RISE * skipped}, {end} {base - RISE * skipped}, "
        )
        path += f"{end} {base + 5}"
    return f'<path d="{path}" fill="none" stroke="currentColor" marker-end="url(#arrow)"/>'


def diagram() -> str:
    """Return the whole drawing as SVG."""
    width, height = STEP * len(ROWS), TOP + HEIGHT + RISE * len(ROWS) // 4
    arrows = [arrow(source, target) for source in State for target in sorted(TRANSITIONS[source])]
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" xmlns="http://www.w3.org/2000/svg" '
        'style="max-width: 100%" aria-label="The states of a member and their transitions">'
        '<defs><marker id="arrow" markerWidth="8" markerHeight="8" refX="5" refY="3" orient="auto">'
        '<path d="M 0 0 L 6 3 L 0 6 z" fill="currentColor"/></marker></defs>'
        f"{''.join(arrows)}{''.join(box(state) for state in State)}</svg>"
    )


class LifecycleDiagram(SphinxDirective):
    """Render the state machine as a drawing."""

    def run(self) -> list[nodes.Node]:
        return [nodes.raw("", diagram(), format="html")]


def setup(app: Sphinx) -> ExtensionMetadata:
    """Register the directive."""
    app.add_directive("lifecycle-diagram", LifecycleDiagram)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
