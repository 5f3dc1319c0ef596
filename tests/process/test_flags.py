"""Flags of a command line: what is written is what argparse and the engines read."""

from __future__ import annotations

import argparse
import enum
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool.errors import ConfigError
from pool.process.flags import flags


class Precision(enum.Enum):
    HALF = "float16"


@pytest.mark.parametrize(
    ("settings", "written"),
    [
        ({"trust_remote_code": True}, ["--trust-remote-code"]),
        ({"enable_prefix_caching": False}, ["--no-enable-prefix-caching"]),
        ({"quantization": None}, []),
        ({"max_model_len": 4096, "seed": 0}, ["--max-model-len", "4096", "--seed", "0"]),
        ({"gpu_memory_utilization": 0.9}, ["--gpu-memory-utilization", "0.9"]),
        ({"dtype": "auto", "path": Path("/m")}, ["--dtype", "auto", "--path", "/m"]),
        ({"dtype": Precision.HALF}, ["--dtype", "float16"]),
        ({"offset": -1, "prefix": "--x"}, ["--offset=-1", "--prefix=--x"]),
        ({"sizes": [1, 2]}, ["--sizes", "[1, 2]"]),
        ({"sizes": ()}, ["--sizes", "[]"]),
        ({"config": {"level": 3, "deep": {"on": True}}}, [
            "--config", '{"level": 3, "deep": {"on": true}}'
        ]),
        ({"hf_overrides.max_len": 3}, ["--hf-overrides.max_len", "3"]),
    ],
)  # fmt: skip
def test_each_kind_of_value_has_its_spelling(settings: dict[str, Any], written: list[str]) -> None:
    assert flags(settings) == written


@pytest.mark.parametrize(
    ("settings", "field", "words"),
    [
        ({"gpus": {1, 2}}, "gpus", "a set; give"),
        ({"model": object()}, "model", "a object; give"),
        ({"raw": b"x"}, "raw", "a bytes; give"),
        ({"config": {"gpus": {1}}}, "config", "JSON has no word for"),
        ({"config": {1: 2}}, "config", "holds 1"),
        ({"config": [float("nan")]}, "config", "holds nan"),
        ({"--model": "x"}, "--model", "cannot be a flag"),
        ({"": 1}, "", "cannot be a flag"),
        ({"a_b": 1, "a-b": 2}, "a-b", "are both --a-b"),
        (["model"], "settings", "give a dict"),
    ],
)
def test_what_has_no_obvious_spelling_is_refused_by_its_name(
    settings: Any, field: str, words: str
) -> None:
    with pytest.raises(ConfigError, match=words) as refusal:
        flags(settings)
    assert refusal.value.field == field


texts = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"))
plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | texts
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner) | st.dictionaries(texts, inner),
    max_leaves=8,
)  # fmt: skip


@given(text=texts, number=st.integers(), share=st.floats(allow_nan=False), on=st.booleans())
def test_argparse_reads_back_what_was_written(
    text: str, number: int, share: float, on: bool
) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--some-text")
    parser.add_argument("--number", type=int)
    parser.add_argument("--share", type=float)
    parser.add_argument("--on", action=argparse.BooleanOptionalAction)
    settings = {"some_text": text, "number": number, "share": share, "on": on}
    assert vars(parser.parse_args(flags(settings))) == settings


@given(st.lists(plain) | st.dictionaries(texts, plain))
def test_json_is_read_back_as_it_was(value: Any) -> None:
    name, text = flags({"value": value})
    assert name == "--value"
    assert json.loads(text) == value
