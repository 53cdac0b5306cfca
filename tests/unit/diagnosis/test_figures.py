"""What pods did in a window, in figures."""

from __future__ import annotations

import pytest

from support.intervals import interval, intervals
from vllm_operator.diagnosis.figures import figures_of


def test_without_intervals_there_are_no_figures() -> None:
    assert figures_of([]) is None


def test_rates_are_of_all_pods_and_latencies_are_means() -> None:
    found = figures_of([*intervals(4), *intervals(4, pod="b")])
    assert found is not None
    assert found.pods == 2
    assert found.requests_per_second == pytest.approx(2 * 30 / 15)
    assert found.output_tokens_per_second == pytest.approx(2 * 7500 / 15)
    assert found.time_to_first_token == pytest.approx(0.1)
    assert found.inter_token_latency == pytest.approx(0.015)
    assert found.tokens_per_request_second == pytest.approx(66.67, abs=0.01)
    assert (found.running, found.waiting) == (15.0, 0.0)
    assert (found.prompt_tokens, found.output_tokens, found.request_tokens) == (800, 250, 1050)


def test_a_pod_that_was_seen_for_half_of_the_time_lowers_no_rate() -> None:
    found = figures_of([*intervals(4), *intervals(2, pod="b")])
    assert found is not None
    assert found.requests_per_second == pytest.approx(4.0)


def test_the_cache_is_told_as_a_mean_and_by_the_fullest_moment() -> None:
    found = figures_of([interval(0, cache_usage=0.2), interval(1, cache_usage=0.6)])
    assert found is not None
    assert (found.kv_cache_usage, found.kv_cache_most) == (pytest.approx(0.4), 0.6)


def test_hits_are_a_share_of_all_prompt_tokens() -> None:
    found = figures_of(intervals(2, prompt_tokens=600.0, cached_tokens=1800.0))
    assert found is not None
    assert found.hit_rate == 0.75


def test_what_was_not_seen_is_none_and_not_zero() -> None:
    idle = dict.fromkeys(
        ("gaps", "gap_seconds", "first_tokens", "prompt_tokens", "generated_tokens", "finished"),
        0.0,
    )
    found = figures_of(intervals(2, **idle))
    assert found is not None
    assert found.requests_per_second == 0
    unseen = ("timeToFirstTokenSeconds", "interTokenLatencySeconds", "prefixCacheHitRate")
    assert [found.to_json_object()[name] for name in unseen] == [None] * 3
    assert found.request_tokens is None
    assert found.tokens_per_request_second is None
