"""Pools for the reconcile planner, and a model that carries its plans out."""

from __future__ import annotations

import math
from dataclasses import replace

from hypothesis import strategies as st

from pool.planning.lifecycle import State
from pool.planning.plan import Action, Goal, Plan, Role, SlotView, Verb
from pool.planning.rolling import RollPolicy

NOW = 1000.0

# Rare states are as frequent as the usual one, or the interesting pools would hardly occur.
states = st.sampled_from(
    [None, *[State.READY] * 2, *(state for state in State if state is not State.GONE)]
)
deadlines = st.one_of(
    st.none(), st.sampled_from([NOW, NOW + 5, NOW + 500, math.inf]), st.floats(NOW - 9, NOW + 99)
)


@st.composite
def slots(draw: st.DrawFn, index: int, role: Role) -> SlotView:
    state = draw(states)
    has_member = state is not None
    return SlotView(
        index=index,
        role=role,
        state=state,
        fault=draw(st.sampled_from([None, None, None, "broken"])) if has_member else None,
        lingers=state is State.STOPPING and draw(st.booleans()),
        outdated=has_member and draw(st.sampled_from([False, False, True])),
        leave_by=draw(deadlines) if has_member and draw(st.booleans()) else None,
        replace_first=draw(st.sampled_from([True, True, False])),
        not_before=NOW + draw(st.sampled_from([-1.0, 0.0, 3.0])),
        given_up=draw(st.sampled_from([None, None, None, "no use"])),
        in_flight=draw(st.integers(0, 3)),
    )


@st.composite
def pools(draw: st.DrawFn) -> list[SlotView]:
    """Make slots of every role, with ranks that need not be in order, nor without gaps."""
    indexes = draw(st.lists(st.integers(0, 12), unique=True, max_size=8))
    made: list[SlotView] = []
    holders: list[int] = []
    ranks = draw(st.permutations(range(len(indexes) + 2)))
    for number, index in enumerate(indexes):
        role = draw(st.sampled_from([Role.HOLDER, Role.HOLDER, *Role]))
        slot = draw(slots(index, role))
        if role is Role.HOLDER:
            slot = replace(slot, rank=ranks[number])
            holders.append(index)
        elif role is Role.REPLACEMENT:
            original = draw(st.sampled_from([*holders, 99]))
            taken = {other.replaces for other in made}
            slot = replace(slot, replaces=99 if original in taken else original)
        made.append(slot)
    return made


rolls = st.one_of(
    st.none(),
    st.builds(
        RollPolicy,
        surge=st.integers(1, 2),
        max_unavailable=st.integers(0, 2),
        paused=st.sampled_from([False, False, True]),
    ),
    st.builds(RollPolicy, surge=st.just(0), max_unavailable=st.integers(1, 2)),
)
goals = st.builds(
    Goal,
    desired=st.integers(0, 6),
    surge=st.integers(0, 2),
    spares=st.integers(0, 2),
    roll=rolls,
    ladder_s=st.sampled_from([0.0, 10.0, 60.0]),
)


def apply(slots: list[SlotView], plan: Plan) -> list[SlotView]:
    """Carry a plan out as a manager does, in its order."""
    table = {slot.index: slot for slot in slots}
    for action in plan.actions:
        _apply(table, action)
    return list(table.values())


def _apply(table: dict[int, SlotView], action: Action) -> None:
    if action.verb is Verb.OPEN:
        assert action.slot not in table, "INV-1: an index that is in use was opened again"
        table[action.slot] = SlotView(
            index=action.slot,
            role=action.role,
            rank=action.rank,
            replaces=action.replaces,
            not_before=action.not_before,
        )
        return
    slot = table[action.slot]
    match action.verb:
        case Verb.START:
            assert slot.state is None, "INV-1: a second member was started in a slot"
            slot = replace(
                slot, state=State.PENDING, fault=None, leave_by=None, lingers=False, outdated=False
            )
        case Verb.RANK:
            slot = replace(slot, role=Role.HOLDER, rank=action.rank, replaces=None)
        case Verb.SPARE:
            slot = replace(slot, role=Role.SPARE, rank=None, replaces=None)
        case Verb.RETIRE:
            slot = replace(slot, role=Role.RETIRING, rank=None, replaces=None)
        case Verb.DRAIN:
            assert slot.state in (State.READY, State.SUSPECT)
            slot = replace(slot, state=State.DRAINING)
        case Verb.RESTORE:
            assert slot.state is State.DRAINING
            slot = replace(slot, state=State.READY)
        case Verb.STOP:
            assert slot.state not in (None, State.STOPPING)
            slot = replace(slot, state=State.STOPPING)
        case Verb.CLOSE:
            assert slot.state is None, "INV-4: a slot was closed over its member"
            del table[action.slot]
            return
    table[action.slot] = slot


def let_time_pass(slots: list[SlotView]) -> list[SlotView]:
    """Let every member do its next step without a fault."""
    following = {
        State.PENDING: State.STARTING,
        State.STARTING: State.READY,
        State.SUSPECT: State.READY,
        State.DRAINING: State.STOPPING,
        State.STOPPING: None,
    }
    return [
        replace(
            slot,
            state=following.get(slot.state, slot.state) if slot.state is not None else None,
            fault=None if slot.state is State.STOPPING else slot.fault,
            leave_by=None if slot.state is State.STOPPING else slot.leave_by,
            lingers=False,
            outdated=slot.outdated and slot.state is not State.STOPPING,
        )
        for slot in slots
    ]
