"""What nodes and head say to each other on the roll call: one JSON object a line. Pure.

From a node::

    hello  key rank host node address pid   first, once
    lost   key host text                    instead of it, from a node that cannot take part
    did    stage detail tail                how far it is with Ray; see `judge.Stage`
    service name state detail tail          how far it is with a service
    notice number                           it got the signal that warns of the end
    beat                                    it lives
    bye                                     it leaves, as it was told

From the head::

    welcome                                 it is one of us
    refused text                            it is not
    go     address turn                     Ray's head listens there; at a new turn start anew
    end    text                             leave
    beat                                    it lives
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

LONGEST = 256 * 1024
"""A line, in bytes."""
TAIL_MOST = 8192
"""Characters of a log's end that go along."""


def encode(what: str, **fields: Any) -> bytes:
    """Return a line."""
    return json.dumps({"what": what, **fields}).encode() + b"\n"


def decode(line: bytes) -> Mapping[str, Any]:
    """Return what a line says.

    Raises:
        ValueError: It says nothing that can be understood.
    """
    found = json.loads(line)
    if not isinstance(found, dict) or not isinstance(found.get("what"), str):
        raise ValueError(f"{line[:80]!r} is no message")
    return found
