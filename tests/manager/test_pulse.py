"""The polls' own clock: a loop that ran late changes no verdict (INV-9)."""

from __future__ import annotations

import anyio
import pytest

from pool.cluster.interface import Reply, ReplyKind
from pool.manager.pulse import Pulse
from pool.planning.health import HealthPolicy, Verdict
from pool.testing import run
from pool.testing.virtual_time import current_loop
from tests.manager.members import member

POLICY = HealthPolicy(period_s=5, timeout_s=2, failures=3, grace_s=0)


@pytest.mark.parametrize(
    ("took_s", "kind", "verdict"),
    [
        (0.0, ReplyKind.ANSWER, Verdict.HEALTHY),
        (0.0, ReplyKind.ERROR, Verdict.SUSPECT),
        (2.0, ReplyKind.TIMEOUT, Verdict.SUSPECT),
        (0.0, ReplyKind.UNAVAILABLE, Verdict.UNCHANGED),
        # Our own loop was away for longer than half of the member's time.
        (3.5, ReplyKind.TIMEOUT, Verdict.UNCHANGED),
        # A clear word counts, however late we heard it.
        (3.5, ReplyKind.ERROR, Verdict.SUSPECT),
        (3.5, ReplyKind.ANSWER, Verdict.HEALTHY),
    ],
)
def test_a_missing_answer_counts_only_when_we_listened(
    took_s: float, kind: ReplyKind, verdict: Verdict
) -> None:
    async def main() -> Verdict:
        pulse = Pulse(POLICY)
        with pulse.beat() as beat:
            await anyio.sleep(took_s)
        beat.bear_witness()
        return beat.judge(member(), Reply(kind, detail="seen"))[0]

    assert run(main) is verdict


@pytest.mark.parametrize("kind", [ReplyKind.TIMEOUT, ReplyKind.UNREACHABLE])
def test_silence_counts_when_somebody_answers_and_proves_nothing_when_nobody_does(
    kind: ReplyKind,
) -> None:
    """It may be we who are cut off; then another witness is asked for."""
    silence, answer = Reply(kind), Reply(ReplyKind.ANSWER)

    async def main() -> None:
        pulse = Pulse(POLICY)
        with pulse.beat() as beat:
            pass
        assert beat.hear([silence, silence])
        assert beat.judge(member(), silence)[0] is Verdict.UNCHANGED
        beat.bear_witness()
        assert beat.judge(member(), silence)[0] is Verdict.SUSPECT
        assert not beat.hear([silence, answer])
        assert beat.judge(member(), silence)[0] is Verdict.SUSPECT

    run(main)


def test_a_beat_after_a_late_awakening_proves_nothing_and_the_next_does() -> None:
    async def main() -> list[Verdict]:
        pulse, one = Pulse(POLICY), member()
        verdicts = []
        for late_s in (0.0, 4.0, 0.0, 0.0):
            with pulse.beat() as beat:
                await anyio.sleep(2)
            beat.bear_witness()
            verdicts.append(beat.judge(one, Reply(ReplyKind.TIMEOUT))[0])
            # The beat is due, and nobody comes.
            current_loop().stall(late_s + (POLICY.period_s if late_s else 0))
            await pulse.rest()
        return verdicts

    assert run(main) == [
        Verdict.SUSPECT,
        Verdict.SUSPECT,
        Verdict.UNCHANGED,
        Verdict.FAILED,
    ]


def test_silence_counts_even_if_waiting_for_it_takes_longer_than_a_period() -> None:
    hasty = HealthPolicy(period_s=0.5, timeout_s=1, failures=3, grace_s=0)

    async def main() -> list[Verdict]:
        pulse, one, verdicts = Pulse(hasty), member(), []
        for _ in range(3):
            with pulse.beat() as beat:
                await anyio.sleep(hasty.timeout_s)
            beat.bear_witness()
            verdicts.append(beat.judge(one, Reply(ReplyKind.TIMEOUT))[0])
            await pulse.rest()
        return verdicts

    assert run(main) == [Verdict.SUSPECT, Verdict.SUSPECT, Verdict.FAILED]


def test_beats_keep_their_period_whatever_the_questions_take() -> None:
    async def main() -> list[float]:
        pulse, at = Pulse(POLICY), []
        for took_s in (0.0, 1.0, 2.0):
            at.append(anyio.current_time())
            with pulse.beat():
                await anyio.sleep(took_s)
            await pulse.rest()
        return at

    assert run(main) == [0, 5, 10]
