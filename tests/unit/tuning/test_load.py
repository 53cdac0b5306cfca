"""What is asked of a server, from the intervals of its pods."""

from dataclasses import replace

import pytest

from support.intervals import intervals
from vllm_operator.tuning.intervals import Between
from vllm_operator.tuning.load import Fingerprint, measured


def test_lengths_are_means_of_requests():
    found = measured(intervals(20, first_tokens=30, prompt_tokens=24_000, cached_tokens=6_000))
    assert found is not None
    assert (found.prompt, found.cached, found.full_prompt) == (800, 200, 1000)


def test_without_an_answer_there_is_no_load():
    assert measured(intervals(3, first_tokens=0, generated_tokens=0)) is None
    assert measured([]) is None


def test_the_offered_rate_of_a_server_that_keeps_up_is_that_of_its_answers():
    found = measured(intervals(40, first_tokens=30))
    assert found is not None
    assert found.rate == pytest.approx(2.0)
    assert not found.saturated


def test_a_queue_that_grows_was_offered_too():
    # 30 answers in 15 s, and 15 more requests wait after each interval.
    found = measured(
        replace(one, waiting=15.0 * number) for number, one in enumerate(intervals(40), start=1)
    )
    assert found is not None
    assert found.rate == pytest.approx((40 * 30 + 39 * 15) / 600)
    assert found.saturated


def test_a_rejected_request_was_offered_too():
    found = measured(intervals(40, first_tokens=30, rejected=15, waiting=5))
    assert found is not None
    assert found.rate == pytest.approx(3.0)
    assert found.saturated


def test_a_long_queue_that_does_not_grow_is_no_saturation():
    found = measured(intervals(40, waiting=50))
    assert found is not None
    assert found.waiting == 1.0
    assert not found.saturated


def test_requests_in_flight_that_never_vary_are_clients_that_ask_again():
    found = measured(intervals(40, running=60, waiting=40))
    assert found is not None
    assert found.population == 100


def test_of_clients_that_ask_again_two_pods_have_half_each():
    # Which pod has how many changes, and all of them together do not.
    swing = [7, -9, 4, 0, -12, 15, -3, 8, -6, -4] * 4
    ones = [
        replace(one, pod=pod, running=50.0 + sign * more)
        for pod, sign in (("a", 1), ("b", -1))
        for one, more in zip(intervals(40), swing, strict=True)
    ]
    found = measured(ones)
    assert found is not None
    assert found.dispersion == 0
    assert found.population == 50


def test_requests_that_arrive_by_themselves_are_no_population():
    # Variance 100 at a mean of 100, as of independent arrivals.
    swing = [10, -10] * 20
    ones = [
        replace(one, running=100.0 + more) for one, more in zip(intervals(40), swing, strict=True)
    ]
    found = measured(ones)
    assert found is not None
    assert found.dispersion == pytest.approx(1.03, abs=0.01)
    assert found.population is None


def test_a_few_looks_do_not_tell_a_population():
    found = measured(intervals(10, running=60))
    assert found is not None
    assert found.population is None


def test_long_outputs_are_met_more_often():
    # Half of the outputs have 100 tokens and half 300: E[o^2] / 2 E[o] is 125, not 100.
    found = measured(
        intervals(
            20,
            cache_usage=0.0,
            finished=30,
            finished_output_tokens=6_000,
            finished_output_squares=15 * 100**2 + 15 * 300**2,
        )
    )
    assert found is not None
    assert found.output_square / found.output**2 == pytest.approx(1.25)
    assert found.held == pytest.approx(found.prompt + 1.25 * found.output / 2)


def test_prompts_vary_as_their_squares_say():
    # 15 prompts of 400 and 15 of 1200 tokens: variance 160,000 over 640,000.
    squares = 15 * 400**2 + 15 * 1200**2
    found = measured(intervals(20, finished_prompt_squares=squares))
    assert found is not None
    assert found.prompt_variation == pytest.approx(0.25)


def test_prompts_of_which_only_the_mean_is_known_vary_as_exponential_ones():
    found = measured(intervals(20))
    assert found is not None
    assert found.prompt_variation == 1.0


def test_the_cache_in_use_says_what_a_request_holds():
    found = measured(intervals(20, running=50, cache_usage=0.5), kv_tokens=100_000)
    assert found is not None
    assert found.held == pytest.approx(1000)


def test_rates_that_differ_by_chance_are_one():
    # 30 arrivals in 15 s vary by 5.5; these by 5.
    swing = [5, -5] * 20
    ones = [
        replace(one, first_tokens=30.0 + more)
        for one, more in zip(intervals(40), swing, strict=True)
    ]
    found = measured(ones)
    assert found is not None
    assert found.rates == ((1.0, pytest.approx(2.0)),)


def test_a_pod_that_gets_three_times_as_much_keeps_its_rate():
    ones = [
        replace(one, pod=pod, first_tokens=number)
        for pod, number in (("a", 450.0), ("b", 150.0))
        for one in intervals(40)
    ]
    found = measured(ones)
    assert found is not None
    assert found.rate == pytest.approx(20)
    assert [part for part, _ in found.rates] == [0.25] * 4
    rates = [rate for _, rate in found.rates]
    assert rates == pytest.approx([10, 10, 30, 30], rel=0.02)
    assert sum(part * rate for part, rate in found.rates) == pytest.approx(20)


def test_gauges_that_agree_with_counters_are_trusted():
    found = measured(intervals(40))
    assert found is not None
    assert found.disagreement == 0
    assert found.trusted


def test_requests_that_run_without_any_time_counted_for_them_are_not_trusted():
    # 30 run as the gauge says; time was counted for 12 that generate and 1 before its first token.
    found = measured(intervals(40, running=30, gap_seconds=12 * 15.0, first_token_seconds=15.0))
    assert found is not None
    assert found.disagreement == pytest.approx(1 - 13 / 30)
    assert not found.trusted


def test_lateness_is_a_share_between_the_bounds_that_buckets_tell():
    found = measured(intervals(20, gaps=1_000, slow_gaps=Between(20, 80)))
    assert found is not None
    assert found.late_gaps == Between(0.02, 0.08)
    assert found.late_first_tokens is None


BASE = Fingerprint(rate=10, prompt=1000, hit_ratio=0.3, output=200)


@pytest.mark.parametrize(
    ("other", "like"),
    [
        (replace(BASE, rate=12.4), True),
        (replace(BASE, rate=8.1), True),
        (replace(BASE, rate=12.6), False),
        (replace(BASE, rate=7.9), False),
        (replace(BASE, prompt=1260), False),
        (replace(BASE, output=150), False),
        (replace(BASE, hit_ratio=0.39), True),
        (replace(BASE, hit_ratio=0.41), False),
    ],
)
def test_a_load_is_another_beyond_a_quarter_or_ten_points(other, like):
    assert BASE.like(other) is like
    assert other.like(BASE) is like
