"""What an engine counted, under vLLM's names, as Prometheus would have scraped it.

Names, labels and bucket edges of vLLM 0.32.0 ``v1/metrics/loggers.py`` and ``buckets.py``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from . import state as at

FIRST_EDGES: Final = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75),
    *(1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0, 160.0, 640.0, 2560.0),
)
GAP_EDGES: Final = (
    *(0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75),
    *(1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0),
)
LATENCY_EDGES: Final = (
    *(0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0),
    *(40.0, 50.0, 60.0, 120.0, 240.0, 480.0, 960.0, 1920.0, 7680.0),
)
STEP_EDGES: Final = (1.0, *(float(2**power) for power in range(3, 15)))
PREEMPTION_EDGES: Final = (1.0, 2.0, 3.0, 4.0, 5.0, 10.0, 20.0)

NAMES: Final = {
    at.GAP: "vllm:inter_token_latency_seconds",
    at.FIRST: "vllm:time_to_first_token_seconds",
    at.LATENCY: "vllm:e2e_request_latency_seconds",
    at.QUEUE: "vllm:request_queue_time_seconds",
    at.PREFILL: "vllm:request_prefill_time_seconds",
    at.DECODE: "vllm:request_decode_time_seconds",
    at.INFERENCE: "vllm:request_inference_time_seconds",
    at.STEP: "vllm:iteration_tokens_total",
    at.PROMPT: "vllm:request_prompt_tokens",
    at.OUTPUT: "vllm:request_generation_tokens",
    at.PREEMPTION: "vllm:request_num_preemptions",
    at.PER_TOKEN: "vllm:request_time_per_output_token_seconds",
}


def length_edges(most: int) -> tuple[float, ...]:
    """1, 2, 5, 10, … up to ``max_model_len``."""
    edges = []
    power = 1
    while power <= most:
        edges += [float(power * step) for step in (1, 2, 5) if power * step <= most]
        power *= 10
    return tuple(edges)


@dataclass(frozen=True, slots=True)
class Buckets:
    """The edges of all histograms, by their place."""

    edges: tuple[tuple[float, ...], ...]

    @classmethod
    def of(
        cls,
        max_model_len: int,
        gaps: Sequence[float] = (),
        firsts: Sequence[float] = (),
    ) -> Buckets:
        """vLLM's own, with more for the two latencies (``--custom-histogram-buckets``, 0.32)."""
        own = {
            at.GAP: tuple(sorted({*GAP_EDGES, *gaps})),
            at.FIRST: tuple(sorted({*FIRST_EDGES, *firsts})),
            at.STEP: STEP_EDGES,
            at.PROMPT: length_edges(max_model_len),
            at.OUTPUT: length_edges(max_model_len),
            at.PREEMPTION: PREEMPTION_EDGES,
            at.PER_TOKEN: GAP_EDGES,
        }
        return cls(tuple(own.get(number, LATENCY_EDGES) for number in range(at.HISTOGRAMS)))

    @property
    def starts(self) -> list[int]:
        """Where each begins when they stand one after the other, and the end."""
        found = [0]
        for edges in self.edges:
            found.append(found[-1] + len(edges))
        return found


Series = tuple[str, tuple[tuple[str, str], ...]]
"""A name and its labels, sorted."""


@dataclass(slots=True)
class Scraped:
    """A series and its samples: seconds since the epoch, and the value."""

    name: str
    labels: dict[str, str]
    samples: list[tuple[float, float]] = field(default_factory=list)


def shown(
    row: Sequence[float], buckets: Buckets, labels: Mapping[str, str]
) -> Iterator[tuple[str, dict[str, str], float]]:
    """Names, labels and values of one sample."""
    common = {"engine": "0", **labels}
    yield "vllm:num_requests_running", common, row[1]
    yield "vllm:num_requests_waiting", common, row[2]
    yield "vllm:kv_cache_usage_perc", common, row[3]
    count = dict(zip(at.COUNTED, row[at.GAUGES :], strict=False))
    computed, cached = count[at.PROMPT_TOKENS], count[at.CACHED_TOKENS]
    yield "vllm:prompt_tokens_total", common, computed + cached
    source = "vllm:prompt_tokens_by_source_total"
    yield source, {**common, "source": "local_compute"}, computed
    yield source, {**common, "source": "local_cache_hit"}, cached
    yield "vllm:prompt_tokens_cached_total", common, cached
    yield "vllm:generation_tokens_total", common, count[at.GENERATED]
    yield "vllm:prefix_cache_queries_total", common, count[at.QUERIES]
    yield "vllm:prefix_cache_hits_total", common, count[at.HITS]
    yield "vllm:num_preemptions_total", common, count[at.PREEMPTIONS]
    finished = "vllm:request_success_total"
    for reason in ("stop", "length", "abort", "error", "repetition"):
        ended = count[at.FINISHED] if reason == "length" else 0.0
        yield finished, {**common, "finished_reason": reason}, ended
    place = at.GAUGES + len(at.COUNTED)
    for number, edges in enumerate(buckets.edges):
        name, total = NAMES[number], 0.0
        for edge in edges:
            total += row[place]
            place += 1
            yield f"{name}_bucket", {**common, "le": repr(edge)}, total
        total += row[place]
        yield f"{name}_bucket", {**common, "le": "+Inf"}, total
        yield f"{name}_count", common, total
        yield f"{name}_sum", common, row[place + 1]
        place += 2


def scraped(
    rows: Sequence[Sequence[float]], buckets: Buckets, labels: Mapping[str, str], epoch: float
) -> list[Scraped]:
    """The series of one pod, each with a sample for each row."""
    found: dict[Series, Scraped] = {}
    for row in rows:
        for name, own, value in shown(row, buckets, labels):
            key = (name, tuple(sorted(own.items())))
            series = found.get(key) or found.setdefault(key, Scraped(name, own))
            series.samples.append((epoch + row[0], value))
    return list(found.values())


def exposition(row: Sequence[float], buckets: Buckets, labels: Mapping[str, str]) -> str:
    """One sample in Prometheus' text format."""
    lines = []
    for name, own, value in shown(row, buckets, labels):
        inside = ",".join(f'{label}="{said}"' for label, said in sorted(own.items()))
        lines.append(f"{name}{{{inside}}} {value!r}\n")
    return "".join(lines)
