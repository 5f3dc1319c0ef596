"""A hook that could not be called is refused where its class is made."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest

import pool


async def kill_async(self: Any, actor: Any, info: Any) -> None: ...


def kill_short(self: Any, actor: Any) -> None: ...


def kill_yielding(self: Any, actor: Any, info: Any) -> Any:
    yield


def kill_more(self: Any, actor: Any, info: Any, signal: int) -> None: ...


def check_plain(self: Any, sizes: Any) -> Any:
    return sizes


async def check_yielding(self: Any, sizes: Any) -> Any:
    yield sizes


async def notices_async(self: Any, identity: Any, notices: Any) -> bool:
    return True


@pytest.mark.parametrize("base", [pool.ReplicaPool, pool.ResourcePoolManager])
@pytest.mark.parametrize(
    ("name", "hook", "says"),
    [
        ("kill_member", kill_async, "is not awaited"),
        ("kill_member", kill_short, "is called as kill_member(actor, info): too many"),
        ("kill_member", kill_more, "missing a required argument: 'signal'"),
        ("kill_member", kill_yielding, "holds a `yield`"),
        ("kill_member", None, "is None; give a method"),
        ("kill_member", staticmethod(kill_async), "called as kill_member(actor, info)"),
        ("check_size", check_plain, "write `async def`"),
        ("check_size", check_yielding, "write `async def`"),
        ("take_notices", notices_async, "is not awaited"),
    ],
)
def test_a_hook_that_cannot_be_called_is_refused(
    base: type, name: str, hook: Any, says: str
) -> None:
    with pytest.raises(pool.ConfigError) as told:
        type("Mine", (base,), {name: hook})
    assert says in str(told.value)
    assert str(told.value).startswith(f"Mine.{name}")
    assert told.value.field == name


def test_one_that_a_mixin_brings_is_refused_as_well() -> None:
    mixin = type("Mixin", (), {"kill_member": kill_async})
    with pytest.raises(pool.ConfigError, match=r"Mine\.kill_member.* is not awaited"):
        type("Mine", (mixin, pool.ReplicaPool), {})


def traced(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any, **options: Any) -> Any:
        return function(*args, **options)

    return wrapper


def test_hooks_that_can_be_called_are_taken_however_they_are_written() -> None:
    class Fine(pool.ReplicaPool):
        @traced
        async def check_size(self, sizes: tuple[int, ...]) -> tuple[int, ...]:
            return await super().check_size(sizes)

        def kill_member(self, actor: Any, info: Any, loudly: bool = False) -> None:
            super().kill_member(actor, info)

        @staticmethod
        def show_info(info: Any) -> dict[str, Any]:  # pyright: ignore[reportIncompatibleMethodOverride]
            return {}

        def _reserve(self) -> None: ...

    class Finer(Fine):
        on_pool_failed = functools.partialmethod(print)  # pyright: ignore[reportAssignmentType]

    assert Finer.check_size is Fine.check_size
