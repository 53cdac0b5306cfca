"""From the raw samples of a pod's series to intervals, or to nothing.

Differences are taken here, because PromQL's ``increase()`` extrapolates to the edges of its window
and bridges resets and gaps. An interval is told only where every series that it sums has a sample
at both ends, none fell between them, and no scrape is missing; whatever else happened to the
samples costs intervals and never makes a wrong one.

Times are those of Prometheus' clock. A jump of it shows as a scrape that is missing or too many,
but for two kinds that nothing shows: one below ``TOLERANCE``, and one back after which the first
sample that Prometheus takes again lies one usual distance behind the last.

What the metrics count: vLLM v1/metrics/stats.py and loggers.py, 0.12.0 to 0.33.0.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median_low
from typing import Final

from .durations import Durations
from .intervals import Between, Interval
from .knobs import Objective

PARTS: Final[Mapping[str, tuple[str, ...]]] = {
    "stepTokens": ("sum", "count"),
    "interTokenLatency": ("sum", "count", "bucket"),
    "timeToFirstToken": ("sum", "count", "bucket"),
    "promptTokens": ("",),
    "generationTokens": ("",),
    "requestsRunning": ("",),
    "requestsWaiting": ("",),
    "kvCacheUsage": ("",),
    "preemptions": ("",),
    "finishedRequests": ("",),
    "promptLength": ("sum",),
    "outputLength": ("sum", "count", "bucket"),
    "queueTime": ("sum",),
    "requestLatency": ("sum",),
    "promptTokensBySource": ("",),
    "prefixCacheHits": ("",),
    "admissionRejections": ("",),
    "processStart": ("",),
    "cacheConfig": ("",),
}
"""What is read: meanings of ``engine/metrics.csv``, and of histograms the series."""

OPTIONAL: Final = frozenset(
    {"promptTokensBySource", "prefixCacheHits", "admissionRejections", "processStart"}
    | {"cacheConfig"}
)
"""Meanings that not every version or way to run exports, and without which intervals are told."""

GAUGES: Final = frozenset({"requestsRunning", "requestsWaiting", "kvCacheUsage"})
OWN_LABELS: Final = frozenset(
    {"engine", "model_name", "le", "source", "finished_reason", "reason", "sleep_state"}
)
"""Labels that vLLM gives; any other was given by whoever scraped."""

TOLERANCE: Final = 0.05
"""By which share the time between two scrapes may differ from what it mostly is."""

JITTER: Final = 0.25
"""Seconds by which it may differ in any case: a busy Prometheus that scrapes every second. Of one
that scrapes more often, half of the time between: a scrape that is missing makes a whole."""


@dataclass(frozen=True, slots=True)
class Series:
    """Samples of one series of a pod, in any order."""

    meaning: str
    part: str
    """``sum``, ``count`` or ``bucket`` of a histogram, else empty."""
    labels: Mapping[str, str]
    """All but the metric's name and those that name the pod and its namespace."""
    samples: Sequence[tuple[float, float]]
    """Seconds since the epoch, and the value."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What the samples of one pod tell, and what is to be said of their quality."""

    pod: str
    intervals: tuple[Interval, ...] = ()
    """In order of time; those that are not told are absent."""
    newest: float | None = None
    """When the newest sample was taken; None without samples."""
    scrape: float | None = None
    """Seconds between two scrapes, mostly; None where too few distances
    agree."""
    missing: tuple[str, ...] = ()
    """Meanings without which there is no interval, and of which there is no series."""
    scrapers: tuple[str, ...] = ()
    """Labels in which series differ that should be one: several scrape the pod."""
    not_a_number: float | None = None
    """When a sample last was no finite number."""
    reset: float | None = None
    """When counters last began anew."""
    cache_config: Mapping[str, str] = field(default_factory=dict)
    """What the engine says of its KV cache, as ``vllm:cache_config_info`` has it."""


def read(
    pod: str, series: Iterable[Series], durations: Durations, objective: Objective | None = None
) -> Reading:
    """The intervals of ``pod``, each as long as the configured one or a scrape, the longer.

    Where scrapes are more frequent, intervals end with the last scrape of each slot of the clock,
    so that overlapping windows give the same ones.
    """
    given = list(series)
    lines, scrapers = _lines(one for one in given if one.meaning != "cacheConfig")
    stamps = sorted({stamp for line in lines for stamp in line.stamps})
    scrape = _scrape(stamps)
    falls = [fall for line in lines for fall in line.falls()]
    known = {line.meaning for line in lines}
    missing = tuple(name for name in PARTS if name not in known | OPTIONAL)
    told: list[Interval] = []
    if scrape is not None and not missing and not scrapers:
        breaks = falls + _gaps(stamps, scrape)
        for begin, end in pairwise(_ends(stamps, scrape, durations.interval)):
            if any(begin < after and before < end for before, after in breaks):
                continue
            since = max((after for _, after in breaks if after <= begin), default=-math.inf)
            sums = _Sums.of(lines, since, begin, end)
            if sums is not None:
                told.append(sums.interval(pod, end, end - begin, objective))
    return Reading(
        pod=pod,
        intervals=tuple(told),
        newest=stamps[-1] if stamps else None,
        scrape=scrape,
        missing=missing if lines else tuple(name for name in PARTS if name not in OPTIONAL),
        scrapers=scrapers,
        not_a_number=max((stamp for line in lines for stamp in line.broken), default=None),
        reset=max((after for _, after in falls), default=None),
        cache_config=_newest_labels(one for one in given if one.meaning == "cacheConfig"),
    )


