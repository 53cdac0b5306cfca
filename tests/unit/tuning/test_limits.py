"""What is enough, and what is too much, at the number itself and on either side of it."""

from __future__ import annotations

from dataclasses import asdict, replace

import pytest

from support.intervals import interval
from support.served import CHAT, learned, llama, offered
from vllm_operator.tuning.choice import choose
from vllm_operator.tuning.curve import UNSEEN, Posterior, assumed
from vllm_operator.tuning.diagnosis import Bound, Diagnosis, Row
from vllm_operator.tuning.forecast import Forecasts
from vllm_operator.tuning.knobs import Knobs
from vllm_operator.tuning.load import Load
from vllm_operator.tuning.proposals import Planned, Proposal, Reason, Rest
from vllm_operator.tuning.states import States, Steps
from vllm_operator.tuning.trial import offered as rate_of

NOW = Knobs(256, 8192, 0.9, None)
NOTHING_FOUND = Diagnosis((Row(Bound.LOAD, True, "a", "a: the load"),))


def found(posterior: Posterior | None, load: Load = CHAT, requests: float = 300.0) -> str | None:
    """What is missing to follow the fit."""
    told = choose(
        llama(),
        posterior,
        load,
        NOTHING_FOUND,
        NOW,
        lambda _: Planned(None, 0.92),
        requests=requests,
    )
    lacks = isinstance(told, Rest) and told.reason is Reason.NO_EVIDENCE
    assert isinstance(told, Rest | Proposal)
    return told.message if lacks else None


ENOUGH = learned(intervals=60, blocks=6, drift=0.1)


def test_enough_is_enough() -> None:
    assert found(ENOUGH) is None


@pytest.mark.parametrize(
    ("changed", "missing"),
    [
        ({"intervals": 59}, "59 intervals in 6 blocks and 300 requests seen"),
        ({"drift": 0.101}, "steps take +10 % of what they took half an hour ago"),
        ({"drift": -0.101}, "steps take -10 % of what they took half an hour ago"),
    ],
)
def test_one_less_is_too_little_and_a_bit_more_drift_too_much(
    changed: dict[str, float], missing: str
) -> None:
    assert (found(replace(ENOUGH, **changed)) or "").startswith(missing)


@pytest.mark.parametrize(("pods", "least"), [(1, 6), (2, 3), (9, 3)])
def test_one_pod_is_seen_for_longer_than_several(pods: int, least: int) -> None:
    load = replace(CHAT, pods=pods)
    assert found(replace(ENOUGH, blocks=least), load) is None
    assert found(replace(ENOUGH, blocks=least - 1), load) is not None


def test_requests_are_three_hundred_with_a_fit_and_without() -> None:
    assert found(None, requests=299.0) == "299 requests seen, and 300 are needed"
    assert found(None, requests=300.0) == "no interval says how long a step takes"
    assert found(ENOUGH, requests=299.0) is not None


@pytest.mark.parametrize(("disagreement", "trusted"), [(0.15, True), (0.151, False)])
def test_gauges_and_counters_may_contradict_each_other_by_15_percent(
    disagreement: float, trusted: bool
) -> None:
    load = replace(CHAT, disagreement=disagreement)
    assert load.trusted is trusted
    assert (found(ENOUGH, load) is None) is trusted


def test_a_cache_that_holds_just_the_places_binds_nothing() -> None:
    forecasts = Forecasts(llama(), learned(), offered(100.0))
    assert forecasts.held(98_500) == 100
    assert not forecasts.at(Knobs(100, 8192, 0.9, None), 98_500).bound_by_cache
    assert forecasts.at(Knobs(101, 8192, 0.9, None), 98_500).bound_by_cache


def test_steps_of_more_requests_than_any_server_takes_are_those_of_the_most() -> None:
    steps = Steps(llama(), learned(), CHAT)
    assert steps.of(1e6, 512).graphed == steps.of(4096, 512).graphed
    assert steps.of(0.0, 512).graphed == steps.of(1.0, 512).graphed


@pytest.mark.parametrize(
    ("waiting", "growth", "saturated"),
    [(0.5, 1.0, False), (0.51, 1.0, True), (1.0, 0.18, False), (1.0, 0.181, True)],
)
def test_a_server_is_saturated_where_it_waits_mostly_and_what_waits_grows(
    waiting: float, growth: float, saturated: bool
) -> None:
    # Two hundredths of nine requests a second.
    assert offered(9.0, waiting=waiting, growth=growth).saturated is saturated


def test_a_queue_that_shrinks_by_more_than_was_answered_offered_nothing() -> None:
    seen = [interval(0, waiting=90.0), interval(1, waiting=10.0)]
    assert rate_of(seen) == 0.0
    assert rate_of([]) == 0.0


def test_what_is_assumed_knows_nothing_but_the_prior() -> None:
    found = assumed(batch=7.0)
    assert (found.mean, found.covariance, found.batch) == (UNSEEN.mean, UNSEEN.covariance, 7.0)
    told = asdict(found)
    numbers = {key: one for key, one in told.items() if isinstance(one, int | float)}
    assert {one for key, one in numbers.items() if key != "batch"} == {0}
    assert (found.centre, found.identified) == ((0.0,) * 5, ())


@pytest.mark.parametrize("requests", [1, 8, 100])
def test_a_step_without_a_prompt_takes_what_its_requests_take(requests: int) -> None:
    steps = Steps(llama(), learned(), CHAT)
    state = States(steps, 8192).at(requests)
    assert state.alone_seconds == steps.of(state.decodes, 512).seconds(0.0)
    assert state.alone_seconds < state.row.seconds(64) < state.mixed_seconds or state.mixed == 0.0
