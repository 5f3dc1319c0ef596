"""The configuration of a job: validated when it is made, read from TOML, carried as JSON.

Why not environment variables, as most scripts for Ray on Slurm have it: they have no types, no list
of what there is, and a misspelt one is silence. Why JSON for the way to the nodes: no shell reads
it, so nothing of it is ever interpreted.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import re
import sys
import tomllib
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pool.errors import ConfigError
from pool.slurm.deadlines import Deadlines
from pool.slurm.ports import Ports
from pool.slurm.quorum import check_quorum, check_where

T = TypeVar("T")

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_WORD = re.compile(r"[A-Za-z0-9_./:=,@+%~^*\[\]()-]+")
"""What may stand in a line for `sbatch`, whose rules of quoting are its own."""
_PATH = re.compile(r"/[A-Za-z0-9_./:=,@+~-]*")
_SIGNAL = re.compile(r"([A-Z][A-Z0-9]+)@([1-9][0-9]{0,4})")

TEMP_ROOT_LONGEST = 28
"""Ray puts sockets below; a path of a socket has 107 bytes, and Ray's part of it nearly 70."""

OURS = frozenset(
    {
        "--nodes", "-N", "--ntasks", "-n", "--ntasks-per-node", "--job-name", "-J", "--output",
        "-o", "--error", "-e", "--open-mode", "--signal", "--requeue", "--no-requeue", "--wrap",
        "--time", "-t", "--partition", "-p", "--account", "-A", "--qos", "-q", "--chdir", "-D",
        "--gres", "--no-kill", "-k", "--kill-on-bad-exit", "-K", "--wait", "-W", "--mpi",
        "--export", "--input", "-i", "--distribution", "-m",
    }
)  # fmt: skip
"""Options that the job sets itself: given again they would contradict it."""
_FLAGS = frozenset("hHlOQsuvVXZ")
"""One-letter options of `sbatch` and `srun` that take nothing: another letter may follow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """Describe a program that runs beside Ray.

    Args:
        name: For its log and for messages.
        command: The program and its arguments.
        where: On which nodes: `all`, `head`, or on how many.
        port: It is ready when this port takes connections,
        http: or, with a path, when that answers with status 200 there;
        log: when a line of its output matches this regular expression;
        file: when this file is written. Without any of them, as soon as it runs.
        quorum: How many have to be ready before the driver starts, and to stay: `all`, a number, or
            a share such as `95%`.
        env: Its own variables.

    Raises:
        ConfigError: A value is out of its range; `field` names it.
    """

    name: str
    command: Sequence[str]
    where: str | int = "all"
    port: int | None = None
    http: str = ""
    log: str = ""
    file: str = ""
    quorum: str | int = "all"
    env: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check(NAME.fullmatch(self.name), "name", self.name, "letters, digits, '.', '_' and '-'")
        _check_command(self.command, "command")
        _check(self.command, "command", self.command, "the program and its arguments")
        _check_env(self.env)
        check_where(self.where)
        check_quorum(self.quorum)
        if self.port is not None:
            _check(0 < self.port < 65536, "port", self.port, "1 to 65535")
        probes = [self.http or self.port is not None, self.log, self.file]
        _check(sum(map(bool, probes)) <= 1, "log", self.log, "one of port, log and file")
        if self.http:
            _check(self.http.startswith("/"), "http", self.http, "a path that begins with '/'")
            _check(self.port is not None, "port", self.port, "the port to ask at")
        try:
            re.compile(self.log)
        except re.error as error:
            message = f"log is {self.log!r} ({error}); give a regular expression"
            raise ConfigError(message, "log") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tries:
    """Say how often Ray is started on a node, and how long is waited in between.

    Args:
        head: On the head.
        worker: On each other node.
        pause_s: After the first failure; twice as long after each further one.
        pause_most_s: But not longer.
        try_s: How long one try may take.

    Raises:
        ConfigError: A number is out of its range.
    """

    head: int = 3
    worker: int = 20
    pause_s: float = 0.5
    pause_most_s: float = 10.0
    try_s: float = 180.0

    def __post_init__(self) -> None:
        for name in ("head", "worker"):
            _check(getattr(self, name) >= 1, f"tries.{name}", getattr(self, name), "1 or more")
        for name in ("pause_s", "pause_most_s", "try_s"):
            value = getattr(self, name)
            _check(0 < value < 1e9, f"tries.{name}", value, "more than 0 seconds")


@dataclass(frozen=True, slots=True, kw_only=True)
class SlurmJob:
    """Describe a Ray cluster as a job of Slurm.

    Args:
        name: Its name.
        nodes: How many nodes.
        command: The driver and its arguments. Empty: the cluster stays up, for `pool slurm attach`.
        directory: Where the job keeps its files; every node has to see it.
        workdir: Where the driver and the services run; empty is where the job is submitted.
        python: The Python that runs on the nodes, with this package and Ray.
        min_nodes: With how many nodes the driver may start and go on; None for all.
        dedicated_head: Whether the head's Ray has neither CPUs nor devices, so that nothing is
            scheduled there.
        head: The host to be the head; empty for the first.
        devices: How many devices of each node; they are asked for (`--gres=gpu:n`), counted on each
            node, and given to Ray. Of 0, what Slurm gives is used.
        gres: What to ask for instead.
        cpus: How many CPUs Ray has on each node; 0 for all that Slurm gave.
        time: The wall time, as Slurm writes it.
        partition: Where to run.
        account: Who pays.
        qos: The quality of service.
        signal: A warning before the end, as `USR1@120`: it becomes a notice, and the pool drains.
        requeue: `notice` puts the job back into the queue when it was warned and the driver did not
            end with 0; `never` does not.
        requeue_margin_s: How many seconds before its end a warned job is put back at the latest.
        sbatch: Further options of `sbatch`, one each.
        srun: Further options of `srun`, one each.
        container: Options of `srun` for a container, passed through as they are.
        env: Variables for Ray, the services and the driver.
        ray_head: Further arguments of `ray start` on the head.
        ray_worker: Further arguments of `ray start` on the others.
        object_store_bytes: The size of Ray's object store on each node; 0 leaves it to Ray.
        include_dashboard: Whether the head has Ray's dashboard.
        services: What runs beside Ray.
        ports: Which ports are used.
        deadlines: What may take how long.
        tries: How often Ray is started.
        silence_s: How long a node may be silent before it counts as lost.
        driver_grace_s: How long the driver may take to end once it was asked to. Keep it below the
            site's KillWait, after which Slurm kills.
        stop_grace_s: How long Ray and services may take; nothing of theirs is to be kept.
        temp_root: Where each node has a folder for Ray's session: local, and a short path.
        ray_logs: When Ray's logs are copied into the job's directory: `failed`, `always`, `never`.
        open_files: How many open files are asked for; as many as the hard limit has are taken.
        print_env: Whether each node writes its environment into its log, without secrets.

    Raises:
        ConfigError: A value is out of its range; `field` names it.
    """

    name: str
    nodes: int
    command: Sequence[str] = ()
    directory: str = "pool-slurm"
    workdir: str = ""
    python: str = ""
    min_nodes: int | None = None
    dedicated_head: bool = False
    head: str = ""
    devices: int = 0
    gres: str = ""
    cpus: int = 0
    time: str = ""
    partition: str = ""
    account: str = ""
    qos: str = ""
    signal: str = ""
    requeue: str = "never"
    requeue_margin_s: float = 20.0
    sbatch: Sequence[str] = ()
    srun: Sequence[str] = ()
    container: Sequence[str] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    ray_head: Sequence[str] = ()
    ray_worker: Sequence[str] = ()
    object_store_bytes: int = 0
    include_dashboard: bool = True
    services: Sequence[Service] = ()
    ports: Ports = field(default_factory=Ports)
    deadlines: Deadlines = field(default_factory=Deadlines)
    tries: Tries = field(default_factory=Tries)
    silence_s: float = 15.0
    driver_grace_s: float = 20.0
    stop_grace_s: float = 0.5
    temp_root: str = "/tmp"  # noqa: S108  # a folder of this user alone is made there
    ray_logs: str = "failed"
    open_files: int = 65_535
    print_env: bool = False

    def __post_init__(self) -> None:
        _check(NAME.fullmatch(self.name), "name", self.name, "letters, digits, '.', '_' and '-'")
        _check(1 <= self.nodes <= 100_000, "nodes", self.nodes, "1 or more")
        _check(1 <= self.least <= self.nodes, "min_nodes", self.min_nodes, f"1 to {self.nodes}")
        for name in ("devices", "cpus", "object_store_bytes"):
            _check(getattr(self, name) >= 0, name, getattr(self, name), "0 or more")
        for name in ("silence_s", "requeue_margin_s", "driver_grace_s", "stop_grace_s"):
            value = getattr(self, name)
            _check(0 <= value < 1e9 and math.isfinite(value), name, value, "0 or more seconds")
        _check(self.silence_s >= 3, "silence_s", self.silence_s, "3 seconds or more")
        for name in ("time", "partition", "account", "qos", "gres", "head"):
            _check_word(getattr(self, name), name)
        _check(
            not self.signal or _SIGNAL.fullmatch(self.signal),
            "signal", self.signal, "a signal and seconds, as 'USR1@120'",
        )  # fmt: skip
        _check(self.requeue in ("never", "notice"), "requeue", self.requeue, "never or notice")
        _check(
            self.ray_logs in ("failed", "always", "never"),
            "ray_logs", self.ray_logs, "failed, always or never",
        )  # fmt: skip
        _check(
            self.temp_root.startswith("/") and len(self.temp_root.encode()) <= TEMP_ROOT_LONGEST,
            "temp_root", self.temp_root, f"a full path of at most {TEMP_ROOT_LONGEST} bytes",
        )  # fmt: skip
        for name in ("sbatch", "srun", "container"):
            _check_options(getattr(self, name), name)
        for name in ("ray_head", "ray_worker", "command"):
            _check_command(getattr(self, name), name)
        _check_env(self.env)
        if self.requeue == "notice":
            self._check_warning()
        names = [service.name for service in self.services]
        _check(len(set(names)) == len(names), "services", names, "each a name of its own")

    def _check_warning(self) -> None:
        needed_s = self.driver_grace_s + self.requeue_margin_s
        wanted = (
            f"one that comes more than driver_grace_s + requeue_margin_s = {needed_s:g} s ahead"
        )
        _check(self.warning and self.warning[1] > needed_s, "signal", self.signal, wanted)

    @property
    def least(self) -> int:
        """With how many nodes the driver may start and go on."""
        return self.nodes if self.min_nodes is None else self.min_nodes

    @property
    def asked_gres(self) -> str:
        """What is asked for as generic resources."""
        return self.gres or (f"gpu:{self.devices}" if self.devices else "")

    @property
    def warning(self) -> tuple[str, int] | None:
        """The signal that warns of the end, and how many seconds before; None if none does."""
        found = _SIGNAL.fullmatch(self.signal)
        return (found[1], int(found[2])) if found else None

    def at(self, folder: Path) -> SlurmJob:
        """Return the job with full paths, as it is submitted from a folder.

        Raises:
            ConfigError: A path cannot be written into a batch script.
        """
        paths = {
            "directory": str(folder / self.directory),
            "workdir": str(folder / self.workdir),
            "python": self.python or sys.executable,
        }
        for name, path in paths.items():
            _check(
                _PATH.fullmatch(path), name, path,
                "a full path of letters, digits, and '_./:=,@+~-'",
            )  # fmt: skip
        return dataclasses.replace(self, **paths)  # type: ignore[arg-type]

    def to_json(self) -> str:
        """Return the job as the nodes read it."""
        return json.dumps(dataclasses.asdict(self), indent=1, sort_keys=True) + "\n"

    @property
    def digest(self) -> str:
        """A name for exactly this job."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:12]


