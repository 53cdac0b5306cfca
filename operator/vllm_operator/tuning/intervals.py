"""What one engine did between two scrapes of its metrics."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Final

LEAST_STEPS: Final = 20
LEAST_GAPS: Final = 50
"""Of an interval from which is learned, at least."""
MOST_JOINED: Final = 8
"""Intervals that are taken as one, where each alone has too few steps."""
COUNTED: Final = (
    *("seconds", "steps", "gaps", "gap_seconds", "first_tokens", "prompt_tokens"),
    *("cached_tokens", "preemptions", "finished", "finished_output_tokens"),
    "finished_output_squares",
)
"""What the curve is fitted to."""


@dataclass(frozen=True, slots=True)
class Between:
    """Bounds of a number that bucket edges do not tell exactly; equal where an edge does."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Interval:
    """Differences of one pod's counters over an interval, and its gauges at the end.

    All counts are of the whole pod: data-parallel engines of one pod are summed.
    """

    pod: str
    end: float
    """Seconds since the epoch, as the newer sample is stamped."""
    seconds: float
    steps: float
    """Steps of the engine that gave outputs."""
    gaps: float
    """Samples of the inter-token latency: tokens that were streamed after a request's first."""
    gap_seconds: float
    """Their sum."""
    slow_gaps: Between | None
    """How many of them were longer than the objective; None without an objective."""
    first_tokens: float
    """Requests that got their first token."""
    first_token_seconds: float
    slow_first_tokens: Between | None
    prompt_tokens: float
    """Prompt tokens that were computed, those found in the prefix cache not counted."""
    cached_tokens: float
    """Prompt tokens that were found in the prefix cache."""
    generated_tokens: float
    running: float
    """Requests that run, at the end of the interval."""
    waiting: float
    """Requests that wait, at the end of the interval."""
    cache_usage: float
    """Share of the KV cache that is in use, at the end of the interval."""
    preemptions: float
    finished: float
    """Requests that finished, of whatever reason."""
    failed: float
    """Of these, with an error."""
    rejected: float
    """Requests that were not admitted."""
    finished_prompt_tokens: float
    """Prompt lengths of those that finished, summed."""
    finished_output_tokens: float
    """Output lengths of those that finished, summed."""
    finished_output_squares: float
    """Their squares, summed, as the buckets tell."""
    queue_seconds: float
    """Time in the queue of those that finished, summed."""
    request_seconds: float
    """Time from arrival to the last token of those that finished, summed."""
    finished_prompt_squares: float | None = None
    """Squares of the prompt lengths of those that finished, summed, as the buckets tell."""
    step_tokens: float | None = None
    """Tokens of all its steps, as the engine counts them there; None where that is not known."""

    @property
    def is_enough(self) -> bool:
        """Whether there is enough in it to learn from: an engine that answers without any time
        between tokens says nothing of steps."""
        return self.steps >= LEAST_STEPS and self.gaps >= LEAST_GAPS and self.gap_seconds > 0

    @property
    def latency(self) -> float:
        """Mean seconds between two tokens."""
        return self.gap_seconds / self.gaps

    @property
    def step_seconds(self) -> float:
        """Mean seconds of a step, as requests that generate meet it.

        Where requests are preempted their gaps hold the time that they waited for the cache; an
        engine that preempts is full and never rests, so that its time is that of its steps.
        """
        return self.seconds / self.steps if self.preemptions else self.latency

    @property
    def decoding(self) -> float:
        """Requests that generate at once, averaged over time: exact, where gauges are points."""
        return self.gap_seconds / self.seconds

    @property
    def batch(self) -> float:
        """Generated tokens of a step."""
        return self.gaps / self.steps

    @property
    def prompt(self) -> float:
        """Prompt tokens of a step."""
        return self.prompt_tokens / self.steps

    @property
    def starts(self) -> float:
        """Requests that start in a step."""
        return self.first_tokens / self.steps

    @property
    def busy(self) -> float:
        """Share of the time in which the engine stepped; far from what it was means not steady."""
        return self.steps * self.latency / self.seconds


def joined(intervals: Sequence[Interval]) -> Interval:
    """One interval of several of a pod: what is counted is added, the rest is the last one's."""
    last = max(intervals, key=lambda one: one.end)
    if len(intervals) == 1:
        return last
    return replace(last, **{name: sum(getattr(one, name) for one in intervals) for name in COUNTED})


def enough(intervals: Iterable[Interval]) -> list[Interval]:
    """Those from which may be learned, by pod and in order of time.

    Where steps are long for the interval, neighbours are joined until there is enough in them, up
    to ``MOST_JOINED``: they follow one another without a gap.
    """
    found: list[Interval] = []
    ordered = sorted(intervals, key=lambda one: (one.pod, one.end))
    for _, ones in groupby(ordered, key=lambda one: one.pod):
        waiting: list[Interval] = []
        for one in ones:
            if waiting and (
                one.end - one.seconds > waiting[-1].end + one.seconds / 2
                or len(waiting) == MOST_JOINED
            ):
                waiting = []
            waiting.append(one)
            whole = joined(waiting)
            if whole.is_enough:
                found.append(whole)
                waiting = []
    return found


def together(intervals: Sequence[Interval]) -> int:
    """Neighbours that are joined so that most of ``intervals`` have enough in them; at most
    ``MOST_JOINED``."""
    for number in range(1, MOST_JOINED):
        many = sum(
            number * one.steps >= LEAST_STEPS and number * one.gaps >= LEAST_GAPS
            for one in intervals
        )
        if 2 * many >= len(intervals):
            return number
    return MOST_JOINED
