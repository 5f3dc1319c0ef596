"""Wait for the memory of devices (to come)."""

from collections.abc import Sequence


async def wait_free(devices: Sequence[str], limit_s: float) -> None:
    """Wait until the memory of devices is free."""