@dataclass(slots=True)
class _Line:
    """One series, whoever scraped it."""

    meaning: str
    part: str
    labels: Mapping[str, str]
    values: dict[float, float] = field(default_factory=dict)
    """Finite samples, in order of time."""
    broken: tuple[float, ...] = ()
    stamps: tuple[float, ...] = ()
    """Of all samples, in order."""

    def falls(self) -> Iterator[tuple[float, float]]:
        """Between which times the process began anew."""
        if self.meaning in GAUGES:
            return
        for before, after in pairwise(self.values):
            fell = self.values[after] < self.values[before]
            if fell or (
                self.meaning == "processStart" and self.values[after] != self.values[before]
            ):
                yield before, after


def _lines(series: Iterable[Series]) -> tuple[list[_Line], tuple[str, ...]]:
    """Series that differ by their scraper alone are one; the labels that make it ambiguous."""
    grouped: dict[tuple[str, str, frozenset[tuple[str, str]]], list[Series]] = {}
    for one in series:
        own = frozenset(pair for pair in one.labels.items() if pair[0] in OWN_LABELS)
        if one.samples:
            grouped.setdefault((one.meaning, one.part, own), []).append(one)
    lines, scrapers = [], set[str]()
    for (meaning, part, own), same in grouped.items():
        same.sort(key=lambda one: min(one.samples)[0])
        for before, after in pairwise(same):
            # One after the other is a target that was named otherwise.
            if min(after.samples)[0] <= max(before.samples)[0]:
                scrapers |= {name for name, _ in before.labels.items() ^ after.labels.items()}
        line = _Line(meaning, part, dict(own))
        samples = sorted({sample for one in same for sample in one.samples}, key=lambda one: one[0])
        line.stamps = tuple(dict.fromkeys(stamp for stamp, _ in samples))
        line.broken = tuple(stamp for stamp, value in samples if not math.isfinite(value))
        for stamp, value in samples:
            if math.isfinite(value) and line.values.setdefault(stamp, value) != value:
                scrapers.add("timestamp")
        lines.append(line)
    return lines, tuple(sorted(scrapers))


def _scrape(stamps: Sequence[float]) -> float | None:
    """The usual distance: that of at least two, and of half of all."""
    distances = [after - before for before, after in pairwise(stamps)]
    usual = median_low(distances) if distances else 0.0
    agree = [one for one in distances if abs(one - usual) <= _tolerance(usual)]
    return usual if len(agree) > 1 and 2 * len(agree) >= len(distances) else None


def _tolerance(scrape: float) -> float:
    return max(TOLERANCE * scrape, min(JITTER, scrape / 2))


def _ends(stamps: Sequence[float], scrape: float, interval: float) -> Sequence[float]:
    """Where intervals begin and end."""
    if scrape >= 0.75 * interval:
        return stamps
    slots = {math.floor(stamp / interval): stamp for stamp in stamps}
    return list(slots.values())[:-1]  # more may come into the last one


def _gaps(stamps: Sequence[float], scrape: float) -> list[tuple[float, float]]:
    """Between which times a scrape is missing, or the clock jumped."""
    tolerance = _tolerance(scrape)
    return [
        (before, after)
        for before, after in pairwise(stamps)
        if abs(after - before - scrape) > tolerance
    ]


