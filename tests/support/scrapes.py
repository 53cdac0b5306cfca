"""An engine that counts, and what a Prometheus would keep of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from vllm_operator.tuning.samples import Series

Key = tuple[str, str, tuple[tuple[str, str], ...]]
GAUGES = ("requestsRunning", "requestsWaiting", "kvCacheUsage", "processStart")


def key(meaning: str, part: str = "", **labels: str) -> Key:
    return meaning, part, tuple(sorted(labels.items()))


RATES: Mapping[Key, float] = {
    key("stepTokens", "sum"): 1300,
    key("stepTokens", "count"): 100,
    key("interTokenLatency", "sum"): 20,
    key("interTokenLatency", "count"): 1000,
    key("interTokenLatency", "bucket", le="0.025"): 900,
    key("interTokenLatency", "bucket", le="0.05"): 970,
    key("interTokenLatency", "bucket", le="+Inf"): 1000,
    key("timeToFirstToken", "sum"): 2,
    key("timeToFirstToken", "count"): 4,
    key("timeToFirstToken", "bucket", le="0.5"): 3,
    key("timeToFirstToken", "bucket", le="+Inf"): 4,
    key("promptTokens"): 400,
    key("promptTokensBySource", source="local_compute"): 300,
    key("promptTokensBySource", source="local_cache_hit"): 100,
    key("prefixCacheHits"): 100,
    key("generationTokens"): 1000,
    key("preemptions"): 1,
    key("finishedRequests", finished_reason="stop"): 3,
    key("finishedRequests", finished_reason="error"): 1,
    key("admissionRejections", reason="max_num_queued_reqs"): 2,
    key("promptLength", "sum"): 400,
    key("outputLength", "sum"): 1000,
    key("outputLength", "count"): 4,
    key("outputLength", "bucket", le="200.0"): 2,
    key("outputLength", "bucket", le="500.0"): 4,
    key("outputLength", "bucket", le="+Inf"): 4,
    key("queueTime", "sum"): 1,
    key("requestLatency", "sum"): 30,
    key("requestsRunning"): 20,
    key("requestsWaiting"): 2,
    key("kvCacheUsage"): 0.5,
    key("processStart"): 1000,
}
"""What one engine counts for each unit of work, and its gauges."""


@dataclass
class Kept:
    """Samples of a pod's series, scrape by scrape."""

    engines: int = 1
    labels: Mapping[str, str] = field(default_factory=lambda: {"instance": "10.0.0.1:8000"})
    without: Iterable[str] = ()
    samples: dict[Key, list[tuple[float, float]]] = field(default_factory=dict)

    def scrape(self, stamp: float, work: float, started: float = 1000) -> None:
        """All series at once; ``work`` is what the counters stand at."""
        for (meaning, part, own), rate in RATES.items():
            if meaning in self.without:
                continue
            value = rate if meaning in GAUGES else rate * work
            if meaning == "processStart":
                self.samples.setdefault((meaning, part, own), []).append((stamp, started))
                continue
            for engine in range(self.engines):
                one = (meaning, part, (*own, ("engine", str(engine))))
                self.samples.setdefault(one, []).append((stamp, value))

    def series(self) -> list[Series]:
        return [
            Series(meaning, part, dict(own) | self.labels, list(samples))
            for (meaning, part, own), samples in self.samples.items()
        ]
