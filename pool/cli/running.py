"""Run a command: the options that all share, and how errors end."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated

import typer

from pool.cli.exits import Exit, Stop
from pool.cli.voice import Voice

if TYPE_CHECKING:
    from pool.cluster.interface import Observer

Address = Annotated[
    str | None,
    typer.Option(
        "--address",
        metavar="HOST:PORT",
        help="Where the cluster's GCS is. By default RAY_ADDRESS, or the cluster on this machine.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do it without asking.")]
NoWait = Annotated[
    bool, typer.Option("--no-wait", help="Return when the owner has taken it, not when it is done.")
]
Timeout = Annotated[
    float | None,
    typer.Option("--timeout", min=0, metavar="SECONDS", help="Wait no longer than this."),
]
Pool = Annotated[str, typer.Argument(metavar="POOL", help="The pool's name.")]
Target = Annotated[
    str,
    typer.Argument(metavar="POOL[/SLOT]", help="The pool's name, or it with the index of a slot."),
]


def run(
    address: str | None, voice: Voice, command: Callable[[Observer], Awaitable[object]]
) -> None:
    """Look at the cluster, run a command, and end with its exit code."""
    import anyio

    async def main() -> None:
        from pool.cluster.connect import observe

        await command(observe(address))

    code = guarded(lambda: anyio.run(main), voice)
    if code:
        raise typer.Exit(code)


def guarded(work: Callable[[], object], voice: Voice) -> int:
    """Do something, and return the exit code for how it went; what went wrong is said."""
    try:
        work()
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except BrokenPipeError:
        # Whoever read the output, such as `head`, has enough. Python must not try again at exit.
        sys.stdout = None
        return Exit.DONE
    except BaseExceptionGroup as group:
        return _ended(_first(group), voice)
    except Exception as error:
        return _ended(error, voice)
    return Exit.DONE


def _ended(error: BaseException, voice: Voice) -> int:
    if isinstance(error, KeyboardInterrupt):
        return Exit.INTERRUPTED
    from pool import errors
    from pool.window.requests import Refused

    codes: tuple[tuple[type[BaseException], Exit], ...] = (
        (Refused, Exit.FAILED),
        (errors.PoolUnknown, Exit.UNKNOWN),
        (errors.PoolHeld, Exit.FAILED),
        (errors.CallTimeout, Exit.NO_OWNER),
        (errors.PoolClosed, Exit.NO_OWNER),
        (errors.SourceUnavailable, Exit.UNREACHABLE),
        (errors.PoolError, Exit.FAILED),
    )
    if isinstance(error, Stop):
        code, text = error.code, error.text
    elif isinstance(error, errors.ConfigError):
        is_address = error.field == "address"
        code, text = (Exit.UNREACHABLE if is_address else Exit.USAGE), str(error)
    else:
        found = next((code for kind, code in codes if isinstance(error, kind)), None)
        if found is None:
            raise error  # A bug: its traceback is what is wanted.
        code, text = found, str(error)
    if voice.as_json:
        voice.document(error={"code": int(code), "kind": type(error).__name__, "text": text})
    voice.tell(f"pool: {text}")
    return code


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
