"""How much slower a candidate is at equal load: one curve for it and the stable pods."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Final, NamedTuple

from vllm_operator.sizing.performance.multipliers import Multipliers

from .comparison import Estimate, inflation, width
from .curve import Curve
from .durations import Durations
from .points import Point, lengths, piece, point, seconds, unseen_pieces
from .regression import Groups, Linear, Solution, Vector, fitted
from .trial import Compared, Row, Trial, usable_rows

MULTIPLIERS: Final = len(Multipliers._fields)
"""The candidate's distance comes after them."""
MOMENT: Final = 0.3
"""Standard deviation of what a moment does to all pods alike."""
LEAST_BLOCK: Final = 0.02
"""The same of a block of time, where nothing runs beside the candidate."""
BLAME: Final = 0.1
"""Of the correction for different loads, by which it may be wrong before a candidate is blamed."""
TRUST: Final = 0.05
"""The same before it is called the same, from which alone nothing follows. Where the curve was seen
to have another shape, it is the other."""
FLAT: Final = 1.0
"""Standard deviation of the candidate's distance before anything is seen: as good as any."""


class Slower(NamedTuple):
    """In logarithms of seconds."""

    by: Estimate
    most: float
    """What it surely is at most."""
    floor: float
    """By how much one of the stable pods differs from the others; 0 with fewer than two."""


def slower(trial: Trial, seen: Compared, number: int, durations: Durations) -> Slower | None:
    """By how much the candidate's steps take longer; ``number`` intervals of both were seen.

    ln latency = curve(load; multipliers) + effect of the moment + distance of the candidate. The
    multipliers are normal about those from before the trial, so that the slope may still move. What
    slows all pods at once is the moment's and cancels. In place of a single replica there is no
    such moment, and blocks of time have the effects that they were seen to have before.

    The half width grows by a tenth of what the different loads are corrected by (of that, ``most``
    has half), and where the candidate reaches batches that were not seen before, or its steps carry
    other pieces of prompts, by twice the deviation of the curve there.
    None where either side has no usable interval.
    """
    rows = usable_rows(seen, in_place=trial.in_place)
    flags = [candidate for _, candidate, _ in rows]
    if all(flags) or not any(flags):
        return None
    sides = {True: trial.candidate.server, False: trial.stable.server}
    means = {
        side: lengths(one for _, candidate, one in rows if candidate is side) for side in sides
    }
    points = [
        point(one, means[candidate], sides[candidate].limits.sequences)
        for _, candidate, one in rows
    ]
    places = {side: [place for place, flag in enumerate(flags) if flag is side] for side in sides}
    curves = {
        side: Curve(server, [points[place] for place in places[side]])
        for side, server in sides.items()
    }

    def curve(parameters: Vector) -> Linear:
        values = [0.0] * len(rows)
        gradients: list[Vector] = [()] * len(rows)
        for side in sides:
            found = curves[side].linearised(parameters[:MULTIPLIERS])
            for place, value, gradient in zip(places[side], *found, strict=True):
                values[place] = value + parameters[MULTIPLIERS] * side
                gradients[place] = (*gradient, float(side))
        return values, gradients

    posterior = trial.posterior
    per = round(durations.block / durations.interval) if trial.in_place else 1
    moments = [(slot // per, trial.in_place and flag) for slot, flag, _ in rows]
    numbers = {moment: place for place, moment in enumerate(dict.fromkeys(moments))}
    deviation = max(LEAST_BLOCK, posterior.unsteadiness) if trial.in_place else MOMENT
    covariance = (
        *((*row, 0.0) for row in posterior.covariance),
        (*([0.0] * MULTIPLIERS), FLAT**2),
    )
    solution = fitted(
        curve,
        [math.log(one.step_seconds) for _, _, one in rows],
        Groups([numbers[moment] for moment in moments], deviation),
        ((*posterior.today, 0.0), covariance),
    )
    own, theirs = (_middle([points[place] for place in places[side]]) for side in (True, False))
    found = Multipliers(*solution.mean[:MULTIPLIERS])
    here, there = (
        math.log(seconds(sides[side].scaled(found), at))
        for side, at in ((True, own), (False, theirs))
    )
    left = [one for one, flag in zip(solution.residuals, flags, strict=True) if flag]
    half = width(
        number, math.sqrt(solution.covariance[MULTIPLIERS][MULTIPLIERS]), correlated=inflation(left)
    )
    if trial.other_steps or (trial.other_places and own.batch > posterior.batch):
        known = posterior.deviation(trial.candidate.server, own)
        half += 2 * math.hypot(known, _unseen_pieces(trial, own))
    trusted = BLAME if posterior.shape_wrong else TRUST
    corrected = abs(here - there)
    by = solution.mean[MULTIPLIERS]
    return Slower(
        Estimate(by, half + BLAME * corrected),
        by + half + trusted * corrected,
        _floor(rows, solution),
    )


def _unseen_pieces(trial: Trial, own: Point) -> float:
    """What is not known of the candidate's steps, as pieces of prompts were larger."""
    if own.starts <= 0.0 or own.prompt <= 0.0:
        return 0.0
    sides = (trial.candidate.knobs, trial.stable.knobs)
    rooms = (max(1.0, knobs.max_num_batched_tokens - own.batch) for knobs in sides)
    then, seen = (piece(own.prompt / own.starts, room) for room in rooms)
    return unseen_pieces(then, seen)


def _middle(points: Sequence[Point]) -> Point:
    return Point(*(sum(some) / len(some) for some in zip(*points, strict=True)))


def _floor(rows: Sequence[Row], solution: Solution) -> float:
    """The largest distance of a stable pod from the others: what pods of one setting differ by."""
    by_pod: dict[str, list[float]] = defaultdict(list)
    for (_, candidate, one), residual in zip(rows, solution.residuals, strict=True):
        if not candidate:
            by_pod[one.pod].append(residual)
    middles = [sum(some) / len(some) for some in by_pod.values()]
    if len(middles) < 2:
        return 0.0
    whole, number = sum(middles), len(middles)
    return max(abs(one - (whole - one) / (number - 1)) for one in middles)
