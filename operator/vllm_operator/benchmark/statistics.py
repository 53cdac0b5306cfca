"""Means of few runs, how far they may be off, and what two of them differ by."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from vllm_operator.tuning.comparison import FLOOR

CONFIDENCE: Final = 0.95
PRECISION: Final = 1e-12
TERMS: Final = 300


@dataclass(frozen=True, slots=True)
class Spread:
    """The mean of a figure's runs."""

    mean: float
    number: int
    variance: float
    """Of single runs; 0 of one run, which says nothing of it."""

    @property
    def half_width(self) -> float | None:
        """How far off the mean may be (95 %, Student's t); None of a single run."""
        if self.number < 2:
            return None
        error = math.sqrt(self.variance / self.number)
        return quantile(CONFIDENCE, self.number - 1) * error


def spread(values: Sequence[float]) -> Spread | None:
    """Mean and variance; None of no values."""
    if not values:
        return None
    number = len(values)
    mean = sum(values) / number
    variance = sum((one - mean) ** 2 for one in values) / (number - 1) if number > 1 else 0.0
    return Spread(mean, number, variance)


@dataclass(frozen=True, slots=True)
class Change:
    """By which share of the first a second figure is larger."""

    share: float
    low: float
    high: float

    @property
    def is_beyond_noise(self) -> bool:
        """Whether no change at all is outside of the interval."""
        return self.low > 0.0 or self.high < 0.0


def change(before: Sequence[float], after: Sequence[float], judged: int = 1) -> Change | None:
    """The change of a figure from its runs; None where either has fewer than two that are positive.

    Of the logarithms, as noise of speeds and latencies is a share of them: the change is that of
    geometric means, with Welch's interval for means of unequal variance, at 95 % for all ``judged``
    figures together (Bonferroni). To it is added what two servers differ by that nothing
    distinguishes and that repeats of one server do not show: 1 % of each, as tuning takes it
    (``tuning.comparison.FLOOR``).
    """
    if min(before, default=0.0) <= 0.0 or min(after, default=0.0) <= 0.0:
        return None
    one, other = (spread([math.log(value) for value in values]) for values in (before, after))
    if one is None or other is None or one.number < 2 or other.number < 2:
        return None
    first, second = one.variance / one.number, other.variance / other.number
    error = math.sqrt(first + second)
    freedom = 1.0
    if error > 0.0:
        freedom = (first + second) ** 2 / (
            first**2 / (one.number - 1) + second**2 / (other.number - 1)
        )
    sure = 1.0 - (1.0 - CONFIDENCE) / judged
    width = math.hypot(quantile(sure, freedom) * error, 2.0 * FLOOR)
    log = other.mean - one.mean
    return Change(*(math.expm1(value) for value in (log, log - width, log + width)))


def quantile(confidence: float, freedom: float) -> float:
    """Student's t within which the share ``confidence`` of the distribution lies, by bisection."""
    low, high = 0.0, 1.0
    while _within(high, freedom) < confidence:
        high *= 2.0
    while high - low > 1e-9 * high:
        middle = (low + high) / 2.0
        if _within(middle, freedom) < confidence:
            low = middle
        else:
            high = middle
    return high


def _within(t: float, freedom: float) -> float:
    """P(|T| <= t): one less the regularised incomplete beta function I_x(freedom / 2, 1 / 2) with
    x = freedom / (freedom + t²) (Abramowitz and Stegun, 26.7.1)."""
    return 1.0 - _beta(freedom / (freedom + t * t), freedom / 2.0, 0.5)


def _beta(x: float, a: float, b: float) -> float:
    if x <= 0.0 or x >= 1.0:
        return min(1.0, max(0.0, x))
    if x > (a + 1.0) / (a + b + 2.0):
        return 1.0 - _beta(1.0 - x, b, a)
    front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    front += a * math.log(x) + b * math.log1p(-x)
    return math.exp(front) * _fraction(x, a, b) / a


def _fraction(x: float, a: float, b: float) -> float:
    """The continued fraction of the incomplete beta function (Abramowitz and Stegun, 26.5.8), by
    the modified Lentz method."""
    c, d = 1.0, 1.0 / (1.0 - (a + b) * x / (a + 1.0) or 1e-300)
    value = d
    for m in range(1, TERMS):
        even = m * (b - m) * x / ((a + 2 * m - 1.0) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1.0))
        for term in (even, odd):
            d = 1.0 / (1.0 + term * d or 1e-300)
            c = 1.0 + term / c or 1e-300
            value *= c * d
        if abs(c * d - 1.0) < PRECISION:
            break
    return value
