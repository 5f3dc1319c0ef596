"""Draw pools as trees: pool, slot, member, node host, worker."""

from __future__ import annotations

from collections.abc import Iterator

from rich.text import Text
from rich.tree import Tree

from pool.cli.words import STATUS_STYLES, STYLES, amounts, count, duration, short
from pool.control.window import HostView, PoolView, hosts_of
from pool.manager.snapshot import MemberSnapshot, PoolSnapshot, SlotSnapshot
from pool.planning.budgets import SHARED, Budget
from pool.planning.lifecycle import State


def draw(view: PoolView, *, hosts: bool = True) -> Tree:
    """Draw a pool.

    Args:
        view: The pool.
        hosts: Whether to draw what is below its members.
    """
    tree = Tree(headline(view))
    for line in facts(view):
        tree.add(line)
    if view.snapshot is not None:
        for slot in view.snapshot.slots:
            branch = tree.add(slot_line(slot, since(view)))
            if slot.member is not None:
                _add_below(branch, slot.member, since(view), hosts)
    return tree


def headline(view: PoolView) -> Text:
    """Write a pool in one line."""
    text = Text(view.name, style="bold").append(f"  {view.status}", STATUS_STYLES[view.status])
    snapshot = view.snapshot
    if snapshot is None or view.picture is None:
        return text
    text.append(f"  {snapshot.ready} of {snapshot.desired} ready", "default")
    if snapshot.spares:
        text.append(f", {snapshot.spares_ready} of {snapshot.spares} spares", "default")
    if not snapshot.settled:
        text.append(", not settled", "yellow")
    return text.append(f"  shown {duration(view.age_s)} ago", "dim")


def facts(view: PoolView) -> Iterator[Text]:
    """Write what is known of a pool as a whole, a line each."""
    picture = view.picture
    if picture is None:
        yield Text("it shows nothing of itself", "dim")
        yield remains(view)
        return
    kind = f"{picture.kind}, instance {view.instance}, revision {picture.snapshot.revision}"
    yield Text(kind + (", detached" if picture.detached else ""), "dim")
    owner = picture.owner or "nobody: it waits for whoever attaches to it"
    yield Text(f"owner {owner}", "dim")
    if not view.can_be_asked or view.status == "owner silent":
        yield remains(view)
    if picture.snapshot.failed is not None:
        yield Text(f"failed: {picture.snapshot.failed}", "red")
    if picture.snapshot.roll:
        yield Text(f"roll {picture.snapshot.roll}", "yellow")
    if picture.snapshot.restarts:
        yield Text(f"failures: {failures(picture.snapshot)}", "yellow")


def remains(view: PoolView) -> Text:
    """Write what the cluster's tables hold of a pool."""
    keeper = ", and a keeper" if view.keeper else ""
    held = f"{count(len(view.actors), 'actor')}, {count(len(view.groups), 'placement group')}"
    return Text(f"in the cluster's tables: {held}{keeper}", "dim")


def failures(snapshot: PoolSnapshot) -> str:
    """Write which failures a pool remembers, and how much of its restart budgets they use up."""
    counted = ", ".join(f"{cause} {n}" for cause, n in sorted(snapshot.restarts.items()))
    used = ", ".join(_words(budget) for budget in snapshot.budgets if budget.used)
    return f"{counted}; restarts used: {used}" if used else counted


def _words(budget: Budget) -> str:
    """Write how much of a restart budget is used up: `2 of 5 in 10 min`."""
    whose = "" if budget.cause == SHARED else f"{budget.cause} "
    spent = "more than" if budget.used > budget.limit else f"{budget.used} of"
    return f"{whose}{spent} {budget.limit} in {duration(budget.period_s)}"


def since(view: PoolView) -> float:
    """Return the seconds by which what is shown has become older; none when nobody shows it."""
    return view.age_s if view.can_be_asked else 0.0


def slot_line(slot: SlotSnapshot, later_s: float = 0.0) -> Text:
    """Write a slot in one line: its rank or role, its member, and why it is as it is.

    Args:
        slot: The slot.
        later_s: How long ago that was.
    """
    what = f"rank {slot.rank}" if slot.rank is not None else str(slot.role)
    text = Text(f"{what}  slot {slot.index}  ")
    member = slot.member
    if member is None:
        text.append("no member", "yellow")
        return text.append(f"  {slot.reason}" if slot.reason else "")
    text.append(f"{member.state} {duration(member.age_s + later_s)}", STYLES[member.state])
    text.append(f"  {member.id}", "dim")
    if member.in_flight:
        text.append(f"  {member.in_flight} in flight")
    reason = "" if slot.reason == str(member.state) else slot.reason
    reason = reason or member.health or ("" if member.state is State.READY else member.why)
    return text.append(f"  {reason}") if reason else text


def member_notes(member: MemberSnapshot, later_s: float = 0.0) -> Iterator[Text]:
    """Write what an operator has to know of a member beyond its state, a line each."""
    for notice in member.notices:
        yield Text(f"notice: {notice.text}  {left(notice.left_s - later_s)}", "yellow")
    if member.ends_in_s is not None:
        yield Text(f"cut off; it ends by its lease, {left(member.ends_in_s - later_s)}", "yellow")


def left(seconds: float) -> str:
    """Write how much time is left."""
    if seconds == float("inf"):
        return "it may well stay"
    return f"{duration(seconds)} left" if seconds > 0 else f"{duration(-seconds)} over"


def host_line(host: HostView) -> Text:
    """Write a node host in one line."""
    where = f"{host.address}, node {short(host.node_id)}, pid {host.pid}"
    return Text(f"host {host.index}  ").append(amounts(host.bundle)).append(f"  {where}", "dim")


def host_notes(host: HostView) -> Iterator[Text]:
    """Write the workers of a node host, as far as they are known, a line each."""
    for rank in host.ranks:
        held = "; ".join(f"{name} {', '.join(ids)}" for name, ids in rank.devices.items())
        yield Text(f"rank actor {rank.rank}  ").append(f"{held}  pid {rank.pid}".strip(), "dim")
    for process in host.processes:
        ports = ", ".join(f"{name} on port {port}" for name, port in process.ports.items())
        text = Text(f"process {process.name}  ")
        text.append(f"{process.state}", STYLES[process.state])
        yield text.append(f"  pid {process.pid}  {ports}".rstrip(), "dim")


def _add_below(branch: Tree, member: MemberSnapshot, later_s: float, hosts: bool) -> None:
    for line in member_notes(member, later_s):
        branch.add(line)
    for host in hosts_of(member) if hosts else ():
        below = branch.add(host_line(host))
        for line in host_notes(host):
            below.add(line)