def from_toml(text: str) -> SlurmJob:
    """Read a job file.

    Raises:
        ConfigError: It is no TOML, or no job; `field` names what is wrong.
    """
    return from_mapping(parse_toml(text))


def parse_toml(text: str) -> dict[str, Any]:
    """Return the values of a job file, unchecked.

    Raises:
        ConfigError: It is no TOML.
    """
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"the job file is no TOML: {error}") from None


def from_json(text: str) -> SlurmJob:
    """Read what `SlurmJob.to_json` made.

    Raises:
        ConfigError: It is something else.
    """
    try:
        found = json.loads(text)
    except ValueError as error:
        raise ConfigError(f"the job file is no JSON: {error}") from None
    return from_mapping(found)


def from_mapping(found: object) -> SlurmJob:
    """Make a job of tables and values.

    Raises:
        ConfigError: A field is unknown, is missing, or has a value of another type.
    """
    return _read(SlurmJob, found, "")


def _read(kind: type[T], found: object, path: str) -> T:
    if not isinstance(found, dict):
        raise ConfigError(f"{path or 'the job'} is {found!r}; give a table", path or None)
    hints = typing.get_type_hints(kind)
    fields = {each.name: each for each in dataclasses.fields(kind)}  # type: ignore[arg-type]
    unknown = sorted(set(found) - set(fields))
    if unknown:
        known = ", ".join(fields)
        raise ConfigError(f"there is no {path}{unknown[0]}; there are {known}", path + unknown[0])
    missing = [
        name
        for name, each in fields.items()
        if name not in found
        and each.default is dataclasses.MISSING
        and each.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise ConfigError(f"{path}{missing[0]} is missing", path + missing[0])
    values = {name: _value(hints[name], value, path + name) for name, value in found.items()}
    return kind(**values)


def _value(kind: Any, value: Any, path: str) -> Any:
    origin = typing.get_origin(kind)
    if dataclasses.is_dataclass(kind):
        return _read(typing.cast("type[Any]", kind), value, f"{path}.")
    if origin is Sequence and isinstance(value, list):
        (inner,) = typing.get_args(kind)
        return tuple(_value(inner, each, f"{path}[{n}]") for n, each in enumerate(value))
    if origin is Mapping and isinstance(value, dict):
        return {str(name): _value(str, each, f"{path}.{name}") for name, each in value.items()}
    kinds = typing.get_args(kind) if origin in (typing.Union, types.UnionType) else (kind,)
    if float in kinds and type(value) is int:
        return float(value)
    if type(value) in kinds:
        return value
    names = " or ".join(getattr(each, "__name__", str(each)) for each in kinds)
    raise ConfigError(f"{path} is {value!r}; give {names}", path)


def _check(is_right: object, name: str, value: object, wanted: str) -> None:
    if not is_right:
        raise ConfigError(f"{name} is {value!r}; give {wanted}", name)


def _check_word(text: str, name: str) -> None:
    _check(not text or _WORD.fullmatch(text), name, text, "one word without blanks or quotes")


def _check_command(words: Sequence[str], name: str) -> None:
    _check(not isinstance(words, str), name, words, "a list of arguments; no shell reads it")
    _check(all("\0" not in word for word in words), name, words, "arguments without NUL")
    _check(not words or words[0], name, words, "a program first")


def _check_options(words: Sequence[str], name: str) -> None:
    _check_command(words, name)
    for word in words:
        is_option = word.startswith("-") and word.isprintable()
        _check(is_option, name, word, "options as '--option=value', of characters that show")
        if name == "sbatch":
            _check(_WORD.fullmatch(word), name, word, "options without blanks or quotes")
        _check(not _is_ours(word), name, word, "another option; this one is set by the job")


def _is_ours(word: str) -> bool:
    """Whether Slurm reads an option as one of ours: also abbreviated, or in one word with others.

    `--node=9` is `--nodes=9` for it, `-N9` as well, and `-vN9` is `-v -N9`.
    """
    if word.startswith("--"):
        option = word.partition("=")[0]
        return len(option) > 2 and any(ours.startswith(option) for ours in OURS)
    for letter in word[1:]:
        if f"-{letter}" in OURS:
            return True
        if letter not in _FLAGS:
            break  # what follows is its value
    return False


def _check_env(env: Mapping[str, str]) -> None:
    for variable, value in env.items():
        _check(_VARIABLE.fullmatch(variable), "env", variable, "names of variables")
        _check("\0" not in value, f"env.{variable}", value, "a value without NUL")
