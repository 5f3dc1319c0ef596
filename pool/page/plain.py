"""Write frozen values down as JSON has them: objects, lists, text, numbers, true, false, null."""

from __future__ import annotations

import dataclasses
import enum
import math
from collections.abc import Mapping
from typing import Any

from pool.cluster.interface import Actor


def as_json(value: Any) -> Any:
    """Return a value as JSON has it; a number that is none becomes null, an actor its id."""
    match value:
        case enum.Enum():
            return value.value
        case str() | bool() | int() | None:
            return value
        case float():
            return value if math.isfinite(value) else None
        case Actor():
            return value.id
        case Mapping():
            return {str(key): as_json(item) for key, item in value.items()}
        case tuple() | list() | set() | frozenset():
            return [as_json(item) for item in value]
        case _ if dataclasses.is_dataclass(value):
            names = [field.name for field in dataclasses.fields(value)]
            return {name: as_json(getattr(value, name)) for name in names}
        case _:
            return str(value)
