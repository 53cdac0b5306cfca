"""Whether what was read of a server may be learned from, and what holds where it may not."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from vllm_operator.api.counting import counted

from .durations import Durations
from .intervals import LEAST_GAPS, LEAST_STEPS, MOST_JOINED, Interval, enough
from .samples import Reading


class Hold(StrEnum):
    """Why nothing is learned, proposed or judged; reasons of the condition ``MetricsAvailable``."""

    UNREACHABLE = "Unreachable"
    NO_SERIES = "NoSeries"
    LABELS_AMBIGUOUS = "LabelsAmbiguous"
    STALE = "Stale"
    NOT_A_NUMBER = "NotANumber"
    SCRAPE_TOO_SLOW = "ScrapeTooSlow"
    COUNTERS_RESET = "CountersReset"
    IDENTITY_BROKEN = "IdentityBroken"
    TOO_LITTLE_TRAFFIC = "TooLittleTraffic"

    @property
    def sentence(self) -> str:
        """What it means and what to do, for the condition and the documentation."""
        return _SENTENCES[self]


_SENTENCES: Final = {
    Hold.UNREACHABLE: "Prometheus does not answer; see prometheus.url and its Secret in the "
    "operator's chart.",
    Hold.NO_SERIES: "Prometheus has no series of it; see that it scrapes the pods, and "
    "prometheus.labels in the operator's chart.",
    Hold.LABELS_AMBIGUOUS: "Series that should be one differ in their labels: several scrape the "
    "same pod; drop one, or let the query deduplicate.",
    Hold.STALE: "The newest sample is too old; see that Prometheus still scrapes the pods.",
    Hold.NOT_A_NUMBER: "A sample is no finite number.",
    Hold.SCRAPE_TOO_SLOW: "Scrapes are too far apart to learn from.",
    Hold.COUNTERS_RESET: "Counters began anew: an engine was restarted a short while ago.",
    Hold.IDENTITY_BROKEN: "Tokens counted by steps are not those counted by kind; the metrics of "
    "this engine are not understood.",
    Hold.TOO_LITTLE_TRAFFIC: "Too few requests to learn from.",
}

IDENTITY: Final = 0.02
"""Largest relative difference of tokens by steps and by kind. It is 0 in every interval of a
running engine (vLLM 0.32.0 on a CPU); a version before 0.16 counts hits of the prefix cache
before the prompts that they belong to."""


@dataclass(frozen=True, slots=True)
class Held:
    """A reason with what it is about."""

    reason: Hold
    message: str
    """One sentence or more, naming the pod where it is one pod's."""


def held(
    readings: Sequence[Reading], now: float, durations: Durations, problem: str | None = None
) -> Held | None:
    """The first reason that holds for any pod of a server; None where its metrics are sound.

    ``now`` is in seconds since the epoch; ``problem`` is what was in the way of asking at all. No
    reading is no series: what is absent never lets anything pass.
    """
    if problem is not None:
        return Held(Hold.UNREACHABLE, f"{Hold.UNREACHABLE.sentence} {problem}")
    if not readings:
        return Held(Hold.NO_SERIES, Hold.NO_SERIES.sentence)
    for reason, finding in _FINDINGS:
        for reading in readings:
            found = finding(reading, now, durations)
            if found is not None:
                return Held(reason, f"{reason.sentence} {reading.pod}: {found}")
    if not enough(
        interval
        for reading in readings
        for interval in reading.intervals
        if interval.end > now - durations.window
    ):
        minutes = counted(f"{durations.window / 60:.2g}", "minute")
        least = f"{LEAST_STEPS} steps and {LEAST_GAPS} tokens"
        found = f"no interval of the last {minutes} has {least}, nor have {MOST_JOINED} together"
        return Held(
            Hold.TOO_LITTLE_TRAFFIC, f"{Hold.TOO_LITTLE_TRAFFIC.sentence} All pods: {found}."
        )
    return None


def _no_series(reading: Reading, now: float, durations: Durations) -> str | None:
    if reading.newest is None:
        return "none at all."
    return f"none of {', '.join(reading.missing)}." if reading.missing else None


def _ambiguous(reading: Reading, now: float, durations: Durations) -> str | None:
    return f"they differ in {', '.join(reading.scrapers)}." if reading.scrapers else None


def _stale(reading: Reading, now: float, durations: Durations) -> str | None:
    assert reading.newest is not None
    age = now - reading.newest
    limit = max(durations.stale, 2.5 * (reading.scrape or 0.0))
    return f"{age:.0f} s old, {limit:.0f} s is the limit." if age > limit else None


def _not_a_number(reading: Reading, now: float, durations: Durations) -> str | None:
    last = reading.not_a_number
    return (
        f"{now - last:.0f} s ago." if last is not None and _lately(last, now, durations) else None
    )


def _too_slow(reading: Reading, now: float, durations: Durations) -> str | None:
    scrape = reading.scrape
    slow = scrape is not None and scrape > durations.stale
    return f"{scrape:.0f} s apart, {durations.stale:.0f} s is the limit." if slow else None


def _reset(reading: Reading, now: float, durations: Durations) -> str | None:
    last = reading.reset
    lately = last is not None and now - last < durations.settled
    return f"{now - (last or now):.0f} s ago." if lately else None


def _identity(reading: Reading, now: float, durations: Durations) -> str | None:
    differ = identity(reading.intervals)
    return f"they differ by {differ:.1%}." if differ > IDENTITY else None


def identity(intervals: Iterable[Interval]) -> float:
    """Relative difference of tokens counted by steps from those counted by kind.

    Tokens of all steps are generated ones and prompts' computed ones (vLLM 0.30.0 and 0.32.0) or
    prompts' whole (0.12.0 and 0.20.0); whichever is nearer.
    """
    counted = computed = whole = 0.0
    for one in intervals:
        if one.step_tokens is not None:
            counted += one.step_tokens
            computed += one.generated_tokens + one.prompt_tokens
            whole += one.generated_tokens + one.prompt_tokens + one.cached_tokens
    away = min(abs(counted - computed), abs(counted - whole))
    return away / max(counted, computed, 1.0)


def _lately(stamp: float, now: float, durations: Durations) -> bool:
    return now - stamp <= durations.stale


_FINDINGS: Final[tuple[tuple[Hold, Callable[[Reading, float, Durations], str | None]], ...]] = (
    (Hold.NO_SERIES, _no_series),
    (Hold.LABELS_AMBIGUOUS, _ambiguous),
    (Hold.STALE, _stale),
    (Hold.NOT_A_NUMBER, _not_a_number),
    (Hold.SCRAPE_TOO_SLOW, _too_slow),
    (Hold.COUNTERS_RESET, _reset),
    (Hold.IDENTITY_BROKEN, _identity),
)
