"""Raw samples become intervals where every series was there at both ends, and nothing else."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from support.scrapes import Kept, key
from vllm_operator.tuning.durations import Durations
from vllm_operator.tuning.intervals import Between
from vllm_operator.tuning.knobs import Objective
from vllm_operator.tuning.quality import identity
from vllm_operator.tuning.samples import Reading, Series, beyond, read, sum_of_squares

EVERY_15 = Durations(15)


def scraped(*stamps: float, engines: int = 1, without: tuple[str, ...] = ()) -> Kept:
    """A second's work for each second."""
    kept = Kept(engines, without=without)
    for stamp in stamps:
        kept.scrape(stamp, stamp)
    return kept


def told(kept: Kept, objective: Objective | None = None, every: float = 15) -> Reading:
    return read("pod", kept.series(), Durations(every), objective)


def ends(reading: Reading) -> list[tuple[float, float]]:
    return [(interval.end - interval.seconds, interval.end) for interval in reading.intervals]


def test_an_interval_holds_the_differences_of_its_two_scrapes() -> None:
    *_, one = told(scraped(85, 100, 115)).intervals
    assert (one.pod, one.end, one.seconds) == ("pod", 115, 15)
    assert (one.steps, one.gaps, one.gap_seconds) == (1500, 15000, 300)
    assert (one.first_tokens, one.first_token_seconds) == (60, 30)
    assert (one.prompt_tokens, one.cached_tokens, one.generated_tokens) == (4500, 1500, 15000)
    assert (one.running, one.waiting, one.cache_usage) == (20, 2, 0.5)
    assert (one.preemptions, one.finished, one.failed, one.rejected) == (15, 60, 15, 30)
    assert (one.finished_prompt_tokens, one.finished_output_tokens) == (6000, 15000)
    assert (one.queue_seconds, one.request_seconds) == (15, 450)


def test_engines_of_a_pod_are_summed_and_their_cache_is_averaged() -> None:
    *_, one = told(scraped(85, 100, 115, engines=2)).intervals
    assert (one.steps, one.running, one.cache_usage, one.failed) == (3000, 40, 0.5, 30)


@pytest.mark.parametrize("engines", [1, 2, 4])
def test_buckets_and_counts_of_a_pods_engines_are_summed(engines: int) -> None:
    objective = Objective(time_to_first_token=0.5, inter_token_latency=0.03)
    one, many = (
        told(scraped(85, 100, 115, engines=number), objective).intervals[-1]
        for number in (1, engines)
    )
    assert one.slow_gaps == Between(450, 1500)
    assert many.slow_gaps == Between(450 * engines, 1500 * engines)
    assert many.slow_first_tokens == Between(15 * engines, 15 * engines)
    assert many.finished_output_squares == pytest.approx(one.finished_output_squares * engines)
    assert (many.gaps, many.first_tokens) == (15_000 * engines, 60 * engines)


def test_without_an_objective_nothing_is_slow_or_fast() -> None:
    *_, one = told(scraped(85, 100, 115)).intervals
    assert (one.slow_gaps, one.slow_first_tokens) == (None, None)


def test_an_objective_between_two_edges_bounds_what_is_slow() -> None:
    objective = Objective(time_to_first_token=0.5, inter_token_latency=0.03)
    *_, one = told(scraped(85, 100, 115), objective).intervals
    assert one.slow_gaps == Between(450, 1500)
    assert one.slow_first_tokens == Between(15, 15)


@pytest.mark.parametrize(
    ("limit", "slow"),
    [
        (0.005, Between(40, 100)),
        (0.01, Between(40, 40)),
        (0.02, Between(10, 40)),
        (0.05, Between(10, 10)),
        (7.0, Between(0, 10)),
    ],
)
def test_a_limit_below_at_between_or_above_the_edges(limit: float, slow: Between) -> None:
    assert beyond({0.01: 60, 0.05: 90, math.inf: 100}, 100, limit) == slow


def test_without_buckets_any_number_may_be_slow() -> None:
    assert beyond({}, 100, 0.05) == Between(0, 100)


