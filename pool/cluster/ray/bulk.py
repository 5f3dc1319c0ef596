"""Many bytes inside of an argument, sent without being pickled.

Ray sends bytes that are an argument themselves as they are, but pickles those inside of another
value, which copies them twice more.
"""

from __future__ import annotations

import pickle
from typing import Any

BULK_BYTES = 64 * 1024
"""Smaller ones are pickled: a buffer of their own costs more than a copy."""


class Bulk:
    """Hold bytes, and arrive as those bytes."""

    __slots__ = ("_value",)

    def __init__(self, value: bytes) -> None:
        self._value = value

    def __reduce__(self) -> tuple[Any, ...]:
        return bytes, (pickle.PickleBuffer(self._value),)
