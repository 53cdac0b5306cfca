"""What each alert is fired by, and by what it is not: series, as promtool reads them.

Samples are a minute apart. ``0+5x60`` is a counter that grows by 5 for an hour, ``1x60`` a value
that stays.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

CHAT = 'namespace="ai",server="chat"'
POD = f'{CHAT},pod="chat-1"'


@dataclass(frozen=True)
class Scenario:
    """An alert, series by which it fires, and others by which it does not."""

    alert: str
    minutes: int
    """After which it is looked for."""
    fires: Mapping[str, str]
    silent: Mapping[str, str]
    labels: Mapping[str, str] = field(default_factory=dict)
    """Of the alert, beside its name, severity and server."""
    of_a_server: bool = True


def gauge(name: str, more: str = "") -> str:
    """A series of the operator."""
    return f"vllm_operator_{name}{{{CHAT}{more}}}"


def engine(name: str, more: str = "") -> str:
    """A series of an engine."""
    return f"{name}{{{POD}{more}}}"


def slow(
    each_minute: float, minutes: int, name: str = "vllm:time_to_first_token_seconds"
) -> dict[str, str]:
    """Ten requests a minute, so many of which are slower than half a second."""
    edge = "0.5" if "first" in name else "0.05"
    return {
        engine("up"): f"1x{minutes}",
        engine(f"{name}_bucket", f',le="{edge}"'): f"0+{10 - each_minute:g}x{minutes}",
        engine(f"{name}_bucket", ',le="+Inf"'): f"0+10x{minutes}",
        engine(f"{name}_count"): f"0+10x{minutes}",
        engine("vllm:request_success_total", ',finished_reason="stop"'): f"0+10x{minutes}",
    }


def cache(usage: float, waiting: int, name: str = "vllm:kv_cache_usage_perc") -> dict[str, str]:
    """An engine's KV cache, and who waits for it."""
    return {
        engine(name): f"{usage:g}x30",
        engine("vllm:num_requests_waiting"): f"{waiting}x30",
    }


def ended(stop: float, error: float) -> dict[str, str]:
    """Requests a minute by how they ended."""
    name = "vllm:request_success_total"
    return {
        engine(name, ',finished_reason="stop"'): f"0+{stop:g}x60",
        engine(name, ',finished_reason="error"'): f"0+{error:g}x60",
    }


def looked_for(hits: int, queries: int) -> dict[str, str]:
    """Prompt tokens a minute that were looked for in the prefix cache."""
    return {
        engine("vllm:prefix_cache_queries_total"): f"0+{queries}x180",
        engine("vllm:prefix_cache_hits_total"): f"0+{hits}x180",
    }


def tuning(state: str, minutes: int) -> dict[str, str]:
    """A server's state of tuning."""
    return {gauge("tuning_state", f',state="{state}"'): f"1x{minutes}"}


FIRST = {"latency": "timeToFirstToken"}
SCENARIOS = (
    Scenario(
        "VLLMServerDown",
        35,
        {gauge("replicas"): "1x60", gauge("ready_replicas"): "1x30 0x30"},
        {gauge("replicas"): "1x60", gauge("ready_replicas"): "0x60"},
    ),
    Scenario(
        "VLLMServerShortOfReplicas",
        31,
        {gauge("replicas"): "2x60", gauge("ready_replicas"): "1x60"},
        {gauge("replicas"): "2x60", gauge("ready_replicas"): "2x60"},
    ),
    Scenario(
        "VLLMServerNotPlanned",
        16,
        {gauge("server_state", ',state="Stalled"'): "1x30"},
        {gauge("server_state", ',state="Progressing"'): "1x30"},
        {"state": "Stalled"},
    ),
    Scenario("VLLMEngineNotScraped", 31, {engine("up"): "0x60"}, {engine("up"): "1x60"}),
    Scenario(
        "VLLMEngineRestarts",
        40,
        {engine("process_start_time_seconds"): "100x10 200x10 300x10 400x30"},
        {engine("process_start_time_seconds"): "100x10 200x10 300x40"},
    ),
    Scenario("VLLMObjectiveFast", 70, slow(8, 120), slow(7, 120), FIRST),
    Scenario("VLLMObjectiveSlow", 390, slow(4, 420), slow(2.5, 420), FIRST),
    Scenario("VLLMObjectiveMissed", 420, slow(1, 480), slow(0.4, 480), FIRST),
    Scenario(
        "VLLMKVCacheThrash",
        35,
        {engine("vllm:num_preemptions_total"): "0+2x60", **ended(10, 0)},
        {engine("vllm:num_preemptions_total"): "0+0.5x60", **ended(10, 0)},
    ),
    Scenario("VLLMKVCacheFull", 16, cache(0.95, 3), cache(0.95, 0)),
    Scenario("VLLMLowPrefixCacheHitRate", 130, looked_for(3000, 10000), looked_for(8000, 10000)),
    Scenario("VLLMRequestsFail", 25, ended(9, 1), ended(10, 0)),
    Scenario(
        "VLLMTuningStuck",
        121,
        tuning("Starting", 130),
        tuning("Settled", 130),
        {"state": "Starting"},
    ),
    Scenario(
        "VLLMTuningUndecided",
        541,
        tuning("Judging", 550),
        tuning("Settled", 550),
        {"state": "Judging"},
    ),
    Scenario("VLLMTuningSuspended", 61, tuning("Suspended", 70), tuning("CoolingDown", 70)),
    Scenario(
        "VLLMOperatorDown",
        6,
        {'vllm_operator_leader{pod="a"}': "0x10", 'vllm_operator_leader{pod="b"}': "0x10"},
        {'vllm_operator_leader{pod="a"}': "0x10", 'vllm_operator_leader{pod="b"}': "1x10"},
        of_a_server=False,
    ),
    Scenario(
        "VLLMOperatorErrors",
        25,
        {
            'vllm_operator_reconciles_total{result="error"}': "0+5x30",
            'vllm_operator_reconciles_total{result="success"}': "0+10x30",
        },
        {
            'vllm_operator_reconciles_total{result="error"}': "0+0.5x30",
            'vllm_operator_reconciles_total{result="success"}': "0+10x30",
        },
        of_a_server=False,
    ),
    Scenario(
        "VLLMOperatorHangs",
        3,
        {"vllm_operator_queue_oldest_seconds": "200x10"},
        {"vllm_operator_queue_oldest_seconds": "20x10"},
        of_a_server=False,
    ),
    Scenario(
        "VLLMOperatorCannotReadMetrics",
        32,
        {'vllm_operator_prometheus_queries_total{result="error"}': "0+1x60"},
        {'vllm_operator_prometheus_queries_total{result="error"}': "3x60"},
        of_a_server=False,
    ),
    Scenario(
        "VLLMOperatorFights",
        70,
        {'vllm_operator_writes_total{kind="Service"}': "0+50x100"},
        {'vllm_operator_writes_total{kind="Service"}': "0+5x100"},
        of_a_server=False,
    ),
)
