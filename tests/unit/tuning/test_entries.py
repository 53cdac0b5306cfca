"""What the status has of what was computed: each figure in its own unit and place."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from support.intervals import interval
from support.served import CHAT, learned, llama
from vllm_operator.api.ledger import Figures, TuningMeasurement, TuningShares
from vllm_operator.tuning.candidates import Rules
from vllm_operator.tuning.diagnosis import Bound, Diagnosis, Row
from vllm_operator.tuning.durations import Durations
from vllm_operator.tuning.entries import (
    curve_of,
    diagnosis_of,
    load_of,
    measurement_of,
    promise_of,
    proposal_of,
    shares_of,
)
from vllm_operator.tuning.forecast import Forecast
from vllm_operator.tuning.judge import Judgement, Verdict
from vllm_operator.tuning.knobs import Knobs, Objective
from vllm_operator.tuning.ledger import setting_of
from vllm_operator.tuning.objectives import Kept, Share
from vllm_operator.tuning.proposals import Proposal
from vllm_operator.tuning.scene import Facts
from vllm_operator.tuning.trial import Promise

HERE, THERE = Knobs(256, 8192, 0.9), Knobs(96, 4096, 0.92, 64)
FORECAST = Forecast(
    knobs=THERE,
    places=64,
    bound_by_cache=False,
    tokens_per_second=1240.4,
    low=1180.9,
    high=1300.1,
    capacity=2000.0,
    latency=0.02,
    inter_token_share=0.968,
    inter_token_share_low=0.951,
    time_to_first_share=0.99,
    time_to_first_share_low=0.985,
    in_flight=12.0,
    queueing=0.1,
    preemptions=0.0,
    deviation=0.085,
    batch=40.0,
)
TABLE = Diagnosis((Row(Bound.SEQUENCES, True, "a", "a: " + "x" * 2000),))
CHOICE = Proposal(
    knobs=THERE,
    diagnosis=TABLE,
    now=replace(FORECAST, tokens_per_second=900.0, deviation=0.2),
    predicted=FORECAST,
    cold=True,
    message="m" * 200,
)


def figures(low: int, expected: int, high: int) -> Figures:
    return Figures(low=low, expected=expected, high=high)


def test_a_load_is_told_by_the_minute_and_with_all_of_its_prompts():
    told = load_of(replace(CHAT, rate=9.26, prompt=600.4, cached=200.1, output=250.6))
    assert told.to_json_object() == {
        "requestsPerMinute": 556,
        "promptTokens": 800,
        "outputTokens": 251,
        "cachedPerMille": 250,
    }


def test_a_load_without_prompts_has_no_cached_ones():
    assert load_of(replace(CHAT, prompt=0.0, cached=0.0)).cached_per_mille == 0


def test_a_forecast_is_told_in_whole_tokens_and_thousandths():
    assert shares_of(FORECAST) == TuningShares(
        output_tokens_per_second=figures(1180, 1240, 1301),
        inter_token_latency_per_mille=figures(951, 968, 1000),
        time_to_first_token_per_mille=figures(985, 990, 1000),
    )


def test_a_share_is_told_only_where_an_objective_asks_for_it():
    told = shares_of(replace(FORECAST, inter_token_share=None, time_to_first_share_low=None))
    assert told.inter_token_latency_per_mille is None
    assert told.time_to_first_token_per_mille == figures(990, 990, 1000)
    lower = shares_of(replace(FORECAST, inter_token_share=0.94))
    assert lower.inter_token_latency_per_mille == figures(940, 940, 1000)


def test_what_is_promised_are_the_shares_that_may_be_late_as_expected():
    promised = promise_of(SimpleNamespace(predicted=shares_of(FORECAST)))
    assert promised.slow_gaps == pytest.approx(0.032)
    assert promised.slow_first_tokens == pytest.approx(0.01)
    assert promise_of(SimpleNamespace(predicted=None)) == Promise()


def test_a_proposal_says_from_what_to_what_why_and_on_how_much_it_rests():
    seen = [interval(number, gaps=1000.0 * (number + 1), finished=10.4) for number in range(40)]
    told = proposal_of(
        CHOICE, setting_of(HERE), CHAT, learned(batch=41.6), [*seen, interval(steps=0.0)], 60.0
    )
    assert told.to_json_object() == {
        "proposedAt": "1970-01-01T00:01:00Z",
        "trigger": "m" * 128,
        "diagnosis": "Sequences",
        "from": {"maxNumSeqs": 256, "maxNumBatchedTokens": 8192, "gpuMemoryUtilization": 0.9},
        "to": {
            "maxNumSeqs": 96,
            "maxNumActiveSeqs": 64,
            "maxNumBatchedTokens": 4096,
            "gpuMemoryUtilization": 0.92,
        },
        "load": {
            "requestsPerMinute": 540,
            "promptTokens": 800,
            "outputTokens": 250,
            "cachedPerMille": 0,
        },
        "evidence": {
            "intervals": 240,
            "requests": 446,  # 40 times 10.4, and 30
            "batchLow": 3,  # of 40 with 1 to 40 requests in a step, two have fewer
            "batchHigh": 42,
            "deviationPerMille": 85,
        },
        "predicted": shares_of(FORECAST).to_json_object(),
    }


def test_a_proposal_that_rests_on_no_step_says_nothing_of_evidence():
    for posterior, seen in ((None, [interval()]), (learned(), [])):
        told = proposal_of(CHOICE, setting_of(HERE), CHAT, posterior, seen, 60.0)
        assert told.evidence is None


def test_a_diagnosis_is_told_by_its_first_row_and_no_longer_than_a_condition():
    told = diagnosis_of(TABLE)
    assert told.bound == "Sequences"
    assert len(told.message) == 1024


def late(low: float, high: float) -> Share:
    """Samples of which between these shares were late, and more of the stable pods'."""
    return Share("gaps", Kept.KEPT, low, high, stable=0.2, allowed=0.05, better=True)


