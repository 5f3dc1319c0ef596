"""Find out on each node what platform it is on, by asking once, quickly, and all at once.

Which cloud a node is in is the node's own affair: the driver may be somewhere else, and a cluster
may span two. So `detect` returns a source that looks around where it runs. Off any cloud nobody
answers, and it is quiet from then on: two questions with short time-outs is all that it costs.

Other packages add their platforms by an entry point of the group `pool.notices`: a function without
arguments that returns the node sources that are of use where it is called, or nothing.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import logging
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeVar

from pool.errors import SourceUnavailable
from pool.notices import aws, azure, gce, kubernetes
from pool.notices.background import Background
from pool.notices.file import FileNotice
from pool.notices.http_source import HttpNoticeSource
from pool.notices.service import Reply, check_url
from pool.notices.slurm import SlurmWallTime
from pool.notices.source import NodeNoticeSource
from pool.planning.notice import Notice

GROUP = "pool.notices"
"""The group of entry points."""
SLURM_NOTICE = "POOL_SLURM_NOTICE"
"""Where a job of `pool slurm` writes that Slurm has warned of its end."""
TRIES = 2
TIMEOUT_S = 1.0
EXTENSION_TIMEOUT_S = 5.0

_log = logging.getLogger("pool")
T = TypeVar("T")


def detect(
    *,
    gce_url: str | None = None,
    aws_url: str | None = None,
    azure_url: str | None = None,
    kubernetes_url: str | None = None,
    kubernetes_account: str = kubernetes.ACCOUNT,
) -> list[NodeNoticeSource]:
    """Return a source that finds out, on each node, what can be asked there.

    Nothing is asked before a node host starts. The addresses are those of the platforms, or of the
    fakes in `pool.testing.notices`.

    Args:
        gce_url: Google's metadata server; by default as `GCE_METADATA_HOST` says.
        aws_url: AWS's metadata service; by default as `AWS_EC2_METADATA_SERVICE_ENDPOINT` says.
        azure_url: Azure's metadata service.
        kubernetes_url: The API server; by default as the pod's environment says.
        kubernetes_account: The folder of the pod's service account.

    Returns:
        What a pool takes as `notices`.

    Raises:
        ConfigError: An address is none.
    """
    urls = {"gce": gce_url, "aws": aws_url, "azure": azure_url, "kubernetes": kubernetes_url}
    for name, url in urls.items():
        if url is not None:
            check_url(url, f"{name}_url")
    return [Detected(urls, kubernetes_account)]


class Detected(NodeNoticeSource):
    """Look around on the node that it runs on. Made by `detect`."""

    name = "detected"
    period_s = 60.0

    def __init__(self, urls: Mapping[str, str | None], account: str) -> None:
        self.urls = dict(urls)
        self.account = account
        # One process on each node looks around, and asks, for all that run there.
        self.shared_as = f"detected {sorted(self.urls.items())} {account}"

    async def resolve(self) -> Sequence[NodeNoticeSource]:
        looks = [self._gce(), self._aws(), self._azure(), self._kubernetes(), _extensions()]
        found = [source for sources in await asyncio.gather(*looks) for source in sources]
        if os.environ.get("SLURM_JOB_ID") and os.environ.get("SLURM_JOB_END_TIME"):
            found.append(SlurmWallTime())
        if path := os.environ.get(SLURM_NOTICE):
            found.append(FileNotice(path))
        names = ", ".join(source.name for source in found) or "nothing"
        _log.info("of sources of notices, this node has %s", names)
        return found

    async def check(self, node_id: str, address: str) -> Notice | None:
        return None

    async def _gce(self) -> Sequence[NodeNoticeSource]:
        host = os.environ.get("GCE_METADATA_HOST")
        url = self.urls["gce"] or (f"http://{host}" if host else gce.URL)
        probe = gce.GcePreemption(url)
        path = "/computeMetadata/v1/instance/id"
        reply = await _ask(probe, lambda: _get(probe, path, gce.HEADERS))
        is_there = reply is not None and reply.headers.get("metadata-flavor") == "Google"
        return gce.gce(url) if is_there else ()

    async def _aws(self) -> Sequence[NodeNoticeSource]:
        if os.environ.get("AWS_EC2_METADATA_DISABLED", "").lower() == "true":
            return ()
        given = os.environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT")
        url = self.urls["aws"] or given or aws.URL
        probe = aws.AwsSpotInterruption(url, timeout_s=TIMEOUT_S)
        token = await _ask(probe, lambda: aws.ask_token(probe))
        return aws.aws(url) if token else ()

    async def _azure(self) -> Sequence[NodeNoticeSource]:
        # NB: not by its events: the first question for those switches the service on.
        url = self.urls["azure"] or azure.URL
        probe = azure.AzureScheduledEvents(url, timeout_s=TIMEOUT_S)
        vm_name = await _ask(probe, lambda: azure.ask_vm_name(probe))
        return (azure.AzureScheduledEvents(url, vm_name),) if vm_name else ()

    async def _kubernetes(self) -> Sequence[NodeNoticeSource]:
        return await kubernetes.Kubernetes(self.urls["kubernetes"], self.account).resolve()


async def _get(probe: HttpNoticeSource, path: str, headers: Mapping[str, str]) -> Reply:
    return await probe.service.ask(path, headers=headers, timeout_s=TIMEOUT_S)


async def _ask(probe: HttpNoticeSource, question: Callable[[], Awaitable[T]]) -> T | None:
    """Ask up to `TRIES` times; that nobody answers is an answer."""
    for _ in range(TRIES):
        try:
            return await question()
        except SourceUnavailable as error:
            _log.debug("%s is not here: %s", probe.name, error)
    return None


async def _extensions() -> Sequence[NodeNoticeSource]:
    """Ask every package that has an entry point; what one does wrong concerns no other."""
    asked = [_extension(point) for point in importlib.metadata.entry_points(group=GROUP)]
    return [source for sources in await asyncio.gather(*asked) for source in sources]


async def _extension(point: importlib.metadata.EntryPoint) -> Sequence[NodeNoticeSource]:
    def look() -> list[object]:
        return list(point.load()())

    try:
        found = await Background(f"entry point {point.name}").run(look, EXTENSION_TIMEOUT_S)
        odd = [each for each in found if not isinstance(each, NodeNoticeSource)]
        if odd:
            raise TypeError(f"it returned {odd[0]!r}, which is no NodeNoticeSource")
    except Exception as error:
        _log.warning("entry point %s of %s is left out: %r", point.name, GROUP, error)
        return ()
    return [each for each in found if isinstance(each, NodeNoticeSource)]
