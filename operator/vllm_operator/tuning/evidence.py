"""Whether what was seen is enough to propose another setting, and which samples are kept for it."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from vllm_operator.sizing.performance.server import Server

from .curve import Point, Posterior
from .intervals import Interval

CELLS: Final = 16
CELL_INTERVALS: Final = 40
LARGEST: Final = 1024.0
"""Batch of the last cell."""
LEAST_INTERVALS: Final = 60
LEAST_BLOCKS: Final = 3
LEAST_REQUESTS: Final = 300.0
EXCITED: Final = 0.10
"""Standard deviation of ln batch within blocks, from which on the slope is the data's."""
TRUST: Final = 4.0
"""Times the 95th percentile of the batches seen."""
SHORT_TRUST: Final = 2.0
DOUBTFUL: Final = 0.12
"""Deviation of a prediction above which the shorter trust region holds."""
UNKNOWN: Final = 0.20
"""Deviation of a prediction above which there is none."""
DRIFT: Final = 0.10


class Lack(StrEnum):
    """What is missing."""

    INTERVALS = "TooFewIntervals"
    BLOCKS = "TooShortHistory"
    REQUESTS = "TooFewRequests"
    DRIFT = "Drifting"
    TRUST = "OutsideTrustRegion"
    UNCERTAIN = "Uncertain"


@dataclass(frozen=True, slots=True)
class Evidence:
    """Why a batch may not be proposed; that it may, where nothing lacks."""

    lacks: tuple[tuple[Lack, str], ...]
    """Each with a sentence that has its numbers, what lacks most generally first."""
    largest_batch: float
    """The trust region's end."""
    deviation: float
    """Of the prediction, in ln latency."""
    by_prior: bool
    """Whether the load varied too little for the data to say anything of the slope."""

    @property
    def enough(self) -> bool:
        """Whether nothing lacks."""
        return not self.lacks


def evidence(posterior: Posterior, server: Server, at: Point, finished: float) -> Evidence:
    """What speaks against predicting the load ``at``, with ``finished`` requests seen.

    ``server`` is as shipped. The trust region is short where the curve has another shape than
    what was seen, or its prediction at ``at`` is doubtful.
    """
    deviation = posterior.deviation(server, at)
    short = posterior.shape_wrong or deviation > DOUBTFUL
    trust = SHORT_TRUST if short else TRUST
    largest = trust * posterior.batch
    checks = (
        (
            Lack.INTERVALS,
            posterior.intervals < LEAST_INTERVALS,
            f"{posterior.intervals} of {LEAST_INTERVALS} usable intervals",
        ),
        (
            Lack.BLOCKS,
            posterior.blocks < LEAST_BLOCKS,
            f"{posterior.blocks} of {LEAST_BLOCKS} blocks of time",
        ),
        (
            Lack.REQUESTS,
            finished < LEAST_REQUESTS,
            f"{finished:.0f} of {LEAST_REQUESTS:.0f} finished requests",
        ),
        (
            Lack.DRIFT,
            abs(posterior.drift) > DRIFT,
            f"steps take {math.expm1(posterior.drift):+.0%} longer than in the blocks before",
        ),
        (
            Lack.TRUST,
            at.batch > largest,
            f"a batch of {at.batch:.0f} is more than {trust:.0f} times the {posterior.batch:.0f} "
            "that were seen",
        ),
        (
            Lack.UNCERTAIN,
            deviation > UNKNOWN,
            f"the time of a step there is known to {deviation:.0%}, {UNKNOWN:.0%} are asked for",
        ),
    )
    return Evidence(
        lacks=tuple((lack, words) for lack, holds, words in checks if holds),
        largest_batch=largest,
        deviation=deviation,
        by_prior=posterior.excitation < EXCITED,
    )


def kept(intervals: Iterable[Interval]) -> tuple[Interval, ...]:
    """At most 640 intervals, spread over the batches that were seen; in order of time.

    In 16 cells of ln batch, 40 each where all are full: of the fullest cells the oldest go. So an
    hour at noon stays when the night is long, and a load that never varies keeps its latest.
    """
    cells: dict[int, list[Interval]] = defaultdict(list)
    for one in intervals:
        if one.gaps > 0 and one.steps > 0:
            place = int(CELLS * math.log(max(1.0, one.batch)) / math.log(LARGEST))
            cells[min(CELLS - 1, place)].append(one)
    most = max(map(len, cells.values()), default=0)
    while most and sum(min(most, len(some)) for some in cells.values()) > CELLS * CELL_INTERVALS:
        most -= 1
    found = []
    for some in cells.values():
        some.sort(key=_when)
        found += some[max(0, len(some) - most) :]
    return tuple(sorted(found, key=_when))


def _when(one: Interval) -> tuple[float, str]:
    return one.end, one.pod
