"""Write down what users may rely on: every public name, with its signature and its members.

`python -m tests.api.surface` writes it anew. What changes in `public.txt` changes for users.
"""

from __future__ import annotations

import enum
import inspect
import re
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pool

PATH = Path(__file__).with_name("public.txt")


def surface() -> str:
    """Return the public API as text, a line for each thing that can be called or read."""
    return "".join(f"{line}\n" for name in pool.__all__ for line in _lines(name, _get(name)))


def _get(name: str) -> Any:
    return getattr(pool, name)


def _lines(name: str, thing: Any) -> Iterator[str]:
    if isinstance(thing, types.ModuleType):
        for each in sorted(getattr(thing, "__all__", ())):
            yield from _lines(f"{name}.{each}", getattr(thing, each))
    elif inspect.isclass(thing):
        bases = ", ".join(base.__name__ for base in thing.__bases__ if base is not object)
        yield f"class {name}({bases})"
        if issubclass(thing, enum.Enum):
            yield from (f"  {each.name} = {each.value!r}" for each in thing)
            return
        members = _members(thing)
        if "__init__" in members:
            yield f"  {_signature('__init__', members['__init__'])}"
        yield from (
            f"  {line}"
            for member in sorted(members)
            if not member.startswith("_")
            for line in _member(member, members[member])
        )
    elif callable(thing):
        yield _signature(name, thing)
    else:
        yield f"{name}: {type(thing).__name__}"


def _members(thing: type) -> dict[str, Any]:
    """Return what a class has of its own, and by bases of ours that nobody can name."""
    members: dict[str, Any] = {}
    for base in reversed(thing.__mro__):
        is_hidden = base.__module__.startswith("pool.") and base.__name__ not in pool.__all__
        if base is thing or is_hidden:
            members.update(vars(base))
    return members


def _member(name: str, member: Any) -> Iterator[str]:
    if isinstance(member, property):
        yield f"{name}: property"
    elif isinstance(member, classmethod | staticmethod):
        yield f"{type(member).__name__} {_signature(name, member.__func__)}"
    elif inspect.isroutine(member):
        yield _signature(name, member)


def _signature(name: str, function: Any) -> str:
    """Return names, kinds and defaults of the arguments: annotations may be written otherwise."""
    prefix = "async def" if inspect.iscoroutinefunction(function) else "def"
    try:
        arguments = inspect.signature(function).parameters.values()
    except ValueError:
        return f"{prefix} {name}(...)"
    shown = [each.replace(annotation=inspect.Parameter.empty) for each in arguments]
    return re.sub(r" at 0x[0-9a-f]+", "", f"{prefix} {name}{inspect.Signature(shown)}")


if __name__ == "__main__":
    PATH.write_text(surface())
