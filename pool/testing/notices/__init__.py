"""Fakes of the services that give notices, on loopback, for tests without any cloud.

Each is modelled on the vendor's documents: paths, headers, codes, ETags, tokens, and how it fails.
Use one in a `with` block, give its `url` to a source, or to `pool.notices.detect`, and announce
what you like.
"""

from pool.testing.notices.aws import FakeAws as FakeAws
from pool.testing.notices.azure import FakeAzure as FakeAzure
from pool.testing.notices.gce import FakeGce as FakeGce
from pool.testing.notices.kubernetes import FakeKubernetes as FakeKubernetes
from pool.testing.notices.server import FakeService as FakeService
from pool.testing.notices.server import Question as Question
from pool.testing.notices.server import Said as Said
from pool.testing.notices.slurm import FakeSlurm as FakeSlurm

__all__ = [
    "FakeAws",
    "FakeAzure",
    "FakeGce",
    "FakeKubernetes",
    "FakeService",
    "FakeSlurm",
    "Question",
    "Said",
]
