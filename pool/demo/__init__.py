"""`pool demo`: a cluster on this machine, a real job, three faults, and a report that is checked.

A cluster of eight nodes with four logical GPUs each is started on this machine, and a pool of
replicas that span two nodes each is opened on it. Its job is to parse every module of the running
Python's standard library and to count functions, classes and lines per package. While it works the
pool grows, one of its node hosts is killed with `kill -9`, and one of its nodes gets a preemption
notice. What the demo claims at the end, it has checked; if one check fails it exits with 1.

This package's own module stays empty: the job is sent to the hosts by name, and they are not to
import a drawing library for it.

`pool demo --json` prints one JSON object on standard output:

- `schema`: 1. It rises when a field changes its meaning or goes away.
- `ok`: whether every check is.
- `error`: what ended the demo early, or null.
- `versions`: of `pool`, `python` and `ray`.
- `took_s`: seconds in `total`, and for `cluster` (until it was up), `pool` (from opening it until
  two replicas were ready), `map`, `close` (of the pool), `down` (of the cluster) and `serial` (one
  pass of the job by one thread). One that was not reached is missing.
- `job`: `passes` over the library, `items` sent, `results` received, and the counts of one pass:
  `total` and `packages` (by name), each with `files`, `unparsable`, `lines`, `functions`,
  `classes`.
- `steps`: one object for each thing done to the pool, in order:
  - `name` (`grow`, `kill`, `notice`) and `what`, in words;
  - `at_share`: the part of the planned job that was done by then;
  - `at`: when, in UNIX seconds; `detected_s`, `ready_s`: seconds from then until the pool knew, and
    until the pool was whole again; `left_s`: until nothing was left of the member that had to go;
    null where there is no such moment;
  - `results`: how many results of the job came from then until the pool was whole again;
  - `victims`: ids of the members that it was about; `untouched`: ids of those that had the same
    actor and processes before and after; `touched`: ids of those that should have, and had not.
- `checks`: a list of `name`, `ok`, and `detail`, in words.
- `left_behind`: lists of text, or null where nobody could look: `actors` and `placement_groups`
  when the pool was closed, `processes` of its members at that time, and `after_cluster`, processes
  of any kind when the cluster was gone, too.
"""
