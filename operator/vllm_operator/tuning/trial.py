"""What is compared in a trial: a candidate's intervals after its warm-up, and stable ones beside.

A pod that has just started compiles, fills its prefix cache and gets new connections only; what it
does then says nothing of its setting.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from vllm_operator.sizing.performance.server import Server

from .curve import Posterior
from .durations import Durations
from .intervals import Interval, joined, together
from .knobs import Knobs, Objective

WARM_REQUESTS: Final = 50
HIT_RATIO: Final = 0.05
"""By which the candidate's prefix cache may hit less."""
HIT_INTERVALS: Final = 8
NEAREST: Final = 4
"""Stable pods that are compared: those whose load is nearest to the candidate's."""
FAIR: Final = 0.8
"""Of a stable pod's requests, below which a candidate that does better may do so for its load."""
STARVED: Final = 0.3
MOST_SLOTS: Final = 120
"""Beyond which neighbouring slots are fitted together."""


@dataclass(frozen=True, slots=True)
class Side:
    """Pods of one setting."""

    server: Server
    """As shipped, with the setting's limits."""
    knobs: Knobs
    intervals: Sequence[Interval]


@dataclass(frozen=True, slots=True)
class Promise:
    """Shares that the forecast says of the candidate; they decide where buckets cannot."""

    slow_gaps: float | None = None
    slow_first_tokens: float | None = None


@dataclass(frozen=True, slots=True)
class Trial:
    """All that a verdict rests on."""

    candidate: Side
    stable: Side
    """Its pods meanwhile. In place of a single replica: what it did before."""
    ready: float
    """Seconds since the epoch when the candidate became ready."""
    posterior: Posterior
    """Of the stable setting, from before the trial."""
    objective: Objective | None = None
    promise: Promise = Promise()
    in_place: bool = False
    """Whether the candidate stands for the only replica, so that nothing runs beside it."""

    @property
    def other_places(self) -> bool:
        """Whether the candidate may run another number of requests at once: by another cap, or
        another KV cache."""
        one, other = self.candidate.knobs, self.stable.knobs
        return (one.cap, one.gpu_memory_utilization) != (other.cap, other.gpu_memory_utilization)

    @property
    def other_than_memory(self) -> bool:
        """Whether anything but the memory that vLLM may use is another one."""
        own, stable = self.candidate.knobs, self.stable.knobs
        return replace(own, gpu_memory_utilization=stable.gpu_memory_utilization) != stable

    @property
    def other_steps(self) -> bool:
        """Whether the candidate's steps may carry other pieces of prompts, or more of them."""
        tokens = (side.knobs.max_num_batched_tokens for side in (self.candidate, self.stable))
        return len(set(tokens)) > 1


@dataclass(frozen=True, slots=True)
class Compared:
    """Intervals that are compared, by slot of time and pod."""

    candidate: dict[int, Interval]
    stable: dict[int, list[Interval]]
    pods: tuple[str, ...]
    """The stable ones."""

    @property
    def own(self) -> dict[int, list[Interval]]:
        """The candidate's, as those of the stable pods are kept."""
        return {slot: [one] for slot, one in self.candidate.items()}

    @property
    def paired(self) -> list[int]:
        """Slots in which both sides were seen."""
        return sorted(self.candidate.keys() & self.stable.keys())

    @property
    def finished(self) -> float:
        """Requests that the candidate finished."""
        return sum(one.finished for one in self.candidate.values())


def compared(trial: Trial, durations: Durations) -> Compared:
    """What of a trial's intervals is compared."""
    warm = _warm(trial, durations)
    if not warm:
        return Compared({}, {}, ())
    first = warm[0].end

    def slot(one: Interval) -> int:
        return round((one.end - first) / durations.interval)

    candidate = {slot(one): one for one in warm}
    known = trial.stable.intervals
    if not trial.in_place:
        known = [one for one in known if slot(one) >= 0]
    pods = _nearest(warm, known)
    stable: dict[int, list[Interval]] = defaultdict(list)
    for one in known:
        if one.pod in pods:
            stable[slot(one)].append(one)
    return Compared(candidate, dict(stable), pods)


