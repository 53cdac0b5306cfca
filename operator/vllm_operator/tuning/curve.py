"""How long a step takes on this server: the performance model's own curve, fitted to intervals.

The time between tokens is not regressed on the batch alone: when something slows the machine down,
requests stay longer and the batch grows, so that slow minutes are large-batch minutes. Four
multipliers of the model's parts are fitted instead, with an effect for each pod's ten minutes, so
that the slope comes from within them. Times are in seconds, lengths in tokens.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from statistics import median
from typing import Any, Final, NamedTuple

from vllm_operator.api.canonical import digest
from vllm_operator.sizing.performance.multipliers import Multipliers
from vllm_operator.sizing.performance.server import Server

from .durations import Durations
from .intervals import Interval
from .regression import Groups, Linear, Matrix, Solution, Vector, diagonal, fitted, quadratic

LEAST_STEPS: Final = 20
LEAST_GAPS: Final = 50
BURST: Final = 0.2
"""Preemptions of a running request from which on an interval shows their cost, not the curve's."""
BLOCK_DEVIATION: Final = 0.15
RUN: Final = 8
"""Intervals in a row on one side of the curve, beyond which a block's effect changed within it."""
TODAY: Final = 3
"""Blocks whose median effect is the level of today."""
CORRELATION: Final = 0.3
CORRELATED: Final = 30
"""Intervals from which on a rank correlation of residual and batch says something."""
IDENTIFIED: Final = 0.9
"""Of its prior's standard deviation, below which data said something of a multiplier."""
SHAPE: Final = 0.05
"""Standard deviation that a batch e times as large as those seen adds: no model has the true
shape."""
BUMP: Final = 1e-4
"""Of a multiplier, for a derivative."""
MEMORY: Final = 0.1
"""Standard deviation by which servers of one kind differ in each multiplier."""


class Lengths(NamedTuple):
    """Tokens of a mean request."""

    computed: float
    """Of its prompt, those not found in the prefix cache."""
    cached: float
    """Of its prompt, those found there."""
    generated: float
    """Before a token that is generated at a random time: more than half of the mean output where
    lengths differ, as long ones are met more often."""

    @property
    def context(self) -> float:
        """Tokens that a generated one attends to."""
        return self.computed + self.cached + self.generated


def lengths(intervals: Iterable[Interval]) -> Lengths:
    """Mean lengths over a window; the output's from requests that finished in it, E[o^2] / 2 E[o].

    0 where none started or finished.
    """
    ones = list(intervals)
    started = max(1.0, sum(one.first_tokens for one in ones))
    outputs = sum(one.finished_output_tokens for one in ones)
    squares = sum(one.finished_output_squares for one in ones)
    return Lengths(
        computed=sum(one.prompt_tokens for one in ones) / started,
        cached=sum(one.cached_tokens for one in ones) / started,
        generated=squares / (2 * outputs) if outputs else 0.0,
    )


class Point(NamedTuple):
    """What a mean step of one engine carries."""

    batch: float
    """Generated tokens, as a request that generates meets them."""
    prompt: float
    """Prompt tokens that are computed."""
    starts: float
    """Requests that start."""
    context: float
    """Tokens that each generated one attends to."""
    prompt_context: float
    """Tokens that each of a prompt attends to."""


def point(interval: Interval, mean: Lengths, cap: float) -> Point:
    """What a mean step of ``interval`` carried; ``cap`` requests run at most.

    The mean of the time between tokens counts each step as often as it has requests. Where they
    arrive independently that is the time at one request more than the mean; where the batch is
    full all steps are alike.
    """
    batch = interval.batch
    return Point(
        batch=batch + max(0.0, 1.0 - batch / cap),
        prompt=interval.prompt,
        starts=interval.starts,
        context=mean.context,
        prompt_context=mean.cached + mean.computed / 2,
    )


