"""The two distributions that forecasts need."""

from __future__ import annotations

import math
from typing import Final

TERMS: Final = 500
PRECISION: Final = 1e-9


def normal(x: float) -> float:
    """P(X <= x) of the standard normal distribution."""
    return 0.5 * math.erfc(-x / math.sqrt(2.0))


def gamma(x: float, mean: float, variance: float) -> float:
    """P(X <= x) of the gamma distribution with this mean and variance.

    The regularised lower incomplete gamma function P(a, z): its power series for z < a + 1, else
    one minus Legendre's continued fraction, evaluated by the modified Lentz method (Abramowitz
    and Stegun, 6.5.29 and 6.5.31). From a shape of 100 on the normal distribution of the cube root
    (Wilson and Hilferty, 1931), which is right to a thousandth there.
    """
    if x <= 0.0:
        return 0.0
    if mean <= 0.0:
        return 1.0
    if variance <= 1e-6 * mean * mean:
        return 1.0 if x >= mean else 0.0
    shape, z = mean * mean / variance, x * mean / variance
    if shape > 100.0:
        ninth = 1.0 / (9.0 * shape)
        return normal(((z / shape) ** (1.0 / 3.0) - 1.0 + ninth) / math.sqrt(ninth))
    front = math.exp(shape * math.log(z) - z - math.lgamma(shape))
    if z < shape + 1.0:
        return min(1.0, front * _series(shape, z))
    return max(0.0, 1.0 - front * _fraction(shape, z))


def _series(shape: float, z: float) -> float:
    term = total = 1.0 / shape
    for n in range(1, TERMS):
        term *= z / (shape + n)
        total += term
        if term < PRECISION * total:
            break
    return total


def _fraction(shape: float, z: float) -> float:
    b = z + 1.0 - shape
    c, d = 1e300, 1.0 / b
    value = d
    for n in range(1, TERMS):
        a = n * (shape - n)
        b += 2.0
        d = 1.0 / (a * d + b or 1e-300)
        c = b + a / c or 1e-300
        value *= c * d
        if abs(c * d - 1.0) < PRECISION:
            break
    return value
