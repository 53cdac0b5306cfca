"""Recording and alerting rules, as Prometheus reads them."""

from collections.abc import Iterator
from typing import Any

from watching import targets
from watching.queries import BY_SERVER, Engines, ratio, total

Rule = dict[str, Any]
ENGINES = 'server!=""'
"""Series that the PodMonitor has given the label of their server."""
WINDOWS = ("5m", "30m", "1h", "6h", "3d")
LATENCIES = ("timeToFirstToken", "interTokenLatency")
OBJECTIVE = "namespace_server:vllm_objective:ratio"
SLOW = "namespace_server:vllm_slow:ratio_rate"
HITS = "namespace_server:vllm_prefix_cache_hits:ratio_rate1h"
PREEMPTED = "namespace_server:vllm_preemptions:ratio_rate15m"
FAILED = "namespace_server:vllm_failed_requests:ratio_rate15m"
USAGE = "namespace_server:vllm_kv_cache_usage:max"
WAITING = "namespace_server:vllm_requests_waiting:sum"
RESTARTS = "namespace_server:vllm_engine_restarts:changes1h"
FINISHED = "namespace_server:vllm_finished_requests:increase1h"
FEWEST = 20
"""Requests in an hour below which nothing is said of the share of them that is slow."""
LEARNED_TOKENS = 100_000
"""Prompt tokens in an hour below which nothing is said of the hit rate."""
ON = "on (namespace, server)"


def groups() -> list[dict[str, Any]]:
    """All groups of rules, in the order in which one needs the other."""
    return [
        {"name": "vllm-targets", "rules": [_target(one) for one in targets.TARGETS]},
        {"name": "vllm-servers", "rules": [*_recorded()]},
        {"name": "vllm-server-alerts", "rules": [*_server_alerts()]},
        {"name": "vllm-operator-alerts", "rules": [*_operator_alerts()]},
    ]


def alerts() -> list[str]:
    """Names of all alerts, in their order."""
    return [rule["alert"] for group in groups() for rule in group["rules"] if "alert" in rule]


def _target(target: targets.Target) -> Rule:
    rule = {"record": target.record, "expr": targets.expression(target)}
    return {**rule, "labels": {"latency": target.latency}} if target.latency else rule


def _recorded() -> Iterator[Rule]:
    yield {"record": OBJECTIVE, "expr": _objective()}
    for window in WINDOWS:
        engines = Engines(ENGINES, window)
        for latency in LATENCIES:
            yield {
                "record": f"{SLOW}{window}",
                "expr": _slow(engines, latency),
                "labels": {"latency": latency},
            }
    hour, quarter = Engines(ENGINES, "1h"), Engines(ENGINES, "15m")
    queries = total(hour.rate("prefixCacheQueries", of="increase"), BY_SERVER)
    hits = ratio(hour.rate("prefixCacheHits"), hour.rate("prefixCacheQueries"), BY_SERVER)
    yield {"record": HITS, "expr": f"({hits}) and {ON} ({queries} > {LEARNED_TOKENS})"}
    finished = quarter.rate("finishedRequests")
    yield {"record": PREEMPTED, "expr": ratio(quarter.rate("preemptions"), finished, BY_SERVER)}
    yield {"record": FAILED, "expr": quarter.failed(BY_SERVER)}
    yield {"record": USAGE, "expr": total(hour.now("kvCacheUsage"), BY_SERVER, "max")}
    yield {"record": WAITING, "expr": total(hour.now("requestsWaiting"), BY_SERVER)}
    ended = hour.rate("finishedRequests", of="increase")
    yield {"record": FINISHED, "expr": total(ended, BY_SERVER)}
    yield {"record": RESTARTS, "expr": total(hour.rate("processStart", of="changes"), BY_SERVER)}


def _objective() -> str:
    """The share that is to be fast enough, and by which bucket that is counted: the server's own
    objective, else the chart's."""
    own = total("vllm_operator_objective_ratio", (*BY_SERVER, "latency", "le"), "max")
    known = total(f"up{{{ENGINES}}}", BY_SERVER, "group")
    both = " or ".join(f'label_replace({known}, "latency", "{one}", "", "")' for one in LATENCIES)
    chart = f"({both}) * on (latency) group_left (le) {targets.OBJECTIVE}"
    return f"{own} or on (namespace, server, latency) ({chart})"


