"""What nodes and head say to each other on the roll call: one JSON object a line. Pure.

Both know the run's key, and neither says it: whoever listens at a port that the head of another job
had a moment ago would learn it. The head's first word is a number that was never there before, the
node answers with a proof that it knows the key, and with a number of its own for the head's proof.

From a node::

    hello  nonce proof rank host address    first, once
    lost   nonce proof host text            instead of it, from a node that cannot take part
    did    stage detail tail                how far it is with Ray; see `judge.Stage`
    service name state detail tail          how far it is with a service
    notice number                           it got the signal that warns of the end
    beat                                    it lives
    bye                                     it leaves, as it was told

From the head::

    prove  nonce                            first, to whoever calls
    known  proof                            the caller knows the key, and so does the head
    welcome                                 it is one of us
    refused text                            it is not
    go     address turn                     Ray's head listens there; at a new turn start anew
    end    text                             leave
    beat                                    it lives
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Mapping
from typing import Any

LONGEST = 256 * 1024
"""A line, in bytes."""
TAIL_MOST = 8192
"""Characters of a log's end that go along."""


def prove(key: str, side: str, *said: object) -> str:
    """Return what only those can know who know the key.

    Args:
        key: The run's.
        side: Whose proof it is, so that none can be sent back to who made it.
        *said: What it is for: the other side's number first.
    """
    return hmac.new(key.encode(), json.dumps([side, *said]).encode(), "sha256").hexdigest()


def is_proof(given: object, wanted: str) -> bool:
    """Whether a proof is the one that is wanted; the time it takes tells nothing."""
    return hmac.compare_digest(str(given).encode(errors="replace"), wanted.encode())


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
