"""Run the command line by `python -m pool.cli`."""

from pool.cli import main

main()
