"""The environment variables by which the processes of a job find each other.

Addresses are those of the hosts that are meant, and ports are leased on those hosts until the call
that they are for is over, so that two jobs on one node never get the same one (INV-12).

- `torch()`: what `torch.distributed` reads.
- `jax()`: where JAX's coordinator is; `jax_arguments()` makes arguments of it.
- `tpu_multislice()`: what several TPU slices need to work as one.

Others are subclasses of `Rendezvous`.
"""

from pool.rendezvous.base import Place, Rendezvous, Scope
from pool.rendezvous.jax import jax, jax_arguments
from pool.rendezvous.ports import PortBook
from pool.rendezvous.torch import torch
from pool.rendezvous.tpu import tpu_multislice

__all__ = [
    "Place",
    "PortBook",
    "Rendezvous",
    "Scope",
    "jax",
    "jax_arguments",
    "torch",
    "tpu_multislice",
]
