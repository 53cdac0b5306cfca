"""How long a step takes on this server: the performance model's own curve, fitted to intervals.

The time between tokens is not regressed on the batch alone: when something slows the machine down,
requests stay longer and the batch grows, so that slow minutes are large-batch minutes. Multipliers
of the model's parts are fitted instead, with an effect for each pod's ten minutes, so that the
slope comes from within them. Times are in seconds, lengths in tokens.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median, stdev
from typing import Any, Final, NamedTuple

from vllm_operator.api.canonical import digest
from vllm_operator.sizing.performance.multipliers import Multipliers
from vllm_operator.sizing.performance.server import Server

from .blocks import Cells, excitation_of, rank_correlation, split_where_sides_hold
from .durations import Durations
from .intervals import Interval, enough
from .points import Clock, Point, lengths, point, seconds
from .regression import (
    LEAST_NOISE,
    Groups,
    Linear,
    Matrix,
    Solution,
    Vector,
    diagonal,
    fitted,
    quadratic,
)

BLOCK_DEVIATION: Final = 0.15
TODAY: Final = 3
"""Blocks whose median effect is the level of today."""
CORRELATION: Final = 0.3
CORRELATED: Final = 30
"""Intervals that it takes."""
IDENTIFIED: Final = 0.9
"""Of its prior's standard deviation, below which data said something of a multiplier."""
LEAST_DEVIATION: Final = 0.03
"""Steps are padded to the sizes of graphs, which the curve does not have."""
SHAPE: Final = 0.05
"""Standard deviation that a batch e times as large as those seen adds."""
BUMP: Final = 1e-4
"""Of a multiplier, for a derivative."""
ALIKE: Final = 0.1
"""Change of all multipliers within which gradients are kept."""
KEPT_AS: Final = "latency."
"""How the keys of curves begin, beside others in a ConfigMap."""
MEMORY: Final = 0.1
"""Standard deviation by which servers of one kind differ in each multiplier."""


class Prior(NamedTuple):
    """What is believed of the multipliers before anything is seen: normal in the logarithms."""

    mean: Multipliers
    covariance: Matrix

    def deviations(self) -> Vector:
        """Standard deviation of each."""
        return tuple(math.sqrt(row[place]) for place, row in enumerate(self.covariance))


HOST: Final = 0.35
"""Standard deviation of how fast a host is, for what it does in a step and for a sequence alike."""
SEQUENCES: Final = 0.7
"""Of how long it takes for a sequence, beside that: what its processors and samplers differ by."""


def _unseen() -> Prior:
    """Independent, but for what the host does: of a slow one, both of its parts are slow."""
    deviations = Multipliers(HOST, 0.35, 0.35, 0.5, math.hypot(HOST, SEQUENCES))
    step, sequence = map(Multipliers._fields.index, ("overheads", "sequences"))
    rows = [list(row) for row in diagonal(deviations)]
    rows[step][sequence] = rows[sequence][step] = HOST**2
    return Prior(Multipliers(), tuple(map(tuple, rows)))


UNSEEN: Final = _unseen()
"""Around the fitted coefficients, as wide as those of different hardware differ."""


