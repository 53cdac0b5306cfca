from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import memory_accuracy as accuracy
import pytest
from support_forecasts import Forecast, manifest
from support_logs import LoggedStart, read_rows, scored
from support_memory_view import picture
from support_summary import interval, quantile

STARTS = scored(read_rows())
LLAMA = next(one for one in STARTS if one.id == "L150")


def compared(expected: float, low: float, measured: float) -> Forecast:
    return Forecast(LLAMA, "", "GiB", expected, low, measured, expected, measured)


def test_no_source_stands_in_two_folds():
    parts = accuracy.folds(STARTS, 10, seed=1)
    sources = [source for part in parts for source in {start.source for start in part}]
    assert len(sources) == len(set(sources))


def test_every_start_stands_in_a_fold():
    parts = accuracy.folds(STARTS, 10, seed=1)
    assert sorted(start.id for part in parts for start in part) == sorted(s.id for s in STARTS)


def test_a_seed_gives_the_same_folds_each_time():
    assert accuracy.folds(STARTS, 10, seed=3) == accuracy.folds(STARTS, 10, seed=3)


def test_no_fit_sees_a_start_of_the_sources_it_is_scored_on(monkeypatch: pytest.MonkeyPatch):
    seen: set[str] = set()
    leaks: list[str] = []

    def fit(starts: Sequence[LoggedStart]) -> str:
        return "\n".join({start.source for start in starts})

    @contextmanager
    def use(text: str) -> Iterator[None]:
        seen.clear()
        seen.update(text.splitlines())
        yield

    def forecast(start: LoggedStart) -> Forecast:
        leaks.extend({start.source} & seen)
        return Forecast(start, "")

    monkeypatch.setattr(accuracy, "forecast", forecast)
    accuracy.cross_validated(STARTS, fit, use, seed=1)
    assert leaks == []


def test_a_bound_above_what_was_measured_is_an_over_promise():
    assert compared(12.0, 11.0, 10.0).broken


def test_a_bound_within_the_log_s_rounding_is_kept():
    assert not compared(12.0, 10.004, 10.0).broken


def test_the_error_is_relative_to_what_was_measured():
    assert compared(12.0, 8.0, 10.0).error == pytest.approx(0.2)


def test_a_bound_is_short_by_what_it_leaves_unused():
    assert compared(12.0, 8.0, 10.0).short == pytest.approx(0.2)


def test_a_start_without_a_low_figure_above_zero_counts_as_refused():
    assert compared(1.0, 0.0, 2.0).refused


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [(0, 78, 0.0, 0.0469), (5, 50, 0.0435, 0.2136), (0, 0, 0.0, 1.0)],
)
def test_the_interval_is_wilson_s(successes: int, trials: int, low: float, high: float):
    assert interval(successes, trials) == pytest.approx((low, high), abs=1e-4)


def test_the_90th_percentile_is_a_value_that_was_seen():
    assert quantile(range(1, 11), 0.9) == 9


def test_the_manifest_pins_what_the_start_was_given():
    engine = manifest(LLAMA, None).spec.engine
    assert engine is not None
    assert (engine.version, engine.gpu_memory_utilization, engine.max_num_seqs) == (
        "0.11.2",
        0.9,
        1024,
    )


def test_the_picture_shows_a_dot_for_each_start():
    points = [compared(12.0, 11.0, 10.0), compared(9.0, 8.0, 10.0)]
    assert picture(points).count("<circle") == len(points)
