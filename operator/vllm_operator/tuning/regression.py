"""Robust least squares with an effect for each group of observations, in plain Python.

Gauss-Newton on a few parameters with a normal prior. Effects of groups (blocks of time, or the
moments of a trial) are solved out of the normal equations by their Schur complement, so that only a
matrix of the parameters' size is left, however many groups there are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import mul
from statistics import median
from typing import Final

Vector = tuple[float, ...]
Matrix = tuple[Vector, ...]
Linear = tuple[Sequence[float], Sequence[Vector]]
"""Values, and the gradient of each."""

HUBER: Final = 1.345
"""Deviations beyond which an observation counts less: 95 % as efficient as least squares under
normal noise (Huber, "Robust Statistics", 1981)."""
NORMAL_MAD: Final = 1.4826
"""Standard deviation over median absolute deviation of a normal distribution."""
HEAVY_TAIL: Final = 4.0
"""Degrees of freedom of Student's t for the effects of groups."""
LEAST_NOISE: Final = 0.01
"""Means of neighbouring intervals are not independent, and no curve is true to less than this."""
ROUNDS: Final = 12
REWEIGHTED: Final = 8
"""Times that weights are found anew within a linearisation."""
CLOSE: Final = 1e-3
"""A change of all parameters after which weights are not found anew."""
NEAR: Final = 3e-3
"""A step of all parameters after which no other is made: a few thousandths of a step's time."""
LONGEST: Final = 0.7
"""Of a step in the logarithms, to which the linearisation is trusted."""


@dataclass(frozen=True, slots=True)
class Groups:
    """To which group each observation belongs, and how far their effects spread."""

    of: Sequence[int]
    """Numbers from 0."""
    deviation: float
    """Standard deviation of the effects around 0, with the tail of Student's t."""

    @property
    def number(self) -> int:
        """How many there are."""
        return max(self.of, default=-1) + 1


@dataclass(frozen=True, slots=True)
class Solution:
    """What was found."""

    mean: Vector
    """The parameters."""
    covariance: Matrix
    effects: Vector
    """Of each group."""
    pulls: tuple[Vector, ...]
    """Of each group the mean gradient of its observations: by how much its effect falls where a
    parameter is larger."""
    variances: Vector
    """Of each group's effect, were the parameters known."""
    residuals: Vector
    """Of each observation, the effect of its group taken out."""
    noise: float
    """Standard deviation of the residuals, by their median absolute deviation."""


def spread(values: Sequence[float], least: float = 0.0) -> float:
    """Standard deviation by the median absolute deviation from 0, at least ``least``."""
    return max(least, NORMAL_MAD * median(abs(one) for one in values)) if values else least


def fitted(
    linearised: Callable[[Vector], Linear],
    observed: Sequence[float],
    groups: Groups,
    prior: tuple[Vector, Matrix],
    start: Vector | None = None,
) -> Solution:
    """The parameters that agree best with ``observed`` and with their prior's mean and covariance.

    ``linearised`` gives what is expected of each observation for some parameters, and its
    gradients. Weights and effects are found within a linearisation, which costs little.
    """
    mean, precision = prior[0], inverted(prior[1])
    size = len(mean)
    at = start or mean
    effects = [0.0] * groups.number
    for _ in range(ROUNDS):
        values, gradients = linearised(at)
        columns = list(zip(*gradients, strict=True))
        differences = [one - value for one, value in zip(observed, values, strict=True)]
        moved: Vector = (0.0,) * size
        for _again in range(REWEIGHTED):
            residuals = _residuals(differences, columns, moved, effects, groups.of)
            scale = spread(residuals, LEAST_NOISE)
            limit = HUBER * scale
            weights = [min(1.0, limit / max(abs(one), 1e-12)) / scale**2 for one in residuals]
            sums = _Sums(columns, differences, weights, groups, effects)
            away = [one - by for one, by in zip(mean, at, strict=True)]
            pull = tuple(dot(row, away) for row in precision)
            before = moved
            moved, covariance = sums.solved(precision, pull)
            effects = sums.effects(moved)
            if max(abs(one - by) for one, by in zip(moved, before, strict=True)) < CLOSE:
                break
        residuals = _residuals(differences, columns, moved, effects, groups.of)
        step = max(abs(one) for one in moved)
        shorter = min(1.0, LONGEST / step) if step else 1.0
        at = tuple(one + shorter * by for one, by in zip(at, moved, strict=True))
        if step < NEAR:
            break
    return Solution(
        mean=at,
        covariance=covariance,
        effects=tuple(effects),
        pulls=sums.pulls(),
        variances=tuple(1.0 / one for one in sums.precisions),
        residuals=tuple(residuals),
        noise=spread(residuals, LEAST_NOISE),
    )


