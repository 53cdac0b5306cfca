"""What is asked of one server: its engines, its operator, its objective."""

from watching.panels import Query
from watching.queries import Engines, either, total

SERVER = 'namespace="$namespace",server="$server"'
ENGINES = Engines(SERVER)
PODS = ("pod",)


def said(gauge: str, more: str = "") -> str:
    """One of the operator's gauges of this server; two operators that change over say the same."""
    inside = ",".join(filter(None, (SERVER, more)))
    return f"max(vllm_operator_{gauge}{{{inside}}})"


def objective(latency: str, variable: str) -> str:
    """Seconds of the server's own objective, else the chart's, of which 0 is none."""
    own = said("objective_seconds", f'latency="{latency}"')
    return either([own, f"vector(${variable}) > 0"])


def kept(latency: str, variable: str) -> str:
    """The share that is as fast as the objective asks, by the bucket that stands for it."""
    picked = f'vllm_operator_objective_ratio{{{SERVER},latency="{latency}"}}'
    chart = f'label_replace(vector(1), "le", "${variable}_edge", "", "")'
    edge = f"(group by (le) ({picked}) or on () {chart})"
    buckets = total(ENGINES.rate(latency, "bucket"), ("le",))
    whole = total(ENGINES.rate(latency, "count"))
    return f"sum({buckets} * on (le) {edge}) / ({whole} > 0)"


def percentiles(meaning: str) -> list[Query]:
    """P50, P90 and P99 of a histogram."""
    return [
        Query(ENGINES.quantile(share, meaning), f"P{share * 100:g}") for share in (0.5, 0.9, 0.99)
    ]
