"""What a function raises that would end its process is told, and ends nothing."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import pytest

import pool
from pool.host.labour import Failure, labour, staying


def interrupt(item: int) -> int:
    if item:
        raise KeyboardInterrupt
    return item


async def leave(item: int) -> int:
    return sys.exit(item) if item else item


def as_it_is(error: Exception) -> Exception:
    return error


@pytest.mark.parametrize("function", [interrupt, leave])
def test_a_job_that_would_end_the_process_fails_and_those_beside_it_are_done(function: Any) -> None:
    async def main() -> None:
        _, outcomes = await labour(function, [(0,), (1,), (0,)], asyncio.to_thread, as_it_is)
        assert [outcomes[0], outcomes[2]] == [0, 0]
        [failure] = [each for each in outcomes if isinstance(each, Failure)]
        assert isinstance(failure.error, pool.RemoteError)
        assert failure.error.kind in ("builtins.KeyboardInterrupt", "builtins.SystemExit")
        assert "its process goes on" in str(failure.error)
        assert function.__name__ in failure.trace

    asyncio.run(main())


def test_a_persons_own_interruption_is_one() -> None:
    with pytest.raises(KeyboardInterrupt), staying():
        raise KeyboardInterrupt
