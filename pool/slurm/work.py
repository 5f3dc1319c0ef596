"""What runs on one node beside its node program: Ray and services, each with a warden.

The warden (`pool.process.warden`) is why nothing is left: it adopts what Ray daemonises, ends the
whole tree when asked, and when this process is killed it sees that and does the same by itself.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import anyio
import anyio.abc

from pool.errors import LaunchFailed, SourceUnavailable
from pool.process import logs, probes
from pool.process.launch import Running, launch
from pool.process.order import Launch
from pool.slurm import mop, raystart
from pool.slurm import place as places
from pool.slurm.home import Home
from pool.slurm.job import Service, SlurmJob
from pool.slurm.judge import Stage
from pool.slurm.place import Place
from pool.slurm.ports import Block
from pool.slurm.quorum import ranks_of
from pool.slurm.telling import Teller

LOOK_S = 0.1
PROBE_S = 0.5
PROBE_TIMEOUT_S = 5.0
KEPT_LOGS_BYTES = 64 * 2**20
"""How much of Ray's logs is copied from one node at most,"""
KEEP_LOGS_S = 30.0
"""and how long that may take."""
STOP_MOST_S = 15.0
"""How much longer than its grace the end of a tree may take: the kernel may hold who is killed."""

Tell = Callable[..., None]
"""Told of progress as `wire` has it: `did` and `service`, with their fields."""


