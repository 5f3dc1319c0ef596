"""Who can take a job now, by how much each has in flight.

Members stand in levels, one for each number of jobs in flight, so that the least loaded is found
in the time of as many steps as the bound, whatever the pool's size.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from itertools import islice

from pool.dispatch.job import Job
from pool.dispatch.target import Target

GLANCE = 4
"""Among how many of the least loaded the one is chosen that others send least to."""


class Post:
    """Hold what is known of one target.

    Attributes:
        target: Whom to call.
        load: Jobs that are in flight there.
        parked: Jobs that may go nowhere else, and wait for room.
        reserved: A job that is to have it alone, once it is idle.
        is_alone: Whether such a job is in flight there.
    """

    __slots__ = (
        "dead",
        "is_alone",
        "listed",
        "load",
        "parked",
        "refuses",
        "reserved",
        "target",
    )

    def __init__(self, target: Target) -> None:
        self.target = target
        self.load = 0
        self.parked: deque[Job] = deque()
        self.reserved: Job | None = None
        self.is_alone = False
        self.dead = False
        self.refuses = False
        self.listed = True

    @property
    def id(self) -> str:
        """The actor's id."""
        return self.target.actor.id

    @property
    def is_usable(self) -> bool:
        """Whether any job may be sent there, if there is room."""
        return self.serves and self.reserved is None and not self.is_alone

    @property
    def serves(self) -> bool:
        """Whether it takes work at all, as far as is known."""
        return self.listed and not self.dead and not self.refuses


class Roster:
    """Keep the posts of a dispatcher.

    Args:
        in_flight: How many jobs each may have at once.
    """

    def __init__(self, in_flight: int) -> None:
        self._in_flight = in_flight
        self._posts: dict[str, Post] = {}
        self._levels: list[dict[str, Post]] = [{} for _ in range(in_flight + 1)]
        self.listed = 0

    def update(self, targets: Iterable[Target]) -> list[Job]:
        """Take over who serves now; whoever refused work is asked again.

        Returns:
            The jobs that waited for somebody who left.
        """
        current = {target.actor.id: target for target in targets}
        stranded: list[Job] = []
        for post in list(self._posts.values()):
            self._levels[post.load].pop(post.id, None)
            post.listed = post.id in current
            post.refuses = False
            if not post.listed or post.dead:
                stranded += self.strand(post)
            if not post.listed and not post.load:
                del self._posts[post.id]
        for key, target in current.items():
            if key not in self._posts:
                self._posts[key] = Post(target)
        self.listed = len(current)
        for post in self._posts.values():
            self.place(post)
        return stranded

    def strand(self, post: Post) -> list[Job]:
        """Take from a post the jobs that wait for it."""
        jobs = list(post.parked)
        post.parked.clear()
        if post.reserved is not None:
            jobs.append(post.reserved)
            post.reserved = None
        return jobs

    def place(self, post: Post) -> None:
        """Put a post where it belongs, after something about it has changed."""
        if post.is_usable:
            self._levels[post.load][post.id] = post
        else:
            self._levels[post.load].pop(post.id, None)

    def add(self, post: Post, jobs: int) -> None:
        """Count jobs that were sent, or, below 0, that came back."""
        self._levels[post.load].pop(post.id, None)
        post.load += jobs
        if not post.load and not post.listed:
            self._posts.pop(post.id, None)
        self.place(post)

    def get(self, key: str) -> Post | None:
        """Return a post that takes work, by its actor's id; None when it does not."""
        post = self._posts.get(key)
        return post if post is not None and post.serves else None

    def room(self, post: Post) -> int:
        """Return how many more jobs it may have."""
        return self._in_flight - post.load if post.is_usable else 0

    @property
    def parked(self) -> int:
        """How many jobs wait for one certain post each."""
        return sum(len(post.parked) for post in self._posts.values())

    def free(self, room: int = 1) -> Post | None:
        """Return the least loaded post that is idle, or has room for so many; None if none is."""
        for load in range(self._in_flight):
            level = self._levels[load]
            if level:
                if load and self._in_flight - load < room:
                    return None
                few = islice(level.values(), GLANCE)
                return min(few, key=lambda post: post.target.member.in_flight)
        return None

    def usable(self) -> Iterable[Post]:
        """Iterate over the usable posts, the least loaded first."""
        for level in self._levels:
            yield from list(level.values())

    def reserved(self) -> list[Post]:
        """List the posts that are kept for one job."""
        return [post for post in self._posts.values() if post.reserved is not None]