def _slow(engines: Engines, latency: str) -> str:
    counted = total(engines.rate(latency, "bucket"), (*BY_SERVER, "le"))
    edge = total(f'{OBJECTIVE}{{latency="{latency}"}}', (*BY_SERVER, "le"), "group")
    fast = total(f"{counted} * on (namespace, server, le) {edge}", BY_SERVER)
    return f"1 - {fast} / ({total(engines.rate(latency, 'count'), BY_SERVER)} > 0)"


def _alert(
    name: str, severity: str, summary: str, description: str, expr: str, lasting: str
) -> Rule:
    return {
        "alert": name,
        "expr": expr,
        "for": lasting,
        "labels": {"severity": severity},
        "annotations": {"summary": summary, "description": description},
    }


NAMED = "{{ $labels.namespace }}/{{ $labels.server }}"
SHARE = "{{ $value | humanizePercentage }}"


def _server_alerts() -> Iterator[Rule]:
    asked = total("vllm_operator_replicas", BY_SERVER, "max")
    ready = total("vllm_operator_ready_replicas", BY_SERVER, "max")
    served = f"max_over_time(timestamp({ready} > 0)[1d:1m])"
    idle = f"max_over_time(timestamp({asked} == 0)[1d:1m])"
    broken = f"{served} unless {ON} ({idle} >= {ON} {served})"
    yield _alert(
        "VLLMServerDown",
        "critical",
        f"{NAMED} does not serve any more",
        "No replica is ready, and one was within the last day; it was not scaled to zero since.",
        f"({ready} == 0) and {ON} ({asked} > 0) and {ON} ({broken})",
        "2m",
    )
    yield _alert(
        "VLLMServerShortOfReplicas",
        "warning",
        f"{NAMED} has {{{{ $value }}}} ready replicas, and more are asked for",
        "So it has been for half an hour. Its condition Progressing says what it waits for.",
        f"{ready} < {ON} {asked}",
        "30m",
    )
    state = total(
        'vllm_operator_server_state{state=~"NotPlanned|Stalled"}', (*BY_SERVER, "state"), "max"
    )
    yield _alert(
        "VLLMServerNotPlanned",
        "warning",
        f"{NAMED} is {{{{ $labels.state }}}}: somebody must act",
        "Its conditions Planned and Stalled say what to do.",
        f"{state} == 1",
        "15m",
    )
    yield _alert(
        "VLLMEngineNotScraped",
        "warning",
        f"{{{{ $value }}}} engines of {NAMED} do not answer scrapes",
        "They load for longer than half an hour, hang, or a network policy keeps Prometheus out.",
        f"count by (namespace, server) (up{{{ENGINES}}} == 0)",
        "30m",
    )
    yield _alert(
        "VLLMEngineRestarts",
        "warning",
        f"Engines of {NAMED} have restarted {{{{ $value }}}} times in an hour",
        "The condition Progressing has the end of the last one, as far as its log tells it.",
        f"{RESTARTS} > scalar(vllm_target:restarts_per_hour)",
        "1m",
    )
    yield from _burn("Fast", "critical", "1h", "5m", 14.4, 0.9, "2m")
    yield from _burn("Slow", "warning", "6h", "30m", 6, 0.75, "15m")
    yield from _burn("Missed", "info", "3d", "6h", 1, 1, "1h")
    yield _alert(
        "VLLMKVCacheThrash",
        "warning",
        f"{NAMED} preempts {SHARE} of its requests",
        "The KV cache holds fewer requests than run at once: their prompts are computed again. "
        "More memory or GPUs, or fewer sequences.",
        f"{PREEMPTED} > scalar(vllm_target:preemption_ratio)",
        "15m",
    )
    yield _alert(
        "VLLMKVCacheFull",
        "warning",
        f"The KV cache of {NAMED} is {SHARE} full, and requests wait",
        "More memory or GPUs, more replicas, or shorter requests.",
        f"{USAGE} > scalar(vllm_target:kv_cache_usage_ratio) and {ON} ({WAITING} > 0)",
        "15m",
    )
    yield _alert(
        "VLLMLowPrefixCacheHitRate",
        "info",
        f"{NAMED} finds {SHARE} of its prompt tokens in the prefix cache",
        "Where requests share no beginnings, that is as it should be: lower "
        "watching.targets.prefixCacheHitRatio, or leave this alert out.",
        f"{HITS} < scalar(vllm_target:prefix_cache_hit_ratio)",
        "1h",
    )
    yield _alert(
        "VLLMRequestsFail",
        "warning",
        f"{SHARE} of the requests of {NAMED} end with an error",
        "The engines' logs say why.",
        f"{FAILED} > scalar(vllm_target:failed_request_ratio)",
        "5m",
    )


