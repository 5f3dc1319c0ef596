"""The Ray actor around every body.

One class serves every kind of member: it holds the body and passes calls on. Health has a
concurrency group, that is a loop and a thread, of its own, so that a member whose main loop is
blocked still answers in milliseconds.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray
from ray import cloudpickle

from pool.cluster.body import Context
from pool.cluster.culprit import name_culprit
from pool.cluster.interface import ActorSpec, Cluster, Identity, Lease, News
from pool.cluster.ray import private
from pool.cluster.ray.lease_watch import LeaseWatch
from pool.cluster.trace import with_trace
from pool.errors import Permanent, PoolError, RemoteError
from pool.log import Word, say

HEALTH_GROUP = "health"
HEALTH_CONCURRENCY = 8
"""How many owners may ask at once; one asks in the usual case, a few while a pool is taken over."""


# Ray's type stubs do not say that it exports these.
_pickle: Any = cloudpickle


class Shell:
    """Hold a body inside an actor, and pass calls on to it.

    Args:
        spec: What the actor is to be.
        connect: Makes the cluster that the body sees.
    """

    def __init__(self, spec: ActorSpec, connect: Callable[[], Cluster]) -> None:
        self._identity: Identity = spec.identity
        self._label = spec.label
        self._connect = connect
        self._body = spec.body(*spec.args)
        self._watch = LeaseWatch(spec, self._body)
        self._started: asyncio.Task[Any] | None = None

    async def start(self) -> Any:
        """Let the body get ready, once; whoever asks again gets the same answer."""
        self._watch.loop = asyncio.get_running_loop()
        if self._started is None:
            self._started = asyncio.create_task(self._start())
        # Shielded: an owner that gives up waiting does not undo it for the next.
        return await asyncio.shield(self._started)

    async def _start(self) -> Any:
        runtime = ray.get_runtime_context()
        context = Context(
            cluster=self._connect(),
            identity=self._identity,
            node_id=runtime.get_node_id(),
            address=ray.util.get_node_ip_address(),
            lease_left_s=self._watch.left_s,
            devices={
                name: tuple(ids) for name, ids in runtime.get_accelerator_ids().items() if ids
            },
            node_name=runtime.get_node_id(),
            log_root=Path(runtime.get_temp_dir(), runtime.get_session_name(), "logs", "pool"),
        )
        try:
            result = await self._body.start(context)
            self._check_result(result)
        except Exception as error:
            if not isinstance(error, PoolError):
                say(Word.START_FAILED, exc_info=True, member=self._identity.member)
            told = sendable(with_trace(error, self._identity.member))
            if told is not error:
                raise told from None
            raise
        return result

    def _check_result(self, result: Any) -> None:
        try:
            private.serialize(result)
        except Exception as error:
            culprit = name_culprit(result, _pickle.dumps) or f"it cannot be pickled: {error}"
            raise Permanent(
                f"what start() of {self._label} returned cannot be sent to its owner: {culprit}; "
                "return what can be pickled, such as names, addresses and paths"
            ) from error

    async def lifeline(self, seen: int) -> News:
        """Stay pending until there is news; the end of this actor ends the call."""
        news: News = await self._body.lifeline(seen)
        return news

    @ray.method(concurrency_group=HEALTH_GROUP)
    async def check_health(self, lease: Lease | None = None) -> None:
        """Hear from the owner, and let the body say whether it is healthy."""
        self._watch.hear(lease)
        await self._body.check_health()

    @ray.method(concurrency_group=HEALTH_GROUP)
    async def renew(self, lease: Lease) -> None:
        """Hear from the owner."""
        self._watch.hear(lease)

    async def call(self, method: str, args: tuple[Any, ...]) -> Any:
        """Call any other method of the body."""
        try:
            result = getattr(self._body, method)(*args)
            return await result if inspect.isawaitable(result) else result
        except Exception as error:
            raise sendable(error) from None

    @ray.method(num_returns=2)
    async def refer(self, method: str, args: tuple[Any, ...]) -> tuple[None, Any]:
        """Call any other method, and return its result apart from the news that it is done."""
        return None, await self.call(method, args)


def sendable(error: Exception) -> Exception:
    """Return an exception that arrives at the caller: the error itself, or else its description."""
    try:
        _pickle.loads(_pickle.dumps(error))
    except Exception:
        kind = f"{type(error).__module__}.{type(error).__qualname__}"
        return RemoteError(kind, str(error), traceback.format_exc())
    return error


@functools.cache
def actor_class(name: str) -> Any:
    """Return the actor class that `ps` and Ray's dashboard show as `name`."""
    shell = type(name, (Shell,), {"__doc__": Shell.__doc__})
    # Ray's stubs do not know the keyword.
    make: Any = ray.remote
    return make(concurrency_groups={HEALTH_GROUP: HEALTH_CONCURRENCY})(shell)
