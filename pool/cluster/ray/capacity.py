"""Asking Ray for capacity, on whichever way does not fight anybody.

Ray's autoscaler keeps one request of `request_resources`. Ray Data and Ray Train make it through an
actor of their own, the coordinator, which sends the sum of what it was told every 20 s, and so
replaces whatever else was asked for. While that actor lives we are one of those who tell it; when
it does not, nobody else is known to ask, and we ask by ourselves.

Limits: whoever calls `request_resources` past the coordinator is not seen, and is replaced. Ray's
first autoscaler ignores labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import anyio
import anyio.to_thread
from ray import exceptions

from pool.cluster.ray import private

REQUESTER = "pool"
ANSWER_TIMEOUT_S = 10.0


async def request(
    bundles: Sequence[Mapping[str, float]],
    labels: Sequence[Mapping[str, str]],
    lasts_s: float,
) -> str:
    """Ask Ray, and return who was asked.

    Raises:
        Exception: Ray did not answer, or did not like it.
    """
    wanted = [dict(bundle) for bundle in bundles]
    selectors = [dict(each) for each in labels] if any(labels) else None
    coordinator = await anyio.to_thread.run_sync(private.autoscaling_coordinator)
    if coordinator is not None:
        try:
            with anyio.fail_after(ANSWER_TIMEOUT_S):
                await _tell(coordinator, wanted, selectors, lasts_s)
        except exceptions.ActorDiedError:
            pass  # Dead for good: the way is free.
        else:
            return "Ray's autoscaling coordinator"
    await anyio.to_thread.run_sync(_ask, wanted, selectors)
    return "Ray's autoscaler"


async def _tell(
    coordinator: Any,
    bundles: list[dict[str, float]],
    selectors: list[dict[str, str]] | None,
    lasts_s: float,
) -> None:
    if not bundles:
        await coordinator.cancel_request.remote(REQUESTER)
        return
    # Older coordinators know no labels, so that they are given only where there are any.
    options = {} if selectors is None else {"label_selectors": selectors}
    await coordinator.request_resources.remote(
        requester_id=REQUESTER, resources=bundles, expire_after_s=lasts_s, **options
    )


def _ask(bundles: list[dict[str, float]], selectors: list[dict[str, str]] | None) -> None:
    from ray.autoscaler import sdk

    options: dict[str, Any] = {} if selectors is None else {"bundle_label_selectors": selectors}
    sdk.request_resources(bundles=bundles, **options)
