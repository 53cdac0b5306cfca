"""What blocks of time say of a fit: where one breaks, how much it varies, what is left over."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from itertools import groupby
from typing import Final

from .regression import LEAST_NOISE, Vector

RUN: Final = 8
"""Intervals in a row on one side of the curve, beyond which a block's effect changed within it."""


def split_where_sides_hold(groups: Sequence[int], residuals: Sequence[float]) -> list[int]:
    """Groups, those in which the residuals stay on one side for long split where they do.

    Where they do so by less than any curve is true to, nothing has changed.
    """
    found: list[int] = []
    number = -1
    for _, members in groupby(range(len(groups)), key=lambda place: groups[place]):
        fresh = True
        for _, run in groupby(members, key=lambda place: residuals[place] > 0):
            places = list(run)
            apart = abs(sum(residuals[place] for place in places)) / len(places)
            long = len(places) > RUN and apart > LEAST_NOISE
            number += fresh or long
            fresh = long
            found += [number] * len(places)
    return found


class Cells:
    """Means of something by cells: of the intervals of a pod in a block of time."""

    def __init__(self, cells: Sequence[int]) -> None:
        self.members: dict[int, list[int]] = defaultdict(list)
        for place, cell in enumerate(cells):
            self.members[cell].append(place)

    def means(self, values: Sequence[float]) -> list[float]:
        """In the order of the cells' first members."""
        return [sum(values[one] for one in some) / len(some) for some in self.members.values()]

    def vectors(self, values: Sequence[Vector]) -> list[Vector]:
        """The same of each component."""
        columns = [self.means(column) for column in zip(*values, strict=True)]
        return list(zip(*columns, strict=True))


def excitation_of(groups: Sequence[int], batches: Sequence[float]) -> float:
    """Standard deviation of ln batch within groups, pooled; 0 where each has only one."""
    values = [math.log(one) for one in batches]
    cells = Cells(groups)
    middles = dict(zip(cells.members, cells.means(values), strict=True))
    squares = sum((one - middles[group]) ** 2 for one, group in zip(values, groups, strict=True))
    free = len(batches) - len(middles)
    return math.sqrt(squares / free) if free > 0 else 0.0


def rank_correlation(left: Sequence[float], right: Sequence[float]) -> float:
    """Spearman's, equal values sharing their ranks; 0 where either does not vary."""
    a, b = _ranks(left), _ranks(right)
    middle = (len(a) + 1) / 2
    top = sum((one - middle) * (other - middle) for one, other in zip(a, b, strict=True))
    below = math.sqrt(sum((one - middle) ** 2 for one in a) * sum((one - middle) ** 2 for one in b))
    return top / below if below else 0.0


def _ranks(values: Sequence[float]) -> list[float]:
    order = sorted(range(len(values)), key=lambda place: values[place])
    ranks = [0.0] * len(values)
    done = 0
    for _, equal in groupby(order, key=lambda place: values[place]):
        places = list(equal)
        for place in places:
            ranks[place] = done + (len(places) + 1) / 2
        done += len(places)
    return ranks
