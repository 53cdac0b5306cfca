"""The verdict of a trial: whether a setting keeps its promise, at equal load.

A candidate and the stable pods never get the same load, so the time between their tokens is not
compared as it is: one curve is fitted to all of them, with an effect of each moment that they
share, and the candidate's distance from it is what is judged. No evidence never promotes.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from .comparison import SURE, Estimate, contrast, e_value
from .durations import Durations
from .equalload import slower
from .intervals import Interval
from .load import measured
from .objectives import MARGIN, Kept, Samples, Share, samples, shares, shown
from .rating import HALF, MEMORY
from .trial import FAIR, Compared, Trial, compared, offered, starved

TOLERANCE: Final = 0.05
"""By which a candidate may be slower at equal load and still be the same."""
TOLERANCE_IN_PLACE: Final = 0.10
LEAST_INTERVALS: Final = 16
LEAST_FINISHED: Final = 100.0
LEAST_BLOCKS_BEFORE: Final = 6
LEAST_BLOCKS_AFTER: Final = 3
GAIN: Final = 0.02
"""Of the tokens a second that a promotion is worth."""
QUEUE: Final = 0.9
"""Of the time in the queue, below which it is shorter."""
WAITING: Final = 0.5
"""Of the intervals in which requests wait in both, from which on both are saturated."""
GUARD: Final = 2.0
"""Times the time between tokens that a server without an objective may grow to."""


class Verdict(StrEnum):
    """What becomes of the trial."""

    GO_ON = "GoOn"
    GOOD = "Good"
    BAD = "Bad"
    INCONCLUSIVE = "Inconclusive"


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict and its numbers; None where there were none yet. Differences are logarithms."""

    verdict: Verdict
    reason: str
    """A sentence with its numbers."""
    intervals: int = 0
    """In which both were seen."""
    finished: float = 0.0
    """Requests that the candidate finished."""
    slower: float | None = None
    """By how much the candidate's steps take longer at equal load."""
    half_width: float | None = None
    same: bool = False
    """Whether it surely is not slower by more than is tolerated."""
    slow_gaps: Share | None = None
    slow_first_tokens: Share | None = None
    tokens: Estimate | None = None
    """Tokens a second over those of a stable pod that gives all that it can."""
    starved: bool = False


def judge(
    trial: Trial, now: float, durations: Durations | None = None, failure: str | None = None
) -> Judgement:
    """The verdict so far, at ``now``; ``failure`` is what ends a trial at once, in words."""
    durations = durations or Durations()
    if failure:
        return Judgement(Verdict.BAD, failure)
    seen = compared(trial, durations)
    evidence = _Evidence(trial, seen, durations)
    hungry = starved(trial, now, durations)
    told = replace(evidence.judged(), starved=hungry)
    if told.verdict is Verdict.GO_ON and now - trial.ready >= _limit(trial, durations):
        why = "it got less than 30 % of a fair share of requests" if hungry else told.reason
        return replace(told, verdict=Verdict.INCONCLUSIVE, reason=f"time is over: {why}")
    return told


def _limit(trial: Trial, durations: Durations) -> float:
    own = offered([one for one in trial.candidate.intervals if one.end > trial.ready])
    quiet = own * 4 * durations.interval < 1.0
    return durations.quiet_trial if quiet else durations.trial