@dataclass(frozen=True, slots=True)
class Posterior:
    """What was learned of a server's curve. Deviations and levels are in natural logarithms."""

    mean: Multipliers
    covariance: Matrix
    level: float
    """By how much longer than ``mean`` says steps take today: the median of the last blocks."""
    level_deviation: float
    """Of ``level``, were the multipliers known."""
    centre: Vector
    """How a mean interval of today depends on the multipliers: there they are known best."""
    noise: float
    """Of one interval."""
    batch: float
    """95th percentile of the batches seen."""
    intervals: int
    blocks: int
    """Spans of time, whatever the number of pods."""
    excitation: float
    """Standard deviation of ln batch within blocks: without any the slope is the prior's."""
    correlation: float
    """Of the ranks of residuals and batches; 0 where no more is left than noise."""
    drift: float
    """Level of today less that of the three blocks before."""
    unsteadiness: float
    """Standard deviation of the blocks' effects."""
    identified: tuple[str, ...]
    """Multipliers of which data said something."""

    @property
    def today(self) -> Multipliers:
        """The multipliers at the level of today."""
        return self.mean.shifted(self.level)

    @property
    def shape_wrong(self) -> bool:
        """Whether residuals depend on the batch: the curve has another shape."""
        return self.intervals >= CORRELATED and abs(self.correlation) > CORRELATION

    def prior(self) -> Prior:
        """For the next fit of a server of the kind."""
        covariance = tuple(
            tuple(one + MEMORY**2 * (i == j) for j, one in enumerate(row))
            for i, row in enumerate(self.covariance)
        )
        return Prior(self.mean, covariance)

    def latency(self, server: Server, at: Point) -> float:
        """Seconds between two tokens at the level of today; ``server`` is as shipped, unscaled."""
        return seconds(server.scaled(self.today), at)

    def deviation(self, server: Server, at: Point) -> float:
        """Standard deviation of ln latency at ``at``: multiply by exp(z * it) for a quantile.

        Of the mean, an interval's noise not counted. Least around today's intervals, where the
        level is known whatever the multipliers are.
        """
        gradient = linearised(server, self.mean, [at])[1][0]
        away = [one - centre for one, centre in zip(gradient, self.centre, strict=True)]
        beyond = SHAPE * max(0.0, math.log(at.batch / self.batch))
        known = quadratic(self.covariance, away) + self.level_deviation**2
        return math.sqrt(max(0.0, known) + beyond**2 + LEAST_DEVIATION**2)

    def to_json_object(self) -> dict[str, Any]:
        """As plain JSON."""
        return asdict(self) | {"mean": list(self.mean)}

    @classmethod
    def from_json_object(cls, document: Mapping[str, Any]) -> Posterior:
        """The inverse of ``to_json_object``. Raises KeyError, TypeError, ValueError."""
        numbers = (
            *("level", "level_deviation", "noise", "batch", "excitation"),
            *("correlation", "drift", "unsteadiness"),
        )
        mean, rows = list(document["mean"]), list(document["covariance"])
        lengths_of = {len(one) for one in (mean, rows, document["centre"], *rows)}
        if lengths_of != {len(Multipliers._fields)}:
            raise ValueError(f"of {len(mean)} multipliers, not of {', '.join(Multipliers._fields)}")
        return cls(
            mean=Multipliers(*map(float, mean)),
            covariance=tuple(tuple(map(float, row)) for row in rows),
            centre=tuple(map(float, document["centre"])),
            intervals=int(document["intervals"]),
            blocks=int(document["blocks"]),
            identified=tuple(map(str, document["identified"])),
            **{name: float(document[name]) for name in numbers},
        )


def assumed(prior: Prior = UNSEEN, *, batch: float) -> Posterior:
    """What is believed where nothing was learned; ``batch`` is all that was seen."""
    return Posterior(
        mean=prior.mean,
        covariance=prior.covariance,
        level=0.0,
        level_deviation=0.0,
        centre=(0.0,) * len(prior.mean),
        noise=0.0,
        batch=batch,
        intervals=0,
        blocks=0,
        excitation=0.0,
        correlation=0.0,
        drift=0.0,
        unsteadiness=0.0,
        identified=(),
    )


def key(model: str, version: str, gpu: str, split: str, kv: str) -> str:
    """For what a posterior holds, as a key of a ConfigMap."""
    return f"{KEPT_AS}{digest([model, version, gpu, split, kv], 32)}"


def linearised(server: Server, multipliers: Vector, points: Sequence[Point]) -> Linear:
    """ln latency at each of ``points``, and by how much it grows with each multiplier.

    The sensitivities are the parts' shares of the time, so the last is what the others leave.
    """
    bumped = (
        tuple(one + BUMP * (i == j) for j, one in enumerate(multipliers))
        for i in range(len(multipliers) - 1)
    )
    base, *more = (
        _logarithms(server.scaled(Multipliers(*some)), points) for some in (multipliers, *bumped)
    )
    gradients = []
    for value, *others in zip(base, *more, strict=True):
        shares = [(one - value) / BUMP for one in others]
        gradients.append((*shares, 1.0 - sum(shares)))
    return base, gradients


def _logarithms(server: Server, points: Sequence[Point]) -> list[float]:
    clock = Clock(server)
    return [math.log(clock.seconds(at)) for at in points]


