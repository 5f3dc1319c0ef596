"""What is asked of a pool's owner through its window, and what it answers.

A request is taken at most once: the owner takes it away before it does anything. An owner throws
away what was asked of the one before it, so that nothing is done long after it was meant.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import anyio

from pool.cluster.interface import Observer
from pool.errors import CallTimeout, PoolClosed, PoolError, SourceUnavailable
from pool.window import codec
from pool.window.keys import VERSION, Key, pack, unpack

REQUEST = "request."
ANSWER = "answer."

LOOK_S = 0.1
LOOK_MAX_S = 1.0
TAKEN_WITHIN_S = 15.0
"""How long an owner that lives may take to notice a request: several of its looks."""
OWNER_LOOK_S = 3.0
LEAVE_S = 5.0
AWAY_S = 120.0
"""How long the cluster may not answer while something is being done; its control is started again
within a minute or two, and the owner goes on meanwhile."""


class Verb(StrEnum):
    """Name what can be asked of an owner."""

    SCALE = "scale"
    DRAIN = "drain"
    ROLL = "roll"
    ROLL_BACK = "roll_back"
    PAUSE_ROLL = "pause_roll"
    RESUME_ROLL = "resume_roll"
    PROCESSES = "processes"
    READ_LOG = "read_log"


class Stage(StrEnum):
    """Name how far an owner is with a request."""

    TAKEN = "taken"
    DONE = "done"
    REFUSED = "refused"


ENDED = frozenset({Stage.DONE, Stage.REFUSED})


@dataclass(frozen=True, slots=True)
class Whom:
    """Name whom a request is for.

    Args:
        pool: The pool's name.
        instance: Which pool of that name.
        owner: Its owner, in the words of `Cluster.whoami`.
    """

    pool: str
    instance: str
    owner: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Ask something of a pool's owner.

    Args:
        id: A random word.
        verb: What.
        args: Its arguments.
        by: Who asks, for the pool's events.
    """

    id: str
    verb: Verb
    args: Mapping[str, Any] = field(default_factory=dict)
    by: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Say how far a request is, and what came of it.

    Args:
        id: The request's.
        stage: How far it is.
        result: What came of it, once it is done.
        error: The kind of error, where it was refused or failed.
        text: What the error said.
    """

    id: str
    stage: Stage
    result: Any = None
    error: str = ""
    text: str = ""


class Refused(PoolError):
    """Say that a pool's owner did not do what it was asked.

    Args:
        kind: The kind of error that it met.
        text: What that said.
    """

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(kind, text)
        self.kind = kind
        self.text = text

    def __str__(self) -> str:
        return self.text or self.kind


async def ask(
    observer: Observer,
    whom: Whom,
    verb: Verb,
    args: Mapping[str, Any] | None = None,
    *,
    by: str = "",
    wait: bool = True,
    timeout_s: float | None = None,
    on_taken: Callable[[], object] = lambda: None,
) -> Any:
    """Ask something of a pool's owner, and return what came of it.

    Args:
        observer: The world.
        whom: The pool, and its owner.
        verb: What to do.
        args: Its arguments.
        by: Who asks.
        wait: Whether to wait until it is done; else only until the owner has taken it.
        timeout_s: Seconds to wait for it to be done; None waits for ever.
        on_taken: Called when the owner has taken it.

    Raises:
        Refused: The owner did not do it, or met an error in it.
        PoolClosed: The pool, or its owner, ended before it was done.
        CallTimeout: Nobody took it, and it is withdrawn; or it was not done in time, and goes on.
        SourceUnavailable: The cluster could not be asked: to take the request, or for minutes while
            it was being done.

    Cancelling it withdraws a request that was not taken; one that was goes on.
    """
    request = Request(id=secrets.token_hex(8), verb=verb, args=args or {}, by=by)
    asked = str(Key(whom.pool, whom.instance, f"{REQUEST}{request.id}"))
    answered = str(Key(whom.pool, whom.instance, f"{ANSWER}{request.id}"))
    try:
        # Shielded: what is given up on the way could arrive after it was withdrawn.
        with anyio.CancelScope(shield=True):
            await observer.publish({asked: pack({"version": VERSION, **codec.to_json(request)})})
        try:
            with anyio.fail_after(TAKEN_WITHIN_S):
                answer = await _await_answer(observer, whom, answered, frozenset(Stage))
        except TimeoutError:
            raise CallTimeout(
                f"the owner of pool {whom.pool!r} ({whom.owner}) took no notice of the request "
                f"within {TAKEN_WITHIN_S:g} s, and it was withdrawn; does its event loop turn?"
            ) from None
        on_taken()
        if wait and answer.stage is Stage.TAKEN:
            try:
                with anyio.fail_after(timeout_s):
                    answer = await _await_answer(observer, whom, answered, ENDED)
            except TimeoutError:
                raise CallTimeout(
                    f"pool {whom.pool!r} was not done within {timeout_s:g} s, and goes on with it"
                ) from None
    finally:
        with anyio.move_on_after(LEAVE_S, shield=True), contextlib.suppress(SourceUnavailable):
            await observer.withdraw(asked)
            await observer.withdraw(answered)
    if answer.stage is Stage.REFUSED:
        raise Refused(answer.error, answer.text)
    return answer.result if wait else None


async def _await_answer(
    observer: Observer, whom: Whom, key: str, stages: frozenset[Stage]
) -> Answer:
    """Wait until there is an answer of one of these stages.

    Raises:
        PoolClosed: The pool, or its owner, ended.
    """
    look_s, looked_at = LOOK_S, anyio.current_time()
    # What was taken goes on although nobody can hear of it; what was not is better given up.
    away_s, heard_at = (AWAY_S if stages is ENDED else 0.0), looked_at
    while True:
        try:
            answer = await _look(observer, key)
            if answer is not None and answer.stage in stages:
                return answer
            if answer is None and stages is ENDED:
                # It was taken, so there was one; what a pool shows goes with the pool.
                raise PoolClosed(f"pool {whom.pool!r} ended before it was done with it")
            if anyio.current_time() - looked_at > OWNER_LOOK_S:
                looked_at = anyio.current_time()
                if whom.owner is not None and await observer.is_gone(whom.owner):
                    raise PoolClosed(f"the owner of pool {whom.pool!r} ended: {whom.owner}")
            heard_at = anyio.current_time()
        except SourceUnavailable:
            if anyio.current_time() - heard_at >= away_s:
                raise
        await anyio.sleep(look_s)
        look_s = min(LOOK_MAX_S, look_s * 1.5)


async def _look(observer: Observer, key: str) -> Answer | None:
    found = await observer.published(key)
    return read_answer(found[key]) if key in found else None


def read_answer(packed: bytes) -> Answer | None:
    """Return an answer; None for what is none."""
    document = unpack(packed)
    try:
        return None if document is None else codec.from_json(Answer, document)
    except codec.NotThat:
        return None


def read_request(packed: bytes) -> Request | None:
    """Return a request; None for what is none."""
    document = unpack(packed)
    try:
        return None if document is None else codec.from_json(Request, document)
    except codec.NotThat:
        return None