def _residuals(
    differences: Sequence[float],
    columns: Sequence[Sequence[float]],
    moved: Vector,
    effects: Sequence[float],
    groups: Sequence[int],
) -> list[float]:
    left = [one - effects[group] for one, group in zip(differences, groups, strict=True)]
    for by, column in zip(moved, columns, strict=True):
        if by:
            left = [one - by * more for one, more in zip(left, column, strict=True)]
    return left


class _Sums:
    """The normal equations, groups apart."""

    def __init__(
        self,
        columns: Sequence[Sequence[float]],
        differences: Sequence[float],
        weights: Sequence[float],
        groups: Groups,
        effects: Sequence[float],
    ) -> None:
        deviation = groups.deviation
        weighted = [list(map(mul, weights, column)) for column in columns]
        self.matrix = [[sum(map(mul, one, other)) for other in columns] for one in weighted]
        self.right = [sum(map(mul, one, differences)) for one in weighted]
        self.precisions = [
            (HEAVY_TAIL + 1.0) / (HEAVY_TAIL + (one / deviation) ** 2) / deviation**2
            for one in effects
        ]
        self.totals = [0.0] * len(effects)
        by_column = [[0.0] * len(effects) for _ in columns]
        for group, weight, difference in zip(groups.of, weights, differences, strict=True):
            self.precisions[group] += weight
            self.totals[group] += weight * difference
        for sums, column in zip(by_column, weighted, strict=True):
            for group, one in zip(groups.of, column, strict=True):
                sums[group] += one
        self.coupling = list(zip(*by_column, strict=True))

    def solved(self, precision: Matrix, pull: Vector) -> tuple[Vector, Matrix]:
        """The step of the parameters, and their covariance."""
        size = len(self.right)
        matrix = [[self.matrix[i][j] + precision[i][j] for j in range(size)] for i in range(size)]
        right = [one + more for one, more in zip(self.right, pull, strict=True)]
        for own, coupling, total in zip(self.precisions, self.coupling, self.totals, strict=True):
            for i in range(size):
                share = coupling[i] / own
                right[i] -= share * total
                for j in range(size):
                    matrix[i][j] -= share * coupling[j]
        covariance = inverted(tuple(tuple(row) for row in matrix))
        return tuple(dot(row, right) for row in covariance), covariance

    def effects(self, moved: Vector) -> list[float]:
        return [
            (total - dot(coupling, moved)) / own
            for own, coupling, total in zip(
                self.precisions, self.coupling, self.totals, strict=True
            )
        ]

    def pulls(self) -> tuple[Vector, ...]:
        return tuple(
            tuple(one / own for one in coupling)
            for own, coupling in zip(self.precisions, self.coupling, strict=True)
        )


def dot(left: Sequence[float], right: Sequence[float]) -> float:
    """Inner product."""
    return sum(one * other for one, other in zip(left, right, strict=True))


def quadratic(matrix: Matrix, vector: Sequence[float]) -> float:
    """The variance of what has the gradient ``vector``, for parameters of covariance ``matrix``."""
    return dot(vector, [dot(row, vector) for row in matrix])


def diagonal(deviations: Sequence[float]) -> Matrix:
    """The covariance of independent parameters of these standard deviations."""
    return tuple(
        tuple(one * one if i == j else 0.0 for j in range(len(deviations)))
        for i, one in enumerate(deviations)
    )


def inverted(matrix: Matrix) -> Matrix:
    """The inverse of a symmetric positive definite matrix, by Gauss and Jordan."""
    size = len(matrix)
    rows = [[*row, *(1.0 if i == j else 0.0 for j in range(size))] for i, row in enumerate(matrix)]
    for i in range(size):
        pivot = rows[i][i]
        rows[i] = [one / pivot for one in rows[i]]
        for j in range(size):
            if j != i and rows[j][i]:
                factor = rows[j][i]
                rows[j] = [one - factor * by for one, by in zip(rows[j], rows[i], strict=True)]
    return tuple(tuple(row[size:]) for row in rows)
