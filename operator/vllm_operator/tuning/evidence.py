"""Which intervals are kept to learn from."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from typing import Final

from .intervals import Interval

CELLS: Final = 16
CELL_INTERVALS: Final = 40
LARGEST: Final = 1024.0
"""Batch of the last cell."""


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
