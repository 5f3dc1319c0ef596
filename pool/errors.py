"""Every exception that `pool` raises, in one tree.

::

    PoolError
    ├── ConfigError (also ValueError)   what you typed cannot be right
    ├── InfeasibleError                 no node, or set of nodes, could ever hold it
    ├── SizeUnreachable                 scale() could not reach any size you would accept
    ├── ProgramUnreachable              not every role of a program could be had; none was kept
    ├── PoolFailed                      the pool gave up; carries the cause that used its budget up
    ├── PoolClosed                      the pool is closed, or was never entered
    ├── PoolExists                      a detached pool of this name is there already
    ├── NameTaken                       an actor of this identity is there already
    ├── PoolUnknown                     no pool of this name is there
    ├── PoolHeld                        somebody else owns the pool; you may take it over
    ├── Fenced                          a later owner has taken the pool over
    ├── MemberFailed                    one member failed; carries the cause
    │   ├── StartFailed                 it never got ready
    │   └── MemberLost                  its process, actor or node is gone
    │       └── MemberUnreachable       it cannot be reached now, and may yet come back
    ├── RemoteError                     a member's own code raised what cannot be sent as itself
    ├── ReservationFailed               a placement group did not become ready, or broke
    ├── LaunchFailed                    a managed process could not be started
    ├── ProcessFailed                   a managed process ended, or never got ready
    │   └── ProcessTimeout (also TimeoutError) it did not get ready in time
    ├── NotAdmitted                     a member that is being drained takes no new work
    ├── DeviceHeld                      a device's memory did not get free in time
    ├── CallTimeout (also TimeoutError) a call to a member outlasted its time
    ├── SourceUnavailable               a checker could not ask; neither healthy nor ill (INV-9)
    ├── InvalidTransition               a bug in a manager: a state change that the table forbids
    └── Permanent / Temporary           raised by *your* hooks: do not retry / retry in `delay_s`

Each carries what it knows as attributes, beside the sentence. Exceptions cross process
boundaries, so each can be pickled: the constructor's arguments are the attributes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence


class PoolError(Exception):
    """Be the root of every error of this package."""


class ConfigError(PoolError, ValueError):
    """Say that a value given by the caller cannot be right.

    Args:
        message: What was seen and what would do.
        field: The name of the field or argument, where one is to blame.
    """

    def __init__(self, message: str, field: str | None = None) -> None:
        super().__init__(message, field)
        self.message = message
        self.field = field

    def __str__(self) -> str:
        return self.message


class InfeasibleError(PoolError):
    """Say that a request can never fit the cluster that was seen.

    Args:
        message: What was asked for, what was seen, and what would fit.
        topology: The nodes that were seen, as text.
        nearest: The nearest request that would fit, as text, if there is one.
    """

    def __init__(self, message: str, topology: str = "", nearest: str | None = None) -> None:
        super().__init__(message, topology, nearest)
        self.message = message
        self.topology = topology
        self.nearest = nearest

    def __str__(self) -> str:
        text = self.message
        if self.topology:
            text += f" Seen: {self.topology}."
        if self.nearest:
            text += f" The nearest that would fit: {self.nearest}."
        return text


class SizeUnreachable(PoolError):
    """Say that none of the sizes you would accept was reached in time.

    Args:
        pool: The pool's name.
        requested: The size asked for.
        valid: Every size that would have been accepted, ascending.
        reached: How many members were ready when the time was up.
        missing: Slot index to the reason why that slot has no ready member.
    """

    def __init__(
        self,
        pool: str,
        requested: int,
        valid: Sequence[int],
        reached: int,
        missing: Mapping[int, str],
    ) -> None:
        super().__init__(pool, requested, tuple(valid), reached, dict(missing))
        self.pool = pool
        self.requested = requested
        self.valid = tuple(valid)
        self.reached = reached
        self.missing = dict(missing)

    def __str__(self) -> str:
        accepted = ", ".join(map(str, self.valid))
        why = "; ".join(f"slot {slot}: {reason}" for slot, reason in sorted(self.missing.items()))
        return (
            f"Pool {self.pool!r} was to reach {self.requested} (accepted: {accepted}) "
            f"and reached {self.reached}. Missing: {why or 'no slot was opened'}."
        )


class ProgramUnreachable(PoolError):
    """Say that the roles of a program could not all be had in time; all are as they were before.

    Args:
        sizes: Role to the size that was asked for.
        missing: Which role's slot to the reason why it is not there.
    """

    def __init__(self, sizes: Mapping[str, int], missing: Mapping[str, str]) -> None:
        super().__init__(dict(sizes), dict(missing))
        self.sizes = dict(sizes)
        self.missing = dict(missing)

    def __str__(self) -> str:
        asked = ", ".join(f"{role}: {size}" for role, size in self.sizes.items())
        why = "; ".join(
            reason if reason.startswith(key) else f"{key}: {reason}"
            for key, reason in self.missing.items()
        )
        return f"The roles ({asked}) could not all be had, and none was kept. Missing: {why}."


class PoolFailed(PoolError):
    """Say that the pool gave up, and which cause used its budget up.

    Args:
        pool: The pool's name.
        cause: The cause that used its restart budget up, in a word or a sentence.
        detail: The last failure, in full.
        trace: The last lines of its traceback, if something was raised; added as a note.
    """

    def __init__(self, pool: str, cause: str, detail: str = "", trace: str = "") -> None:
        super().__init__(pool, cause, detail, trace)
        self.pool = pool
        self.cause = cause
        self.detail = detail
        self.trace = trace
        if trace:
            self.add_note(trace)

    def __str__(self) -> str:
        return f"Pool {self.pool!r} gave up: {self.cause}." + (
            f" {self.detail}" if self.detail else ""
        )


class PoolClosed(PoolError):
    """Say that the pool takes no calls: it is closed, or `async with` was never entered."""


class PoolExists(PoolError):
    """Say that a detached pool of this name is there already.

    Args:
        pool: The pool's name.
    """

    def __init__(self, pool: str) -> None:
        super().__init__(pool)
        self.pool = pool

    def __str__(self) -> str:
        return (
            f"a detached pool {self.pool!r} is there already; attach({self.pool!r}) to go on with "
            f"it, reap({self.pool!r}) to end it if its owner is gone, or choose another name"
        )


class NameTaken(PoolError):
    """Say that a live actor has this identity already."""


class PoolUnknown(PoolError):
    """Say that no pool of this name is there, of the kind that was looked for.

    Args:
        pool: The name.
        known: The names of the pools that are there.
        kind: What was looked for.
    """

    def __init__(self, pool: str, known: Sequence[str] = (), kind: str = "detached pool") -> None:
        super().__init__(pool, tuple(known), kind)
        self.pool = pool
        self.known = tuple(known)
        self.kind = kind

    def __str__(self) -> str:
        there = ", ".join(map(repr, self.known)) or "none"
        return f"no {self.kind} {self.pool!r} is there; there are: {there}"


class PoolHeld(PoolError):
    """Say that a detached pool has an owner, who was heard of lately.

    Args:
        pool: The pool's name.
        owner: Who owns it.
        heard_s: Seconds since the owner was heard of.
    """

    def __init__(self, pool: str, owner: str, heard_s: float) -> None:
        super().__init__(pool, owner, heard_s)
        self.pool = pool
        self.owner = owner
        self.heard_s = heard_s

    def __str__(self) -> str:
        return (
            f"pool {self.pool!r} is held by {self.owner}, heard of {self.heard_s:.1f} s ago; "
            f"attach({self.pool!r}, takeover=True) takes it over, and tells them"
        )


class Fenced(PoolError):
    """Say that a later owner has taken over, and this one is not obeyed any more.

    Args:
        what: The pool, or the member that says so.
        epoch: The owner that spoke.
        later: The owner that is obeyed.
    """

    def __init__(self, what: str, epoch: int, later: int) -> None:
        super().__init__(what, epoch, later)
        self.what = what
        self.epoch = epoch
        self.later = later

    def __str__(self) -> str:
        return f"{self.what} obeys owner {self.later}, and {self.epoch} no more"


class MemberFailed(PoolError):
    """Say that one member failed.

    Args:
        member: The member's id, `pool/slot.generation`.
        cause: One of the words of `pool.planning.restart.Cause`.
        detail: What happened, in a sentence.
        retry_in_s: Seconds until the next try that the member's own hook asked for, if it did.
        trace: The last lines of the traceback of what was raised, if something was; added as a
            note.
    """

    def __init__(
        self,
        member: str,
        cause: str,
        detail: str,
        retry_in_s: float | None = None,
        trace: str = "",
    ) -> None:
        super().__init__(member, cause, detail, retry_in_s, trace)
        self.member = member
        self.cause = cause
        self.detail = detail
        self.retry_in_s = retry_in_s
        self.trace = trace
        if trace:
            self.add_note(trace)

    def __str__(self) -> str:
        return f"{self.member}: {self.cause}: {self.detail}"


class StartFailed(MemberFailed):
    """Say that a member never got ready."""


class MemberLost(MemberFailed):
    """Say that a member's process, actor or node is gone."""