@pytest.mark.parametrize(
    ("buckets", "count", "total", "squares"),
    [
        ({math.inf: 4}, 4, 400, 40_000),  # nothing known but the mean
        ({100: 0, 200: 3, math.inf: 3}, 3, 450, 70_000),  # (100² + 100·200 + 200²)/3 each
        ({100: 0, 200: 3, math.inf: 3}, 3, 384, 70_000 * (384 / 450) ** 2),
        ({100: 0, math.inf: 3}, 3, 450, 70_000),  # the last one ends at 200
        ({}, 0, 0, 0),
    ],
)
def test_squares_of_lengths_come_from_buckets_and_their_sum(
    buckets: dict[float, float], count: float, total: float, squares: float
) -> None:
    assert sum_of_squares(buckets, count, total) == pytest.approx(squares)


def test_before_sources_were_counted_hits_are_taken_off_the_prompts() -> None:
    reading = told(scraped(85, 100, 115, without=("promptTokensBySource",)))
    assert reading.intervals[0].prompt_tokens == 4500
    assert identity(reading.intervals) == 0


def test_hits_that_are_counted_before_their_prompts_make_no_negative_number() -> None:
    kept = scraped(85, 100, 115, without=("promptTokensBySource",))
    kept.samples[key("prefixCacheHits", engine="0")] = [(85, 0), (100, 0), (115, 1e6)]
    assert told(kept).intervals[-1].prompt_tokens == 0


def test_steps_that_count_cached_prompts_too_keep_the_identity() -> None:
    kept = scraped(85, 100, 115)
    kept.samples[key("stepTokens", "sum", engine="0")] = [
        (85, 119_000),
        (100, 140_000),
        (115, 161_000),
    ]
    assert identity(told(kept).intervals) == 0


def test_tokens_of_steps_that_are_not_those_by_kind_break_the_identity() -> None:
    kept = scraped(85, 100, 115)
    kept.samples[key("stepTokens", "sum", engine="0")] = [(85, 0), (100, 30_000), (115, 60_000)]
    assert identity(told(kept).intervals) == pytest.approx(0.3)


def test_a_scrape_that_is_slower_than_the_interval_makes_longer_intervals() -> None:
    assert ends(told(scraped(0, 30, 60))) == [(0, 30), (30, 60)]


def test_scrapes_that_are_faster_end_at_the_last_one_of_each_slot() -> None:
    kept = scraped(*range(2, 50, 5))
    assert ends(told(kept)) == [(12, 27), (27, 42)]


def test_windows_that_overlap_tell_the_same_intervals() -> None:
    early, late = (ends(told(scraped(*range(begin, begin + 90, 5)))) for begin in (2, 22))
    assert early[1:] == late[:3] == [(27, 42), (42, 57), (57, 72)]


def test_an_interval_in_which_a_scrape_is_missing_is_not_told() -> None:
    assert ends(told(scraped(0, 15, 45, 60))) == [(0, 15), (45, 60)]


@pytest.mark.parametrize("every", [0.1, 0.25, 1.0, 15.0])
def test_a_missing_scrape_is_seen_however_often_one_is_taken(every: float) -> None:
    stamps = [100 + every * number for number in (0, 1, 2, 4, 5)]
    told_of = [round((end - 100) / every) for _, end in ends(told(scraped(*stamps), every=every))]
    assert told_of == [1, 2, 5]


def test_a_missing_scrape_inside_a_longer_interval_costs_it_too() -> None:
    stamps = [stamp for stamp in range(0, 61, 5) if stamp != 20]
    assert ends(told(scraped(*stamps))) == [(25, 40), (40, 55)]


def test_a_counter_that_fell_costs_its_interval_and_is_told() -> None:
    kept = scraped(0, 15)
    kept.scrape(30, 3)
    kept.scrape(45, 18)
    reading = told(kept)
    assert ends(reading) == [(0, 15), (30, 45)]
    assert reading.reset == 30


