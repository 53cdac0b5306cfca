"""Least squares with an effect a group: the slope is what is seen within groups."""

import random

import pytest

from vllm_operator.tuning.regression import (
    Groups,
    Solution,
    diagonal,
    fitted,
    inverted,
    quadratic,
)

WIDE = ((0.0, 0.0), diagonal((10.0, 10.0)))


def line(at, slope, level, groups, *, deviation=1.0, prior=WIDE) -> Solution:
    """Of level + slope x, with an effect for each group."""

    def linearised(parameters):
        values = [parameters[0] + parameters[1] * x for x in at]
        return values, [(1.0, x) for x in at]

    observed = [level(group) + slope * x for x, group in zip(at, groups, strict=True)]
    return fitted(linearised, observed, Groups(groups, deviation), prior)


def test_the_slope_within_groups_is_found_where_that_between_them_is_the_other_way() -> None:
    # Larger x in the group that is higher: a line through all points falls by 1.
    at = [0.0, 1.0, 2.0, 10.0, 11.0, 12.0]
    found = line(at, 1.0, lambda group: -20.0 * group, [0, 0, 0, 1, 1, 1], deviation=30.0)
    assert found.mean[1] == pytest.approx(1.0, abs=1e-3)
    assert found.effects[0] - found.effects[1] == pytest.approx(20.0, abs=0.1)


def test_an_effect_of_one_group_in_many_is_no_level() -> None:
    groups = [place // 4 for place in range(40)]
    at = [float(place % 4) for place in range(40)]
    found = line(at, 0.5, lambda group: 3.0 * (group == 7), groups, deviation=0.15)
    assert found.mean == pytest.approx((0.0, 0.5), abs=0.05)
    assert found.effects[7] == pytest.approx(3.0, abs=0.05)


def test_without_observations_that_tell_the_prior_stays() -> None:
    prior = ((0.0, 2.0), diagonal((10.0, 0.5)))
    found = line([1.0] * 20, 5.0, lambda group: 0.0, [0] * 20, prior=prior)
    assert found.mean[1] == pytest.approx(2.0, abs=0.05)
    assert found.covariance[1][1] ** 0.5 == pytest.approx(0.5, abs=0.01)


def test_what_is_found_lies_within_its_deviation_about_as_often_as_it_should() -> None:
    draw, within = random.Random(4), 0
    for _ in range(100):
        at = [draw.uniform(0, 1) for _ in range(60)]
        noise = [draw.gauss(0, 0.1) for _ in at]

        def linearised(parameters, at=at):
            return [parameters[0] + parameters[1] * x for x in at], [(1.0, x) for x in at]

        observed = [0.3 + 0.7 * x + by for x, by in zip(at, noise, strict=True)]
        found = fitted(linearised, observed, Groups([0] * 60, 0.15), WIDE)
        within += abs(found.mean[1] - 0.7) < 2 * found.covariance[1][1] ** 0.5
    assert 88 <= within <= 99


def test_an_inverse_undoes_its_matrix() -> None:
    matrix = ((4.0, 1.0), (1.0, 3.0))
    assert inverted(inverted(matrix)) == (
        pytest.approx(matrix[0]),
        pytest.approx(matrix[1]),
    )
    assert quadratic(matrix, (1.0, 2.0)) == 4 + 2 * 2 * 1 + 4 * 3