@dataclass(slots=True)
class _Sums:
    """Differences over one interval and gauges at its end, summed over engines."""

    totals: dict[tuple[str, str], float] = field(default_factory=dict)
    buckets: dict[str, dict[float, float]] = field(default_factory=dict)
    engines: int = 0
    computed: float | None = None
    failed: float = 0.0

    @classmethod
    def of(cls, lines: Iterable[_Line], since: float, begin: float, end: float) -> _Sums | None:
        """None where a series that lives at the time has no sample at one of the ends.

        One lives from its first sample on, until a break: where its samples lag behind the others'
        on their way, an interval without it would be wrong. The last break was at ``since``.
        """
        sums = cls()
        for line in lines:
            if line.stamps[0] > end or line.stamps[-1] < since:
                continue
            gauge = line.meaning in GAUGES
            at = line.values.get(end)
            before = 0.0 if gauge else line.values.get(begin)
            if at is None or before is None:
                return None
            sums._add(line, at - before)
        wanted = ((name, parts) for name, parts in PARTS.items() if name not in OPTIONAL)
        sound = all(
            (name, part) in sums.totals
            for name, parts in wanted
            for part in parts
            if part != "bucket"
        )
        return sums if sound else None

    def _add(self, line: _Line, value: float) -> None:
        if line.part == "bucket":
            edges = self.buckets.setdefault(line.meaning, {})
            edge = float(line.labels.get("le", "nan"))
            edges[edge] = edges.get(edge, 0.0) + value
            return
        key = line.meaning, line.part
        self.totals[key] = self.totals.get(key, 0.0) + value
        if line.meaning == "kvCacheUsage":
            self.engines += 1
        elif line.labels.get("source") == "local_compute":
            self.computed = (self.computed or 0.0) + value
        elif line.labels.get("finished_reason") == "error":
            self.failed += value

    def total(self, meaning: str, part: str = "") -> float:
        """The sum over all series of a meaning; 0 where there is none."""
        return self.totals.get((meaning, part), 0.0)

    @property
    def computed_prompt_tokens(self) -> float:
        """Hits are counted when a request is scheduled and its prompt with its first token: an
        older version's difference may lie below 0 for a moment."""
        if self.computed is not None:
            return self.computed
        return max(0.0, self.total("promptTokens") - self.total("prefixCacheHits"))

    def interval(
        self, pod: str, end: float, seconds: float, objective: Objective | None
    ) -> Interval:
        """The interval in words of tuning."""
        computed = self.computed_prompt_tokens
        gap_limit = objective.inter_token_latency if objective else None
        first_limit = objective.time_to_first_token if objective else None
        return Interval(
            pod=pod,
            end=end,
            seconds=seconds,
            steps=self.total("stepTokens", "count"),
            gaps=self.total("interTokenLatency", "count"),
            gap_seconds=self.total("interTokenLatency", "sum"),
            slow_gaps=self._slow("interTokenLatency", gap_limit),
            first_tokens=self.total("timeToFirstToken", "count"),
            first_token_seconds=self.total("timeToFirstToken", "sum"),
            slow_first_tokens=self._slow("timeToFirstToken", first_limit),
            prompt_tokens=computed,
            cached_tokens=max(0.0, self.total("promptTokens") - computed),
            generated_tokens=self.total("generationTokens"),
            running=self.total("requestsRunning"),
            waiting=self.total("requestsWaiting"),
            cache_usage=self.total("kvCacheUsage") / max(1, self.engines),
            preemptions=self.total("preemptions"),
            finished=self.total("finishedRequests"),
            failed=self.failed,
            rejected=self.total("admissionRejections"),
            finished_prompt_tokens=self.total("promptLength", "sum"),
            finished_output_tokens=self.total("outputLength", "sum"),
            finished_output_squares=sum_of_squares(
                self.buckets.get("outputLength", {}),
                self.total("outputLength", "count"),
                self.total("outputLength", "sum"),
            ),
            queue_seconds=self.total("queueTime", "sum"),
            request_seconds=self.total("requestLatency", "sum"),
            step_tokens=self.total("stepTokens", "sum"),
        )

    def _slow(self, meaning: str, limit: float | None) -> Between | None:
        if limit is None:
            return None
        return beyond(self.buckets.get(meaning, {}), self.total(meaning, "count"), limit)


def beyond(buckets: Mapping[float, float], count: float, limit: float) -> Between:
    """How many of ``count`` samples are greater than ``limit``, by buckets of upper edges.

    Exact where an edge is at the limit; else the counts at the two edges beside it bound it.
    """
    under = [edge for edge in buckets if edge <= limit or math.isclose(edge, limit)]
    over = [edge for edge in buckets if edge >= limit or math.isclose(edge, limit)]
    most = buckets[min(over)] if over else count
    least = buckets[max(under)] if under else 0.0
    return Between(max(0.0, count - most), max(0.0, count - least))


def sum_of_squares(buckets: Mapping[float, float], count: float, total: float) -> float:
    """Sum of squares of ``count`` lengths that sum to ``total``, by buckets of upper edges.

    Lengths are taken as even within a bucket, (a² + ab + b²)/3 each, and scaled to the total that
    is known; the last bucket reaches to twice its lower edge. Never below ``total²/count``, which
    no lengths are.
    """
    if count <= 0:
        return 0.0
    lower = within = mean = square = 0.0
    for edge, cumulated in sorted(buckets.items()):
        upper = 2 * lower if math.isinf(edge) else edge
        number = max(0.0, cumulated - within)
        mean += number * (lower + upper) / 2
        square += number * (lower * lower + lower * upper + upper * upper) / 3
        lower, within = upper, cumulated
    scaled = square * (total / mean) ** 2 if mean else 0.0
    return max(scaled, total * total / count)


def _newest_labels(series: Iterable[Series]) -> dict[str, str]:
    newest = max(
        (one for one in series if one.samples), key=lambda one: max(one.samples)[0], default=None
    )
    return dict(newest.labels) if newest else {}
