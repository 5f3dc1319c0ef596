"""What a pool does about a notice, by its kind: a value, and the two questions it answers.

Purpose: the platforms' words for one kind of end come days, minutes or seconds before it, and mean
it more or less. What follows is the pool's to say, not the source's.

Limits: when a drain has to begin is not said here but by the ladder (INV-7); whether there is room
for a replacement is the surge's and the cluster's affair.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from pool.errors import ConfigError
from pool.planning.notice import Notice, NoticeKind


class Answer(StrEnum):
    """Name what is done about a notice."""

    REPLACE = "replace"
    """A replacement first, where there is room; the member hands over when that is ready."""
    DRAIN = "drain"
    """Nobody takes its place before it is gone; it works on until its ladder has to begin."""
    IGNORE = "ignore"
    """Nothing. The notice is written down, and the node is used as before."""


_ANSWERS: Mapping[NoticeKind, Answer] = dict.fromkeys(NoticeKind, Answer.REPLACE)
_AHEAD_S: Mapping[NoticeKind, float] = {
    NoticeKind.PREEMPT: math.inf,
    NoticeKind.MAINTENANCE: 3600.0,
    NoticeKind.REBALANCE: math.inf,
    NoticeKind.WALLTIME: 600.0,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class NoticePolicy:
    """Say what follows a notice, by its kind.

    An advisory notice, whose node may well stay, is answered by a replacement where there is room
    on other nodes, and never by a drain without one.

    Args:
        answers: Kind to what is done. A kind that is not named is answered by a replacement.
        ahead_s: Kind to how many seconds before its deadline the answer begins; until then the node
            is used as before. A kind that is not named keeps its default: an hour for maintenance,
            ten minutes for wall time, at once for the others. The ladder's time is never cut.
        patience_s: How many seconds a member with a notice without a deadline may wait for its
            replacement; 0 or more.
        tell_cluster: Of which kinds the cluster is told, so that it places nothing more on the
            node, and every other pool hears of it. None by default, because it cannot be taken
            back: Ray ends a node that drains as soon as nothing is reserved on it. Advisory
            notices are never passed on.
        domain_label: The node label whose value nodes of one failure domain share: a notice for
            one of them concerns all. By default the TPU slice, as Ray labels it. None for none.

    Raises:
        ConfigError: A value cannot be right; `field` names it.
    """

    answers: Mapping[NoticeKind, Answer] = field(default_factory=lambda: _ANSWERS)
    ahead_s: Mapping[NoticeKind, float] = field(default_factory=lambda: _AHEAD_S)
    patience_s: float = 120.0
    tell_cluster: Collection[NoticeKind] = ()
    domain_label: str | None = "ray.io/tpu-slice-name"

    def __post_init__(self) -> None:
        try:
            given = {NoticeKind(kind): Answer(answer) for kind, answer in self.answers.items()}
        except (ValueError, AttributeError) as error:
            message = f"answers is {self.answers!r}; give kinds of notices and answers: {error}"
            raise ConfigError(message, "answers") from None
        object.__setattr__(self, "answers", {**_ANSWERS, **given})
        try:
            ahead = {NoticeKind(kind): float(ahead_s) for kind, ahead_s in self.ahead_s.items()}
        except (ValueError, TypeError, AttributeError) as error:
            message = f"ahead_s is {self.ahead_s!r}; give kinds of notices and seconds: {error}"
            raise ConfigError(message, "ahead_s") from None
        if not all(each >= 0 for each in ahead.values()):
            raise ConfigError(f"ahead_s is {self.ahead_s!r}; give 0 or more seconds", "ahead_s")
        object.__setattr__(self, "ahead_s", {**_AHEAD_S, **ahead})
        if not isinstance(self.patience_s, int | float) or not 0 <= self.patience_s < math.inf:
            message = f"patience_s is {self.patience_s!r}; give 0 or more seconds"
            raise ConfigError(message, "patience_s")
        try:
            told = frozenset(NoticeKind(kind) for kind in self.tell_cluster)
        except (ValueError, TypeError) as error:
            message = f"tell_cluster is {self.tell_cluster!r}; give kinds of notices: {error}"
            raise ConfigError(message, "tell_cluster") from None
        object.__setattr__(self, "tell_cluster", tuple(sorted(told)))
        if self.domain_label is not None and not self.domain_label:
            raise ConfigError("domain_label is empty; give a node label, or None", "domain_label")

    def answer(self, notice: Notice) -> Answer:
        """Return what is done about a notice."""
        return self.answers[notice.kind]

    def begins_s(self, notice: Notice, ladder_s: float) -> float:
        """Return how many seconds before its deadline the answer to a notice begins.

        Args:
            notice: The notice.
            ladder_s: How long a drain may take, in seconds.
        """
        return max(self.ahead_s[notice.kind], ladder_s)

    def passes_on(self, notice: Notice) -> bool:
        """Return whether the cluster is told of a notice."""
        return not notice.advisory and notice.kind in self.tell_cluster
