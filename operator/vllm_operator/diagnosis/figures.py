"""What a server's pods did in a window, as a person reads it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from vllm_operator.tuning.intervals import Interval


@dataclass(frozen=True, slots=True)
class Figures:
    """Rates and numbers of requests are of all pods together, times are means in seconds."""

    pods: int
    requests_per_second: float
    """Requests that got their first token."""
    output_tokens_per_second: float
    time_to_first_token: float | None
    """None where no request got its first token."""
    inter_token_latency: float | None
    """None where nothing was generated after a first token."""
    running: float
    """Requests at once, averaged over time."""
    waiting: float
    kv_cache_usage: float
    """Share of the KV cache in use, averaged over time and pods."""
    kv_cache_most: float
    """The most that any pod showed."""
    hit_rate: float | None
    """Share of prompt tokens that the prefix cache had; None without prompts."""
    preemptions: float
    """Of a finished request."""
    failed: float
    """Share of the finished requests that ended with an error."""
    prompt_tokens: float | None
    """Of a request, computed or found; None where none got its first token."""
    output_tokens: float | None
    """Of a request."""

    @property
    def tokens_per_request_second(self) -> float | None:
        """Tokens a second that a request which generates sees."""
        return 1.0 / self.inter_token_latency if self.inter_token_latency else None

    @property
    def request_tokens(self) -> float | None:
        """Prompt and output of a request together."""
        if self.prompt_tokens is None or self.output_tokens is None:
            return None
        return self.prompt_tokens + self.output_tokens

    def to_json_object(self) -> Mapping[str, Any]:
        """For scripts: seconds, shares from 0 to 1, and null where nothing was seen."""
        return {
            "pods": self.pods,
            "requestsPerSecond": round(self.requests_per_second, 3),
            "outputTokensPerSecond": round(self.output_tokens_per_second, 1),
            "timeToFirstTokenSeconds": _rounded(self.time_to_first_token),
            "interTokenLatencySeconds": _rounded(self.inter_token_latency),
            "running": round(self.running, 1),
            "waiting": round(self.waiting, 1),
            "kvCacheUsage": round(self.kv_cache_usage, 4),
            "prefixCacheHitRate": _rounded(self.hit_rate),
            "preemptionsPerRequest": round(self.preemptions, 3),
            "failedShare": round(self.failed, 4),
            "promptTokens": _rounded(self.prompt_tokens),
            "outputTokens": _rounded(self.output_tokens),
        }


def figures_of(intervals: Iterable[Interval]) -> Figures | None:
    """Of the intervals of all pods; None without any.

    Each pod counts over the time that was seen of it, so that one that is missing for a while
    lowers no rate.
    """
    pods: dict[str, list[Interval]] = {}
    for one in intervals:
        pods.setdefault(one.pod, []).append(one)
    if not pods:
        return None
    whole = [one for some in pods.values() for one in some]
    first = sum(one.first_tokens for one in whole)
    gaps = sum(one.gaps for one in whole)
    generated = sum(one.generated_tokens for one in whole)
    prompt = sum(one.prompt_tokens for one in whole)
    cached = sum(one.cached_tokens for one in whole)
    finished = sum(one.finished for one in whole)
    return Figures(
        pods=len(pods),
        requests_per_second=sum(_rate(some, "first_tokens") for some in pods.values()),
        output_tokens_per_second=sum(_rate(some, "generated_tokens") for some in pods.values()),
        time_to_first_token=_share(sum(one.first_token_seconds for one in whole), first),
        inter_token_latency=_share(sum(one.gap_seconds for one in whole), gaps),
        running=sum(_mean(some, "running") for some in pods.values()),
        waiting=sum(_mean(some, "waiting") for some in pods.values()),
        kv_cache_usage=sum(_mean(some, "cache_usage") for some in pods.values()) / len(pods),
        kv_cache_most=max(one.cache_usage for one in whole),
        hit_rate=_share(cached, cached + prompt),
        preemptions=_share(sum(one.preemptions for one in whole), finished) or 0.0,
        failed=_share(sum(one.failed for one in whole), finished) or 0.0,
        prompt_tokens=_share(prompt + cached, first),
        output_tokens=_share(generated, first),
    )


def _rate(intervals: Iterable[Interval], name: str) -> float:
    some = list(intervals)
    total: float = sum(getattr(one, name) for one in some)
    return total / sum(one.seconds for one in some)


def _mean(intervals: Iterable[Interval], name: str) -> float:
    some = list(intervals)
    total: float = sum(getattr(one, name) for one in some)
    return total / len(some)


def _share(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 5)
