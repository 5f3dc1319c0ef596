"""What a managed process is: a value that is written by the user and sent to a node.

All that can be wrong with it is found where it is written. What only the node knows (ports, its
address, the environment there) is put in by `resolve`, on the node.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from pathlib import PurePath

from pool.errors import ConfigError
from pool.planning.environment import check_environment
from pool.planning.health import HealthPolicy
from pool.planning.restart import RestartPolicy
from pool.process.fill import Fill
from pool.process.order import LogLimit
from pool.process.probes import PORT_NAME, Probe

_NAME = re.compile(r"(?!\.)[A-Za-z0-9._-]{1,100}")
ADDRESS = "address"
"""What a `Fill` calls the node's address; no port may be called so."""


@dataclass(frozen=True, slots=True)
class Liveness:
    """Say how a process is watched once it is ready.

    Args:
        probe: What is asked.
        policy: How often, and how many failures in a row end the process. Its grace runs from
            when the process got ready.

    Raises:
        ConfigError: It is no probe, or one that cannot tell of now; `field` names it.
    """

    probe: Probe
    policy: HealthPolicy = field(default_factory=HealthPolicy)

    def __post_init__(self) -> None:
        _check_kind("probe", self.probe, Probe, "a probe, such as tcp(8000)")
        _check_kind("policy", self.policy, HealthPolicy, "a HealthPolicy")
        if not self.probe.tells_of_now:
            message = (
                f"probe is {self.probe!r}, which stays true once it was; "
                "give tcp, http, file or function"
            )
            raise ConfigError(message, "probe")


@dataclass(frozen=True, slots=True)
class Process:
    """Describe a process that is run and watched on each host.

    Args:
        argv: The program and its arguments, each a str or a `Fill`. There is no shell.
        name: What it is called in logs and errors; letters, digits, '.', '_' and '-'. The default
            is the last part of the program's path.
        env: Variables to add to the environment, each a str or a `Fill`; a `Fill` here sees the
            environment without them.
        cwd: Where it runs; None is where the host's actor does.
        devices: How many of the host's devices it sees; None is all of them, 0 is none.
        ports: Names of ports to lease on the node. A name keeps its port over restarts.
        ready: What has to hold for the process to be ready; None is ready once it runs.
        ready_timeout_s: Seconds from a start until it has to be ready; more than 0.
        alive: How it is watched from then on; None watches only whether it ends.
        restart: How often, and how soon, it is started again when it ends unasked or is not alive;
            None is never. With None an exit code of 0 is its finish, and no failure.
        grace_s: Seconds from asking it to end (SIGTERM) until it is killed; 0 or more.
        log: How much of its output is kept.

    Raises:
        ConfigError: A value cannot be right; `field` names it.
    """

    argv: Sequence[str | Fill]
    _: KW_ONLY
    name: str = ""
    env: Mapping[str, str | Fill] = field(default_factory=dict)
    cwd: str | os.PathLike[str] | None = None
    devices: int | None = None
    ports: Sequence[str] = ()
    ready: Probe | None = None
    ready_timeout_s: float = 300
    alive: Liveness | None = None
    restart: RestartPolicy | None = None
    grace_s: float = 10
    log: LogLimit = field(default_factory=LogLimit)

    def __post_init__(self) -> None:
        _check_argv(self.argv)
        _check_env(self.env)
        _check_ports(self.ports)
        # Copies of one kind each: they pickle, and nobody changes them from outside.
        object.__setattr__(self, "argv", tuple(self.argv))
        object.__setattr__(self, "env", dict(self.env))
        object.__setattr__(self, "ports", tuple(self.ports))
        object.__setattr__(self, "cwd", _path(self.cwd))
        object.__setattr__(self, "name", self.name or _default_name(self.argv[0]))
        if not (isinstance(self.name, str) and _NAME.fullmatch(self.name)):
            wanted = "1 to 100 letters, digits, '.', '_' and '-', the first no '.'"
            raise ConfigError(f"name is {self.name!r}; give {wanted}", "name")
        if self.devices is not None and (type(self.devices) is not int or self.devices < 0):
            message = (
                f"devices is {self.devices!r}; give a whole number, 0 or more, or None for all"
            )
            raise ConfigError(message, "devices")
        _check_seconds("ready_timeout_s", self.ready_timeout_s, math.ulp(0.0), "more than 0")
        _check_seconds("grace_s", self.grace_s, 0.0, "0 or more")
        if self.ready is not None:
            _check_kind("ready", self.ready, Probe, "a probe, such as tcp(8000), or None")
        if self.alive is not None:
            _check_kind("alive", self.alive, Liveness, "Liveness(probe), or None")
        if self.restart is not None:
            _check_kind(
                "restart", self.restart, RestartPolicy, "a RestartPolicy, or None for never"
            )
        _check_kind("log", self.log, LogLimit, "a LogLimit")
        self._check_probes()

    def _check_probes(self) -> None:
        probes = {"ready": self.ready, "alive": self.alive and self.alive.probe}
        for name, probe in probes.items():
            for port in probe.ports if probe else ():
                if port not in self.ports:
                    message = f"{name} asks for the port {port!r}; give its name in ports, "
                    raise ConfigError(f"{message}which is {self.ports!r}", name)


