"""Run a Ray cluster as one job of Slurm: `pool slurm render | submit | status | attach | logs`.

The batch script has one `srun` on all nodes; each task is `python -m pool.slurm.node`, and all that
can be decided is decided there, in Python that is tested:

- pure: `job` (the configuration), `script` (the batch script), `roles` (who is the head), `ports`,
  `deadlines` and `judge` (what may take how long, and what follows), `standing` (how everybody is),
  `course` (how the job goes), `bulletin` (what is published of both), `environment`, `wire`
- acting: `node` (the program on each node), `head` and `worker` (its two roles), `rollcall` (their
  line), `reception` (the head's end of it), `board` (what the head makes known), `work` (Ray and
  services on a node), `driver`, `home` (the node's own folder), `files`
- outside the job: `submit` and `status`

It does not import Ray: Ray's processes are children like any others (`pool.process`).

How nodes hear of each other: each node program keeps one connection to the head's, the *roll call*.
Whoever ends closes its connection, so a death is news at once, whatever the cause, and so is the
end of the job. A shared file system tells nothing by itself, has to be polled, and may lag by half
a minute; Slurm knows as much as we do only through calls to its controller, which every node of
every job would make. What goes through the shared directory is what has to: where the head is, and
the proof that the directory is shared.
"""

from __future__ import annotations

from pool.slurm.deadlines import Deadlines
from pool.slurm.job import Service, SlurmJob
from pool.slurm.ports import Ports

__all__ = ["Deadlines", "Ports", "Service", "SlurmJob"]
