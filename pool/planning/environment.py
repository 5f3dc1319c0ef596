"""The environment of a worker: what its user may not set, thread counts, and visible devices.

Purpose: one table of the variables that the pool and its rendezvous set, so that a user's value is
refused and named, and never silently replaced or, worse, believed. And the two sets of variables
that follow from a worker's share of its node: how many threads, and which devices.

Limits: values are passed on as they are, whatever they hold; commas and spaces mean nothing here.
Nothing is read from this process's environment.

Why not leave visible devices to Ray: a worker that is a process of its own, and not an actor, gets
a part of what its host's actor holds; and a worker without devices has to see none, while Ray
leaves the variable alone then, which means all.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from types import MappingProxyType
from typing import Final

from pool.errors import ConfigError
from pool.planning.resources import as_number

MARKER: Final = "POOL_PROCESS"
"""The variable by which the pool knows its own processes."""

THREAD_VARIABLES: Final = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)


@dataclass(frozen=True, slots=True)
class DeviceVariable:
    """Describe a variable that says which devices of one kind a process sees.

    Args:
        name: Its name.
        nothing: The value with which no device is seen.
        prefix: What stands before each id.
        is_ascending: Whether the ids have to be in ascending order.
        only_hides: Whether it is set only where no device is to be seen.
    """

    name: str
    nothing: str = ""
    prefix: str = ""
    is_ascending: bool = False
    only_hides: bool = False


# The names are those of `ray._private.accelerators` (Ray 2.60). Where nothing else is said, "" is
# what hides all: CUDA stops at the first id that it does not know, and Ray reads "" as none for
# every kind. NB: for TPU_VISIBLE_CHIPS, NEURON_RT_VISIBLE_CORES, HABANA_VISIBLE_MODULES and the
# kinds below them no maker says which value hides all devices; there, "" is Ray's word only.
DEVICE_VARIABLES: Final[Mapping[str, tuple[DeviceVariable, ...]]] = MappingProxyType(
    {
        "GPU": (
            DeviceVariable("CUDA_VISIBLE_DEVICES"),
            # ROCm's runtime takes "" for unset and falls back to CUDA_VISIBLE_DEVICES, and to all
            # devices where that is empty too; like CUDA it stops at an id below 0 (ROCclr,
            # rocdevice.cpp, Device::init).
            DeviceVariable("HIP_VISIBLE_DEVICES", nothing="-1"),
            # Below HIP; "" shows no device (ROCR, RvdFilter::SelectZeroDevices). With ids it is
            # left alone: HIP counts among those that it shows, so ids would be filtered twice.
            DeviceVariable("ROCR_VISIBLE_DEVICES", only_hides=True),
            # Intel. "" is read as unset; an index that no device has selects none
            # (compute-runtime, ExecutionEnvironment::parseAffinityMask).
            DeviceVariable("ZE_AFFINITY_MASK", nothing="65535"),
        ),
        # CANN reads ids up to the first that is none, and refuses an order that is not ascending
        # (its environment variable reference, ASCEND_RT_VISIBLE_DEVICES).
        "NPU": (DeviceVariable("ASCEND_RT_VISIBLE_DEVICES", nothing="-1", is_ascending=True),),
        "TPU": (DeviceVariable("TPU_VISIBLE_CHIPS"),),
        "neuron_cores": (DeviceVariable("NEURON_RT_VISIBLE_CORES"),),
        "HPU": (DeviceVariable("HABANA_VISIBLE_MODULES"),),
        "FURIOSA": (DeviceVariable("FURIOSA_DEVICES", prefix="npu:"),),
        "MBLT": (DeviceVariable("QBRUNTIME_VISIBLE_DEVICES"),),
        "RBLN": (DeviceVariable("RBLN_DEVICES"),),
        "TTNPU": (DeviceVariable("TT_VISIBLE_DEVICES"),),
    }
)
"""By the name of the resource: the variables that say which of its devices a process sees."""

# How libtpu is told that a process has one chip, or two, of its host (Ray 2.60, accelerators/tpu).
_CHIP_BOUNDS: Final = {1: "1,1,1", 2: "1,2,1"}
_TPU_BOUNDS: Final = ("TPU_CHIPS_PER_HOST_BOUNDS", "TPU_HOST_BOUNDS")


def _reserved() -> dict[str, str]:
    by_reason: dict[str, Iterable[str]] = {
        "pool.rendezvous.torch() sets it": (
            "GROUP_RANK",
            "GROUP_WORLD_SIZE",
            "LOCAL_RANK",
            "LOCAL_WORLD_SIZE",
            "MASTER_ADDR",
            "MASTER_PORT",
            "RANK",
            "WORLD_SIZE",
        ),
        "pool.rendezvous.jax() sets it": (
            "JAX_COORDINATOR_ADDRESS",
            "JAX_NUM_PROCESSES",
            "JAX_PROCESS_ID",
        ),
        "pool.rendezvous.tpu_multislice() sets it": (
            "MEGASCALE_COORDINATOR_ADDRESS",
            "MEGASCALE_NUM_SLICES",
            "MEGASCALE_PORT",
            "MEGASCALE_SLICE_ID",
            "TPU_HOST_ID",
            "TPU_NUM_DEVICES",
            "TPU_SLICE_NAME",
            "TPU_WORKER_HOSTNAMES",
            "TPU_WORKER_ID",
        ),
        "it follows from the devices that the worker holds": (
            *(each.name for kind in DEVICE_VARIABLES.values() for each in kind),
            *_TPU_BOUNDS,
        ),
        "the pool knows its own processes by it": (MARKER,),
    }
    return {name: reason for reason, names in by_reason.items() for name in names}


RESERVED: Final[Mapping[str, str]] = MappingProxyType(_reserved())
"""The names that a user may not set, and why not."""


def check_environment(variables: Mapping[str, str], field: str) -> None:
    """Refuse an environment that no process could have, or that sets what the pool sets.

    Args:
        variables: The user's variables. Their values are not looked into.
        field: The name of the argument that they were given as, for the error.

    Raises:
        ConfigError: A name or a value is no text that an environment can hold, or a name is one
            of `RESERVED`; the error lists these names, and says why.
    """
    for name, value in variables.items():
        if not isinstance(name, str) or not name or "=" in name or "\0" in name:
            raise ConfigError(
                f"{field} has the name {name!r}; give a text without '=' and without NUL", field
            )
        if not isinstance(value, str) or "\0" in value:
            raise ConfigError(
                f"{field}[{name!r}] is {value!r}; give a text without NUL, as str(...)", field
            )
    taken = sorted(name for name in variables if name in RESERVED)
    if taken:
        raise ConfigError(
            f"{field} sets {_with_reasons(taken)}; leave them out. Names that may not be set: "
            f"{_with_reasons(RESERVED)}",
            field,
        )


def _with_reasons(names: Iterable[str]) -> str:
    return "; ".join(
        f"{', '.join(group)} ({reason})" for reason, group in groupby(names, RESERVED.__getitem__)
    )


def thread_defaults(cpus: float, given: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return how many threads numeric libraries are to use: as many as the worker has CPUs.

    Without these, each of several workers on a node starts as many threads as the node has cores.

    Args:
        cpus: The CPUs of the worker's share. A fraction is rounded down, and less than one is one.
        given: What the user sets, and nothing inherited. A value of the user's wins; and the user's
            `OMP_NUM_THREADS` counts for all, since the other libraries fall back to it.

    Returns:
        The variables that the user did not set.

    Raises:
        ConfigError: `cpus` is no number of 0 or more.
    """
    given = given or {}
    count = str(max(1, int(as_number(cpus, "cpus"))))
    threads = given.get("OMP_NUM_THREADS", count)
    return {name: threads for name in THREAD_VARIABLES if name not in given}