def _burn(
    name: str, severity: str, long: str, short: str, times: float, most: float, lasting: str
) -> Iterator[Rule]:
    """Both windows have so many times the slow requests that the objective allows, or ``most`` of
    all: an objective of few requests in ten leaves no room for 14 times as many."""
    allowed = f"clamp_max({times:g} * (1 - {OBJECTIVE}), {most:g})"
    on = "on (namespace, server, latency)"
    both = f"{SLOW}{long} > {on} {allowed} and {SLOW}{short} > {on} {allowed}"
    words = f"more than {times:g} times what its objective allows" if times > 1 else "too many"
    yield _alert(
        f"VLLMObjective{name}",
        severity,
        f"{SHARE} of the requests or tokens of {NAMED} are slow: {words}",
        f"By {{{{ $labels.latency }}}}, over {long} and over {short}. The objective is that of "
        "spec.workload.slo, else of the chart's watching.targets.",
        f"({both}) and {ON} ({FINISHED} > {FEWEST})",
        lasting,
    )


def _operator_alerts() -> Iterator[Rule]:
    state = "vllm_operator_tuning_state"
    labels = (*BY_SERVER, "state")
    changing = total(f'{state}{{state=~"Starting|Promoting|RollingBack"}}', labels, "max")
    judging = total(f'{state}{{state=~"Warming|Judging"}}', labels, "max")
    yield _alert(
        "VLLMTuningStuck",
        "warning",
        f"Tuning of {NAMED} has been {{{{ $labels.state }}}} for two hours",
        "A trial's pod or the rollout after it does not get further; vllm-operator explain says "
        "what is waited for.",
        f"{changing} == 1",
        "2h",
    )
    yield _alert(
        "VLLMTuningUndecided",
        "info",
        f"A trial of {NAMED} has been {{{{ $labels.state }}}} for nine hours",
        "It gets too few requests to be judged, or its metrics are not read.",
        f"{judging} == 1",
        "9h",
    )
    suspended = total(f'{state}{{state="Suspended"}}', BY_SERVER, "max")
    yield _alert(
        "VLLMTuningSuspended",
        "info",
        f"Three of five trials of {NAMED} were taken back: it is tuned no more",
        "The annotation vllm-operator.io/retune asks again.",
        f"{suspended} == 1",
        "1h",
    )
    yield _alert(
        "VLLMOperatorDown",
        "critical",
        "No vllm-operator acts on servers",
        "What runs goes on; nothing is repaired, rolled out or scaled. Prometheus must scrape the "
        "operator (metrics.podMonitor.enabled), or this fires for want of that.",
        "absent(vllm_operator_leader == 1)",
        "5m",
    )
    yield _alert(
        "VLLMOperatorErrors",
        "warning",
        "{{ $value | humanizePercentage }} of the operator's visits end with an error",
        "Its log has them: mostly the API server refuses something.",
        'sum(rate(vllm_operator_reconciles_total{result="error"}[10m])) / '
        "(sum(rate(vllm_operator_reconciles_total[10m])) > 0) > 0.1",
        "10m",
    )
    yield _alert(
        "VLLMOperatorHangs",
        "warning",
        "A visit of the operator has been in flight for {{ $value | humanizeDuration }}",
        "After five minutes the kubelet restarts it.",
        "max(vllm_operator_queue_oldest_seconds) > 120",
        "1m",
    )
    yield _alert(
        "VLLMOperatorCannotReadMetrics",
        "warning",
        "The operator's queries to Prometheus fail",
        "Nothing is tuned on evidence that is missing; the condition MetricsAvailable says why.",
        'sum(rate(vllm_operator_prometheus_queries_total{result="error"}[15m])) > 0',
        "15m",
    )
    yield _alert(
        "VLLMOperatorFights",
        "warning",
        "The operator has written {{ $value | humanize }} objects within an hour",
        "Somebody else changes what it owns, again and again.",
        "sum(increase(vllm_operator_writes_total[1h])) > 1000",
        "5m",
    )
