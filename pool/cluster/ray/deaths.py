"""What Ray's exceptions mean, in our words.

Ordered rows, first match wins. Ray tells apart less than one would wish: `exc.preempted` is true
only if the node died after a drain's deadline, so a manager that knows of a notice overrules the
cause found here.
"""

from __future__ import annotations

import re

from ray import exceptions

from pool.cluster.interface import Death, Fault
from pool.cluster.trace import last_lines, note_trace
from pool.errors import MemberLost, MemberUnreachable, PoolError
from pool.planning.restart import Cause

_NODE_WORDS = ("node died", "node was terminated", "node is dead", "the node", "raylet")
"""Words in Ray's sentence on an actor's end that say that its whole node went."""


def death_of(error: BaseException) -> Death | None:
    """Say what death an exception of a lifeline means; None when the actor may be alive."""
    match error:
        # The call itself raised, which is a bug in the body; the process may still be there.
        case exceptions.RayTaskError():
            return _death(Cause.CRASH, f"its lifeline raised {getattr(error, 'cause', error)!r}")
        # NB: "unavailable" is a hiccup of the network, not a death; the lifeline is asked again.
        case exceptions.ActorUnavailableError():
            return None
        # Hard affinity to a node that is dead or draining. This is no RayActorError.
        case exceptions.ActorUnschedulableError():
            return _death(Cause.NODE_LOST, f"its node cannot take it: {first_line(error)}")
        case exceptions.RayActorError() if getattr(error, "actor_init_failed", False):
            trace = last_lines(plain(str(error)))
            return Death(Fault(Cause.START, last_line(error), trace=trace))
        case exceptions.RayActorError() if error.preempted:
            return _death(Cause.PREEMPTION, "its node was preempted")
        case exceptions.RayActorError():
            text = str(error)
            lost = any(word in text.lower() for word in _NODE_WORDS)
            cause = Cause.NODE_LOST if lost else Cause.CRASH
            return _death(cause, last_words(text))
        case exceptions.RayError():
            return _death(Cause.CRASH, first_line(error))
        case _:
            return None


def _death(cause: Cause, detail: str) -> Death:
    return Death(Fault(cause, detail))


def error_of(error: BaseException, member: str) -> BaseException:
    """Return the exception of ours, or of the member's own code, that stands behind Ray's."""
    match error:
        case exceptions.RayTaskError():
            cause = getattr(error, "cause", None)
            if isinstance(cause, PoolError):
                return cause
            if isinstance(cause, Exception):
                note_trace(cause, member, plain(str(error)).strip())
                return cause
            return error
        case exceptions.ActorUnavailableError():
            return MemberUnreachable(member, Cause.CRASH, first_line(error))
        case _:
            death = death_of(error) if isinstance(error, _DEATHS) else None
            return error if death is None else _lost(member, death.fault)


_DEATHS = (
    exceptions.RayActorError,
    exceptions.ActorUnschedulableError,
    exceptions.NodeDiedError,
    exceptions.OutOfMemoryError,
    exceptions.WorkerCrashedError,
)


def _lost(member: str, fault: Fault) -> MemberLost:
    return MemberLost(member, fault.cause, fault.detail, trace=fault.trace)


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text that says something."""
    lines = (line.strip() for line in str(error).splitlines())
    return next((line for line in lines if line), type(error).__name__)


def last_line(error: BaseException) -> str:
    """Return the last line of an error's text: of a remote traceback, what was raised."""
    return plain(str(error)).strip().splitlines()[-1].strip()


def plain(text: str) -> str:
    """Return a text of Ray's without its colours."""
    return _COLOUR.sub("", text)


def last_words(text: str) -> str:
    """Return what Ray says of how an actor died, without its fields and its general advice."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    told = [line for line in lines if not line.startswith(_FIELDS)]
    words = told[1] if len(told) > 1 else told[0] if told else "the actor died"
    return words.split(_ADVICE)[0].strip()


_COLOUR = re.compile("\x1b\\[[0-9;]*m")
_FIELDS = ("class_name:", "actor_id:", "pid:", "name:", "namespace:", "ip:")
_ADVICE = "Some common causes include"
