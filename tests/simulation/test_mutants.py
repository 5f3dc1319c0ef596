"""Deliberate bugs, each of which has to be caught: what shows that the invariants are looked at.

A mutant is a small change of the real manager. Seeds are played on it until one fails, for the
reason that it has to fail for; a mutant that survives all of them fails the test.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

import pool
from pool.cluster.interface import Fault, Reply, ReplyKind
from pool.manager import pulse, restarts, supervisor
from pool.manager.member import Incarnation
from pool.manager.supervisor import Supervisor
from pool.manager.vitals import Vitals
from pool.planning import reconcile as planner
from pool.planning.health import Verdict
from pool.planning.lifecycle import State
from pool.planning.plan import Action, Goal, Plan, Role, SlotView, Verb
from pool.planning.reconcile import reconcile
from pool.planning.restart import GiveUp, Restart, plan_restart
from pool.replica.host_pool import HostPool
from pool.testing import FaultPlan, SimulatedCluster
from pool.testing.room import Group
from pool.testing.virtual_time import Deadlock
from tests.simulation.scenario import FAULTS, play

SEEDS = 12
HOURS = 0.5

Mutate = Callable[[pytest.MonkeyPatch], None]


def drops_the_surge_bound(patch: pytest.MonkeyPatch) -> None:
    def mutant(slots: Sequence[SlotView], goal: Goal, now: float) -> Plan:
        return reconcile(slots, replace(goal, surge=goal.surge + 3), now)

    patch.setattr(supervisor, "reconcile", mutant)


def forgets_a_group_on_time_out(patch: pytest.MonkeyPatch) -> None:
    def forget(self: SimulatedCluster, group: Group, why: str) -> None:
        pass

    patch.setattr(SimulatedCluster, "_drop", forget)


def forgets_to_give_a_group_back(patch: pytest.MonkeyPatch) -> None:
    async def forget(self: pool.ReplicaPool, reservation: pool.Reservation) -> None:
        pass

    patch.setattr(pool.ReplicaPool, "release", forget)


def forgets_to_kill(patch: pytest.MonkeyPatch) -> None:
    def forget(self: pool.ReplicaPool, actor: pool.Actor, info: Any) -> None:
        pass

    async def keep(self: pool.ReplicaPool, reservation: pool.Reservation) -> None:
        pass

    patch.setattr(pool.ReplicaPool, "kill_member", forget)
    patch.setattr(pool.ReplicaPool, "release", keep)


def polls_whoever_drains(patch: pytest.MonkeyPatch) -> None:
    check = pool.ReplicaPool.check_members

    async def mutant(
        self: pool.ReplicaPool, actors: Sequence[pool.Actor], timeout_s: float
    ) -> list[Reply]:
        draining = [m for m in self._incarnations() if m.state is State.DRAINING]
        replies = await self.cluster.poll([m.actor for m in draining if m.actor], timeout_s)
        for member, reply in zip(draining, replies, strict=True):
            if reply.kind is ReplyKind.TIMEOUT:
                self._note_fault(member, Fault(pool.Cause.UNHEALTHY, "it is busy with its end"))
        return await check(self, actors, timeout_s)

    patch.setattr(pool.ReplicaPool, "check_members", mutant)


def forgets_the_ladder_before_a_deadline(patch: pytest.MonkeyPatch) -> None:
    def mutant(slots: Sequence[SlotView], goal: Goal, now: float) -> Plan:
        return reconcile(slots, replace(goal, ladder_s=0), now)

    patch.setattr(supervisor, "reconcile", mutant)


def never_gives_up(patch: pytest.MonkeyPatch) -> None:
    def mutant(policy: pool.RestartPolicy, *args: Any, **options: Any) -> Restart | GiveUp:
        # A gang goes on standing and falling together.
        return (
            Restart(options["now"], "why not")
            if policy.intensity
            else plan_restart(policy, *args, **options)
        )

    patch.setattr(restarts, "plan_restart", mutant)


def stops_a_neighbour_along(patch: pytest.MonkeyPatch) -> None:
    def mutant(slots: Sequence[SlotView], goal: Goal, now: float) -> Plan:
        plan = reconcile(slots, goal, now)
        stops = any(action.verb is Verb.STOP for action in plan.actions)
        named = {action.slot for action in plan.actions}
        for slot in slots:
            if stops and slot.state is State.READY and slot.index not in named:
                also = Action(verb=Verb.STOP, slot=slot.index, reason="its neighbour failed")
                return replace(plan, actions=(*plan.actions, also))
        return plan

    patch.setattr(supervisor, "reconcile", mutant)


def shuffles_ranks(patch: pytest.MonkeyPatch) -> None:
    def mutant(slots: Sequence[SlotView], goal: Goal, now: float) -> Plan:
        plan = reconcile(slots, goal, now)
        opened = [action for action in plan.actions if action.verb is Verb.OPEN]
        holders = [slot for slot in slots if slot.role is Role.HOLDER and slot.rank == 0]
        if opened and holders and opened[0].rank is not None:
            swap = Action(
                verb=Verb.RANK, slot=holders[0].index, rank=opened[0].rank, reason="a whim"
            )
            first = replace(opened[0], rank=0)
            rest = tuple(action for action in plan.actions if action is not opened[0])
            return replace(plan, actions=(swap, first, *rest))
        return plan

    patch.setattr(supervisor, "reconcile", mutant)


def holds_its_own_sleep_against_others(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(pulse, "LATE_SHARE", math.inf)


def takes_silence_for_illness(patch: pytest.MonkeyPatch) -> None:
    judge = pulse.Beat.judge

    def mutant(self: pulse.Beat, member: Incarnation[Any], reply: Reply) -> tuple[Verdict, str]:
        if reply.kind is ReplyKind.UNAVAILABLE:
            reply = Reply(ReplyKind.ERROR)
        return judge(self, member, reply)

    patch.setattr(pulse.Beat, "judge", mutant)


def sleeps_through_what_time_brings(patch: pytest.MonkeyPatch) -> None:
    def mutant(slots: Sequence[SlotView], goal: Goal, now: float) -> Plan:
        return replace(reconcile(slots, goal, now), wake_at=None)

    patch.setattr(supervisor, "reconcile", mutant)


def does_not_wait_for_who_is_cut_off(patch: pytest.MonkeyPatch) -> None:
    async def hurry(self: Supervisor[Any], slot: Any, member: Incarnation[Any]) -> None:
        pass

    patch.setattr(Supervisor, "_outlast", hurry)


def thinks_of_replicas_but_not_of_their_hosts(patch: pytest.MonkeyPatch) -> None:
    async def look(self: Supervisor[Any], member: Incarnation[Any]) -> Sequence[str]:
        assert member.actor is not None
        return await self.cluster.silent_nodes((), member.actor)

    patch.setattr(Supervisor, "_silent_nodes", look)


def renews_leases_with_polls_only(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Vitals, "_renew_leases", lambda self: None)


def grants_hosts_more_than_it_has(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(HostPool, "lease", Supervisor.lease)


def gives_a_spare_out_twice(patch: pytest.MonkeyPatch) -> None:
    find = planner._Draft._ready_spares
    patch.setattr(planner._Draft, "_ready_spares", lambda self: sorted(2 * find(self)))


def lets_a_spare_keep_its_rank(patch: pytest.MonkeyPatch) -> None:
    act = Supervisor._act

    def mutant(self: Supervisor[Any], action: Action) -> None:
        rank = self._slots[action.slot].rank if action.verb is Verb.SPARE else None
        act(self, action)
        if action.verb is Verb.SPARE:
            self._slots[action.slot].rank = rank

    patch.setattr(Supervisor, "_act", mutant)


def leaves_its_spares_idle(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(planner._Draft, "_promote_spares", lambda self: None)


def rolls_everybody_at_once(patch: pytest.MonkeyPatch) -> None:
    def mutant(slots: Sequence[SlotView], goal: Goal, now: float) -> Plan:
        if goal.roll is not None:
            goal = replace(goal, roll=replace(goal.roll, max_unavailable=100))
        return reconcile(slots, goal, now)

    patch.setattr(supervisor, "reconcile", mutant)


def counts_serials_by_slot(patch: pytest.MonkeyPatch) -> None:
    incarnate = Supervisor._incarnate

    def mutant(self: Supervisor[Any], slot: Any, reason: str) -> Incarnation[Any]:
        self._serial = slot.generation
        return incarnate(self, slot, reason)

    patch.setattr(Supervisor, "_incarnate", mutant)


SILENCES = FaultPlan(node_silences_per_h=3, node_silent_for_s=(1.0, 120.0))
SLOW_STARTS = FaultPlan(actor_start_s=(12.0, 24.0))

STANDSTILLS = FaultPlan(call_s=(0.1, 0.3), stalls_per_h=120, stall_s=(3.5, 6.0))
"""Long enough to outlast a poll by more than its share, with the member's answer on the way."""
NOTICES = FaultPlan(notices_per_h=3, notice_s=(40.0, 200.0))

