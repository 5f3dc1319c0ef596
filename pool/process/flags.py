"""Write a dict of settings as the flags of a command line.

For engines that take each setting both ways: as a keyword in Python and as a flag. Only what has
one obvious spelling is written; all else is refused here, where the name of the setting is known,
and not by the program on the node, minutes later.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping
from enum import Enum
from typing import Any

from pool.errors import ConfigError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


def flags(settings: Mapping[str, Any]) -> list[str]:
    """Return the flags for settings, in their order.

    `max_len` becomes `--max-len`; what follows a first dot stays as it is, since engines take it
    for a key. By the value: True is `--name`, False is `--no-name`, None leaves the flag out; a
    str, int, float or path is `--name value`; a dict, list or tuple is `--name` and its JSON. An
    enum stands for its value. A value that begins with `-` is written `--name=value`, or else the
    program would take it for another flag.

    Args:
        settings: Name to value.

    Returns:
        What to put behind the program in an argv.

    Raises:
        ConfigError: A name cannot be a flag, two names are the same flag, or a value has no
            obvious spelling, as a set has not; `field` names it.
    """
    if not isinstance(settings, Mapping):
        raise ConfigError(f"settings is {settings!r}; give a dict of name to value", "settings")
    written: list[str] = []
    names: dict[str, str] = {}
    for name, value in settings.items():
        flag = _flag(name)
        if (other := names.setdefault(flag, name)) != name:
            raise ConfigError(f"{other!r} and {name!r} are both --{flag}; give one", name)
        written += _written(name, flag, value.value if isinstance(value, Enum) else value)
    return written


def _flag(name: object) -> str:
    if not (isinstance(name, str) and _NAME.fullmatch(name)):
        message = f"{name!r} cannot be a flag; give a name of letters, digits, '_', '.' and '-'"
        raise ConfigError(message, str(name))
    first, *keys = name.split(".", 1)
    return ".".join((first.replace("_", "-"), *keys))


def _written(name: str, flag: str, value: object) -> list[str]:
    if value is None:
        return []
    if isinstance(value, bool):
        return [f"--{flag}" if value else f"--no-{flag}"]
    text = _text(name, value)
    return [f"--{flag}={text}"] if text.startswith("-") else [f"--{flag}", text]


def _text(name: str, value: object) -> str:
    if isinstance(value, str | int | float):
        return str(value)
    if isinstance(value, os.PathLike):
        path = os.fspath(value)
        if isinstance(path, str):
            return path
    if isinstance(value, Mapping | list | tuple):
        return json.dumps(_plain(name, value), ensure_ascii=False, allow_nan=False)
    raise ConfigError(
        f"{name} is {value!r}, a {type(value).__name__}; give a bool, a number, a str, a path, "
        "None, or a dict, list or tuple of these",
        name,
    )


def _plain(name: str, value: object) -> object:
    """Return what JSON has a word for, or raise."""
    if isinstance(value, Enum):
        value = value.value
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    if isinstance(value, list | tuple):
        return [_plain(name, item) for item in value]
    if isinstance(value, Mapping):
        # NB: JSON would make the keys 1 and "1" one.
        odd = [key for key in value if not isinstance(key, str)]
        if not odd:
            return {str(key): _plain(name, item) for key, item in value.items()}
        value = odd[0]
    if isinstance(value, os.PathLike) and isinstance(path := os.fspath(value), str):
        return path
    message = f"{name} holds {value!r}, which JSON has no word for; give dicts with str keys, "
    raise ConfigError(message + "lists, strs, finite numbers, bools and None", name)