class Curve:
    """The curve at some points; gradients are kept while the multipliers hardly change."""

    def __init__(self, server: Server, points: Sequence[Point]) -> None:
        self.server, self.points = server, points
        self.at: Vector = ()
        self.gradients: Sequence[Vector] = ()

    def linearised(self, multipliers: Vector) -> Linear:
        """ln latency at each point and its gradient, as ``linearised``."""
        if self.at and max(abs(a - b) for a, b in zip(self.at, multipliers, strict=True)) < ALIKE:
            here = self.server.scaled(Multipliers(*multipliers))
            return _logarithms(here, self.points), self.gradients
        values, self.gradients = linearised(self.server, multipliers, self.points)
        self.at = multipliers
        return values, self.gradients


def fit(
    intervals: Iterable[Interval],
    server: Server,
    prior: Prior = UNSEEN,
    durations: Durations | None = None,
) -> Posterior | None:
    """The multipliers that explain ``intervals`` best, whatever their order; None without any.

    Of one pod or of several, all with the knobs of ``server``. Intervals that are not ``enough``
    are joined or left out. ln of the mean time of a step is fitted, maximum a posteriori, with an
    effect for each pod and block, N(0, 0.15^2) with a heavy tail, and by Huber's weights.
    """
    ones = enough(intervals)
    if not ones:
        return None
    block = (durations or Durations()).block
    mean, cap = lengths(ones), server.limits.sequences
    points = [point(one, mean, cap) for one in ones]
    observed = [math.log(one.step_seconds) for one in ones]
    first = min(one.end for one in ones)
    spans = [int((one.end - first) / block) for one in ones]
    places = [(one.pod, span) for one, span in zip(ones, spans, strict=True)]
    numbers = {place: number for number, place in enumerate(dict.fromkeys(places))}
    groups = [numbers[place] for place in places]

    curve = Curve(server, points)

    def solved(of: Sequence[int], start: Vector | None) -> Solution:
        return fitted(
            curve.linearised,
            observed,
            Groups(of, BLOCK_DEVIATION),
            prior,
            start,
        )

    found = solved(groups, None)
    split = split_where_sides_hold(groups, found.residuals)
    if split != groups:
        found = solved(split, found.mean)
    return _told(found, prior, list(places), split, [at.batch for at in points])


def _told(
    found: Solution,
    prior: Prior,
    places: Sequence[tuple[str, int]],
    groups: Sequence[int],
    batches: Sequence[float],
) -> Posterior:
    """``places``: pod and span of each interval; ``groups``: those that have one effect."""
    numbers = {place: number for number, place in enumerate(dict.fromkeys(places))}
    blocks = [numbers[place] for place in places]
    cells = Cells(blocks)
    effects = cells.means([found.effects[group] for group in groups])
    variances = cells.means([found.variances[group] for group in groups])
    pulls = cells.vectors([found.pulls[group] for group in groups])
    spans = sorted({span for _, span in numbers})
    today = [number for (_, span), number in numbers.items() if span in spans[-TODAY:]]
    earlier = spans[-2 * TODAY : -TODAY]
    before = [effects[number] for (_, span), number in numbers.items() if span in earlier]
    level = median(effects[number] for number in today)
    count = len(today)
    centre = tuple(
        sum(pulls[number][i] for number in today) / count for i in range(len(prior.mean))
    )
    deviations = [math.sqrt(row[place]) for place, row in enumerate(found.covariance)]
    left = found.noise > LEAST_NOISE
    return Posterior(
        mean=Multipliers(*found.mean),
        covariance=found.covariance,
        level=level,
        level_deviation=math.sqrt(sum(variances[number] for number in today)) / count,
        centre=centre,
        noise=found.noise,
        batch=quantile(batches, 0.95),
        intervals=len(batches),
        blocks=len(spans),
        excitation=excitation_of(blocks, batches),
        correlation=rank_correlation(found.residuals, batches) if left else 0.0,
        drift=level - median(before) if before else 0.0,
        unsteadiness=stdev(effects) if len(effects) > 1 else 0.0,
        identified=tuple(
            name
            for name, here, before_it in zip(
                Multipliers._fields, deviations, prior.deviations(), strict=True
            )
            if here <= IDENTIFIED * before_it
        ),
    )


def quantile(values: Sequence[float], share: float) -> float:
    """The value that ``share`` of them do not pass, between neighbours in proportion."""
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])