def seconds(server: Server, at: Point) -> float:
    """Mean seconds between two tokens of a request: of steps with pieces of prompts and without.

    Requests that start come independently, x in a step, and each stays for the pieces that its
    prompt is cut into, so 1 - exp(-x pieces) of the steps carry one. The mean of both kinds of
    steps is not a step with the mean prompt, as the roofline bends between them.
    """
    times, split = server.times, server.work.split
    in_flight = float(split.pipeline)
    alone = times.step(at.batch, at.context, 0.0, 0.0, in_flight=in_flight)
    if at.prompt <= 0.0 or at.starts <= 0.0:
        return alone
    room = max(1.0, server.limits.tokens - at.batch)
    share = -math.expm1(-at.starts * max(1.0, at.prompt / at.starts / room))
    # No step holds more than there is room for: where prompts queue, nearly all have a piece.
    share = max(share, min(1.0, at.prompt / room))
    anywhere = 1.0 - (1.0 - share) ** times.ranks
    mixed = times.step(
        at.batch,
        at.context,
        at.prompt / share,
        at.prompt_context,
        in_flight=in_flight,
        prompting=times.ranks * share / anywhere,
    )
    return (1.0 - anywhere) * alone + anywhere * mixed


class Prior(NamedTuple):
    """What is believed of the multipliers before anything is seen: normal in the logarithms."""

    mean: Multipliers
    covariance: Matrix

    def deviations(self) -> Vector:
        """Standard deviation of each."""
        return tuple(math.sqrt(row[place]) for place, row in enumerate(self.covariance))


UNSEEN: Final = Prior(Multipliers(), diagonal((0.35, 0.35, 0.35, 0.5)))
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
    """Of the ranks of residuals and batches."""
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
        wider = zip(self.covariance, diagonal((MEMORY,) * 4), strict=True)
        covariance = tuple(
            tuple(a + b for a, b in zip(row, more, strict=True)) for row, more in wider
        )
        return Prior(self.mean, covariance)

    def latency(self, server: Server, at: Point) -> float:
        """Seconds between two tokens at the level of today; ``server`` is as shipped, unscaled.

        For many points, ``seconds(server.scaled(self.today), point)`` scales once.
        """
        return seconds(server.scaled(self.today), at)

    def deviation(self, server: Server, at: Point) -> float:
        """Standard deviation of ln latency at ``at``: multiply by exp(z * it) for a quantile.

        Of the mean, an interval's noise not counted. Least around today's intervals, where the
        level is known whatever the multipliers are.
        """
        gradient = linearised(server, self.mean, [at])[1][0]
        away = [one - centre for one, centre in zip(gradient, self.centre, strict=True)]
        beyond = SHAPE * max(0.0, math.log(at.batch / self.batch))
        variance = quadratic(self.covariance, away) + self.level_deviation**2 + beyond**2
        return math.sqrt(max(0.0, variance))

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
        return cls(
            mean=Multipliers(*map(float, document["mean"])),
            covariance=tuple(tuple(map(float, row)) for row in document["covariance"]),
            centre=tuple(map(float, document["centre"])),
            intervals=int(document["intervals"]),
            blocks=int(document["blocks"]),
            identified=tuple(map(str, document["identified"])),
            **{name: float(document[name]) for name in numbers},
        )


def key(model: str, version: str, gpu: str, split: str, kv: str) -> str:
    """For what a posterior holds, as a key of a ConfigMap."""
    return f"latency.{digest([model, version, gpu, split, kv], 32)}"


def linearised(server: Server, multipliers: Vector, points: Sequence[Point]) -> Linear:
    """ln latency at each of ``points``, and by how much it grows with each multiplier.

    The sensitivities are the parts' shares of the time, so the last is what the others leave.
    """
    bumped = (
        tuple(one + BUMP * (i == j) for j, one in enumerate(multipliers))
        for i in range(len(multipliers) - 1)
    )
    base, *more = (
        [math.log(seconds(here, at)) for at in points]
        for here in (server.scaled(Multipliers(*some)) for some in (multipliers, *bumped))
    )
    gradients = []
    for value, *others in zip(base, *more, strict=True):
        shares = [(one - value) / BUMP for one in others]
        gradients.append((*shares, 1.0 - sum(shares)))
    return base, gradients


def usable(interval: Interval) -> bool:
    """Whether an interval's mean says something of the curve."""
    enough = interval.steps >= LEAST_STEPS and interval.gaps >= LEAST_GAPS
    return enough and interval.preemptions <= BURST * max(1.0, interval.running)


