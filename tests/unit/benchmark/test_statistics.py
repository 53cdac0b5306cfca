"""Means of few runs, and what they differ by."""

from __future__ import annotations

import random

import pytest

from vllm_operator.benchmark.statistics import change, quantile, spread


@pytest.mark.parametrize(
    ("confidence", "freedom", "expected"),
    [(0.95, 1, 12.706), (0.95, 2, 4.303), (0.95, 4, 2.776), (0.99, 10, 3.169), (0.95, 1000, 1.962)],
)
def test_quantiles_are_those_of_the_tables(
    confidence: float, freedom: float, expected: float
) -> None:
    assert quantile(confidence, freedom) == pytest.approx(expected, abs=5e-4)


def test_the_interval_of_a_mean_is_students() -> None:
    found = spread([10.0, 12.0, 14.0])
    assert found is not None
    assert found.mean == 12.0
    assert found.half_width == pytest.approx(4.303 * 2 / 3**0.5, rel=1e-3)


def test_one_run_has_no_interval_and_no_change() -> None:
    one = spread([10.0])
    assert one is not None
    assert one.half_width is None
    assert change([10.0], [10.0, 11.0, 12.0]) is None


def test_nothing_has_no_mean() -> None:
    assert spread([]) is None


def between(before: list[float], after: list[float], judged: int = 1) -> tuple[float, float, bool]:
    found = change(before, after, judged)
    assert found is not None
    return found.low, found.high, found.is_beyond_noise


def test_a_change_that_is_large_against_the_noise_is_one() -> None:
    low, high, beyond = between([100, 101, 99], [130, 131, 129])
    assert beyond
    assert 0.2 < low < 0.3 < high < 0.4


def test_a_change_within_the_noise_is_none() -> None:
    assert not between([100, 110, 90], [105, 118, 95])[2]


def test_repeats_that_agree_exactly_still_leave_what_two_servers_differ_by() -> None:
    low, high, beyond = between([100, 100, 100], [101.5, 101.5, 101.5])
    assert not beyond
    assert (low, high) == pytest.approx((-0.0051, 0.0355), abs=1e-4)


def test_noise_is_a_share_of_a_figure() -> None:
    """Five times as fast is seen, though the faster runs differ by more than all of the slower."""
    low, _, beyond = between([100, 120, 85], [510, 640, 400])
    assert beyond
    assert low > 1.0


def test_a_figure_that_is_zero_has_no_change() -> None:
    assert change([0.0, 1.0], [1.0, 1.0]) is None


def test_judging_more_figures_widens_each_interval() -> None:
    one, many = (
        between([100, 101, 99], [110, 111, 109]),
        between([100, 101, 99], [110, 111, 109], 8),
    )
    assert many[0] < one[0] < one[1] < many[1]


def test_equal_servers_are_told_apart_in_few_of_many_comparisons() -> None:
    draws = random.Random(7)
    seen = sum(
        between(*([draws.gauss(100, 5) for _ in range(3)] for _ in range(2)))[2]
        for _ in range(2000)
    )
    assert 10 <= seen <= 100  # at most 5 %
