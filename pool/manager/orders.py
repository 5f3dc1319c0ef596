"""What operators may ask of a pool through its window, and what is done then.

Each verb stands for a method that the pool's own program may call as well, and nothing more.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pool.errors import ConfigError
from pool.manager.events import EventKind
from pool.planning.rolling import RollPolicy
from pool.window.requests import Request, Verb

if TYPE_CHECKING:
    from pool.manager.manager import ResourcePoolManager


async def carry_out(pool: ResourcePoolManager[Any], request: Request) -> Any:
    """Do what was asked, and return what came of it.

    Raises:
        ConfigError: It is not understood.
        PoolError: What the method that it stands for raises.
    """
    args = request.args
    pool.emit(EventKind.POOL_ASKED, verb=str(request.verb), by=request.by, **args)
    match request.verb:
        case Verb.SCALE:
            return await pool.scale(_number(args, "size"), timeout_s=None)
        case Verb.DRAIN if args.get("slot") is None:
            return await pool.drain()
        case Verb.DRAIN:
            index = _number(args, "slot")
            pool.drain_slot(index, f"{request.by} asked for it")
            await pool.wait_drained(index)
            return None
        case Verb.ROLL:
            return await pool.roll(_policy(args))
        case Verb.ROLL_BACK:
            return await pool.roll_back(_policy(args))
        case Verb.PAUSE_ROLL:
            return pool.pause_roll()
        case Verb.RESUME_ROLL:
            return pool.resume_roll()
    raise ConfigError(f"pool {pool.name!r}, a {type(pool).__name__}, knows no {request.verb}")


def _number(args: Mapping[str, Any], name: str) -> int:
    value = args.get(name)
    if type(value) is not int or value < 0:
        raise ConfigError(f"{name} is {value!r}; give a whole number, 0 or more", name)
    return value


def _policy(args: Mapping[str, Any]) -> RollPolicy | None:
    if not {"surge", "max_unavailable"} & args.keys():
        return None
    surge, lacks = args.get("surge", 0), args.get("max_unavailable", 0)
    return RollPolicy(surge=surge, max_unavailable=lacks)