def test_a_restart_after_which_more_was_counted_is_known_by_the_processs_start() -> None:
    kept = scraped(0, 15)
    kept.scrape(30, 30, started=1020)
    reading = told(kept)
    assert ends(reading) == [(0, 15)]
    assert reading.reset == 30


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_finite_number_costs_the_intervals_beside_it(value: float) -> None:
    kept = scraped(0, 15, 30, 45)
    kept.samples[key("queueTime", "sum", engine="0")][1] = (15, value)
    reading = told(kept)
    assert ends(reading) == [(30, 45)]
    assert reading.not_a_number == 15


def test_a_fall_behind_what_is_no_number_is_seen() -> None:
    kept = scraped(0, 15, 30, 45, without=("processStart",))
    kept.samples[key("queueTime", "sum", engine="0")][1:] = [(15, math.nan), (30, 0), (45, 9)]
    assert ends(told(kept)) == [(30, 45)]


def test_an_engine_that_lags_behind_the_others_is_not_left_out() -> None:
    kept = scraped(0, 15, 30, 45, engines=2)
    for (_, _, labels), samples in kept.samples.items():
        if ("engine", "1") in labels:
            del samples[1:]
    assert ends(told(kept)) == []


def test_an_engine_that_is_gone_after_a_restart_is_left_out() -> None:
    kept = scraped(0, 15, engines=2)
    kept.engines = 1
    kept.scrape(30, 1, started=1020)
    kept.scrape(45, 16, started=1020)
    assert [one.steps for one in told(kept).intervals] == [3000, 1500]


@pytest.mark.parametrize("change", [lambda one: one.reverse(), lambda one: one.extend(one[:])])
def test_order_and_repetition_change_nothing(
    change: Callable[[list[tuple[float, float]]], None],
) -> None:
    kept = scraped(0, 15, 30)
    expected = told(kept)
    for samples in kept.samples.values():
        change(samples)
    assert told(kept) == expected


@pytest.mark.parametrize("label", ["instance", "job", "prometheus_replica"])
def test_two_scrapers_of_a_pod_tell_nothing(label: str) -> None:
    kept, other = scraped(0, 15, 30), scraped(1, 16, 31)
    other.labels = {"instance": "10.0.0.1:8000", label: "other"}
    reading = read("pod", kept.series() + other.series(), EVERY_15)
    assert (reading.intervals, reading.scrapers) == ((), (label,))


def test_two_scrapers_under_the_same_labels_are_found_by_their_values() -> None:
    kept = scraped(0, 15, 30)
    kept.scrape(15, 15.5)
    assert told(kept).scrapers == ("timestamp",)


def test_a_target_that_was_renamed_goes_on() -> None:
    kept, other = scraped(0, 15, 30), scraped(45, 60)
    other.labels = {"instance": "10.0.0.1:8000", "job": "renamed"}
    reading = read("pod", kept.series() + other.series(), EVERY_15)
    assert ends(reading) == [(0, 15), (15, 30), (30, 45), (45, 60)]


def test_a_meaning_without_a_series_is_named() -> None:
    reading = told(scraped(0, 15, 30, without=("queueTime",)))
    assert (reading.intervals, reading.missing) == ((), ("queueTime",))


def test_what_only_some_versions_export_may_be_absent() -> None:
    optional = ("admissionRejections", "prefixCacheHits", "processStart", "promptTokensBySource")
    *_, one = told(scraped(0, 15, 30, without=optional)).intervals
    assert (one.rejected, one.prompt_tokens, one.cached_tokens) == (0, 6000, 0)


def test_the_newest_cache_configuration_is_told() -> None:
    configs = [
        Series("cacheConfig", "", {"num_gpu_blocks": blocks}, [(stamp, 1.0)])
        for blocks, stamp in (("512", 15.0), ("256", 0.0))
    ]
    reading = read("pod", [*scraped(0, 15, 30).series(), *configs], EVERY_15)
    assert reading.cache_config["num_gpu_blocks"] == "512"
    assert reading.scrapers == ()


def test_no_samples_are_no_intervals() -> None:
    reading = read("pod", [], EVERY_15)
    assert (reading.intervals, reading.newest, reading.scrape) == ((), None, None)
    assert "stepTokens" in reading.missing


def test_a_distance_that_nothing_confirms_makes_no_interval() -> None:
    reading = told(scraped(0, 15))
    assert (reading.intervals, reading.scrape) == ((), None)
