"""Spread a notice for one node to every slot that it concerns.

Purpose: a gang is lost with its first node, and the nodes of one failure domain (a TPU slice, a
rack, an NVLink domain) go together. So a notice for one node concerns the nodes of its domain,
and each slot that has a member on any of those.

Limits: a node belongs to one domain at most. A notice spreads from node to domain and from there
to slots, and stops: that a gang must leave does not make its other nodes leave, so the gangs
beside it stay.

Why not let each host of a gang act on its own notice: the gang then leaves in pieces, by different
deadlines, and serves nobody from the first piece on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Concern:
    """Say that a slot must leave the nodes it is on.

    Args:
        deadline: When the first of its nodes goes away, in seconds of the caller's clock; None when
            nobody knows.
        node: The node whose notice it is.
        reason: Why it concerns the slot, as a sentence without its full stop.
    """

    deadline: float | None
    node: str
    reason: str


_NO_DOMAINS: Mapping[str, str] = MappingProxyType({})


def spread_notice(
    notices: Mapping[str, float | None],
    membership: Mapping[int, Sequence[str]],
    domains: Mapping[str, str] = _NO_DOMAINS,
) -> dict[int, Concern]:
    """Return the slots that the notices concern, each with its nearest deadline.

    Args:
        notices: Node to the time it goes away, in seconds of the caller's clock; None, or
            infinity, when nobody knows.
        membership: Slot to the nodes that its member is on.
        domains: Node to its failure domain; a node that is not named is a domain of its own.

    Returns:
        Slot to its concern, in the order of `membership`; slots that nothing concerns are left out.
    """
    by_domain: dict[str, str] = {}
    for node in notices:
        domain = domains.get(node)
        if domain is not None:
            first = by_domain.setdefault(domain, node)
            by_domain[domain] = min(first, node, key=lambda each: _urgency(notices, each))
    concerns: dict[int, Concern] = {}
    for slot, nodes in membership.items():
        sources = [
            (_urgency(notices, source), host != source, host, source)
            for host in nodes
            if (source := _source(host, notices, domains, by_domain)) is not None
        ]
        if sources:
            *_, host, source = min(sources)
            reason = _reason(host, source, notices[source], domains)
            concerns[slot] = Concern(notices[source], source, reason)
    return concerns


def _urgency(notices: Mapping[str, float | None], node: str) -> tuple[float, str]:
    deadline = notices[node]
    # A deadline that nobody knows comes after each that somebody knows, as in the order of leaving.
    return (math.inf if deadline is None else deadline), node


def _source(
    host: str,
    notices: Mapping[str, float | None],
    domains: Mapping[str, str],
    by_domain: Mapping[str, str],
) -> str | None:
    """Return the node whose notice is the most urgent for a host, or None."""
    domain = domains.get(host)
    if domain is not None:
        return by_domain.get(domain)
    return host if host in notices else None


def _reason(host: str, source: str, deadline: float | None, domains: Mapping[str, str]) -> str:
    by = "at a time nobody knows" if deadline in (None, math.inf) else f"by {deadline:g}"
    if host == source:
        return f"its node {source} goes away {by}"
    return f"node {source} goes away {by}, and with it {domains[host]}, where its node {host} is"
