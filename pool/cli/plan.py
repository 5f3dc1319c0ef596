"""`pool plan`: would so many replicas of a shape fit, and how."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pool.cli.running import Address, AsJson, guarded
from pool.cli.voice import Voice

if TYPE_CHECKING:
    from pool.planning.packing import Packing
    from pool.planning.shape import BundlePlan, ReplicaShape
    from pool.planning.topology import Topology


def plan(
    devices: Annotated[int, typer.Option(min=0, help="Accelerators of one replica.")] = 0,
    replicas: Annotated[int, typer.Option(min=1, help="How many replicas.")] = 1,
    device: Annotated[str, typer.Option(help="Ray's name of the accelerator.")] = "GPU",
    cpus_per_device: Annotated[float, typer.Option(min=0, help="CPUs for each of them.")] = 1.0,
    cpus: Annotated[float | None, typer.Option(min=0, help="CPUs of one replica in all.")] = None,
    memory_gib: Annotated[
        float | None, typer.Option(min=0, help="Memory of one replica in all, in GiB.")
    ] = None,
    min_nodes: Annotated[int, typer.Option(min=1, help="At least so many nodes for one.")] = 1,
    max_nodes: Annotated[int | None, typer.Option(min=1, help="At most so many for one.")] = None,
    accelerator_type: Annotated[
        str | None, typer.Option(help="Only nodes with accelerators of this type.")
    ] = None,
    label: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="Only nodes with this label. May be given again."),
    ] = None,
    exclude_head: Annotated[
        bool, typer.Option("--exclude-head", help="Leave the head node out.")
    ] = False,
    topology: Annotated[
        Path | None,
        typer.Option(help="Take the nodes from this file, and look at no cluster.", dir_okay=False),
    ] = None,
    save_topology: Annotated[
        Path | None, typer.Option(help="Write the cluster's nodes to this file.", dir_okay=False)
    ] = None,
    address: Address = None,
    as_json: AsJson = False,
) -> None:
    """Say whether so many replicas of a shape fit a cluster, on which nodes, or why they do not.

    Nothing is created. It ends with 0 when all fit what is free, and with 1 when they do not.
    """
    import anyio

    voice = Voice(as_json=as_json)

    async def main() -> None:
        from pool.planning.resources import gib
        from pool.planning.shape import ReplicaShape
        from pool.planning.topology import NodeSelector

        shape = ReplicaShape(
            devices=devices,
            device=device,
            cpus_per_device=cpus_per_device,
            cpus=cpus,
            memory_bytes=None if memory_gib is None else gib(memory_gib),
            min_nodes=min_nodes,
            max_nodes=max_nodes,
            selector=NodeSelector(
                exclude_head=exclude_head,
                labels=_labels(label or []),
                accelerator_type=accelerator_type,
            ),
        )
        if topology is not None:
            nodes = read_topology(topology)
        else:
            from pool.cluster.connect import observe

            nodes = await observe(address).topology()
        if save_topology is not None:
            write_topology(save_topology, nodes)
        show_plan(voice, shape, replicas, nodes)

    code = guarded(lambda: anyio.run(main), voice)
    if code:
        raise typer.Exit(code)


def show_plan(voice: Voice, shape: ReplicaShape, replicas: int, topology: Topology) -> None:
    """Say whether so many replicas fit the nodes.

    Raises:
        Stop: They do not.
        InfeasibleError: Not even one ever could.
    """
    from pool.cli.exits import Exit, Stop
    from pool.cli.words import count
    from pool.planning.packing import Fits, pack_equal
    from pool.planning.placement import Separate

    placement = Separate()
    bundles = placement.next_plan(shape, topology)
    verdict = pack_equal("replica {}".format, bundles, replicas, topology)
    most = placement.capacity(shape, replicas, topology)
    if voice.as_json:
        voice.document(
            verdict=_name(verdict),
            reason=verdict.reason,
            strategy=bundles.strategy,
            bundles=[dict(bundle) for bundle in bundles.bundles],
            assignment=getattr(verdict, "assignment", {}),
            blocked=getattr(verdict, "blocked", {}),
            by_totals=most.replicas,
        )
    else:
        _say(voice, bundles, verdict, topology)
    if not isinstance(verdict, Fits):
        raise Stop(
            Exit.FAILED,
            f"{count(replicas, 'replica')} cannot be placed on what is free; "
            f"empty nodes would hold {most.replicas}.",
        )


def _name(verdict: Packing) -> str:
    from pool.planning.packing import Fits, Never, NotNow

    names = {Fits: "fits", NotNow: "not now", Never: "never"}
    return names.get(type(verdict), "not found")


def _say(voice: Voice, plan: BundlePlan, verdict: Packing, topology: Topology) -> None:
    from pool.cli.words import amounts

    each = "; ".join(amounts(bundle) for bundle in plan.bundles[:1])
    count = len(plan.bundles)
    shape = f"{each} on one node" if count == 1 else f"{count} nodes, {each} on each"
    voice.show(f"one replica: {shape} ({plan.strategy}: {plan.reason})")
    names = {node.node_id: f"{node.address} ({node.name})" for node in topology.nodes}
    for key, nodes in getattr(verdict, "assignment", {}).items():
        voice.show(f"{key}: {', '.join(names[node] for node in nodes)}")
    for why in getattr(verdict, "blocked", {}).values():
        voice.show(f"no place for {why}")
    if _name(verdict) == "fits":
        voice.show(f"all fit: {verdict.reason}")


def _labels(given: list[str]) -> dict[str, str]:
    labels = {}
    for each in given:
        key, equals, value = each.partition("=")
        if not (key and equals and value):
            raise typer.BadParameter(f"a label is {each!r}; give KEY=VALUE")
        labels[key] = value
    return labels


def read_topology(path: Path) -> Topology:
    """Read nodes from a file, as `docs/reference/cli-json.md` describes it.

    Raises:
        ConfigError: It cannot be read, or holds something else.
    """
    from pool.errors import ConfigError
    from pool.planning.topology import Topology

    try:
        document = json.loads(path.read_text())
        nodes = document["nodes"]
        return Topology(tuple(_node(node) for node in nodes))
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        why = str(error) if isinstance(error, OSError | ValueError) else repr(error)
        raise ConfigError(
            f'{path} holds no nodes: {why}; give {{"nodes": [{{"node_id": …, "address": …, '
            '"total": {"GPU": 8, "CPU": 96}}]}',
            "topology",
        ) from error


def _node(given: dict[str, Any]) -> Any:
    from pool.planning.resources import Resources
    from pool.planning.topology import Node

    total = Resources(given["total"])
    return Node(
        node_id=given["node_id"],
        address=given.get("address", given["node_id"]),
        total=total,
        available=Resources(given["available"]) if "available" in given else total,
        labels=dict(given.get("labels", {})),
        is_head=bool(given.get("is_head", False)),
        draining=bool(given.get("draining", False)),
        held_by={who: Resources(held) for who, held in given.get("held_by", {}).items()},
    )


def write_topology(path: Path, topology: Topology) -> None:
    """Write nodes to a file that `read_topology` reads."""
    from pool.cli.voice import VERSION
    from pool.window.codec import to_json

    nodes = [to_json(node) for node in topology.nodes]
    path.write_text(json.dumps({"version": VERSION, "nodes": nodes}, indent=1) + "\n")
