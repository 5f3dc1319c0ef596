"""The owner's side of a pool's window: it shows the pool, and takes requests.

One task, which looks once a second whether anything is to be shown or was asked. What it costs is
bounded: both the time between two pictures of a pool that changes, and of one that does not, are
longer by their whole length for each `SLOTS_A_SPACING` slots, so that a pool of 100,000 slots shows
itself every few minutes and spends no more on it than one of 500.

A cluster that cannot be asked is asked again later; the age of what is shown tells of it.
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

import anyio
from anyio.abc import TaskGroup

from pool.cluster.interface import Cluster
from pool.errors import SourceUnavailable
from pool.log import Word, say
from pool.window import codec
from pool.window.keys import ROOT, VERSION, Key, of_pool, pack, unpack
from pool.window.requests import ANSWER, REQUEST, Answer, Request, Stage, read_request
from pool.window.strays import EVENTS, PICTURE, strays

SPACING_S = 1.0
SLOTS_A_SPACING = 250
HEARTBEAT_S = 5.0
"""How often a picture is made although nothing changed."""
EVENTS_A_PART = 100
PARTS_KEPT = 20
"""So many events are shown: 100 in each of 20 documents, of which the last alone changes."""
ANSWERS_KEPT = 100
SWEPT_AFTER_S = 60.0
"""When a pool looks once for what dead ones left; most pools are opened for longer than that."""
KEPT_S = 86400.0
"""How long what a dead pool showed is kept, for whoever wants to know what became of it."""
CLOSE_S = 3.0
ANSWER_LASTS_S = 60.0
"""How long an answer is there for whoever asked, once it could be given."""


class Shown(Protocol):
    """What a pool is to its window."""

    @property
    def name(self) -> str:
        """Its name."""
        ...

    @property
    def instance(self) -> str:
        """The word that tells pools of one name apart."""
        ...

    @property
    def cluster(self) -> Cluster:
        """The world it is in."""
        ...

    def picture(self) -> Mapping[str, Any]:
        """Return what is shown of the pool, in the words of JSON."""
        ...

    async def carry_out(self, request: Request) -> Any:
        """Do what is asked, and return what came of it, in the words of JSON."""
        ...


class Display:
    """Show a pool, and take requests, for as long as `run` runs.

    Args:
        pool: The pool.
        slots: Says how many slots it has.
    """

    def __init__(self, pool: Shown, slots: Callable[[], int]) -> None:
        self._pool = pool
        self._slots = slots
        self._is_changed = True
        self._shown_at = -HEARTBEAT_S
        self._events: deque[Mapping[str, Any]] = deque(maxlen=EVENTS_A_PART * PARTS_KEPT)
        self._next = 0
        self._said = 0
        self._has_begun = False
        self._taken: deque[str] = deque(maxlen=ANSWERS_KEPT)
        self._trouble = ""

    def changed(self) -> None:
        """Hear that the pool is another one now."""
        self._is_changed = True

    def note(self, event: Mapping[str, Any]) -> None:
        """Hear of an event, in the words of JSON."""
        self._events.append(event)
        self._next += 1

    async def run(self) -> None:
        """Show the pool and take requests until it is cancelled."""
        sweep_at = anyio.current_time() + SWEPT_AFTER_S
        async with anyio.create_task_group() as tasks:
            while True:
                troubles = [] if self._has_begun else [await _attempt(self._begin)]
                if self._has_begun:
                    # Each by itself: a pool that cannot be shown can be steered all the same.
                    troubles.append(await _attempt(self._show))
                    troubles.append(await _attempt(functools.partial(self._take, tasks)))
                if self._has_begun and anyio.current_time() >= sweep_at:
                    sweep_at = math.inf
                    troubles.append(await _attempt(self._sweep))
                self._complain(next(filter(None, troubles), ""))
                await anyio.sleep(SPACING_S)

    def _complain(self, trouble: str) -> None:
        """Say once what is in the way; who looks at the pool sees the age of what was shown."""
        if trouble and trouble != self._trouble:
            say(Word.POOL_NOT_SHOWN, pool=self._pool.name, reason=trouble)
        self._trouble = trouble

    async def close(self, *, leave: bool) -> None:
        """Take down what is shown; or leave it there, as it is now, for a pool that goes on.

        It takes no longer than `CLOSE_S`; what is left then is recognised by its owner's end.
        """
        with anyio.move_on_after(CLOSE_S, shield=True), contextlib.suppress(SourceUnavailable):
            if leave:
                self._is_changed, self._shown_at = True, -HEARTBEAT_S
                await self._show()
            else:
                await self._cluster.withdraw(self._key(""))

    @property
    def _cluster(self) -> Cluster:
        return self._pool.cluster

    def _key(self, part: str) -> str:
        return str(Key(self._pool.name, self._pool.instance, part))

    async def _begin(self) -> None:
        """Clear away what dead pools of this name left, and what was asked of an earlier owner."""
        found = await self._cluster.published(of_pool(self._pool.name))
        parts = 0
        gone = set()
        for text, packed in found.items():
            key = Key.parse(text)
            if key is None:
                continue
            if key.instance != self._pool.instance:
                document = (unpack(packed) or {}) if key.part == PICTURE else {}
                owner = document.get("owner")
                # A detached pool may live on without its owner.
                if document.get("detached") is not False or not isinstance(owner, str):
                    continue
                if await self._cluster.is_gone(owner):
                    gone.add(str(Key(key.pool, key.instance, "")))
            elif key.part.startswith((REQUEST, ANSWER)):
                await self._cluster.withdraw(text)
            elif (number := key.part.removeprefix(EVENTS)).isdecimal():
                parts = max(parts, int(number) + 1)
        for prefix in gone:
            await self._cluster.withdraw(prefix)
        self._next += parts * EVENTS_A_PART
        self._said = self._next - len(self._events)
        self._has_begun = True

    async def _sweep(self) -> None:
        """Take away what dead pools of other names showed long ago; detached ones may live on."""
        found = await self._cluster.published(ROOT)
        for stray in strays(found, self._cluster.unix_time() - KEPT_S):
            # NB: whoever has a hook that raises shows events, and no picture.
            if stray.instance != self._pool.instance:
                await self._cluster.withdraw(str(stray))
        for text, packed in found.items():
            key = Key.parse(text)
            if key is None or key.part != PICTURE:
                continue
            document = unpack(packed) or {}
            owner, at = document.get("owner"), document.get("published_at")
            is_old = isinstance(at, float) and self._cluster.unix_time() - at > KEPT_S
            if not is_old or document.get("detached") is not False or not isinstance(owner, str):
                continue
            if await self._cluster.is_gone(owner):
                await self._cluster.withdraw(str(Key(key.pool, key.instance)))

    async def _show(self) -> None:
        now = anyio.current_time()
        values: dict[str, bytes] = {}
        times = 1 + self._slots() // SLOTS_A_SPACING
        period_s = HEARTBEAT_S * times
        due_s = SPACING_S * times * 0.9 if self._is_changed else period_s
        is_due = now - self._shown_at >= due_s
        unshown: Exception | None = None
        if is_due:
            self._is_changed = False
            head = {
                "version": VERSION,
                "published_at": self._cluster.unix_time(),
                "period_s": period_s,
            }
            try:
                values[self._key(PICTURE)] = pack({**head, **self._pool.picture()})
            except Exception as error:
                # A hook of the user's, say. Events are shown all the same.
                is_due, unshown = False, error
        old = self._add_events(values)
        said = self._next
        if values:
            try:
                await self._publish(values)
            except SourceUnavailable:
                self._is_changed = True
                raise
            self._shown_at, self._said = now if is_due else self._shown_at, said
        for key in old:
            await self._cluster.withdraw(key)
        if unshown is not None:
            raise unshown

    def _add_events(self, values: dict[str, bytes]) -> list[str]:
        """Add the documents that new events are in; return the keys of those that are too old."""
        if self._said == self._next:
            return []
        oldest = self._next - len(self._events)
        part = max(self._said, oldest) // EVENTS_A_PART
        events = list(self._events)
        for number in range(part, (self._next - 1) // EVENTS_A_PART + 1):
            first = max(number * EVENTS_A_PART, oldest)
            last = min((number + 1) * EVENTS_A_PART, self._next)
            document = {
                "version": VERSION,
                "first": first,
                "events": events[first - oldest : last - oldest],
            }
            values[self._key(f"{EVENTS}{number:08d}")] = pack(document)
        first_kept = (self._next - 1) // EVENTS_A_PART - PARTS_KEPT + 1
        before = self._said // EVENTS_A_PART - PARTS_KEPT + 1
        return [self._key(f"{EVENTS}{number:08d}") for number in range(max(0, before), first_kept)]

    async def _take(self, tasks: TaskGroup) -> None:
        asked = await self._cluster.published(self._key(REQUEST))
        for key, packed in asked.items():
            await self._cluster.withdraw(key)
            request = read_request(packed)
            if request is None:
                say(Word.REQUEST_NOT_UNDERSTOOD, pool=self._pool.name)
            elif request.id not in self._taken:
                self._taken.append(request.id)
                tasks.start_soon(self._attend, request)

    async def _attend(self, request: Request) -> None:
        """Do what is asked, and answer, at the latest when the cluster is back."""
        try:
            await self._answer(Answer(id=request.id, stage=Stage.TAKEN))
        except SourceUnavailable as error:
            # Whoever asked may have been told nothing, and given up.
            answer = _refusal(request, error, "it was not begun: ")
        else:
            answer = await self._carry_out(request)
        await _insist(functools.partial(self._answer, answer))
        # Whoever asked takes it away; one who left does not.
        await anyio.sleep(ANSWER_LASTS_S)
        key = self._key(f"{ANSWER}{request.id}")
        await _insist(functools.partial(self._cluster.withdraw, key))

    async def _carry_out(self, request: Request) -> Answer:
        try:
            result = await self._pool.carry_out(request)
            return Answer(id=request.id, stage=Stage.DONE, result=codec.to_json(result))
        except Exception as error:
            return _refusal(request, error)

    async def _answer(self, answer: Answer) -> None:
        document = {"version": VERSION, **codec.to_json(answer)}
        await self._publish({self._key(f"{ANSWER}{answer.id}"): pack(document)})

    async def _publish(self, values: Mapping[str, bytes]) -> None:
        # Shielded: what is given up on the way could arrive after the pool took down the rest.
        with anyio.CancelScope(shield=True):
            await self._cluster.publish(values)


def _refusal(request: Request, error: Exception, head: str = "") -> Answer:
    kind, text = type(error).__name__, f"{head}{error}"
    return Answer(id=request.id, stage=Stage.REFUSED, error=kind, text=text)


async def _insist(step: Callable[[], Awaitable[None]]) -> None:
    """Do a step, again and again while the cluster cannot be asked; the pool's end ends it."""
    while True:
        try:
            return await step()
        except SourceUnavailable:
            await anyio.sleep(SPACING_S)


async def _attempt(step: Callable[[], Awaitable[None]]) -> str:
    """Do a step, and return what was in its way; nothing that it meets ends the pool."""
    try:
        await step()
    except Exception as error:
        return repr(error)
    return ""