class MemberUnreachable(MemberLost):
    """Say that a member cannot be reached now; whether it is gone, its lifeline will tell."""


class RemoteError(PoolError):
    """Say that a member's own code raised something that cannot be sent as itself.

    Args:
        kind: The type that was raised, with its module.
        text: What it said.
        trace: Where it was raised.
    """

    def __init__(self, kind: str, text: str, trace: str = "") -> None:
        super().__init__(kind, text, trace)
        self.kind = kind
        self.text = text
        self.trace = trace

    def __str__(self) -> str:
        return f"{self.kind}: {self.text}\n{self.trace}".rstrip()


class RunCancelled(PoolError):
    """Say that a run was cancelled before it had a result.

    Args:
        run: The run's id.
        report: What its end took, in words.
    """

    def __init__(self, run: str, report: str = "") -> None:
        super().__init__(run, report)
        self.run = run
        self.report = report

    def __str__(self) -> str:
        return f"run {self.run} was cancelled" + (f": {self.report}" if self.report else "")


class ReservationFailed(PoolError):
    """Say that a placement group did not become ready in time, or lost a node."""


class LaunchFailed(PoolError):
    """Say that a managed process could not be started. Nothing of it is left.

    Args:
        program: The program that was to run: the first word of its command.
        detail: What was seen and what to do, in a sentence.
        errno: The error number of the system call that failed, if one did.
    """

    def __init__(self, program: str, detail: str, errno: int | None = None) -> None:
        super().__init__(program, detail, errno)
        self.program = program
        self.detail = detail
        self.errno = errno

    def __str__(self) -> str:
        return f"cannot start {self.program!r}: {self.detail}"


