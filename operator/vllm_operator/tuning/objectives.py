"""Whether a candidate keeps the latencies that were asked for: shares of samples, not percentiles.

Buckets tell a share exactly only at their edges; between them it has two bounds, and where these
disagree nothing is decided by measurement.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from .comparison import Estimate, contrast, share
from .intervals import Between, Interval
from .trial import Compared, Trial

MARGIN: Final = 1.2
"""Times the share that may be slow, up to which an objective counts as kept."""
ALIKE: Final = 0.02
"""Of samples, by which more may be slow of a candidate than of stable pods that break an objective
too: then it says nothing of which is better."""
EXPECTED: Final = 10.0
"""Slow samples' worth of finished requests that it takes to decide."""


class Kept(StrEnum):
    """How a candidate stands to an objective."""

    KEPT = "kept"
    BY_MODEL = "kept by the model"
    BETTER = "better than before"
    AS_BEFORE = "broken, as before"
    OPEN = "undecided"
    BROKEN = "broken"


@dataclass(frozen=True, slots=True)
class Share:
    """Samples that were slower than an objective."""

    of: str
    """What is measured, in words."""
    kept: Kept
    low: float
    """The candidate's share, as the faster edge of the bucket counts."""
    high: float
    """The same by the slower edge."""
    stable: float
    """The stable pods' share, in the middle of its bounds."""
    allowed: float
    better: bool
    """Whether fewer are slow than of the stable pods, which did not keep the objective."""

    def __str__(self) -> str:
        bounds = (
            f"{self.low:.1%}" if self.low == self.high else f"{self.low:.1%} to {self.high:.1%}"
        )
        return (
            f"{bounds} of {self.of} are slow, {self.stable:.1%} of the stable ones, "
            f"{self.allowed:.1%} are allowed: {self.kept}"
        )


@dataclass(frozen=True, slots=True)
class Shares:
    """Of both objectives; None where there is none."""

    gaps: Share | None
    first_tokens: Share | None

    @property
    def all(self) -> list[Share]:
        """Those that there are."""
        return [one for one in (self.gaps, self.first_tokens) if one is not None]


def shares(trial: Trial, seen: Compared, *, fair: bool) -> Shares:
    """How the candidate keeps the trial's objectives; ``fair``: whether it has its full load.

    With less than that it shows nothing by keeping them.
    """
    asked = trial.objective
    if asked is None:
        return Shares(None, None)
    gaps = _Samples("gaps between tokens", lambda one: one.slow_gaps, lambda one: one.gaps)
    first = _Samples(
        "first tokens", lambda one: one.slow_first_tokens, lambda one: one.first_tokens
    )
    promise = trial.promise
    return Shares(
        None
        if asked.inter_token_latency is None
        else gaps.share(trial, seen, promise.slow_gaps, fair=fair),
        None
        if asked.time_to_first_token is None
        else first.share(trial, seen, promise.slow_first_tokens, fair=fair),
    )


@dataclass(frozen=True, slots=True)
class _Samples:
    of: str
    slow: Callable[[Interval], Between | None]
    all: Callable[[Interval], float]

    def share(self, trial: Trial, seen: Compared, promised: float | None, *, fair: bool) -> Share:
        asked = trial.objective
        allowed = 1.0 - asked.share if asked else 1.0
        limit = MARGIN * allowed
        own = list(seen.candidate.values())
        others = [one for ones in seen.stable.values() for one in ones]
        low, high = self._bound(own, "low"), self._bound(own, "high")
        before_low, before_high = self._bound(others, "low"), self._bound(others, "high")
        if low is None or high is None or before_low is None or before_high is None:
            return Share(self.of, Kept.OPEN, 0.0, 1.0, 0.0, allowed, better=False)
        above = self._apart(trial, seen, "high", "low")
        below = self._apart(trial, seen, "low", "high")
        better = fair and before_high.high > limit and above is not None and above.high < 0.0
        broken = before_low.low > limit
        return Share(
            of=self.of,
            kept=self._kept(
                low,
                high,
                limit,
                worse=below is not None and below.low > 0.0 if broken else True,
                as_before=broken and fair and above is not None and above.high <= ALIKE,
                better=better,
                enough=seen.finished * allowed >= EXPECTED,
                fair=fair,
                promised=promised,
            ),
            low=low.value,
            high=high.value,
            stable=(before_low.value + before_high.value) / 2,
            allowed=allowed,
            better=better,
        )

    @staticmethod
    def _kept(
        low: Estimate,
        high: Estimate,
        limit: float,
        *,
        worse: bool,
        as_before: bool,
        better: bool,
        enough: bool,
        fair: bool,
        promised: float | None,
    ) -> Kept:
        if enough and low.low > limit and worse:
            return Kept.BROKEN
        if enough and fair and high.high <= limit:
            return Kept.KEPT
        if better:
            return Kept.BETTER
        if enough and as_before:
            return Kept.AS_BEFORE
        # Not where the measurement itself says no: only where edges or numbers cannot tell.
        unclear = low.high <= limit or not enough or not fair
        if promised is not None and promised <= limit and unclear and low.value <= limit:
            return Kept.BY_MODEL
        return Kept.OPEN

    def _bound(self, intervals: list[Interval], side: str) -> Estimate | None:
        parts = []
        for one in intervals:
            slow = self.slow(one)
            if slow is not None:
                parts.append((float(getattr(slow, side)), self.all(one)))
        return share(parts)

    def _apart(self, trial: Trial, seen: Compared, own: str, others: str) -> Estimate | None:
        """By how much more of the candidate's are slow: its bounds of one side less the others' of
        the other one, so that what surely is more, or fewer, shows."""

        def sides(intervals: dict[int, list[Interval]], side: str) -> dict[int, float]:
            found = {}
            for slot, ones in intervals.items():
                slow = [one for one in map(self.slow, ones) if one is not None]
                total = sum(self.all(one) for one in ones)
                if total > 0 and slow:
                    found[slot] = sum(float(getattr(one, side)) for one in slow) / total
            return found

        return contrast(
            sides(seen.own, own), sides(seen.stable, others), paired=not trial.in_place, floor=0.0
        )
