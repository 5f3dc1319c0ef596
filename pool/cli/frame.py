"""What `pool top` shows at one moment, and what its keys change of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.text import Text

from pool.cli.tree import facts, headline, host_line, member_notes, since, slot_line
from pool.control.window import PoolView, hosts_of, look
from pool.errors import SourceUnavailable

if TYPE_CHECKING:
    from pool.cluster.interface import Observer

UP = ("k", "\x1b[A", "\x1bOA")
DOWN = ("j", "\x1b[B", "\x1bOB")
NEXT = ("p", "\t", "\x1b[C", "\x1bOC")
BEFORE = ("P", "\x1b[D", "\x1bOD")
QUIT = ("q", "Q", "\x03", "\x04", "\x1b")
HELP = "q ends · up and down choose a slot · left and right a pool"


class Frame:
    """Hold what is shown, and what of it is chosen."""

    def __init__(self) -> None:
        self.views: list[PoolView] = []
        self.pool = 0
        self.slot = 0
        self._trouble = ""

    async def look(self, observer: Observer) -> None:
        """Look at the pools anew; what cannot be had is said, and the last stays."""
        try:
            self.views = await look(observer)
        except SourceUnavailable as error:
            self._trouble = str(error)
        else:
            self._trouble = ""
        self._stay_inside()

    def press(self, key: str) -> bool:
        """Take a key; returns whether to go on."""
        if key in QUIT:
            return False
        if key in UP + DOWN:
            self.slot += 1 if key in DOWN else -1
        elif key in NEXT + BEFORE and self.views:
            self.pool = (self.pool + (1 if key in NEXT else -1)) % len(self.views)
            self.slot = 0
        self._stay_inside()
        return True

    def _stay_inside(self) -> None:
        self.pool = max(0, min(self.pool, len(self.views) - 1))
        slots = self.view.snapshot.slots if self.view and self.view.snapshot else ()
        self.slot = max(0, min(self.slot, len(slots) - 1))

    @property
    def view(self) -> PoolView | None:
        """The pool that is chosen."""
        return self.views[self.pool] if self.views else None

    def draw(self, height: int) -> RenderableType:
        """Return what is shown, in so many lines."""
        lines = [self._names(), *([] if self.view is None else self._chosen(self.view, height - 2))]
        if self._trouble:
            lines.append(Text(self._trouble, "red"))
        lines = lines[: height - 1]
        lines += [Text()] * (height - 1 - len(lines))
        for line in lines:
            line.no_wrap, line.overflow = True, "ellipsis"
        return Group(*lines, Text(HELP, "dim"))

    def _names(self) -> Text:
        if not self.views:
            return Text("There are no pools.")
        text = Text()
        for number, view in enumerate(self.views):
            text.append(f" {view.name} ", "reverse" if number == self.pool else "").append(" ")
        return text

    def _chosen(self, view: PoolView, height: int) -> list[Text]:
        head = [headline(view), *facts(view), Text()]
        slots = () if view.snapshot is None else view.snapshot.slots
        below: list[Text] = []
        if slots and (member := slots[self.slot].member) is not None:
            below = [Text(), Text(f"{member.id}: {member.state}: {member.why or 'it is new'}")]
            below += [*member_notes(member, since(view)), *map(host_line, hosts_of(member))]
        room = max(1, height - len(head) - len(below))
        first = max(0, min(self.slot - room // 2, len(slots) - room))
        rows = []
        for number, slot in enumerate(slots[first : first + room], first):
            row = slot_line(slot, since(view))
            if number == self.slot:
                row.stylize("reverse")
            rows.append(row)
        return head + rows + below