@dataclass(frozen=True, slots=True)
class Resolved:
    """Hold what a process is started with, all gaps filled."""

    argv: tuple[str, ...]
    env: Mapping[str, str]


def resolve(
    process: Process, *, environment: Mapping[str, str], ports: Mapping[str, int], address: str
) -> Resolved:
    """Fill in what only the node knows.

    Where a port and a variable have one name, a `Fill` means the port.

    Args:
        process: What is started.
        environment: The environment it gets, to which its own variables are added.
        ports: The leased ports, by name.
        address: The node's address.

    Raises:
        ConfigError: A `Fill` names what is not there, or a port was not leased.
    """
    missing = [name for name in process.ports if name not in ports]
    if missing:
        raise ConfigError(f"ports is {dict(ports)!r}; give one for {missing}", "ports")
    known = {ADDRESS: address, **ports}
    own = {
        name: _filled(f"env[{name!r}]", value, {**environment, **known})
        for name, value in process.env.items()
    }
    env = {**environment, **own}
    argv = tuple(
        _filled(f"argv[{index}]", part, {**env, **known}) for index, part in enumerate(process.argv)
    )
    return Resolved(argv, env)


def _filled(field_name: str, part: str | Fill, values: Mapping[str, object]) -> str:
    if isinstance(part, str):
        return part
    try:
        text = part.fill(values)
    except ConfigError as error:
        raise ConfigError(f"{field_name} is {error}", field_name.partition("[")[0]) from None
    return text


def _check_argv(argv: object) -> None:
    if isinstance(argv, str | bytes):
        message = (
            f"argv is {argv!r}, one text; give a list of arguments, as shlex.split makes of it: "
            "no shell reads it"
        )
        raise ConfigError(message, "argv")
    if not isinstance(argv, Sequence) or not argv:
        message = f"argv is {argv!r}; give a list of the program and its arguments"
        raise ConfigError(message, "argv")
    for part in argv:
        if not (isinstance(part, Fill) or (isinstance(part, str) and "\0" not in part)):
            message = f"argv holds {part!r}; give a str without NUL, or a Fill"
            raise ConfigError(message, "argv")
    if not argv[0]:
        raise ConfigError("argv begins with ''; give the program first", "argv")


def _check_env(env: object) -> None:
    if not isinstance(env, Mapping):
        raise ConfigError(f"env is {env!r}; give a dict of name to value", "env")
    # NB: values are not shown, since they may be secrets.
    odd = [name for name, value in env.items() if not isinstance(value, str | Fill)]
    if odd:
        message = f"env has a {type(env[odd[0]]).__name__} for {odd[0]!r}; give a str or a Fill"
        raise ConfigError(message, "env")
    texts = {name: value if isinstance(value, str) else "" for name, value in env.items()}
    check_environment(texts, "env")


def _check_ports(ports: object) -> None:
    if isinstance(ports, str) or not isinstance(ports, Sequence):
        raise ConfigError(f"ports is {ports!r}; give a list of names", "ports")
    for name in ports:
        if not (isinstance(name, str) and PORT_NAME.fullmatch(name)) or name == ADDRESS:
            message = (
                f"ports names {name!r}; give names of letters, digits, '_' and '-', "
                f"the first a letter, and none called {ADDRESS!r}"
            )
            raise ConfigError(message, "ports")
    if len(set(ports)) < len(ports):
        raise ConfigError(f"ports is {ports!r}; give each name once", "ports")


def _check_seconds(name: str, value: object, least: float, wanted: str) -> None:
    # NB: True and False are ints, and no number of seconds.
    is_number = type(value) is not bool and isinstance(value, int | float)
    if not (is_number and math.isfinite(value) and value >= least):  # type: ignore[arg-type,operator]
        raise ConfigError(f"{name} is {value!r}; give {wanted} seconds", name)


def _check_kind(name: str, value: object, kind: type, wanted: str) -> None:
    if not isinstance(value, kind):
        raise ConfigError(f"{name} is {value!r}; give {wanted}", name)


def _path(cwd: object) -> str | None:
    path = os.fspath(cwd) if isinstance(cwd, os.PathLike) else cwd
    if path is None or (isinstance(path, str) and path and "\0" not in path):
        return path
    raise ConfigError(f"cwd is {cwd!r}; give a path, or None", "cwd")


def _default_name(program: str | Fill) -> str:
    if isinstance(program, Fill):
        raise ConfigError("name is ''; give one, since argv begins with a Fill", "name")
    return PurePath(program).name
