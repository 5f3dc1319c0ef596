"""What is to be run as a managed process, checked, and how its warden is told."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pool.errors import ConfigError, LaunchFailed
from pool.process import marker
from pool.process.pids import ProcessId

_IDENTITY = re.compile(r'[^\s|"\\\x00-\x20\x7f-\uffff]+')


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLimit:
    """How large a process's log may get.

    Args:
        max_bytes: A file is rotated before it gets larger.
        backups: How many older files are kept: `log.1` is the youngest of them.
    """

    max_bytes: int = 64 * 2**20
    backups: int = 3

    def __post_init__(self) -> None:
        if self.max_bytes < 1024:
            raise ConfigError(f"max_bytes is {self.max_bytes}; give 1024 or more", "max_bytes")
        if self.backups < 0:
            raise ConfigError(f"backups is {self.backups}; give 0 or more", "backups")


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """What is to be run, with everything filled in.

    Args:
        argv: The program, found on the `PATH` of `env` if it has no slash, and its arguments.
        env: Its environment, complete. `POOL_PROCESS` is added.
        cwd: Its working directory; None for this process's.
        log: Where its output goes, appended. The folder is made. Beside it lies `<log>.exit`; see
            `read_exit`. One process at a time may have it.
        limit: How large the log may get.
        grace_s: Seconds that its tree has to end when this process dies.
        identity: Whose process it is and which, for `ps` and for the marker; no blanks, no ``|``.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: str | None
    log: Path
    limit: LogLimit = LogLimit()
    grace_s: float = 10.0
    identity: str

    def __post_init__(self) -> None:
        if not self.argv or not self.argv[0]:
            raise ConfigError("argv names no program", "argv")
        for field, texts in (
            ("argv", self.argv),
            ("env", [*self.env, *self.env.values()]),
            ("cwd", [self.cwd or "/"]),
            ("log", [os.fspath(self.log)]),
        ):
            if not all(_can_be_given(text) for text in texts):
                raise ConfigError(
                    f"{field} holds a NUL, or what cannot be encoded: no process can be given that",
                    field,
                )
        if any(not name or "=" in name for name in self.env):
            raise ConfigError("a name in env is empty or holds '='", "env")
        if not _IDENTITY.fullmatch(self.identity):
            raise ConfigError(
                f"identity is {self.identity!r}; give printable ASCII without blanks, quotes, "
                "backslashes and '|'",
                "identity",
            )
        check_grace(self.grace_s)


def write_order(spec: Launch, owner: ProcessId) -> bytes:
    """Return what the warden reads; see `pool.process.warden.Order`."""
    try:
        folder, log = os.path.abspath(spec.cwd or ""), spec.log.absolute()
    except FileNotFoundError as error:
        raise LaunchFailed(
            spec.argv[0],
            "the working directory of this process is gone; give cwd and log as full paths",
            error.errno,
        ) from None
    argv = [os.fsencode(argument) for argument in spec.argv]
    env = {os.fsencode(name): os.fsencode(value) for name, value in spec.env.items()}
    fields = [
        marker.start(spec.identity, marker.here(), owner).encode(),
        str(owner.pid).encode(),
        str(owner.created).encode(),
        repr(float(spec.grace_s)).encode(),
        os.fsencode(log),
        str(spec.limit.max_bytes).encode(),
        str(spec.limit.backups).encode(),
        os.fsencode(folder),
        str(len(argv)).encode(),
        *argv,
        *(name + b"=" + value for name, value in env.items()),
    ]
    body = b"".join(field + b"\0" for field in fields)
    return len(body).to_bytes(8, "big") + body


def _can_be_given(text: str) -> bool:
    try:
        return b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        return False


def check_grace(grace_s: float) -> None:
    """Refuse a grace that is none, or that has no end.

    Raises:
        ConfigError: It is negative, infinite or no number.
    """
    if not 0 <= grace_s < math.inf:
        raise ConfigError(f"grace_s is {grace_s}; give 0 or more seconds, and an end", "grace_s")
