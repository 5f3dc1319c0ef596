"""Which part of a value cannot be pickled: what its author has to change, by the name they gave it.

Only containers and dataclasses are looked into. Of an object of another class the pickler's own
words say more than its attributes would.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from pool.errors import PoolError

CHARACTERS = 200
"""A pickler may show the whole of what it could not pickle."""


def name_culprit(value: Any, pickle: Callable[[Any], object]) -> str:
    """Say which part of a value cannot be pickled, and why: the rest of a sentence.

    Args:
        value: The value.
        pickle: Pickles a value, or raises.

    Returns:
        As "args[0], a Model, cannot be pickled: ..."; empty when all of it can be.
    """
    return _look(value, "", pickle, frozenset())


def _look(value: Any, path: str, pickle: Callable[[Any], object], above: frozenset[int]) -> str:
    try:
        pickle(value)
    except Exception as error:
        for name, part in _parts(value):
            if id(part) not in above and (
                found := _look(part, (path + name).lstrip("."), pickle, above | {id(value)})
            ):
                return found
        return f"{path or 'it'}, {_kind(value)}, cannot be pickled: {_short(error)}"
    return ""


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    if is_dataclass(value) and not isinstance(value, type):
        yield from ((f".{field.name}", getattr(value, field.name, None)) for field in fields(value))
    elif isinstance(value, list | tuple):
        yield from ((f"[{number}]", part) for number, part in enumerate(value))
    elif isinstance(value, Mapping):
        yield from ((f"[{key!r}]", part) for key, part in value.items())


def _kind(value: Any) -> str:
    if isinstance(value, type):
        return f"the class {value.__qualname__}"
    return f"a {type(value).__qualname__}"


def _short(error: BaseException) -> str:
    if isinstance(error, PoolError) and error.__cause__ is not None:
        error = error.__cause__
    lines = (line.strip() for line in str(error).splitlines())
    text = next((line for line in lines if line), type(error).__name__)
    return text if len(text) <= CHARACTERS else f"{text[:CHARACTERS]}…"
