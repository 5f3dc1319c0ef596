from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool.errors import InvalidTransition
from pool.planning.lifecycle import STORY_LENGTH, TRANSITIONS, Lifecycle, State


def test_every_state_has_its_row() -> None:
    assert set(TRANSITIONS) == set(State)


def test_every_state_but_the_last_leads_on_to_stopping_or_beyond() -> None:
    for state in State:
        follows = TRANSITIONS[state]
        assert state.is_terminal == (not follows)
        assert state.is_terminal or follows & {State.STOPPING, State.GONE}


def test_a_state_is_at_most_one_of_coming_up_and_leaving() -> None:
    for state in State:
        assert state.is_coming + state.is_up + state.is_leaving + state.is_terminal == 1
        assert not state.is_serving or state.is_up


@given(st.lists(st.sampled_from(list(State)), max_size=60))
def test_only_the_tables_edges_are_taken_and_an_illegal_one_tells_the_story(
    targets: list[State],
) -> None:
    life = Lifecycle("rollout/3.1", now=0.0)
    for at, target in enumerate(targets):
        before = life.state
        if target in TRANSITIONS[before]:
            step = life.advance(target, "because", float(at))
            assert (life.state, life.since) == (target, float(at))
            assert life.story[-1] == step
        else:
            with pytest.raises(InvalidTransition) as caught:
                life.advance(target, "because", float(at))
            assert life.state is before
            assert caught.value.story == tuple(str(step) for step in life.story)
            assert "rollout/3.1" in str(caught.value)
    assert len(life.story) <= STORY_LENGTH


def test_it_says_why_it_is_in_its_state() -> None:
    life = Lifecycle("a/0.1", now=0.0)
    assert life.why == ""
    life.advance(State.STARTING, "its reservation is ready", now=1.0)
    assert life.why == "its reservation is ready"
