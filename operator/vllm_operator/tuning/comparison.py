"""What a difference is, seen again and again: bounds that hold at every look."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Final, NamedTuple

ALPHA: Final = 0.05
FIRST_LOOK: Final = 20
"""Observations at which the sequence of bounds is narrowest."""
CORRELATED: Final = 2.0
"""By which the variance of a mean of neighbouring intervals is larger than of independent ones, at
least."""
MOST_CORRELATED: Final = 0.8
"""Correlation of neighbours above which there is little to be learned from their number."""
FLOOR: Final = 0.01
"""Standard deviation by which two pods differ that nothing distinguishes."""
SURE: Final = 20.0
"""An e-value that is reached by chance at most once in as many trials, however often one looks."""

_RHO: Final = (-2 * math.log(ALPHA) + math.log(1 - 2 * math.log(ALPHA))) / FIRST_LOOK


class Estimate(NamedTuple):
    """A value, and how far from it the truth may be at any look."""

    value: float
    half_width: float

    @property
    def low(self) -> float:
        """The lower bound."""
        return self.value - self.half_width

    @property
    def high(self) -> float:
        """The upper bound."""
        return self.value + self.half_width


def inflation(values: Sequence[float]) -> float:
    """By how much the variance of the mean of a series is larger than of independent values.

    (1 + r) / (1 - r) with r the correlation of neighbours; at least 2.
    """
    middle = sum(values) / max(1, len(values))
    around = [one - middle for one in values]
    squares = sum(one * one for one in around)
    together = sum(one * other for one, other in pairwise(around))
    r = min(MOST_CORRELATED, max(0.0, together / squares)) if squares > 0 else 0.0
    return max(CORRELATED, (1 + r) / (1 - r))


def width(
    number: float, error: float, floor: float = FLOOR, correlated: float = CORRELATED
) -> float:
    """Half the width of the confidence sequence of a mean of ``number`` intervals.

    ``error`` is its standard error were they independent, ``correlated`` what ``inflation`` says.
    Asymptotic, by a normal mixture (Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas, "Time-uniform
    central limit theory and asymptotic confidence sequences", 2021): with 95 % it holds at all
    looks at once.
    """
    mixed = number * _RHO
    factor = 2 * (mixed + 1) / mixed * math.log(math.sqrt(mixed + 1) / ALPHA)
    # What two pods differ by is there at every look and is not drawn anew.
    return math.sqrt(factor * correlated * error**2 + (2 * floor) ** 2)


def mean(values: Sequence[float], floor: float = FLOOR) -> Estimate | None:
    """The mean of intervals' values in their order; None of fewer than two."""
    number = len(values)
    if number < 2:
        return None
    middle = sum(values) / number
    variance = sum((one - middle) ** 2 for one in values) / (number - 1)
    return Estimate(middle, width(number, math.sqrt(variance / number), floor, inflation(values)))


def share(parts: Sequence[tuple[float, float]]) -> Estimate | None:
    """The share of samples that are counted, of intervals' (counted, all); None of too few.

    Samples of an interval go together, so intervals are the items; but the share never is surer
    than of independent samples.
    """
    parts = [one for one in parts if one[1] > 0]
    total = sum(of for _, of in parts)
    if len(parts) < 2:
        return None
    middle = sum(counted for counted, _ in parts) / total
    clustered = sum((counted - middle * of) ** 2 for counted, of in parts) / total**2
    careful = (middle * total + 1) / (total + 2)
    variance = max(clustered, careful * (1 - careful) / total / CORRELATED)
    return Estimate(middle, width(len(parts), math.sqrt(variance), 0.0))


def contrast(
    here: Mapping[int, float], there: Mapping[int, float], *, paired: bool, floor: float = FLOOR
) -> Estimate | None:
    """By how much values ``here`` are above those ``there``, of the same slots or of different."""
    if paired:
        return mean(
            [here[slot] - there[slot] for slot in sorted(here.keys() & there.keys())], floor
        )
    if len(here) < 2 or len(there) < 2:
        return None
    means, errors = [], 0.0
    for values in (list(here.values()), list(there.values())):
        middle = sum(values) / len(values)
        means.append(middle)
        errors += sum((one - middle) ** 2 for one in values) / (len(values) - 1) / len(values)
    number = min(len(here), len(there))
    return Estimate(means[0] - means[1], width(number, math.sqrt(errors), floor))


def e_value(failed: float, of: float, expected: float) -> float:
    """Evidence that more than the share ``expected`` of ``of`` failures are those ``failed``.

    Likelihood under a share drawn from Beta(1/2, 1/2) over that under ``expected``; 0 where it is
    no more than expected. At most ``1 / x`` of trials without a difference ever reach ``x``.
    """
    if of <= 0 or not 0.0 < expected < 1.0 or failed <= expected * of:
        return 0.0
    half = 0.5
    drawn = math.lgamma(failed + half) + math.lgamma(of - failed + half) - math.lgamma(of + 1)
    drawn -= 2 * math.lgamma(half)
    fixed = failed * math.log(expected) + (of - failed) * math.log1p(-expected)
    return math.exp(min(700.0, drawn - fixed))