class _Evidence:
    """What the compared intervals say."""

    def __init__(self, trial: Trial, seen: Compared, durations: Durations) -> None:
        self.trial, self.seen, self.durations = trial, seen, durations
        self.own = list(seen.candidate.values())
        self.others = [one for ones in seen.stable.values() for one in ones]
        self.tolerance = TOLERANCE_IN_PLACE if trial.in_place else TOLERANCE

    def judged(self) -> Judgement:
        """The verdict, time apart."""
        seen, trial = self.seen, self.trial
        number = len(seen.candidate) if trial.in_place else len(seen.paired)
        told = Judgement(Verdict.GO_ON, "", number, seen.finished)
        errors = self._errors()
        if errors:
            return replace(told, verdict=Verdict.BAD, reason=errors)
        lacking = self._lacking(number)
        if lacking:
            return replace(told, reason=lacking)
        found = slower(trial, seen, number, self.durations)
        if found is None:
            return replace(told, reason="no interval says something of the time of a step")
        told = replace(
            told,
            slower=found.by.value,
            half_width=found.by.half_width,
            same=found.most < self.tolerance,
            tokens=self._tokens() if self._full(self.others) else None,
        )
        full = self._full(self.own)
        kept = shares(trial, seen, fair=self._equal(), full=full, durations=self.durations)
        told = replace(told, slow_gaps=kept.gaps, slow_first_tokens=kept.first_tokens)
        said = f"{_percent(found.by)} slower at equal load"
        more = told.tokens is not None and told.tokens.low > GAIN
        bad = self._bad(found.by, found.floor, kept.all, said, more=more and self._other)
        gain = None if bad else self._gain(told, kept.all)
        if gain and not more:
            bad = self._behind()
        return self._decided(told, kept.all, said, bad=bad, gain=gain)

    @property
    def _other(self) -> bool:
        """Whether other steps than the stable pods' are what the setting is for."""
        return self.trial.other_places or self.trial.other_steps

    def _decided(
        self,
        told: Judgement,
        kept: Sequence[Share],
        said: str,
        *,
        bad: str | None,
        gain: str | None,
    ) -> Judgement:
        if bad:
            return replace(told, verdict=Verdict.BAD, reason=bad)
        # At other batches a curve is not compared with itself: that it holds there was asked above.
        if not (told.same or self._other):
            within = f"{self.tolerance:.0%}"
            return replace(told, reason=f"{said}, which may be more than {within}")
        undecided = [str(one) for one in kept if one.kept is Kept.OPEN]
        if undecided:
            return replace(told, reason=f"{said}; undecided: {undecided[0]}")
        if gain:
            words = "; ".join([said, gain, *map(str, kept)])
            return replace(told, verdict=Verdict.GOOD, reason=words)
        if told.tokens is not None and told.tokens.high < GAIN and self._full(self.own):
            words = f"{said}; no more tokens a second: {_percent(told.tokens)}"
            return replace(told, verdict=Verdict.INCONCLUSIVE, reason=words)
        return replace(told, reason=f"{said}; no gain is shown")

    def _lacking(self, number: int) -> str | None:
        if self.trial.in_place:
            before, after = self._blocks(self.others), self._blocks(self.own)
            before = min(before, self.trial.posterior.blocks)
            if before < LEAST_BLOCKS_BEFORE:
                return f"{before} of {LEAST_BLOCKS_BEFORE} blocks of time before the trial"
            if after < LEAST_BLOCKS_AFTER:
                return f"{after} of {LEAST_BLOCKS_AFTER} blocks of time in the trial"
        if number < LEAST_INTERVALS:
            return f"{number} of {LEAST_INTERVALS} intervals"
        if self.seen.finished < LEAST_FINISHED:
            return f"{self.seen.finished:.0f} of {LEAST_FINISHED:.0f} finished requests"
        return None

    def _blocks(self, intervals: Sequence[Interval]) -> int:
        """Whole ones."""
        return int(sum(one.seconds for one in intervals) / self.durations.block + 1e-6)

    def _errors(self) -> str | None:
        failed = sum(one.failed for one in self.own)
        of = failed + sum(one.failed for one in self.others)
        requests = sum(one.finished for one in self.own)
        whole = requests + sum(one.finished for one in self.others)
        if whole <= 0 or e_value(failed, of, requests / whole) <= SURE:
            return None
        share = requests / whole
        return f"{failed:.0f} of {of:.0f} failed requests are its, with {share:.0%} of all requests"

    def _fair(self) -> bool:
        """Whether the candidate gets about as many requests as a stable pod."""
        if self.trial.in_place:
            return True
        by_pod = [offered([one for one in self.others if one.pod == pod]) for pod in self.seen.pods]
        return offered(self.own) >= FAIR * sum(by_pod) / max(1, len(by_pod))

    @staticmethod
    def _full(ones: Sequence[Interval]) -> bool:
        """Whether requests wait, so that pods do what they can."""
        return sum(one.waiting > 0 for one in ones) > WAITING * len(ones)

    def _saturated(self) -> bool:
        """Whether both sides do what they can."""
        return self._full(self.own) and self._full(self.others)

    def _equal(self) -> bool:
        """Whether both sides do what their settings let them, not what their loads are."""
        return self._saturated() or self._fair()

    def _contrast(self, value: Callable[[Interval], float | None]) -> Estimate | None:
        """The candidate's value over that of stable pods, by moments or, in place, by blocks."""
        per = 1
        if self.trial.in_place:
            per = round(self.durations.block / self.durations.interval)

        def sides(intervals: dict[int, list[Interval]]) -> dict[int, float]:
            found: dict[int, list[float]] = defaultdict(list)
            for slot, ones in intervals.items():
                found[slot // per] += [one for one in map(value, ones) if one is not None]
            return {slot: sum(some) / len(some) for slot, some in found.items() if some}

        return contrast(
            sides(self.seen.own), sides(self.seen.stable), paired=not self.trial.in_place
        )

    def _tokens(self) -> Estimate | None:
        return self._contrast(lambda one: math.log(max(1.0, one.generated_tokens) / one.seconds))

    def _gain(self, told: Judgement, kept: Sequence[Share]) -> str | None:
        """What the candidate does better, if anything."""
        if told.tokens is not None and told.tokens.low > GAIN:
            return f"{_percent(told.tokens)} more tokens a second"
        # Where a part stays broken, as requests wait too long, only more of them answered helps.
        if any(one.kept is Kept.AS_BEFORE for one in kept):
            return None
        better = [str(one) for one in kept if one.better]
        if better:
            return f"better: {better[0]}"
        return self._queue() or self._relieved(told) if self._fair() else None

    def _queue(self) -> str | None:
        found = self._contrast(
            lambda one: one.queue_seconds / one.finished if one.finished > 0 else None
        )
        own, before = (
            sum(one.queue_seconds for one in ones) / max(1.0, sum(one.finished for one in ones))
            for ones in (self.own, self.others)
        )
        if found is None or found.value + found.half_width >= 0 or own >= QUEUE * before:
            return None
        return f"requests wait {own:.3g} s in the queue in place of {before:.3g} s"

    def _relieved(self, told: Judgement) -> str | None:
        """What the setting broke until the trial's own pod took a share of the load, so that nobody
        sees it now, and the candidate would keep: by the curve, which the trial confirmed."""
        trial, durations = self.trial, self.durations
        short = told.intervals * durations.interval < LEAST_BLOCKS_AFTER * durations.block
        if trial.objective is None or trial.in_place or short:
            return None
        if not (told.same or trial.other_steps):
            return None
        for one, now in zip(samples(trial), (told.slow_gaps, told.slow_first_tokens), strict=True):
            if now is None or now.kept not in (Kept.KEPT, Kept.BY_MODEL):
                continue
            limit = MARGIN * now.allowed
            slow = one.bound(self._before(), "low")
            if slow is None or now.stable > limit or one.promised is None:
                continue
            # As a setting is chosen by: kept, or so little left of what is too much. More memory
            # makes nothing slower, and for it what was seen is enough, be it sure or not.
            surely, left = slow.low, HALF
            if not trial.other_than_memory:
                surely, left = slow.value, MEMORY
            if surely <= limit:
                continue
            enough = now.allowed + left * max(0.0, slow.value - now.allowed)
            if one.promised <= enough and self._confirmed(one, enough):
                return (
                    f"{slow.value:.1%} of {now.of} were slow before the trial's pod took its share,"
                    f" and {one.promised:.1%} would be with this setting"
                )
        return None

    def _before(self) -> list[Interval]:
        """The stable pods' intervals of the window before the trial, with their whole load."""
        since = self.trial.ready - self.durations.window
        return [one for one in self.trial.stable.intervals if since < one.end <= self.trial.ready]

    def _confirmed(self, one: Samples, enough: float) -> bool:
        """Whether no more than ``enough`` would be slow under the load of before, where the steps
        are other ones than the curve was learned from: by those that the candidate has shown."""
        if not self.trial.other_steps:
            return True
        then = shown(self.trial, self.seen, self.durations, measured(self._before()))
        share = None if then is None else one.within(then)
        return share is not None and 1.0 - share <= enough

    def _behind(self) -> str | None:
        """Whether a candidate with other steps would not keep up with the load of before, of which
        stable pods take a part while it is on trial."""
        load = measured(self._before())
        if not self.trial.other_steps or load is None or load.saturated:
            return None
        then = shown(self.trial, self.seen, self.durations, load)
        if then is None or not then.saturated:
            return None
        able = then.capacity / load.output
        return (
            f"by the steps that it has shown it would answer {able:.3g} requests a second, and "
            f"{load.rate:.3g} came to each pod before the trial"
        )

    def _bad(
        self, by: Estimate, floor: float, kept: Sequence[Share], said: str, *, more: bool
    ) -> str | None:
        beyond = by.value - max(by.half_width, floor)
        if beyond > 0 and by.value > self.tolerance / 2 and not more:
            words = f"; stable pods differ by {floor:.1%}" if floor else ""
            return said + words
        broken = [str(one) for one in kept if one.kept is Kept.BROKEN]
        if broken:
            return broken[0]
        if self.trial.objective is not None or not self.trial.other_places or not self._equal():
            return None
        own, before = (
            sum(one.gap_seconds for one in ones) / max(1.0, sum(one.gaps for one in ones))
            for ones in (self.own, self.others)
        )
        if own > GUARD * before:
            return f"{own * 1000:.0f} ms between tokens in place of {before * 1000:.0f} ms"
        return None


def _percent(of: Estimate) -> str:
    """A logarithm as a share, with its bounds."""
    low, high = math.expm1(of.low), math.expm1(of.high)
    return f"{math.expm1(of.value):+.1%} ({low:+.1%} to {high:+.1%})"
