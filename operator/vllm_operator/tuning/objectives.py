"""Whether a candidate keeps the latencies that were asked for: shares of samples, not percentiles.

Buckets tell a share exactly only at their edges; between them it has two bounds, and where these
disagree nothing is decided by measurement: then by what was promised or, where the promise was
another, by the curve that the candidate itself has shown.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from .comparison import Estimate, contrast, share
from .curve import fit
from .durations import Durations
from .forecast import Forecast, forecast
from .intervals import Between, Interval
from .load import Load, measured
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


def shares(
    trial: Trial,
    seen: Compared,
    *,
    fair: bool,
    full: bool = False,
    durations: Durations | None = None,
) -> Shares:
    """How the candidate keeps the trial's objectives; ``fair``: whether it has its full load.

    With less than that it shows nothing by keeping them. Where its places are ``full`` more load
    would change nothing of the gaps between tokens, only of the wait before the first.
    """
    asked = trial.objective
    if asked is None:
        return Shares(None, None)
    gaps, first = samples(trial)

    def at_its_own_load() -> Forecast | None:
        own = measured(seen.candidate.values())
        return shown(trial, seen, durations or Durations(), own)

    return Shares(
        None
        if asked.inter_token_latency is None
        else gaps.share(trial, seen, at_its_own_load, fair=fair or full),
        None
        if asked.time_to_first_token is None
        else first.share(trial, seen, at_its_own_load, fair=fair),
    )


def samples(trial: Trial) -> tuple[Samples, Samples]:
    """Gaps between tokens and first tokens, with what was promised of both."""
    return (
        Samples(
            "gaps between tokens",
            lambda one: one.slow_gaps,
            lambda one: one.gaps,
            trial.promise.slow_gaps,
            lambda said: said.inter_token_share,
        ),
        Samples(
            "first tokens",
            lambda one: one.slow_first_tokens,
            lambda one: one.first_tokens,
            trial.promise.slow_first_tokens,
            lambda said: said.time_to_first_share,
        ),
    )


def shown(trial: Trial, seen: Compared, durations: Durations, load: Load | None) -> Forecast | None:
    """What the curve says of the candidate at a load, once its own intervals are learned: a promise
    rests on other batches than those that it has, or on other steps."""
    own, side = list(seen.candidate.values()), trial.candidate
    posterior = fit(own, side.server, trial.posterior.prior(), durations)
    if posterior is None or load is None:
        return None
    return forecast(side.server, posterior, load, side.knobs, objective=trial.objective)


@dataclass(frozen=True, slots=True)
class Samples:
    """Of one objective."""

    of: str
    slow: Callable[[Interval], Between | None]
    all: Callable[[Interval], float]
    promised: float | None
    """The share that may be slow as it was forecast."""
    within: Callable[[Forecast], float | None]
    """The share within the objective that a forecast says."""

    def share(
        self, trial: Trial, seen: Compared, shown: Callable[[], Forecast | None], *, fair: bool
    ) -> Share:
        """How the candidate stands; ``shown`` is its forecast by what it has shown itself."""
        asked = trial.objective
        allowed = 1.0 - asked.share if asked else 1.0
        limit = MARGIN * allowed
        own = list(seen.candidate.values())
        others = [one for ones in seen.stable.values() for one in ones]
        low, high = self.bound(own, "low"), self.bound(own, "high")
        before_low, before_high = self.bound(others, "low"), self.bound(others, "high")
        if low is None or high is None or before_low is None or before_high is None:
            return Share(self.of, Kept.OPEN, 0.0, 1.0, 0.0, allowed, better=False)
        above = self._apart(trial, seen, "high", "low")
        below = self._apart(trial, seen, "low", "high")
        better = fair and before_high.high > limit and above is not None and above.high < 0.0
        broken = before_low.low > limit
        kept = self._kept(
            low,
            high,
            limit,
            worse=below is not None and below.low > 0.0 if broken else True,
            as_before=broken and fair and above is not None and above.high <= ALIKE,
            better=better,
            enough=seen.finished * allowed >= EXPECTED,
            fair=fair,
        )
        # Only where edges cannot tell, and nothing else speaks for it.
        straddled = fair and kept is Kept.OPEN and low.high <= limit < high.high
        if straddled and self._says(shown(), limit):
            kept = Kept.BY_MODEL
        # At the slower edge the candidate surely has fewer.
        better = better or (kept is Kept.BY_MODEL and fair and broken and low.high <= limit)
        return Share(
            of=self.of,
            kept=kept,
            low=low.value,
            high=high.value,
            stable=(before_low.value + before_high.value) / 2,
            allowed=allowed,
            better=better,
        )

    def _says(self, said: Forecast | None, limit: float) -> bool:
        """Whether a forecast keeps the objective."""
        share = None if said is None else self.within(said)
        return share is not None and 1.0 - share <= limit

    def _kept(
        self,
        low: Estimate,
        high: Estimate,
        limit: float,
        *,
        worse: bool,
        as_before: bool,
        better: bool,
        enough: bool,
        fair: bool,
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
        promised = self.promised is not None and self.promised <= limit
        if promised and unclear and low.value <= limit:
            return Kept.BY_MODEL
        return Kept.OPEN

    def bound(self, intervals: Sequence[Interval], side: str) -> Estimate | None:
        """The share that is slow by one edge of its bucket; None where none was seen."""
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