class ProcessFailed(PoolError):
    """Say that a managed process ended that was to go on, or never got ready.

    Args:
        process: The process's name.
        detail: What happened to it, as the rest of a sentence that begins with its name.
        code: Its exit code, if it ended by itself.
        signal: The number of the signal that killed it, if one did.
        log_tail: The last lines that it wrote.
    """

    def __init__(
        self,
        process: str,
        detail: str,
        code: int | None = None,
        signal: int | None = None,
        log_tail: str = "",
    ) -> None:
        super().__init__(process, detail, code, signal, log_tail)
        self.process = process
        self.detail = detail
        self.code = code
        self.signal = signal
        self.log_tail = log_tail

    def __str__(self) -> str:
        tail = self.log_tail.rstrip()
        lines = f"its last lines:\n{tail}" if tail else "it wrote nothing"
        return f"process {self.process!r} {self.detail}; {lines}"


class ProcessTimeout(ProcessFailed, TimeoutError):
    """Say that a managed process did not get ready in time, and what its probe last saw."""


class NotAdmitted(PoolError):
    """Say that a member takes no new work, because it is being drained. Nothing was run."""


class DeviceHeld(PoolError):
    """Say that the memory of devices did not get free in time.

    Args:
        waited_s: Seconds that were waited.
        holders: Who holds how much of which device, a sentence each.
    """

    def __init__(self, waited_s: float, holders: Sequence[str]) -> None:
        super().__init__(waited_s, tuple(holders))
        self.waited_s = waited_s
        self.holders = tuple(holders)

    def __str__(self) -> str:
        return (
            f"after {self.waited_s:g} s, device memory is still in use: {'; '.join(self.holders)}. "
            "End these processes, or keep them off these devices"
        )


class CallTimeout(PoolError, TimeoutError):
    """Say that a call to a member outlasted the time it was given."""


class SourceUnavailable(PoolError):
    """Say that a checker could not ask. It is no verdict, and changes none (INV-9)."""


class InvalidTransition(PoolError):
    """Say that a member was moved along an edge that the state table does not have.

    Args:
        member: The member's id.
        state: The state it was in.
        event: The state it was to enter.
        story: Its transitions so far, oldest first, one line each.
    """

    def __init__(self, member: str, state: str, event: str, story: Sequence[str]) -> None:
        super().__init__(member, state, event, tuple(story))
        self.member = member
        self.state = state
        self.event = event
        self.story = tuple(story)

    def __str__(self) -> str:
        lines = "\n  ".join(self.story)
        return f"{self.member} cannot go from {self.state} to {self.event}. Its story:\n  {lines}"


class Permanent(PoolError):
    """Raise this from a hook to say: do not try again. The pool fails with this as its cause."""


class Temporary(PoolError):
    """Raise this from a hook to say: try again, not before `delay_s` seconds have passed.

    Args:
        message: What is not ready yet.
        delay_s: Seconds to wait before the next try; it replaces the back-off once.
    """

    def __init__(self, message: str, delay_s: float) -> None:
        if delay_s < 0:
            raise ConfigError(f"delay_s is {delay_s}; give 0 or more seconds", "delay_s")
        super().__init__(message, delay_s)
        self.message = message
        self.delay_s = delay_s

    def __str__(self) -> str:
        return self.message
