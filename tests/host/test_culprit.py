"""Which part of a value cannot be pickled, by its name."""

from __future__ import annotations

import pickle
import threading
from dataclasses import dataclass, field
from typing import Any

import pytest

from pool.cluster.culprit import CHARACTERS, name_culprit
from pool.errors import ConfigError


class Model:
    """Hold a lock."""

    def __init__(self) -> None:
        self.lock = threading.Lock()


class Wordy:
    """Say all that it has when it is pickled."""

    def __reduce__(self) -> str:
        raise TypeError("x" * 11_000)


@dataclass
class Plan:
    """Be what is sent."""

    host_args: tuple[Any, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (Plan((1, "two")), ""),
        (Plan((1, Model())), "host_args[1], a Model, cannot be pickled: cannot pickle"),
        (Plan(options={"a": [1, Model()]}), "options['a'][1], a Model, cannot be pickled"),
        (Model(), "it, a Model, cannot be pickled: cannot pickle '_thread.lock' object"),
        ((Plan((lambda: 1,)),), "[0].host_args[0], a function, cannot be pickled"),
    ],
)
def test_the_innermost_part_that_has_a_name_is_told(value: Any, says: str) -> None:
    told = name_culprit(value, pickle.dumps)
    assert told.startswith(says)
    assert bool(told) == bool(says)


def test_what_a_pickler_shows_is_cut_short() -> None:
    assert len(name_culprit(Plan((Wordy(),)), pickle.dumps)) < CHARACTERS + 100


def test_a_value_that_holds_itself_ends() -> None:
    around: list[Any] = [threading.Lock()]
    around.insert(0, around)
    assert name_culprit(around, pickle.dumps).startswith("[0][1], a lock, cannot be pickled")


def test_where_the_cluster_pickles_the_first_cause_is_told() -> None:
    def freeze(value: Any) -> bytes:
        try:
            return pickle.dumps(value)
        except Exception as error:
            raise ConfigError("what is to be sent cannot be pickled; a function ...") from error

    assert name_culprit(Model(), freeze).endswith("cannot pickle '_thread.lock' object")
