from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import memory_accuracy as accuracy
import pytest
import support_summary
from support_forecasts import Forecast, manifest
from support_logs import read_rows, scored
from support_memory_view import picture
from support_starts import LoggedStart
from support_summary import (
    before_logs_of,
    interval,
    minor_version,
    model_family,
    moved,
    quantile,
    refusals,
    residuals,
)

from vllm_operator.engine.versions import Version
from vllm_operator.sizing.memory.coefficients import Coefficient, coefficient, use

STARTS = scored(read_rows())
LLAMA = next(one for one in STARTS if one.id == "L150")


def compared(expected: float, low: float, measured: float) -> Forecast:
    return Forecast(LLAMA, "", "GiB", expected, low, measured, expected, measured)


RELEASES = sorted({minor_version(start) for start in STARTS})


def of_release(version: str, measured: float) -> Forecast:
    return replace(compared(10.0, 8.0, measured), start=replace(LLAMA, version=version))


def starts_of(monkeypatch: pytest.MonkeyPatch, *made: Forecast) -> list[LoggedStart]:
    """Starts that are foretold so."""
    told = {
        f"S{n}": replace(one, start=replace(one.start, id=f"S{n}")) for n, one in enumerate(made)
    }
    monkeypatch.setattr(support_summary, "forecast", lambda start: told[start.id])
    return [one.start for one in told.values()]


def test_the_residual_of_a_release_is_what_its_median_start_has_beyond_the_expected(
    monkeypatch: pytest.MonkeyPatch,
):
    made = [of_release("0.11.0", 9.0), of_release("0.11.2", 10.5), of_release("0.11.2", 17.0)]
    assert residuals(starts_of(monkeypatch, *made)) == {"0.11": pytest.approx(0.5)}


def test_releases_moved_by_the_distance_of_the_extreme_ones_of_the_last_three(
    monkeypatch: pytest.MonkeyPatch,
):
    old = of_release("0.9.0", 99.0)
    newest = [of_release("0.11.0", 10.0), of_release("0.12.0", 10.303), of_release("0.13.0", 9.0)]
    assert moved(starts_of(monkeypatch, old, *newest)) == pytest.approx(1.31)


def test_a_release_is_judged_by_the_coefficients_from_before_its_logs():
    text = (
        "name,since,until,min_tensor_parallel,expected,high,unit,source\n"
        "graphs,0.8.0,0.28,1,1,2,GiB,old\ngraphs,0.29.0,,1,5,6,GiB,new\n"
        "sampler,0.8.0,0.16,1,3,3,GiB,old\nsampler,0.17.0,,1,4,4,GiB,old\n"
    )
    with use(before_logs_of("0.29", text)):
        assert coefficient("graphs", Version((0, 29, 0))) == Coefficient(1.0, 2.0)
        assert coefficient("sampler", Version((0, 16, 0))) == Coefficient(3.0, 3.0)


def test_refusals_are_told_by_the_field_that_is_named():
    one = Forecast(LLAMA, "spec.gpu.product: stands for nothing")
    assert refusals([one, compared(1.0, 0.0, 2.0), compared(9.0, 8.0, 9.0)]) == {
        "spec.gpu.product": [LLAMA.id],
        "no KV cache is sure": [LLAMA.id],
    }


def test_the_newest_sources_are_those_of_the_newest_releases():
    found = accuracy.newest_sources(STARTS, 2)
    releases = {Version.parse(one.version).release for one in found}
    others = [one for one in STARTS if one not in found]
    assert len({one.source for one in found}) == 2
    assert max(releases) == max(Version.parse(one.version).release for one in STARTS)
    assert max(Version.parse(one.version).release for one in others) <= max(releases)


def test_no_fit_of_held_out_models_sees_one_of_them():
    seen: list[set[str]] = []

    @contextmanager
    def use_nothing(text: str) -> Iterator[None]:
        yield

    def fit(starts: Sequence[LoggedStart]) -> str:
        seen.append({model_family(start) for start in starts})
        return ""

    parts = accuracy.folds(STARTS, 3, seed=1, key=model_family)
    few = [part[:1] for part in parts]
    accuracy.held_out(STARTS, few, fit, use_nothing, model_family)
    for part, families in zip(few, seen, strict=True):
        assert not {model_family(start) for start in part} & families


def test_releases_without_a_log_give_up_what_the_last_three_with_one_moved():
    major, minor = map(int, RELEASES[-1].split("."))
    newest, next_one = Version((major, minor, 99)), Version((major, minor + 1, 0))
    assert coefficient("unlogged", newest) == Coefficient(0.0, 0.0)
    assert coefficient("unlogged", next_one) == Coefficient(0.0, moved(STARTS))


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
