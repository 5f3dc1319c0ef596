"""Ask a pool's owner to do something, and say how far it is."""

from __future__ import annotations

import getpass
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pool.cli.exits import Exit, Stop
from pool.cli.targets import check_can_be_asked

if TYPE_CHECKING:
    from pool.cli.voice import Voice
    from pool.cluster.interface import Observer
    from pool.control.window import PoolView
    from pool.window.requests import Verb


@dataclass(frozen=True, slots=True)
class Asking:
    """Ask pools' owners for one command.

    Args:
        observer: The world.
        voice: Whom to ask whether to do it, and where to say how it goes.
        wait: Whether to wait until it is done.
        timeout_s: For how long; None is for ever.
        address: Where the cluster is, for a pool that this process has to own meanwhile.
    """

    observer: Observer
    voice: Voice
    wait: bool = True
    timeout_s: float | None = None
    address: str | None = None

    def check(self, view: PoolView) -> PoolView:
        """Return a pool that can be asked as it is wished.

        Raises:
            Stop: There is nobody who could do it, or nobody who goes on with it.
        """
        check_can_be_asked(view)
        if not (self.wait or view.can_be_asked):
            raise Stop(
                Exit.NO_OWNER,
                f"pool {view.name!r} has no owner who could go on with it: this process would own "
                "it, and has to stay until it is done; leave out --no-wait.",
            )
        return view

    async def have_done(
        self, view: PoolView, verb: Verb, args: Mapping[str, Any], deed: str = ""
    ) -> Any:
        """Have something done to a pool, and return what came of it; nothing without waiting.

        Its owner is asked. Of a detached pool that has none, this process is the owner meanwhile.

        Args:
            view: The pool.
            verb: What to do.
            args: Its arguments.
            deed: What that means, to be confirmed; empty where nobody need be asked.

        Raises:
            Stop: The pool cannot be asked, or it was not confirmed.
            Refused, CallTimeout, PoolClosed: As `ask`.
        """
        from pool.window.requests import ask

        self.check(view)
        if not view.can_be_asked:
            self.voice.confirm(
                f"{deed or f'Pool {view.name!r} will be asked to {verb}.'} It has no owner: this "
                "process owns it until that is done, and leaves it then."
            )
            return await self._do_it_oneself(view, verb, args)
        if deed:
            self.voice.confirm(deed)
        pause = " …" if self.wait else ""
        return await ask(
            self.observer,
            view.whom,
            verb,
            args,
            by=whoami(),
            wait=self.wait,
            timeout_s=self.timeout_s,
            on_taken=lambda: self.voice.tell(f"pool {view.name!r} has taken it{pause}"),
        )

    async def _do_it_oneself(self, view: PoolView, verb: Verb, args: Mapping[str, Any]) -> Any:
        import anyio

        from pool.cluster import connect
        from pool.control.stand_in import stand_in
        from pool.errors import CallTimeout
        from pool.window.codec import to_json
        from pool.window.requests import Request

        request = Request(id="", verb=verb, args=args, by=whoami())
        try:
            with anyio.fail_after(self.timeout_s):
                cluster = connect.join(self.address)
                return to_json(await stand_in(view.name, request, cluster, view.instance))
        except TimeoutError as error:
            if isinstance(error, CallTimeout):
                raise
            raise CallTimeout(
                f"it was not done within {self.timeout_s:g} s; the pool was left as it was by then"
            ) from None


def whoami() -> str:
    """Return who asks, for the pool's events."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = "somebody"
    return f"{user}@{socket.gethostname()}"