class NodeWork:
    """Ray and the services of one node.

    Args:
        job: What is to run.
        place: Where this is.
        home: The node's folder.
        block: Its ports.
        address: Its address.
        environ: The environment of what runs, complete.
        tell: Told how far it is.
        teller: For what only the node's log has to know.
    """

    def __init__(
        self,
        *,
        job: SlurmJob,
        place: Place,
        home: Home,
        block: Block,
        address: str,
        environ: Mapping[str, str],
        tell: Tell,
        teller: Teller,
    ) -> None:
        self._job = job
        self._place = place
        self._home = home
        self._block = block
        self._address = address
        self._environ = dict(environ)
        self._tell = tell
        self._teller = teller
        self._folder = place.folder(job)
        self._running: set[Running] = set()
        self._ray_scope: anyio.CancelScope | None = None
        self._ray_lock = anyio.Lock()
        self._is_stopping = False

    # --- Ray ---

    async def keep_ray(self, gcs: str = "", listens: Callable[[], None] = lambda: None) -> None:
        """Start Ray, and start it again when it ends, as often as the job says.

        A call while another is under way ends that one first: the head has begun anew.

        Args:
            gcs: Where the head's Ray listens; empty on the head.
            listens: On the head, called when it does.
        """
        if self._ray_scope is not None:
            self._ray_scope.cancel()
        with anyio.CancelScope() as scope:
            self._ray_scope = scope
            async with self._ray_lock:
                try:
                    await self._try_ray(gcs, listens)
                except OSError as error:  # of the node's folder or of the log
                    self._tell("did", stage=Stage.LOST, detail=f"Ray cannot be run: {error}")

    async def _try_ray(self, gcs: str, listens: Callable[[], None]) -> None:
        is_head = not gcs
        tries, pause_s = self._job.tries, self._job.tries.pause_s
        most = tries.head if is_head else tries.worker
        for number in range(1, most + 1):
            self._tell("did", stage=Stage.STARTING, detail=f"try {number} of {most}")
            had_joined, why = await self._run_ray(gcs, listens)
            if self._is_stopping:
                return
            log = places.log_of_ray(self._folder, self._place.role.rank, len(self._place.roles))
            is_over = number == most or (is_head and had_joined)
            why = f"Ray {why}" + ("" if is_over else f"; try {number} of {most}")
            self._teller.note(why)
            stage = Stage.LOST if is_over else Stage.STARTING
            tail = await anyio.to_thread.run_sync(tail_of, log, abandon_on_cancel=True)
            self._tell("did", stage=stage, detail=why, tail=tail)
            if is_over:
                return
            await anyio.sleep(pause_s)
            pause_s = min(2 * pause_s, tries.pause_most_s)

    async def _run_ray(self, gcs: str, listens: Callable[[], None]) -> tuple[bool, str]:
        """Run Ray once, to its end. Returns whether it had joined, and how it ended."""
        await anyio.to_thread.run_sync(self._home.clear)
        python = self._job.python
        role, count = self._place.role, len(self._place.roles)
        log = places.log_of_ray(self._folder, role.rank, count)
        begin = await anyio.to_thread.run_sync(logs.end, log, abandon_on_cancel=True)
        if gcs:
            argv = raystart.worker(
                self._job, python, self._address, gcs, self._block, self._home.ray
            )
        else:
            argv = raystart.head(self._job, python, self._address, self._block, self._home.ray)
        try:
            running = await self._launch(argv, log, self._environ, f"ray-{role.rank}")
        except LaunchFailed as failure:
            return False, f"could not be started: {failure}"
        has_joined = False
        try:
            with anyio.move_on_after(self._job.tries.try_s) as limit:
                if not gcs and await self._hears_gcs(running):
                    listens()
                has_joined = await self._has_joined(running, log, begin)
            if limit.cancelled_caught:
                return False, f"did not join in {self._job.tries.try_s:g} s"
            if has_joined:
                self._tell("did", stage=Stage.JOINED, detail="")
            ended = await running.wait()
            return has_joined, f"ended ({ended})"
        finally:
            await self._stop(running)

    async def _hears_gcs(self, running: Running) -> bool:
        while running.exit is None:
            if await _listens(self._address, self._block["gcs"]):
                return True
            await anyio.sleep(LOOK_S)
        return False

    async def _has_joined(self, running: Running, log: Path, begin: logs.Cursor) -> bool:
        cursor = begin
        while running.exit is None:
            text, cursor = await anyio.to_thread.run_sync(
                logs.read, log, cursor, abandon_on_cancel=True
            )
            lines = [line for line in text.splitlines() if not logs.is_note(line)]
            if any(raystart.STARTED in line for line in lines):
                return True
            if not text:
                await anyio.sleep(LOOK_S)
        return False

    # --- services ---

    async def run_services(self) -> None:
        """Run those services that belong on this node, until cancelled."""
        async with anyio.create_task_group() as group:
            for service in self._job.services:
                if self._place.role.rank in ranks_of(service.where, len(self._place.roles)):
                    group.start_soon(self._try_service, service)

    async def _try_service(self, service: Service) -> None:
        try:
            await self._run_service(service)
        except OSError as error:
            self._say_of(service, "failed", str(error))

    async def _run_service(self, service: Service) -> None:
        role, count = self._place.role, len(self._place.roles)
        log = places.log_of_service(self._folder, service.name, role.rank, count)
        probe = probe_of(service)
        environ = {**self._environ, **service.env}
        site = probes.Site(
            name=service.name,
            address=self._address,
            environment=environ,
            cwd=self._job.workdir,
            log=log,
            log_begin=await anyio.to_thread.run_sync(logs.end, log, abandon_on_cancel=True),
        )
        self._say_of(service, "starting", "")
        if probe is not None:
            await anyio.to_thread.run_sync(probe.prepare, site, abandon_on_cancel=True)
        name = f"service-{service.name}-{role.rank}"
        try:
            running = await self._launch(service.command, log, environ, name)
        except LaunchFailed as failure:
            self._say_of(service, "failed", str(failure))
            return
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(self._probe, service, probe, site)
                await running.wait()
                group.cancel_scope.cancel()
            if not self._is_stopping:
                tail = await anyio.to_thread.run_sync(tail_of, log, abandon_on_cancel=True)
                self._say_of(service, "failed", f"it ended ({running.exit})", tail)
        finally:
            probes.close(site)
            await self._stop(running)

    async def _probe(self, service: Service, probe: probes.Probe | None, site: probes.Site) -> None:
        said = ""
        while probe is not None:
            try:
                with anyio.fail_after(PROBE_TIMEOUT_S):
                    seen = await probe.check(site, PROBE_TIMEOUT_S)
            except (TimeoutError, SourceUnavailable) as error:
                seen = str(error) or "no answer in time"
            if not seen:
                break
            if seen != said:
                said = seen
                self._say_of(service, "starting", seen)
            await anyio.sleep(PROBE_S)
        self._say_of(service, "ready", "")

    def _say_of(self, service: Service, state: str, detail: str, tail: str = "") -> None:
        self._teller.note(f"service {service.name} {state} {detail}")
        self._tell("service", name=service.name, state=state, detail=detail, tail=tail)

    # --- all of it ---

    async def _launch(
        self, argv: object, log: Path, environ: Mapping[str, str], name: str
    ) -> Running:
        running = await launch(
            Launch(
                argv=tuple(argv),  # type: ignore[arg-type]
                env=environ,
                cwd=self._job.workdir,
                log=log,
                grace_s=self._job.stop_grace_s,
                identity=mop.identity(self._place.mark, name),
            )
        )
        self._running.add(running)
        return running

    async def _stop(self, running: Running) -> None:
        grace_s = self._job.stop_grace_s
        with anyio.move_on_after(grace_s + STOP_MOST_S, shield=True) as limit:
            await running.stop(grace_s)
        if limit.cancelled_caught:
            # Its warden goes on trying; nobody has to wait for it.
            self._teller.say(f"process {running.pid} was killed, and does not end")
        self._running.discard(running)

    async def stop(self) -> None:
        """End everything that runs here, all at once, and wait until it is gone."""
        self._is_stopping = True
        async with anyio.create_task_group() as group:
            for running in list(self._running):
                group.start_soon(self._stop, running)

    async def leave(self, is_good: bool) -> None:
        """End everything, and copy Ray's logs if they are wanted after such an end."""
        await self.stop()
        if self._job.ray_logs == "always" or (self._job.ray_logs == "failed" and not is_good):
            with anyio.move_on_after(KEEP_LOGS_S) as limit:
                await anyio.to_thread.run_sync(self._keep_ray_logs, abandon_on_cancel=True)
            if limit.cancelled_caught:
                self._teller.note(f"Ray's logs could not all be kept in {KEEP_LOGS_S:g} s")

    def _keep_ray_logs(self) -> None:
        """Copy Ray's logs to where the job's are. Blocks, and takes no more than it may."""
        to = self._folder / "logs" / "ray" / self._place.rank
        left = KEPT_LOGS_BYTES
        for folder in self._home.ray.glob("session_*/logs"):
            if folder.parent.is_symlink():
                continue  # session_latest
            for path in sorted(folder.rglob("*")):
                with contextlib.suppress(OSError):
                    if path.is_symlink() or not path.is_file():
                        continue
                    left -= path.stat().st_size
                    if left < 0:
                        self._teller.note(f"of Ray's logs only {KEPT_LOGS_BYTES >> 20} MiB is kept")
                        return
                    target = to / path.relative_to(folder)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(path, target)


def probe_of(service: Service) -> probes.Probe | None:
    """Return what tells that a service is ready; None if it is as soon as it runs."""
    if service.http:
        assert service.port is not None
        return probes.http(service.http, port=service.port)
    if service.port is not None:
        return probes.tcp(service.port)
    if service.log:
        return probes.log(service.log)
    return probes.file(service.file) if service.file else None


def tail_of(log: Path, lines: int = 20) -> str:
    """Return the last lines of a log, or why they cannot be had."""
    try:
        text = logs.tail(log, lines=lines, max_bytes=8192)
    except OSError as error:
        return f"{log} cannot be read: {error}"
    # What the warden notes at each start is none of the program's; what is before the last is old.
    last: list[str] = []
    for line in text.splitlines():
        last = [] if logs.is_note(line) and last else last
        if not logs.is_note(line):
            last.append(line)
    return "\n".join(last)


async def _listens(address: str, port: int) -> bool:
    try:
        with anyio.fail_after(2):
            stream = await anyio.connect_tcp(address, port)
    except (OSError, TimeoutError):
        return False
    await stream.aclose()
    return True
