"""Run the program of one page, the way a reader would who typed it into a file: as `__main__`.

A page may use `await` and `async with` outside of functions, as in `python -m asyncio`.

Usage: python run_page.py PAGE < PROGRAM
"""

from __future__ import annotations

import ast
import asyncio
import builtins
import inspect
import sys
import types


def main() -> None:
    [page] = sys.argv[1:]
    code = compile(sys.stdin.read(), page, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    # What a page defines must be pickled by value: it is in no module that a worker could import.
    module = types.ModuleType("__main__")
    vars(module)["__builtins__"] = builtins  # Every program has them, and Python 3.13 wants them.
    sys.modules["__main__"] = module
    run = types.FunctionType(code, vars(module))
    if code.co_flags & inspect.CO_COROUTINE:
        asyncio.run(run())
    else:
        run()


main()