JUDGED = Judgement(
    Verdict.GOOD,
    "better",
    intervals=50,
    finished=400.4,
    slower=-0.0212,
    half_width=0.0131,
    slow_gaps=late(0.02, 0.04),
    slow_first_tokens=late(0.0, 0.012),
)


def test_a_measurement_is_told_in_minutes_requests_and_thousandths():
    assert measurement_of(JUDGED, Durations()) == TuningMeasurement(
        minutes=12,
        requests=400,
        slower_per_mille=-21,
        plus_minus_per_mille=13,
        inter_token_latency_per_mille=figures(960, 970, 980),
        time_to_first_token_per_mille=figures(988, 994, 1000),
    )
    assert measurement_of(JUDGED, Durations(60.0)).minutes == 50


@pytest.mark.parametrize("unknown", [{"slower": None}, {"half_width": None}], ids=str)
def test_how_much_slower_it_is_is_told_with_how_far_off_that_may_be_or_not_at_all(unknown):
    told = measurement_of(replace(JUDGED, **unknown), Durations())
    assert (told.slower_per_mille, told.plus_minus_per_mille) == (None, None)


def test_nothing_was_measured_in_no_interval():
    assert measurement_of(None, Durations()) is None
    assert measurement_of(replace(JUDGED, intervals=0), Durations()) is None


def curve(objective: Objective | None = None, most: int = 16):
    facts = Facts(HERE, lambda _: llama(), None, Rules(), objective)
    seen = [interval(number, gaps=1000.0 * (number + 1)) for number in range(40)]
    return curve_of(facts, learned(batch=5.0), CHAT, seen, most)


def test_a_curve_is_told_at_powers_of_two_and_between_them_as_far_as_the_fit_is_followed():
    assert [point.requests for point in curve().points] == [1, 2, 3, 4, 6, 8, 12, 16, 20]
    assert [point.requests for point in curve(most=23).points][-3:] == [12, 16, 23]
    many = [point.requests for point in curve(most=1000).points]
    assert (len(many), many[0], many[-1]) == (16, 1, 1000)


def test_a_curve_says_of_which_setting_and_which_share_of_the_gaps_it_speaks():
    mean, late = curve(), curve(Objective(inter_token_latency=0.02, percentile=99.0))
    assert mean.setting == setting_of(HERE)
    assert (mean.batch_low, mean.batch_high) == (3, 5)
    assert (mean.percentile, late.percentile) == (None, 99)
    assert curve(Objective(time_to_first_token=1.0)).percentile is None


def test_a_curve_is_in_microseconds_and_rises_with_requests_and_with_the_share_of_the_gaps():
    mean, late = (
        curve(objective).points
        for objective in (None, Objective(inter_token_latency=0.02, percentile=99.0))
    )
    for points in (mean, late):
        expected = [point.microseconds.expected for point in points]
        assert expected == sorted(expected)
        for point in points:
            figures = point.microseconds
            assert figures.low <= figures.expected <= figures.high
    # Llama-3.1-8B on an H100: the weights alone take 4.8 ms of its 3.35 TB/s.
    assert 4_800 < mean[0].microseconds.expected < 9_000
    assert late[-1].microseconds.expected > 1.2 * mean[-1].microseconds.expected
