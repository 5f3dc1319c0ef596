"""Several pools that are one application, from a script without asyncio."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pool.blocking.block import Block
from pool.blocking.replica_pool import ReplicaPool
from pool.manager.results import ScaleResult
from pool.manager.snapshot import PoolSnapshot
from pool.planning.program import ProgramPlan
from pool.replica.program import Program as AsyncProgram


class Program(Block[AsyncProgram]):
    """Hold several pools together, from code that blocks.

    Args:
        make: Makes the program: a function without arguments that makes its pools, and returns a
            `pool.Program` of them. It is called when the `with` block is entered.
    """

    def __init__(self, make: Callable[[], AsyncProgram]) -> None:
        super().__init__(
            make,
            "the program is not open; use it inside `with pool.blocking.Program(...) as program:`",
        )

    def scale(
        self,
        sizes: Mapping[str, int],
        *,
        timeout_s: float | None = 600.0,
        wait_for_room: bool = True,
    ) -> dict[str, ScaleResult]:
        """Bring roles to their sizes, all or none, and wait; see `pool.Program.scale`."""
        return self._call(
            lambda program: program.scale(sizes, timeout_s=timeout_s, wait_for_room=wait_for_room)
        )

    def plan(self, sizes: Mapping[str, int]) -> ProgramPlan:
        """Say where the roles would go now; see `pool.Program.plan`."""
        return self._call(lambda program: program.plan(sizes))

    def snapshot(self) -> dict[str, PoolSnapshot]:
        """Return each role as it is now."""
        return self._call(lambda program: program.snapshot())

    def __getitem__(self, role: str) -> ReplicaPool:
        """Return the pool of a role, as code that blocks uses it; it is opened and closed here."""
        program, portal = self._open()
        facade = ReplicaPool(role)
        facade._made, facade._portal = program[role], portal
        return facade
