"""Merge what several pools want kept warm into one request to the autoscaler.

Purpose: Ray's `request_resources` is one slot for the whole cluster, and each call replaces what
any other caller had asked for. So one broker holds the wishes of all pools, each with a lease,
and asks for their sum.

Limits: reservations that wait are demand by themselves and need no wish; this is for warm
capacity alone. Ray counts what is in use against the request, so a wish names all that a pool
wants there to be: what it holds, and what is to be warm beside it. Whoever asks Ray past the
broker (Ray's own coordinator does) must be handed in as one more wish, or be left alone by not
using the broker.

Why not the largest wish of each shape: two pools that each want four warm devices would get four,
and the first replacement of one would find them taken by the other.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pool.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Demand:
    """Hold what one pool wants there to be, for as long as its lease runs.

    Args:
        pool: The pool's identity; a later wish of the same pool replaces the earlier.
        bundles: Resource name to amount, 0 or more, of each bundle; none at all withdraws the wish.
        expires_at: When the lease ends, in seconds of the caller's clock; infinity for never.
        labels: Node label to the value that the nodes must have; for all bundles.

    Raises:
        ConfigError: An amount is negative or no number, or the lease's end is no time.
    """

    pool: str
    bundles: tuple[Mapping[str, float], ...]
    expires_at: float
    labels: Mapping[str, str] = field(default_factory=dict[str, str])

    def __post_init__(self) -> None:
        if math.isnan(self.expires_at):
            message = f"expires_at of {self.pool!r} is not a number; give the end of its lease"
            raise ConfigError(message, "expires_at")
        for bundle in self.bundles:
            for resource, amount in bundle.items():
                if not (math.isfinite(amount) and amount >= 0):
                    message = f"{self.pool!r} wants {amount!r} of {resource!r}; give 0 or more"
                    raise ConfigError(message, "bundles")


@dataclass(frozen=True, slots=True, order=True)
class Shape:
    """Describe bundles that are alike.

    Args:
        resources: Names and amounts, sorted by name, no amount 0.
        labels: Node labels and their values, sorted by label.
    """

    resources: tuple[tuple[str, float], ...]
    labels: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class MergedDemand:
    """Say what to ask the autoscaler for.

    Args:
        shapes: Each shape once, with how many bundles of it, in a fixed order.
        expires_at: When the next lease ends and this changes, in seconds of the caller's clock;
            None for never.
        reasons: Pool to what became of its wish, as a sentence without its full stop.
    """

    shapes: tuple[tuple[Shape, int], ...]
    expires_at: float | None
    reasons: Mapping[str, str]

    def bundles(self) -> list[dict[str, float]]:
        """Return the bundles one by one, as Ray takes them."""
        return [dict(shape.resources) for shape, count in self.shapes for _ in range(count)]

    def label_selectors(self) -> list[dict[str, str]]:
        """Return the label selectors of `bundles()`, in its order, as Ray takes them."""
        return [dict(shape.labels) for shape, count in self.shapes for _ in range(count)]

    def totals(self) -> dict[str, float]:
        """Return resource name to the amount asked for in all."""
        amounts: dict[str, list[float]] = {}
        for shape, count in self.shapes:
            for resource, amount in shape.resources:
                amounts.setdefault(resource, []).append(amount * count)
        return {resource: math.fsum(parts) for resource, parts in sorted(amounts.items())}


def merge(requests: Sequence[Demand], now: float) -> MergedDemand:
    """Add up the wishes whose lease still runs.

    Args:
        requests: The wishes, oldest first; the last of a pool holds.
        now: The time, in seconds of the caller's clock.

    Returns:
        The sum, which is the same in whatever order pools are named. It is asked for as a whole,
        and nothing in it means that nothing is to be kept warm.
    """
    latest = {request.pool: request for request in requests}
    counts: Counter[Shape] = Counter()
    reasons: dict[str, str] = {}
    ends: list[float] = []
    for pool in sorted(latest):
        request = latest[pool]
        if request.expires_at <= now:
            reasons[pool] = f"left out: its lease ended {now - request.expires_at:.3g} s ago"
            continue
        labels = tuple(sorted(request.labels.items()))
        resources = [_resources(bundle) for bundle in request.bundles]
        shapes = [Shape(each, labels) for each in resources if each]
        if not shapes:
            reasons[pool] = "left out: it wants nothing"
            continue
        counts.update(shapes)
        ends.append(request.expires_at)
        until = "for ever" if request.expires_at == math.inf else f"until {request.expires_at:g}"
        reasons[pool] = f"{len(shapes)} bundle(s), {until}"
    soonest = min(ends, default=math.inf)
    shapes_in_order = tuple(sorted(counts.items()))
    return MergedDemand(shapes_in_order, None if soonest == math.inf else soonest, reasons)


def _resources(bundle: Mapping[str, float]) -> tuple[tuple[str, float], ...]:
    return tuple(sorted((name, float(amount)) for name, amount in bundle.items() if amount > 0))
