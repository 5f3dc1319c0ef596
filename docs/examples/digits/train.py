"""Train a classifier of handwritten digits on several processes, and go on after being cut off.

This is plain PyTorch. It takes from its environment which process it is, as `torchrun` sets it:

    torchrun --nproc-per-node 2 train.py --folder checkpoints

What makes it resumable is little: after every epoch the first process puts the whole state into one
file, by a rename, so that there is always a complete one; everything that happens by chance is
drawn from the seed and the epoch; and a step is the same whatever number of processes shares it. So
a run may be cut off at any moment, and go on with more processes or fewer.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel

HELD_OUT = 360


@dataclass(frozen=True)
class Config:
    """Say what to train, and where its state is kept.

    Args:
        folder: Where the checkpoint is: one that every process can reach, on every node.
        epochs: How many times the data is gone through.
        batch: How many images a step takes, all processes together.
        rate: The learning rate.
        seed: From which everything is drawn that happens by chance.
    """

    folder: str
    epochs: int = 30
    batch: int = 64
    rate: float = 2e-3
    seed: int = 0

    @property
    def checkpoint(self) -> Path:
        return Path(self.folder) / "digits.pt"


class Trainer:
    """Be one process of the training."""

    def __init__(self, config: Config) -> None:
        dist.init_process_group("gloo")
        self.config = config
        self.rank, self.world = dist.get_rank(), dist.get_world_size()
        self.images, self.labels = load_data(config.seed)
        torch.manual_seed(config.seed)
        self.net = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
        self.model = DistributedDataParallel(self.net)
        self.optimizer = torch.optim.Adam(self.net.parameters(), lr=config.rate)
        self.history: list[dict[str, Any]] = []

    def train(self) -> dict[str, Any]:
        """Train from the last checkpoint to the last epoch, and return what came of it."""
        self.resume()
        resumed_at = len(self.history)
        for epoch in range(resumed_at, self.config.epochs):
            loss = self.one_epoch(epoch)
            self.history.append({"epoch": epoch, "loss": loss, "world": self.world})
            self.save()
        return {
            "rank": self.rank,
            "world": self.world,
            "resumed_at": resumed_at,
            "history": self.history,
            "accuracy": self.accuracy(),
            "weights": digest(self.net),
        }

    def one_epoch(self, epoch: int) -> float:
        """Go through the data once, and return the mean loss."""
        size = self.config.batch
        chance = torch.Generator().manual_seed(self.config.seed * 1_000_003 + epoch)
        order = torch.randperm(len(self.labels) - HELD_OUT, generator=chance) + HELD_OUT
        total = torch.zeros(())
        batches = order[: len(order) // size * size].view(-1, size)
        for batch in batches:
            mine = batch[self.rank :: self.world]
            scores = self.model(self.images[mine])
            loss = cross_entropy(scores, self.labels[mine], reduction="sum") / size
            self.optimizer.zero_grad()
            # Gradients are averaged over the processes; their sum is that of the whole batch.
            (loss * self.world).backward()
            self.optimizer.step()
            total += loss.detach()
        dist.all_reduce(total)
        return total.item() / len(batches)

    @torch.no_grad()
    def accuracy(self) -> float:
        """Return the share of the held-out images that are recognised."""
        mine = slice(self.rank, HELD_OUT, self.world)
        right = (self.net(self.images[mine]).argmax(1) == self.labels[mine]).sum()
        dist.all_reduce(right)
        return float(right) / HELD_OUT

    def save(self) -> None:
        """Put the state where the next run finds it: all of it or, when cut off, that of before."""
        if self.rank == 0:
            path = self.config.checkpoint
            path.parent.mkdir(parents=True, exist_ok=True)
            beside = path.with_name(f"{path.name}.{os.getpid()}")
            with beside.open("wb") as file:
                torch.save(
                    {
                        "model": self.net.state_dict(),
                        "optimizer": self.optimizer.state_dict(),
                        "history": self.history,
                    },
                    file,
                )
                file.flush()
                os.fsync(file.fileno())
            beside.replace(path)

    def resume(self) -> None:
        """Take over the state of the last checkpoint: what the first process finds, all take."""
        found: list[Any] = [None]
        if self.rank == 0 and self.config.checkpoint.exists():
            found = [torch.load(self.config.checkpoint, weights_only=True)]
        dist.broadcast_object_list(found)
        if (state := found[0]) is not None:
            self.net.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.history = state["history"]

    def shutdown(self) -> None:
        """Leave the group."""
        dist.destroy_process_group()


def load_data(seed: int) -> tuple[Tensor, Tensor]:
    """Return 1797 images of 8 × 8 pixels, and the digits they show; the first are held out."""
    images, labels = load_digits(return_X_y=True)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    return torch.tensor(images / 16, dtype=torch.float32)[order], torch.tensor(labels)[order]


def digest(net: nn.Module) -> str:
    """Return a word that is the same for the same weights, to the last bit."""
    sums = hashlib.sha256()
    for weights in net.state_dict().values():
        sums.update(weights.numpy().tobytes())
    return sums.hexdigest()[:16]


def main(kind: type[Trainer] = Trainer) -> None:
    """Train as one process of `torchrun`."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    for field in dataclasses.fields(Config):
        read = {"str": str, "int": int, "float": float}[str(field.type)]
        is_needed = field.default is dataclasses.MISSING
        default = None if is_needed else field.default
        parser.add_argument(f"--{field.name}", type=read, required=is_needed, default=default)
    trainer = kind(Config(**vars(parser.parse_args())))
    try:
        result = trainer.train()
        if trainer.rank == 0:
            print(json.dumps(result))
    finally:
        trainer.shutdown()


if __name__ == "__main__":
    main()
