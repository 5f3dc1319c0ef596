"""What the bodies of runs and rank actors have in common: a process of its own in the bundle.

Its environment is made before anything of the user's is loaded, since libraries look at theirs
when they are imported, and its devices are free before anything is started on them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pool.cluster.body import Context
from pool.host.device_memory import wait_free
from pool.host.workplace import Workplace
from pool.planning.environment import thread_defaults, visible_devices
from pool.planning.resources import CPU, GPU, Resources


@dataclass(frozen=True, slots=True, kw_only=True)
class Portion:
    """Say what a worker has.

    Args:
        amount: Its part of the bundle.
        ids: Resource to the ids of its devices; None when Ray chooses them.
        memory_limit_s: Seconds to wait until the memory of its devices is free.
        is_alone: Whether nobody else is meant to work on its devices meanwhile.
    """

    amount: Resources
    ids: Mapping[str, tuple[str, ...]] | None = None
    memory_limit_s: float = 60.0
    is_alone: bool = True


class WorkerBody(Workplace):
    """Be a worker's process. Whatever is started in it ends with it.

    Args:
        portion: What it has.
        variables: Further environment variables.

    Attributes:
        runs_code: Whether it runs code of the user's, which may start processes.
    """

    runs_code = True

    def __init__(self, portion: Portion, variables: Mapping[str, str]) -> None:
        super().__init__()
        self._portion = portion
        self._variables = variables
        self.devices: Mapping[str, tuple[str, ...]] = {}

    async def settle(self, context: Context) -> None:
        """Make the environment, and wait for the devices.

        Raises:
            DeviceHeld: Somebody else still holds memory of a device.
            LaunchFailed: Nobody could be made to watch over what it starts.
        """
        self._context = context
        if self.runs_code and context.has_process:
            from pool.process.guard import guard  # What it stands on costs who only holds devices.

            await guard(context.identity.member)
        ids = self._portion.ids
        self.devices = context.devices if ids is None else ids
        # Also where Ray sets them: a worker without devices is to see none, not all.
        context.environ.update(visible_devices(self.devices))
        for name, value in thread_defaults(self._portion.amount.get(CPU, 0)).items():
            context.environ.setdefault(name, value)
        context.environ.update(self._variables)
        # Whoever has a part of a device shares it.
        if self._portion.is_alone and self._portion.amount.get(GPU, 0) >= 1:
            await wait_free(self.devices.get(GPU, ()), self._portion.memory_limit_s)
