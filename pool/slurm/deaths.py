"""What `srun` says of tasks that have ended. Pure.

A node program that has called the head is watched by its connection. One that never could, as there
is no Python on its node or the file system is gone, is known to `srun` alone, which says so on its
standard error; the batch script keeps that in a file.
"""

from __future__ import annotations

import re

from pool.errors import ConfigError
from pool.slurm.roles import expand

FILE = "srun.err"
_ENDED = re.compile(r"(?:\S+ )?srun: error: (\S+): tasks? [\d,\- ]+: (.+)")


def ended(line: str) -> tuple[tuple[str, ...], str]:
    """Return the hosts whose tasks have ended by a line of `srun`, and how; none for any other."""
    found = _ENDED.fullmatch(line.strip())
    if found is None:
        return (), ""
    try:
        return expand(found[1]), found[2]
    except ConfigError:
        return (), ""
