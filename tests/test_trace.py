"""Where an error was raised, in words that go with it to another process."""

from __future__ import annotations

from dataclasses import dataclass

from pool.cluster.trace import trace_of, with_trace


@dataclass(frozen=True)
class Frozen(Exception):
    """Be an error that refuses notes, and all else that would change it."""

    code: int


def raised(error: Exception) -> Exception:
    try:
        raise error
    except Exception as caught:
        return caught


def test_an_error_says_where_it_was_raised() -> None:
    error = with_trace(raised(KeyError("weights.bin")), "p/0.1")
    assert isinstance(error, KeyError)
    assert "test_trace.py" in trace_of(error)
    assert error.__notes__[0].startswith("raised in p/0.1")


def test_an_error_that_refuses_notes_is_told_all_the_same() -> None:
    error = Frozen(3)
    assert with_trace(error, "p/0.1") is error
    assert "Frozen" in trace_of(error)