def fit(
    intervals: Iterable[Interval],
    server: Server,
    prior: Prior = UNSEEN,
    durations: Durations | None = None,
) -> Posterior | None:
    """The multipliers that explain ``intervals`` best, whatever their order; None without any.

    Of one pod or of several, all with the knobs of ``server``. Intervals that ``usable`` refuses
    are left out. ln of the mean time between tokens is fitted, maximum a posteriori, with an effect
    for each pod and block, N(0, 0.15^2) with a heavy tail, and by Huber's weights.
    """
    ones = sorted(filter(usable, intervals), key=lambda one: (one.pod, one.end))
    if not ones:
        return None
    block = (durations or Durations()).block
    mean, cap = lengths(ones), server.limits.sequences
    points = [point(one, mean, cap) for one in ones]
    observed = [math.log(one.latency) for one in ones]
    first = min(one.end for one in ones)
    spans = [int((one.end - first) / block) for one in ones]
    places = [(one.pod, span) for one, span in zip(ones, spans, strict=True)]
    numbers = {place: number for number, place in enumerate(dict.fromkeys(places))}
    groups = [numbers[place] for place in places]

    def solved(of: Sequence[int], start: Vector | None) -> Solution:
        return fitted(
            lambda multipliers: linearised(server, multipliers, points),
            observed,
            Groups(of, BLOCK_DEVIATION),
            prior,
            start,
        )

    found = solved(groups, None)
    split = _split(groups, found.residuals)
    if split != groups:
        found = solved(split, found.mean)
    batches = [at.batch for at in points]
    return _told(found, prior, spans, split, batches, _excitation(groups, batches))


def _split(groups: Sequence[int], residuals: Sequence[float]) -> list[int]:
    """Groups, those in which the residuals stay on one side for long split where they do."""
    found: list[int] = []
    number = -1
    for _, members in groupby(range(len(groups)), key=lambda place: groups[place]):
        fresh = True
        for _, run in groupby(members, key=lambda place: residuals[place] > 0):
            places = list(run)
            long = len(places) > RUN
            number += fresh or long
            fresh = long
            found += [number] * len(places)
    return found


def _excitation(groups: Sequence[int], batches: Sequence[float]) -> float:
    within: dict[int, list[float]] = defaultdict(list)
    for group, batch in zip(groups, batches, strict=True):
        within[group].append(math.log(batch))
    squares = sum((one - sum(some) / len(some)) ** 2 for some in within.values() for one in some)
    free = len(batches) - len(within)
    return math.sqrt(squares / free) if free > 0 else 0.0


def _told(
    found: Solution,
    prior: Prior,
    spans: Sequence[int],
    groups: Sequence[int],
    batches: Sequence[float],
    excitation: float,
) -> Posterior:
    of_span: dict[int, set[int]] = defaultdict(set)
    for span, group in zip(spans, groups, strict=True):
        of_span[span].add(group)
    latest = sorted(of_span)
    today = sorted(set().union(*(of_span[span] for span in latest[-TODAY:])))
    before = set().union(*(of_span[span] for span in latest[-2 * TODAY : -TODAY]))
    level = median(found.effects[group] for group in today)
    drift = level - median(found.effects[group] for group in before) if before else 0.0
    count = len(today)
    centre = tuple(sum(found.pulls[group][i] for group in today) / count for i in range(4))
    mean_effect = sum(found.effects) / len(found.effects)
    squares = sum((one - mean_effect) ** 2 for one in found.effects)
    deviations = [math.sqrt(row[place]) for place, row in enumerate(found.covariance)]
    return Posterior(
        mean=Multipliers(*found.mean),
        covariance=found.covariance,
        level=level,
        level_deviation=math.sqrt(sum(found.variances[group] for group in today)) / count,
        centre=centre,
        noise=found.noise,
        batch=quantile(batches, 0.95),
        intervals=len(batches),
        blocks=len(latest),
        excitation=excitation,
        correlation=rank_correlation(found.residuals, batches),
        drift=drift,
        unsteadiness=math.sqrt(squares / max(1, len(found.effects) - 1)),
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
