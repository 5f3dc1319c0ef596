"""Where the documents of a pool are, and how they are packed."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

VERSION = 1
"""Rises when documents change so that an older reader would read them wrongly."""

ROOT = f"pool/{VERSION}/"
LARGEST = 64 * 2**20
"""Bytes of a document, unpacked; a pool of 100,000 slots takes less."""


@dataclass(frozen=True, slots=True)
class Key:
    """Name a document: of which pool, and which.

    Args:
        pool: The pool's name.
        instance: The word that tells pools of one name apart.
        part: `picture`, `events.<number>`, `request.<id>` or `answer.<id>`.
    """

    pool: str
    instance: str
    part: str = ""

    def __str__(self) -> str:
        return f"{ROOT}{self.pool}:{self.instance}:{self.part}"

    @classmethod
    def parse(cls, text: str) -> Key | None:
        """Return the key that was written so; None for one that is not ours."""
        pool, _, rest = text.removeprefix(ROOT).partition(":")
        instance, _, part = rest.partition(":")
        if not (text.startswith(ROOT) and pool and instance and part):
            return None
        return cls(pool, instance, part)


def of_pool(name: str) -> str:
    """Return how the keys of all pools of a name begin."""
    return f"{ROOT}{name}:"


def pack(document: Mapping[str, Any]) -> bytes:
    """Return a document as bytes: JSON, compressed. What JSON has no word for becomes text."""
    text = json.dumps(document, separators=(",", ":"), default=str, skipkeys=True)
    return zlib.compress(text.encode(), 1)


def unpack(packed: bytes) -> dict[str, Any] | None:
    """Return a document; None for what is none, or is of another version."""
    unpacker = zlib.decompressobj()
    try:
        text = unpacker.decompress(packed, LARGEST)
        document = None if unpacker.unconsumed_tail else json.loads(text)
    except (zlib.error, ValueError, RecursionError):
        return None
    if not isinstance(document, dict) or document.get("version") != VERSION:
        return None
    return document
