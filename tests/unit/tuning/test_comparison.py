"""Bounds of a difference that hold at every look, and evidence that errors are somebody's."""

import math
import random

import pytest

from vllm_operator.tuning.comparison import contrast, e_value, inflation, mean, share, width


def test_bounds_are_about_three_standard_errors() -> None:
    # The factor is 3.04 at 20 intervals and 3.15 at 100; neighbours count half.
    assert width(20, 0.02, 0.0) == pytest.approx(3.035 * math.sqrt(2) * 0.02, rel=1e-3)
    assert width(100, 0.02, 0.0) == pytest.approx(3.153 * math.sqrt(2) * 0.02, rel=1e-3)


def test_no_number_of_intervals_takes_away_what_two_pods_differ_by() -> None:
    assert width(20, 0.0) == width(2000, 0.0) == pytest.approx(0.02)


def test_a_mean_that_is_looked_at_again_and_again_is_seldom_missed() -> None:
    # Looked at after each of 200 intervals, in 300 series: a fixed 95 % would miss a third.
    draw, missed = random.Random(11), 0
    for _ in range(300):
        values: list[float] = []
        for number in range(200):
            values.append(draw.gauss(0.0, 0.3))
            if number >= 15:
                found = mean(values, floor=0.0)
                assert found is not None
                if abs(found.value) > found.half_width:
                    missed += 1
                    break
    assert missed <= 15


def test_values_that_follow_their_neighbours_say_less() -> None:
    # Runs of four equal values: three of four neighbours are equal, (1 + 0.75) / (1 - 0.75) = 7.
    draw = random.Random(2)
    independent = [draw.gauss(0, 1) for _ in range(400)]
    runs = [value for value in (draw.gauss(0, 1) for _ in range(100)) for _ in range(4)]
    assert inflation(independent) == 2.0
    assert 5.0 < inflation(runs) <= 9.0
    assert inflation([3.0] * 50) == 2.0


def test_one_value_has_no_bounds() -> None:
    assert mean([1.0]) is None
    assert share([(1.0, 10.0)]) is None


def test_a_share_is_that_of_all_samples_and_not_of_intervals() -> None:
    found = share([(1.0, 10.0), (0.0, 90.0)])
    assert found is not None
    assert found.value == pytest.approx(0.01)


def test_no_slow_sample_in_few_does_not_mean_that_there_are_none() -> None:
    few, many = share([(0.0, 5.0)] * 20), share([(0.0, 5000.0)] * 20)
    assert few is not None
    assert many is not None
    assert few.high > 0.02
    assert many.high < 0.0005


def test_samples_that_go_together_are_less_sure() -> None:
    even = share([(5.0, 100.0)] * 20)
    bursts = share([(50.0, 100.0), *[(0.0, 100.0)] * 9] * 2)
    assert even is not None
    assert bursts is not None
    assert even.value == bursts.value
    assert bursts.half_width > 2 * even.half_width


def test_what_both_share_cancels_where_moments_are_paired() -> None:
    here = {slot: 1.0 + slot % 7 for slot in range(40)}
    there = {slot: 0.9 + slot % 7 for slot in range(40)}
    paired = contrast(here, there, paired=True, floor=0.0)
    apart = contrast(here, there, paired=False, floor=0.0)
    assert paired is not None
    assert apart is not None
    assert paired.value == pytest.approx(apart.value)
    assert paired.low > 0.09
    assert apart.low < 0.0


def test_moments_in_which_one_side_is_missing_do_not_count() -> None:
    assert contrast({1: 5.0, 2: 1.0, 3: 1.0}, {2: 1.0, 3: 1.0, 4: 9.0}, paired=True) == mean(
        [0.0, 0.0]
    )


def test_errors_of_a_candidate_alone_are_evidence_and_its_share_of_all_is_none() -> None:
    # 8 of 8 failures with half of the requests: 2^8 over what a Beta(1/2, 1/2) gives to all.
    assert e_value(8, 8, 0.5) == pytest.approx(256 * math.comb(16, 8) / 4**8)
    assert e_value(8, 8, 0.5) > 20
    assert e_value(4, 8, 0.5) == 0.0
    assert e_value(5, 8, 0.5) < 1
    assert e_value(0, 8, 0.5) == 0.0


def test_errors_by_chance_seldom_count_against_a_candidate() -> None:
    draw, blamed = random.Random(5), 0
    for _ in range(400):
        failed = 0
        for number in range(1, 101):
            failed += draw.random() < 0.5
            if e_value(failed, number, 0.5) > 20:
                blamed += 1
                break
    assert blamed <= 20
