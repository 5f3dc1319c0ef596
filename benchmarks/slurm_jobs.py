"""The three ways to bring Ray up on Slurm that `benchmarks.slurm` measures, as jobs.

Each runs the same driver once all nodes have joined, with the same resources. `symmetric-run` calls
`ray stop` at its end, which ends every Ray that it can see: on a node of the lab it sees only that
node's.
"""

from __future__ import annotations

import json
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

CPUS = 2
STORE = 100 * 1024 * 1024
PORT = 6380

DRIVER = """\
import json, os, sys, time
began = time.time()
alive = None
if sys.argv[2] == "ray":
    import ray
    ray.init(address=os.environ.get("RAY_ADDRESS", sys.argv[3]), log_to_driver=False)
    alive = sum(node["Alive"] for node in ray.nodes())
    ray.shutdown()
with open(sys.argv[1], "w") as out:
    json.dump({"began": began, "alive": alive, "ended": time.time()}, out)
"""

_HEADER = """\
#!/bin/bash
#SBATCH --nodes={nodes}
#SBATCH --ntasks-per-node=1
#SBATCH --output={folder}/plain-%j.out
set -euo pipefail
"""

# What one writes by hand. The head and the workers are two steps; a node that has joined leaves a
# file, and the driver starts when all are there.
_PLAIN = """\
head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
address=$(getent hosts "$head" | cut -d' ' -f1)
mkdir -p {folder}/ready-$SLURM_JOB_ID
export address head
srun --nodes=$((SLURM_NNODES - 1)) --ntasks=$((SLURM_NNODES - 1)) --exclude="$head" \\
    --wait=0 bash -c 'own=$(hostname -I | cut -d" " -f1)
until (: <"/dev/tcp/$address/{port}") 2>/dev/null; do sleep 0.2; done
{ray} start --address="$address:{port}" --node-ip-address="$own" {common}
touch {folder}/ready-$SLURM_JOB_ID/$SLURM_PROCID
exec sleep infinity' &
srun --nodes=1 --ntasks=1 --nodelist="$head" bash -c '
{ray} start --head --port={port} --node-ip-address="$address" --include-dashboard=false {common}
while [ $(ls {folder}/ready-$SLURM_JOB_ID | wc -l) -lt $((SLURM_JOB_NUM_NODES - 1)) ]
do sleep 0.2; done
{driver} "$address:{port}" >{folder}/driver.out 2>&1'
"""

# As Ray's documentation has it.
_SYMMETRIC = """\
head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
address=$(getent hosts "$head" | cut -d' ' -f1)
srun --nodes="$SLURM_JOB_NUM_NODES" --ntasks="$SLURM_JOB_NUM_NODES" {ray} symmetric-run \\
    --address="$address:{port}" --min-nodes="$SLURM_JOB_NUM_NODES" {common} -- \\
    {driver} "$address:{port}"
"""


@dataclass(frozen=True)
class Order:
    """What one job is to be.

    Args:
        nodes: How many.
        folder: Where it writes.
        python: The Python of the nodes, with `ray` beside it.
        is_real: Whether that is Ray, and not its stub.
    """

    nodes: int
    folder: Path
    python: Path
    is_real: bool

    @property
    def driver(self) -> list[str]:
        """The driver's command."""
        kind = "ray" if self.is_real else "stub"
        script, said = self.folder / "driver.py", self.folder / "driver.json"
        return [sys.executable, str(script), str(said), kind]

    def write_driver(self) -> None:
        """Write the driver's script, and forget what it said before."""
        (self.folder / "driver.py").write_text(DRIVER)
        (self.folder / "driver.json").unlink(missing_ok=True)

    def plain(self) -> str:
        """Return a script with two steps."""
        return self._filled(_HEADER + _PLAIN, f"--temp-dir=/tmp/ray-plain {self._resources}")

    def symmetric(self) -> str:
        """Return the script for `ray symmetric-run`."""
        return self._filled(_HEADER + _SYMMETRIC, self._resources)

    def ours(self) -> str:
        """Return the job file of `pool slurm`, in TOML."""
        lines = {
            "name": "ours",
            "nodes": self.nodes,
            "directory": str(self.folder / "ours"),
            "python": str(self.python),
            "command": [*self.driver, "auto"],
            "cpus": CPUS,
            "object_store_bytes": STORE,
            "include_dashboard": False,
        }
        # TOML's strings, numbers and lists are JSON's.
        return "".join(f"{name} = {json.dumps(value)}\n" for name, value in lines.items())

    @property
    def _resources(self) -> str:
        return f"--num-cpus={CPUS} --object-store-memory={STORE} --disable-usage-stats"

    def _filled(self, text: str, common: str) -> str:
        return text.format(
            nodes=self.nodes,
            folder=self.folder,
            ray=self.python.with_name("ray"),
            port=PORT,
            common=common,
            driver=shlex.join(self.driver),
        )