def _warm(trial: Trial, durations: Durations) -> list[Interval]:
    """The candidate's intervals from when it is as it will be."""
    since = [one for one in trial.candidate.intervals if one.end - one.seconds >= trial.ready]
    since.sort(key=lambda one: one.end)
    finished = sum(one.finished for one in trial.stable.intervals)
    # Of a queue that grows the wait is no part of it: the candidate's begins empty.
    inside = sum(one.request_seconds - one.queue_seconds for one in trial.stable.intervals)
    stay = max(0.0, inside) / max(1.0, finished)
    warm_up = trial.ready + max(durations.warm_up, 2 * stay)
    usual = _hit_ratio(trial.stable.intervals) - HIT_RATIO
    done = 0.0
    for place, one in enumerate(since):
        begun = one.end - one.seconds
        warm = begun >= warm_up and done >= WARM_REQUESTS
        cached = _hit_ratio(since[max(0, place - HIT_INTERVALS) : place]) >= usual
        if warm and (cached or begun - trial.ready >= durations.cold_cache):
            return since[place:]
        done += one.finished
    return []


def _hit_ratio(intervals: Sequence[Interval]) -> float:
    cached = sum(one.cached_tokens for one in intervals)
    return cached / max(1.0, cached + sum(one.prompt_tokens for one in intervals))


def _nearest(candidate: Sequence[Interval], stable: Sequence[Interval]) -> tuple[str, ...]:
    loads: dict[str, list[float]] = defaultdict(list)
    for one in stable:
        loads[one.pod].append(one.decoding)
    own = sum(one.decoding for one in candidate) / len(candidate)
    ordered = sorted(loads, key=lambda pod: (abs(sum(loads[pod]) / len(loads[pod]) - own), pod))
    return tuple(ordered[:NEAREST])


Row = tuple[int, bool, Interval]
"""Slot, whether the candidate's, and interval."""


def usable_rows(seen: Compared, *, in_place: bool) -> list[Row]:
    """Those that say something of the curve; beside another, of slots in which both were seen.

    Neighbouring slots go together where steps are long for an interval, and in a long trial, so
    that a look costs about as much in the second hour as in the first half.
    """
    paired = None if in_place else set(seen.paired)
    sides = {
        candidate: {slot: ones for slot, ones in of.items() if paired is None or slot in paired}
        for candidate, of in ((True, seen.own), (False, seen.stable))
    }
    longest = max(len(seen.candidate), len(seen.stable))
    number = max(
        math.ceil(longest / MOST_SLOTS),
        *(together([one for ones in of.values() for one in ones]) for of in sides.values()),
    )
    merged: dict[tuple[int, bool, str], list[Interval]] = defaultdict(list)
    for candidate, of in sides.items():
        for slot, ones in of.items():
            for one in ones:
                merged[slot // number, candidate, one.pod].append(one)
    rows = (
        (slot * number, candidate, joined(ones))
        for (slot, candidate, _), ones in sorted(merged.items())
    )
    return [row for row in rows if row[2].is_enough]


def offered(intervals: Sequence[Interval]) -> float:
    """Requests a second that a pod got, whether or not it keeps up with them."""
    if not intervals:
        return 0.0
    ordered = sorted(intervals, key=lambda one: one.end)
    more = sum(one.first_tokens + one.rejected for one in ordered)
    more += ordered[-1].waiting - ordered[0].waiting
    return max(0.0, more) / sum(one.seconds for one in ordered)


def starved(trial: Trial, now: float, durations: Durations) -> bool:
    """Whether the candidate gets less than 30 % of a fair share for long enough to say so."""
    if trial.in_place or now - trial.ready < durations.starved:
        return False
    own = offered([one for one in trial.candidate.intervals if one.end > trial.ready])
    pods: dict[str, list[Interval]] = defaultdict(list)
    for one in trial.stable.intervals:
        if one.end > trial.ready:
            pods[one.pod].append(one)
    whole = own + sum(offered(ones) for ones in pods.values())
    return bool(pods) and own < STARVED * whole / (len(pods) + 1)