def visible_devices(
    ids_by_resource: Mapping[str, Sequence[int | str]], *, whole: Collection[str] = ()
) -> dict[str, str]:
    """Return the variables with which a process sees exactly the devices given.

    Kinds without ids are hidden: for each of Ray's kinds of accelerator, what is not given is not
    seen. `DEVICE_VARIABLES` says what hides them, and for which kinds no maker has a word for it.

    Args:
        ids_by_resource: By the name of the resource, the ids of the process's devices, in order.
        whole: Names of resources of which these are all that the node has. For TPUs that makes a
            difference: libtpu takes a host whose chips are named one by one for a part of one.

    Returns:
        Name to value, to be set over whatever the process would inherit.

    Raises:
        ConfigError: A kind is not known, or ids are repeated, empty, or hold commas or spaces.
    """
    for resource, ids in ids_by_resource.items():
        texts = [str(each) for each in ids]
        if texts and resource not in DEVICE_VARIABLES:
            raise ConfigError(
                f"{resource!r} is no kind of accelerator that Ray knows; there are: "
                f"{', '.join(DEVICE_VARIABLES)}",
                "ids_by_resource",
            )
        if len(set(texts)) < len(texts) or any(
            not text or "," in text or not text.isprintable() or " " in text for text in texts
        ):
            raise ConfigError(
                f"the ids of {resource} are {texts}; give each once, without commas and spaces",
                "ids_by_resource",
            )
    variables: dict[str, str] = {}
    for resource, kinds in DEVICE_VARIABLES.items():
        texts = [str(each) for each in ids_by_resource.get(resource, ())]
        if resource == "TPU" and texts:
            if resource in whole:
                continue
            if len(texts) in _CHIP_BOUNDS:
                bounds = (_CHIP_BOUNDS[len(texts)], "1,1,1")
                variables |= dict(zip(_TPU_BOUNDS, bounds, strict=True))
        for kind in kinds:
            if not texts:
                variables[kind.name] = kind.nothing
            elif not kind.only_hides:
                order = sorted(texts, key=_number) if kind.is_ascending else texts
                variables[kind.name] = ",".join(f"{kind.prefix}{text}" for text in order)
    return variables


def _number(text: str) -> tuple[int, str]:
    return (int(text), "") if text.isdecimal() else (0, text)
