"""Jobs to members, and outcomes back: each exactly once, whoever dies meanwhile.

No task waits for a call: the cluster tells what came of it, and each turn of the loop in which
something came sends as much as there is room for. A job whose member refused it goes back to the
head of the queue. One whose member died is tried again alone, so that a job that kills whoever
takes it is found out, and those that were beside it are not blamed.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import heapq
import itertools
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from pool.cluster.interface import Fault
from pool.dispatch.affinity import Homes
from pool.dispatch.job import Job, Limits, Raised
from pool.dispatch.pace import Pace
from pool.dispatch.roster import Post, Roster
from pool.dispatch.source import Source
from pool.dispatch.target import Targets
from pool.dispatch.unattended import Unattended
from pool.errors import CallTimeout, ConfigError, MemberLost, MemberUnreachable, NotAdmitted
from pool.host.labour import Failure

REST_S = 0.5
"""How long a member that could not be reached is left alone."""


@dataclass(eq=False, slots=True)
class _Call:
    post: Post
    jobs: list[Job]
    stop: Callable[[], None] | None = None
    timer: asyncio.TimerHandle | None = None
    forget: Callable[[], object] | None = None
    is_given_up: bool = False


class Dispatcher:
    """Hand jobs to members, and tell what came of each, once.

    Args:
        pool: Whom to send them to.
        on: Which targets of the pool.
        limits: How much may be under way.
        source: Where jobs come from.
        tell: Told the outcome of each job: a value, or `Raised`.
        end: Told when the source is at its end, with what it raised, if it did. May be told
            again.
        fail: Told when no job can be done any more, with the reason.
    """

    def __init__(
        self,
        pool: Targets,
        on: str,
        limits: Limits,
        source: Source,
        tell: Callable[[Job, Any], None],
        end: Callable[[Exception | None], None],
        fail: Callable[[Exception], None],
    ) -> None:
        pool.targets(on)
        self.counts: Counter[str] = Counter()
        self.in_flight = 0
        self._pool = pool
        self._bulky = pool.cluster.bulky
        self._on = on
        self._limits = limits
        self._source = source
        self._tell = tell
        self._end = end
        self._fail = fail
        self._loop = asyncio.get_running_loop()
        self._roster = Roster(limits.in_flight)
        self._homes = Homes()
        self._unattended = Unattended(pool, on)
        self._pace = Pace(limits.in_flight if limits.together else 1)
        self._turns = itertools.count()
        self._again: list[tuple[int, int, Job]] = []
        self._suspects: list[tuple[int, int, Job]] = []
        self._parked = 0
        self._calls: set[_Call] = set()
        self._is_stale = True
        self._is_called = False
        self._is_over = False
        self._forget = pool.on_change(self._pool_changed)

    @property
    def backlog(self) -> int:
        """How many jobs wait, as far as is known."""
        return len(self._again) + len(self._suspects) + self._parked + self._source.waiting

    def wake(self) -> None:
        """Send what there is room for, in the next turn of the loop."""
        if not self._is_called and not self._is_over:
            self._is_called = True
            self._loop.call_soon(self._turn)

    def send_now(self) -> None:
        """Send what there is room for, in this turn of the loop: a turn is time."""
        if self._is_stale or self._is_called:
            self.wake()
        elif not self._is_over:
            self._is_called = True
            self._turn()

    def close(self) -> None:
        """Send nothing more, and ask members to stop what is under way; nobody is told of it."""
        if self._is_over:
            return
        self._is_over = True
        self._forget()
        self._unattended.end()
        for call in list(self._calls):
            self._give_up(call)

    def drop(self, job: Job) -> None:
        """Forget a job; a call that was made for it alone is asked to stop."""
        job.is_dropped = True
        for call in self._calls:
            if call.jobs == [job]:
                self._give_up(call)
                return

    # -- sending ------------------------------------------------------------------------------

    def _pool_changed(self) -> None:
        self._is_stale = True
        self.wake()

    def _turn(self) -> None:
        self._is_called = False
        if self._is_over:
            return
        if self._is_stale:
            self._is_stale = False
            for job in self._roster.update(self._pool.targets(self._on)):
                self._put_back(job)
            self._parked = self._roster.parked
            self._source.resize(self._roster.listed)
        if not self._roster.listed and self._pool.failed is not None:
            self._fail(self._pool.failed)
            return
        self._unattended.look(waits=not self._roster.listed and self.backlog > 0)
        self._send_suspects()
        self._send_parked()
        self._send_others()
        if self._source.is_exhausted:
            self._end(None)

    def _has_room(self) -> bool:
        in_all = self._limits.in_all
        return in_all is None or self.in_flight < in_all

    def _send_suspects(self) -> None:
        reserved = self._roster.reserved()
        # Whoever is to have a suspect job alone takes nothing else until it is idle.
        for post in self._roster.usable() if self._suspects else ():
            if not self._suspects:
                break
            post.reserved = heapq.heappop(self._suspects)[-1]
            self._roster.place(post)
            reserved.append(post)
        for post in reserved:
            if not post.load and self._has_room() and post.reserved is not None:
                job, post.reserved, post.is_alone = post.reserved, None, True
                self._send(post, [job])

    def _send_parked(self) -> None:
        if not self._parked:
            return
        for post in self._roster.usable():
            while post.parked and self._roster.room(post) > 0 and self._has_room():
                self._parked -= 1
                self._send(post, [post.parked.popleft()])

    def _send_others(self) -> None:
        while self._has_room() and self._parked < self._limits.in_flight * self._roster.listed:
            together = self._pace.together
            post = self._roster.free(together)
            if post is None or (job := self._take()) is None:
                return
            jobs = [job]
            if job.key is not None:
                home = self._home(job, post)
                if self._roster.room(home) <= 0:
                    home.parked.append(job)
                    self._parked += 1
                    continue
                post = home
            elif together > 1:
                self._gather(jobs, min(together, self._roster.room(post)))
            self._send(post, jobs)

    def _gather(self, jobs: list[Job], most: int) -> None:
        """Take more jobs for the same call."""
        if self._limits.in_all is not None:
            most = min(most, self._limits.in_all - self.in_flight)
        while len(jobs) < most and (job := self._take()) is not None:
            if job.key is not None or job.work is not jobs[0].work:
                self._put_back(job)
                return
            jobs.append(job)

    def _home(self, job: Job, least_loaded: Post) -> Post:
        actor = self._homes.of(job.key)
        home = None if actor is None else self._roster.get(actor)
        if home is None:
            home = least_loaded
            self._homes.settle(job.key, home.id)
        return home

    def _take(self) -> Job | None:
        """Take a job to be done: one to be done again first, then the next of the source."""
        while True:
            if self._again:
                job: Job | None = heapq.heappop(self._again)[-1]
            else:
                try:
                    job = self._source.take()
                except Exception as error:
                    # The input itself raised: what was read before it still has its outcomes.
                    self._end(error)
                    return None
            if job is None or not job.is_dropped:
                return job

    def _put_back(self, job: Job) -> None:
        queue = self._suspects if job.lost else self._again
        heapq.heappush(queue, (job.number, next(self._turns), job))

    def _send(self, post: Post, jobs: list[Job]) -> None:
        call = _Call(post, jobs)
        call.forget = post.target.member.on_parted(functools.partial(self._take_back, call))
        self._calls.add(call)
        self._roster.add(post, len(jobs))
        self.in_flight += len(jobs)
        for _ in jobs:
            post.target.member.call_began()
        call.stop = self._pool.cluster.begin(
            post.target.actor,
            "do_jobs",
            jobs[0].work,
            [tuple(map(self._bulky, job.args)) for job in jobs],
            done=lambda result, error: self._came(call, result, error),
        )
        if jobs[0].timeout_s is not None:
            call.timer = self._loop.call_later(jobs[0].timeout_s, self._timed_out, call)

    # -- what comes back ----------------------------------------------------------------------

    def _came(self, call: _Call, result: Any, error: BaseException | None) -> None:
        if call not in self._calls:
            return  # It was taken as lost, and is answered all the same.
        post, jobs = call.post, call.jobs
        self._calls.discard(call)
        if call.timer is not None:
            call.timer.cancel()
        if call.forget is not None:
            call.forget()
        post.is_alone = False
        if isinstance(error, MemberLost):
            self._lose(post, error)
        elif isinstance(error, NotAdmitted):
            post.refuses = True
            self._strand(post)
        self.in_flight -= len(jobs)
        self._roster.add(post, -len(jobs))
        for _ in jobs:
            post.target.member.call_ended()
        if not call.is_given_up:
            self._settle(post, jobs, result, error)
        self.wake()

    def _take_back(self, call: _Call, fault: Fault) -> None:
        """Take a call as lost whose member the pool has done with."""
        if call.stop is not None:
            call.stop()
        member = call.post.target.actor.identity.member
        self._came(call, None, MemberLost(member, fault.cause, fault.detail))

    def _settle(
        self, post: Post, jobs: list[Job], result: Any, error: BaseException | None
    ) -> None:
        if error is None:
            took_s, outcomes = result
            self._pace.learn(took_s, len(outcomes))
            for job, outcome in zip(jobs, outcomes, strict=False):
                has_failed = isinstance(outcome, Failure)
                self._finish(job, self._failed(post, outcome) if has_failed else outcome)
            for job in jobs[len(outcomes) :]:
                self._put_back(job)
        elif isinstance(error, NotAdmitted):
            for job in jobs:
                self._put_back(job)
        elif isinstance(error, MemberLost):
            for job in jobs:
                self._lost(job, post, error)
        elif len(jobs) > 1:
            # An argument, or a result, could not be sent, say, and nobody knows which.
            self._pace.part()
            for job in jobs:
                self._put_back(job)
        elif isinstance(error, ConfigError) and jobs[0].items > 1:
            # The arguments could not be sent; so nothing of the batch was done.
            for part in self._parts(jobs[0]):
                self._put_back(part)
        else:
            failed = error if isinstance(error, Exception) else CallTimeout(repr(error))
            self._finish(jobs[0], Raised(failed))

    def _failed(self, post: Post, failure: Failure) -> Raised:
        member = post.target.actor.identity.member
        # NB: an error of the user's own may refuse notes: a frozen dataclass does.
        with contextlib.suppress(Exception):
            failure.error.add_note(f"raised in {member}:\n{failure.trace}")
        return Raised(failure.error)

    def _lose(self, post: Post, error: MemberLost) -> None:
        target = post.target
        if isinstance(error, MemberUnreachable):
            # It may be there again at any time.
            post.refuses = True
            self._loop.call_later(REST_S, self._pool_changed)
        else:
            post.dead = True
            target.member.call_lost(error.cause, f"{target.where}{error.detail}")
        self._strand(post)

    def _strand(self, post: Post) -> None:
        for job in self._roster.strand(post):
            self._put_back(job)
        self._parked = self._roster.parked

    def _lost(self, job: Job, post: Post, error: MemberLost) -> None:
        job.lost.append(post.target.actor.identity.member)
        self.counts["lost"] += 1
        if job.is_dropped:
            return
        if len(job.lost) < job.attempts:
            self.counts["retried"] += 1
            for part in self._parts(job):
                self._put_back(part)
            return
        last = MemberLost(error.member, error.cause, error.detail)
        members = f"{len(job.lost)} members: {', '.join(job.lost)}"
        last.add_note(f"item {job.number} has lost {members}")
        self._finish(job, Raised(last))

    def _parts(self, job: Job) -> list[Job]:
        """Return the items of a batch one by one: which of them is to blame is not known."""
        if job.items == 1:
            return [job]
        outcomes: dict[int, Any] = {}

        def told(index: int, outcome: Any) -> None:
            is_one = isinstance(outcome, list) and len(outcome) == 1
            outcomes[index] = outcome[0] if is_one else outcome
            if len(outcomes) == job.items:
                self._hand_over(job, [outcomes[each] for each in range(job.items)])

        parts = []
        for index, item in enumerate(job.args[0]):
            part = replace(job, args=([item],), items=1, lost=list(job.lost))
            part.told = functools.partial(told, index)
            parts.append(part)
        return parts

    def _timed_out(self, call: _Call) -> None:
        [job] = call.jobs
        self._give_up(call)
        member = call.post.target.actor.identity.member
        timeout_s = job.timeout_s
        self.counts["timed out"] += 1
        self._finish(job, Raised(CallTimeout(f"{member} took longer than {timeout_s:g} s")))
        self.wake()

    def _give_up(self, call: _Call) -> None:
        call.is_given_up = True
        if call.stop is not None:
            call.stop()

    def _finish(self, job: Job, outcome: Any) -> None:
        if not self._is_over and not job.is_dropped:
            self.counts["failed" if isinstance(outcome, Raised) else "done"] += job.items
            self._hand_over(job, outcome)

    def _hand_over(self, job: Job, outcome: Any) -> None:
        if job.told is not None:
            job.told(outcome)
        else:
            self._tell(job, outcome)