DEAF_DRAINS = FaultPlan(
    notices_per_h=20,
    notice_s=(40.0, 90.0),
    node_return_s=(5.0, 20.0),
    drain_hangs=1.0,
    reply_lost=0.1,
)


@pytest.mark.parametrize(
    ("mutate", "caught_by", "faults", "options"),
    [
        (drops_the_surge_bound, "INV-2", NOTICES, {"surge": 0}),
        (forgets_a_group_on_time_out, "INV-[14]", FAULTS, {}),
        (forgets_to_give_a_group_back, "INV-[14]", FAULTS, {}),
        (forgets_to_kill, "INV-[14]", FAULTS, {}),
        (polls_whoever_drains, "judged while it drained", DEAF_DRAINS, {"surge": 0}),
        (forgets_the_ladder_before_a_deadline, "INV-7", NOTICES, {"surge": 0}),
        (never_gives_up, "INV-6", FAULTS, {"restart": pool.RestartPolicy(intensity=1)}),
        (stops_a_neighbour_along, "INV-3", FAULTS, {}),
        (shuffles_ranks, "INV-3", FAULTS, {}),
        (holds_its_own_sleep_against_others, "INV-9", STANDSTILLS, {}),
        (takes_silence_for_illness, "INV-9", FaultPlan(poll_unavailable=0.5), {"lease_s": 600.0}),
        (sleeps_through_what_time_brings, "INV-7", NOTICES, {"surge": 0}),
        (does_not_wait_for_who_is_cut_off, "INV-1: .* cut off", SILENCES, {}),
        (thinks_of_replicas_but_not_of_their_hosts, "INV-1: .* cut off", SILENCES, {}),
        (renews_leases_with_polls_only, "INV-17|INV-5", SLOW_STARTS, {"lease_s": 21.0}),
        (grants_hosts_more_than_it_has, "INV-17", SILENCES, {}),
        (gives_a_spare_out_twice, "INV-3", FAULTS, {"spares": 1}),
        (lets_a_spare_keep_its_rank, "INV-1[23]", FAULTS, {"spares": 1}),
        (leaves_its_spares_idle, "INV-14", FAULTS, {"spares": 1}),
        (rolls_everybody_at_once, "INV-15", FAULTS, {}),
        (counts_serials_by_slot, "INV-16", FAULTS, {}),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_a_manager_with_this_bug_is_caught(
    mutate: Mutate,
    caught_by: str,
    faults: FaultPlan,
    options: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mutate(monkeypatch)
    with pytest.raises((AssertionError, Deadlock), match=caught_by):
        play_all(faults, options)


def play_all(faults: FaultPlan, options: dict[str, Any]) -> None:
    for seed in range(SEEDS):
        play(seed, HOURS, faults=faults, **options)


@pytest.mark.parametrize("faults", [NOTICES, DEAF_DRAINS, SILENCES, SLOW_STARTS])
def test_the_manager_without_a_bug_is_not(faults: FaultPlan) -> None:
    seen = Counter[str]()
    for seed in range(3):
        seen.update(play(seed, HOURS, faults=faults).seen)
    if faults is SILENCES:
        # Rare states have to occur, or nothing is shown.
        assert seen["cut off"]
        assert seen["taken over"]
        assert seen["rolled"]
