"""Frozen dataclasses as JSON and back, checked by their annotations.

Only what snapshots are made of: text, numbers, booleans, enumerations of text, None, tuples,
mappings from text, dataclasses of these, and `Any`, which is taken as it is. A field that is not
there has its default, and one that is not known is left out, so that a reader and a writer may
differ by what was added.
"""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, TypeVar

T = TypeVar("T")

Convert = Callable[[Any], Any]


_PLAIN = frozenset({str, int, float, bool, type(None)})


class NotThat(ValueError):
    """Say that a value is not of the shape that it is to have."""


def to_json(value: Any) -> Any:
    """Return a value in the words of JSON."""
    kind: Any = type(value)
    if kind in _PLAIN:
        return value
    if kind is tuple or kind is list:
        return [to_json(each) for each in value]
    if kind is dict:
        return {str(key): to_json(each) for key, each in value.items()}
    if dataclasses.is_dataclass(value):
        return with_fields(value, {})
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return {str(key): to_json(each) for key, each in value.items()}
    return str(value)


def with_fields(value: Any, instead: Mapping[str, Any]) -> dict[str, Any]:
    """Return a dataclass in the words of JSON, with other words for some of its fields."""
    kind: Any = type(value)
    # NB: most fields are plain, and a call for each would take half of the time.
    return {
        name: instead[name]
        if name in instead
        else each
        if type(each := getattr(value, name)) in _PLAIN
        else to_json(each)
        for name in _names(kind)
    }


def from_json(kind: type[T], value: Any) -> T:
    """Return a value of a class, from the words of JSON.

    Raises:
        NotThat: It is not of that shape; the text says where.
    """
    wanted: Any = kind
    made: T = _converter(wanted)(value)
    return made


@functools.cache
def _names(kind: Any) -> tuple[str, ...]:
    return tuple(field.name for field in dataclasses.fields(kind))


@functools.cache
def _converter(kind: Any) -> Convert:
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any or kind is object:
        return lambda value: value
    if origin is types.UnionType or origin is typing.Union:
        [other] = [each for each in inner if each is not types.NoneType]
        convert = _converter(other)
        return lambda value: None if value is None else convert(value)
    if origin is tuple:
        each = _converter(inner[0])
        return lambda value: tuple(each(one) for one in _checked(value, list))
    if origin is not None and issubclass(origin, Mapping):
        each = _converter(inner[1])
        return lambda value: {str(k): each(v) for k, v in _checked(value, dict).items()}
    if dataclasses.is_dataclass(kind):
        return functools.partial(_make, kind)
    if issubclass(kind, Enum):
        return functools.partial(_member, kind)
    if kind is float:
        return lambda value: float(_checked(value, int, float))
    return lambda value: _checked(value, kind)


def _checked(value: Any, *kinds: type) -> Any:
    # NB: a bool is an int to Python, and not to JSON.
    if isinstance(value, kinds) and (bool in kinds or not isinstance(value, bool)):
        return value
    raise NotThat(f"{value!r:.100} is no {' or '.join(kind.__name__ for kind in kinds)}")


def _member(kind: type[Enum], value: Any) -> Enum:
    try:
        return kind(value)
    except ValueError as error:
        raise NotThat(str(error)) from None


@functools.cache
def _fields(kind: Any) -> tuple[tuple[str, Convert], ...]:
    hints = typing.get_type_hints(kind)
    return tuple((name, _converter(hints[name])) for name in _names(kind))


def _make(kind: Any, value: Any) -> Any:
    given = _checked(value, dict)
    try:
        return kind(
            **{name: convert(given[name]) for name, convert in _fields(kind) if name in given}
        )
    except TypeError as error:
        raise NotThat(f"{kind.__name__}: {error}") from None
