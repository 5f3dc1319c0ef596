"""Files that one node writes and others read: whole or not at all, and polled ever more seldom.

A file is written beside its place and renamed into it, so nobody reads half of one. Readers poll:
no file system that nodes share tells of changes on another node.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import anyio

T = TypeVar("T")

FIRST_POLL_S = 0.2
LAST_POLL_S = 2.0


def pauses(first_s: float = FIRST_POLL_S, last_s: float = LAST_POLL_S) -> Iterator[float]:
    """Yield how long to wait between looks: each time half as long again, up to `last_s`."""
    pause_s = first_s
    while True:
        yield pause_s
        pause_s = min(1.5 * pause_s, last_s)


def publish(path: Path, found: Mapping[str, Any]) -> None:
    """Write JSON, whole or not at all. It replaces what was there.

    Raises:
        OSError: It cannot be written.
    """
    write(path, json.dumps(found, indent=1) + "\n")


def write(path: Path, text: str, mode: int = 0o600) -> None:
    """Write a text, whole or not at all.

    Raises:
        OSError: It cannot be written.
    """
    new = path.with_name(f".{path.name}.{os.uname().nodename}.{os.getpid()}")
    try:
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            # On a network file system an error of writing may not come before this.
            os.fsync(file.fileno())
        os.replace(new, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            new.unlink()
        # The name that was to be written is the one that is known, and not the one beside it.
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error


def write_program(path: Path, text: str) -> None:
    """Write a text that its owner can run, whole or not at all.

    Raises:
        OSError: It cannot be written.
    """
    write(path, text, mode=0o700)


def read(path: Path) -> dict[str, Any] | None:
    """Return what was published; None while nothing is, or nothing that can be read.

    NB: NFS remembers for half a minute that a file was not there. Listing its folder makes the
    client ask again.
    """
    try:
        os.listdir(path.parent)
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


async def wait_for(look: Callable[[], T | None]) -> T:
    """Look until there is something. Cancelling ends the wait."""
    for pause_s in pauses():
        # A file system that hangs must not hold the loop up.
        found = await anyio.to_thread.run_sync(look, abandon_on_cancel=True)
        if found is not None:
            return found
        await anyio.sleep(pause_s)
    raise AssertionError("pauses do not end")  # pragma: no cover
