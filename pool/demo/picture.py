"""The living tree: slots, their members, their hosts. Drawn from a snapshot and nothing else."""

from __future__ import annotations

from rich.text import Text
from rich.tree import Tree

import pool
from pool.planning.plan import Role

_STYLES = {
    pool.State.PENDING: "dim",
    pool.State.STARTING: "cyan",
    pool.State.READY: "green",
    pool.State.SUSPECT: "yellow",
    pool.State.DRAINING: "yellow",
    pool.State.STOPPING: "red",
    pool.State.GONE: "dim",
}
NODE_ID_LENGTH = 6


def draw(snapshot: pool.PoolSnapshot) -> Tree:
    """Draw a pool."""
    style = "red" if snapshot.failed else "green" if snapshot.settled else "yellow"
    head = Text.assemble(
        ("pool ", "bold"),
        (snapshot.name, "bold"),
        (f"  {snapshot.ready} of {snapshot.desired} ready", style),
    )
    tree = Tree(head, guide_style="dim")
    for slot in sorted(snapshot.slots, key=lambda slot: slot.index):
        _draw_slot(tree, slot)
    return tree


def _draw_slot(tree: Tree, slot: pool.SlotSnapshot) -> None:
    name = f"slot {slot.index}"
    place = str(slot.role) if slot.role is not Role.HOLDER else f"rank {slot.rank}"
    member = slot.member
    label = Text.assemble((name, "bold"), f"  {place:<11} ")
    if member is None:
        label.append("empty", "dim")
    else:
        label.append(f"generation {member.generation}  ")
        label.append(f"{member.state:<8}", _STYLES[member.state])
        label.append(f" {member.age_s:5.1f} s", "dim")
    branch = tree.add(label)
    if slot.reason:
        branch.add(Text(slot.reason, "dim", no_wrap=True, overflow="ellipsis"))
    if member is not None:
        _draw_member(branch, member)


def _draw_member(branch: Tree, member: pool.MemberSnapshot) -> None:
    for notice in member.notices:
        branch.add(Text(f"{notice.text} ({notice.left_s:.0f} s left)", "yellow", no_wrap=True))
    if member.info is None:
        for index, node in enumerate(member.nodes):
            branch.add(Text(f"host {index}  node {node[:NODE_ID_LENGTH]}", "dim"))
        return
    for host in member.info.hosts:
        label = Text(f"host {host.index}  node {host.node_id[:NODE_ID_LENGTH]}  pid {host.pid:<7}")
        label.append(f" {dict(host.bundle).get('GPU', 0):g} GPU", "dim")
        branch.add(label)
