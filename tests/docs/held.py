"""The training example, which waits before an epoch for as long as a file says so.

A program of its own too, for `torchrun`.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))  # What torchrun starts has no other way here.

from docs.examples.digits.train import Config, Trainer, main


class Held(Trainer):
    """Wait before an epoch, for as long as there is a file that names it."""

    def one_epoch(self, epoch: int) -> float:
        while is_held(self.config, epoch):
            time.sleep(0.02)
        return super().one_epoch(epoch)


def hold(config: Config) -> Path:
    """Return the file."""
    return config.checkpoint.with_name("hold")


def hold_at(config: Config, epoch: int) -> None:
    """Hold the training before this epoch, and before no other."""
    beside = hold(config).with_suffix(".new")
    beside.write_text(str(epoch))
    beside.replace(hold(config))


def is_held(config: Config, epoch: int) -> bool:
    """Return whether the training is to wait before this epoch."""
    try:
        return int(hold(config).read_text()) == epoch
    except FileNotFoundError:
        return False


if __name__ == "__main__":
    main(Held)
