"""What is aimed at where a server's own ``spec.workload.slo`` does not say it.

The chart's values ``watching.targets`` have the same names and defaults.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True)
class Target:
    """A value of the chart, the series and the dashboards' variable that hold it."""

    value: str
    default: float
    variable: str
    record: str
    latency: str = ""
    """Of an objective: the operator's name of the latency; the value is then in milliseconds."""

    @property
    def number(self) -> str:
        """As the variable has it: seconds, or a ratio."""
        return f"{self.default / 1000 if self.latency else self.default:g}"


OBJECTIVE = "vllm_target:objective_ratio"
PERCENTILE = 95
"""Of the objectives below."""

TARGETS = (
    Target("timeToFirstTokenMilliseconds", 500, "first_token", OBJECTIVE, "timeToFirstToken"),
    Target("interTokenLatencyMilliseconds", 50, "between_tokens", OBJECTIVE, "interTokenLatency"),
    Target("prefixCacheHitRatio", 0.7, "hit_ratio", "vllm_target:prefix_cache_hit_ratio"),
    Target("kvCacheUsageRatio", 0.9, "cache_usage", "vllm_target:kv_cache_usage_ratio"),
    Target("preemptionRatio", 0.1, "preemptions", "vllm_target:preemption_ratio"),
    Target("failedRequestRatio", 0.01, "failed", "vllm_target:failed_request_ratio"),
    Target("restartsPerHour", 2, "restarts", "vllm_target:restarts_per_hour"),
)
BY_VARIABLE: Mapping[str, Target] = MappingProxyType({one.variable: one for one in TARGETS})


def le(seconds: float) -> str:
    """An edge of vLLM's buckets as its client writes it: ``0.5``, ``1.0``."""
    return repr(float(seconds))


def expression(target: Target) -> str:
    """PromQL that gives it; the chart's template makes the same of its values."""
    if not target.latency:
        return f"vector({target.number})"
    edge = le(target.default / 1000)
    return f'label_replace(vector({PERCENTILE / 100:g}), "le", "{edge}", "", "")'
