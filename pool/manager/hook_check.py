"""Whether the hooks that a subclass gives can be called, found where the class is made.

A hook that is asynchronous where a plain one is called is never run, and one with other arguments
raises in the middle of a member's life: an actor that nobody kills is what comes of it.
"""

from __future__ import annotations

import inspect
from typing import Any

from pool.errors import ConfigError


def check_hooks(kind: type, steps: type) -> None:
    """Refuse a class whose hooks cannot be called as those of `steps` are.

    Args:
        kind: The class. What it inherits from another subclass of `steps` was checked with that.
        steps: The class whose public methods are the hooks.

    Raises:
        ConfigError: A hook cannot be right; `field` names it.
    """
    for name, ours in vars(steps).items():
        if name.startswith("_") or not inspect.isfunction(ours):
            continue
        given = inspect.getattr_static(kind, name)
        earlier = [base for base in kind.__mro__[1:] if issubclass(base, steps)]
        if any(vars(base).get(name, earlier) is given for base in earlier):
            continue
        if why := _why_wrong(given, ours):
            raise ConfigError(f"{kind.__name__}.{name}{signature_of(given)} {why}", name)


def _why_wrong(given: Any, ours: Any) -> str:
    """Return what is wrong with a hook, as the rest of a sentence; empty when nothing is."""
    called = given.__func__ if isinstance(given, staticmethod | classmethod) else given
    if not callable(called):
        # What a descriptor makes of itself is not known before it is asked.
        return "" if hasattr(called, "__get__") else f"is {called!r}; give a method"
    takes = list(inspect.signature(ours).parameters)
    args = takes[1:] if isinstance(given, staticmethod) else takes
    if why := why_not(called, tuple(args)):
        return f"is called as {ours.__name__}({', '.join(takes[1:])}): {why}"
    # A decorator may wrap what is asynchronous in a plain function that returns the same.
    functions = [each for each in (called, inspect.unwrap(called)) if inspect.isfunction(each)]
    if not functions:
        return ""
    is_async = any(map(inspect.iscoroutinefunction, functions))
    if inspect.iscoroutinefunction(ours):
        return "" if is_async else "is awaited, and is not asynchronous; write `async def`"
    if is_async:
        return "is not awaited, so that it would never run; write it with a plain `def`"
    if any(each(called) for each in (inspect.isgeneratorfunction, inspect.isasyncgenfunction)):
        return "holds a `yield`, so that it would never run; return instead"
    return ""


def why_not(called: Any, args: tuple[Any, ...]) -> str:
    """Return why something cannot be called with these arguments; empty when it can be."""
    try:
        inspect.signature(called).bind(*args)
    except TypeError as error:
        return str(error)
    except ValueError:
        pass  # It does not tell its signature, as what is written in C.
    return ""


def signature_of(called: Any) -> str:
    """Return how something is called, as it is written."""
    try:
        return str(inspect.signature(called))
    except (TypeError, ValueError):
        return "(…)"
