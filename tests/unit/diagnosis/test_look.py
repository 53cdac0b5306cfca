"""One look at samples: the figures, and tuning's own word on what bounds and what would help."""

from __future__ import annotations

from dataclasses import replace

import pytest

from support.intervals import intervals
from unit.tuning.examples import hour, shipped
from vllm_operator.diagnosis.look import Look, Subject, look
from vllm_operator.sizing.performance.multipliers import Multipliers
from vllm_operator.tuning.candidates import Rules
from vllm_operator.tuning.diagnosis import Bound, diagnose
from vllm_operator.tuning.durations import Durations
from vllm_operator.tuning.intervals import Interval
from vllm_operator.tuning.knobs import Knobs
from vllm_operator.tuning.proposals import Planned, Proposal, Rest
from vllm_operator.tuning.quality import Hold
from vllm_operator.tuning.samples import Reading
from vllm_operator.tuning.scene import Facts

DURATIONS = Durations(15)
KNOBS = Knobs(16, 8192, 0.9)
SUBJECT = Subject(KNOBS)


def seen(ones: list[Interval], subject: Subject = SUBJECT, **given: object) -> Look:
    end = ones[-1].end
    reading = Reading("a", tuple(ones), newest=end, scrape=15.0)
    return look([reading], subject, DURATIONS, end, **given)  # type: ignore[arg-type]


def facts() -> Facts:
    return Facts(
        knobs=KNOBS,
        server_at=lambda knobs: shipped(knobs.max_num_batched_tokens, knobs.cap),
        plan_at=lambda knobs: Planned(400_000.0, 0.93),
        rules=Rules(),
    )


def test_what_bounds_a_server_is_tunings_own_word() -> None:
    ones = intervals(40, running=16.0, waiting=9.0)
    found = seen(ones)
    assert found.diagnosis == diagnose(ones, KNOBS)
    assert found.diagnosis is not None
    assert found.diagnosis.bound is Bound.SEQUENCES


def test_figures_speak_of_the_window_alone() -> None:
    ones = [*intervals(20, running=1.0), *intervals(40, running=9.0)[20:]]
    found = seen(ones, window=300.0)
    assert found.figures is not None
    assert found.figures.running == 9.0


def test_samples_that_may_not_be_trusted_say_nothing_of_what_bounds() -> None:
    ones = intervals(40, running=16.0, waiting=9.0)
    reading = Reading("a", tuple(ones), newest=ones[-1].end, scrape=15.0)
    late = look([reading], SUBJECT, DURATIONS, ones[-1].end + 120)
    assert late.held is not None
    assert (late.held.reason, late.diagnosis) == (Hold.STALE, None)


def test_a_prometheus_that_does_not_answer_is_told() -> None:
    found = look([Reading("a")], SUBJECT, DURATIONS, 100.0, problem="connection refused")
    assert found.held is not None
    assert "connection refused" in found.held.message
    assert (found.figures, found.diagnosis) == (None, None)


def test_an_idle_server_is_bound_by_its_load() -> None:
    idle = dict.fromkeys(("steps", "gaps", "gap_seconds", "first_tokens", "running"), 0.0)
    found = seen(intervals(40, **idle))
    assert found.held is not None
    assert found.held.reason is Hold.TOO_LITTLE_TRAFFIC
    assert found.diagnosis is not None
    assert found.diagnosis.bound is Bound.LOAD


def test_without_facts_nothing_is_forecast() -> None:
    found = seen(intervals(40, running=16.0, waiting=9.0))
    assert (found.choice, found.curve) == (None, None)


@pytest.fixture(scope="module")
def waiting() -> list[Interval]:
    """An hour and more of a server whose sixteen places are taken, on the hardware as shipped."""
    return [
        replace(one, running=16.0, waiting=20.0, cache_usage=0.1)
        for one in hour(Multipliers(), lambda number: 15.0 + number % 3, number=280)
    ]


def test_a_setting_that_would_help_is_proposed_with_a_curve(waiting: list[Interval]) -> None:
    found = seen(waiting, Subject(KNOBS, facts=facts()))
    assert isinstance(found.choice, Proposal)
    assert found.choice.knobs.max_num_seqs > 16
    assert found.curve is not None
    assert found.curve.setting.max_num_seqs == 16


def test_too_little_evidence_proposes_nothing_and_says_how_much_is_needed(
    waiting: list[Interval],
) -> None:
    found = seen(waiting[:30], Subject(KNOBS, facts=facts()))
    assert isinstance(found.choice, Rest)
    assert "are needed" in found.choice.message
