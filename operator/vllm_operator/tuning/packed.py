"""Intervals of one pod in little memory: a fleet's are kept for hours."""

from __future__ import annotations

import math
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from struct import Struct
from typing import Any, Final

from .intervals import Between, Interval

COUNTS: Final = tuple(one.name for one in fields(Interval) if one.name not in ("pod", "end"))
RANGES: Final = frozenset({"slow_gaps", "slow_first_tokens"})
WIDTH: Final = len(COUNTS) + len(RANGES)
"""Numbers of an interval beside its end: a range is two."""


class Packed:
    """In order of time. 140 bytes an interval, where objects take 900; counts to seven digits."""

    def __init__(self, pod: str, intervals: Iterable[Interval] = ()) -> None:
        self.pod = pod
        self._ends = array("d")
        self._numbers = array("f")
        self.extend(intervals)

    def __len__(self) -> int:
        return len(self._ends)

    @property
    def last(self) -> float | None:
        """End of the latest, in seconds since the epoch."""
        return self._ends[-1] if self._ends else None

    def extend(self, intervals: Iterable[Interval]) -> None:
        """Takes those that end after all that are here."""
        for one in intervals:
            if not self._ends or one.end > self._ends[-1]:
                self._ends.append(one.end)
                self._numbers.extend(_numbers(one))

    def after(self, since: float) -> Iterator[Interval]:
        """Those that ended after a time."""
        first = bisect_right(self._ends, since)
        rows = _ROW.iter_unpack(memoryview(self._numbers)[first * WIDTH :].cast("B"))
        for end, row in zip(self._ends[first:], rows, strict=True):
            yield Interval(self.pod, end, *_values(row))


_ROW: Final = Struct(f"={WIDTH}f")


def _numbers(one: Interval) -> Iterator[float]:
    for name in COUNTS:
        value = getattr(one, name)
        if name in RANGES:
            yield from (math.nan, math.nan) if value is None else (value.low, value.high)
        else:
            yield math.nan if value is None else value


def _values(row: Sequence[float]) -> list[Any]:
    """What is no number is not known."""
    found: list[Any] = list(row)
    for place in _RANGES:
        low, high = found[place : place + 2]
        found[place : place + 2] = [None if low != low else Between(low, high)]
    for place in _OPTIONAL:
        if found[place] != found[place]:
            found[place] = None
    return found


_RANGES: Final = [place for place, name in enumerate(COUNTS) if name in RANGES]
"""Where ranges are, once those before are one value each."""
_OPTIONAL: Final = [COUNTS.index(one.name) for one in fields(Interval) if one.default is None]
