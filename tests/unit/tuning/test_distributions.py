"""The gamma and the normal distribution against their closed forms."""

import math

import pytest

from vllm_operator.tuning.distributions import gamma, normal


@pytest.mark.parametrize("x", [0.01, 0.5, 1.0, 3.0, 20.0])
def test_a_gamma_of_shape_one_is_exponential(x):
    assert gamma(x, 2.0, 4.0) == pytest.approx(1 - math.exp(-x / 2), abs=1e-8)


@pytest.mark.parametrize("x", [0.2, 2.0, 5.0, 30.0])
def test_a_gamma_of_shape_three_is_a_sum_of_three_waits(x):
    # Mean 3 and variance 3: 1 - e^-x (1 + x + x^2 / 2).
    expected = 1 - math.exp(-x) * (1 + x + x * x / 2)
    assert gamma(x, 3.0, 3.0) == pytest.approx(expected, abs=1e-8)


def test_a_gamma_of_shape_a_half_is_a_squared_normal():
    # Mean 1 and variance 2: P(Z^2 <= 1) = 0.6827.
    assert gamma(1.0, 1.0, 2.0) == pytest.approx(0.682689, abs=1e-6)


def test_a_large_shape_is_nearly_normal():
    # Shape 400, mean 400, deviation 20: the normal says 0.8413 at one deviation, skewness a bit
    # less.
    assert gamma(420.0, 400.0, 400.0) == pytest.approx(0.8417, abs=0.002)


def test_what_does_not_vary_is_a_step():
    assert gamma(0.99, 1.0, 0.0) == 0.0
    assert gamma(1.0, 1.0, 0.0) == 1.0


def test_nothing_is_below_nothing():
    assert gamma(0.0, 1.0, 1.0) == 0.0
    assert gamma(-1.0, 1.0, 1.0) == 0.0


@pytest.mark.parametrize(("x", "share"), [(0.0, 0.5), (1.0, 0.841345), (-1.96, 0.024998)])
def test_the_normal_distribution(x, share):
    assert normal(x) == pytest.approx(share, abs=1e-6)
