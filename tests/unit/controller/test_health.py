"""What the operator says of itself over HTTP."""

from __future__ import annotations

import aiohttp
import pytest

from vllm_operator.controller import health
from vllm_operator.controller.metrics import Metrics
from vllm_operator.lifecycle.gauges import Sample


async def ask(path: str, *, alive: str | None = None, ready: str | None = None) -> tuple[int, str]:
    runner = await health.serve("127.0.0.1:0", Metrics(), lambda: alive, lambda: ready)
    port = runner.addresses[0][1]
    try:
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://127.0.0.1:{port}{path}") as answer,
        ):
            return answer.status, await answer.text()
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
async def test_where_all_is_well_it_says_ok(path: str) -> None:
    assert await ask(path) == (200, "ok\n")


async def test_what_hangs_is_said_where_liveness_is_asked_for_and_only_there() -> None:
    assert await ask("/healthz", alive="it hangs") == (503, "it hangs\n")
    assert (await ask("/readyz", alive="it hangs"))[0] == 200


async def test_what_is_not_listed_yet_is_said_where_readiness_is_asked_for_and_only_there() -> None:
    assert await ask("/readyz", ready="listing") == (503, "listing\n")
    assert (await ask("/healthz", ready="listing"))[0] == 200


async def test_the_metrics_are_told_as_prometheus_reads_them() -> None:
    status, text = await ask("/metrics")
    assert status == 200
    assert "# TYPE vllm_operator_reconciles_total counter" in text


def value(metrics: Metrics, sample: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(f"vllm_operator_{sample}", labels)


def test_tuning_of_a_server_is_in_one_state_at_a_time() -> None:
    metrics = Metrics()
    one = {"namespace": "default", "server": "qwen"}
    metrics.set_tuning_state("default", "qwen", "Observing")
    metrics.set_tuning_state("default", "qwen", "Settled")
    assert value(metrics, "tuning_state", **one, state="Observing") is None
    assert value(metrics, "tuning_state", **one, state="Settled") == 1
    metrics.set_tuning_state("default", "qwen", None)
    assert value(metrics, "tuning_state", **one, state="Settled") is None


def test_a_server_is_in_one_state_at_a_time() -> None:
    metrics = Metrics()
    one = {"namespace": "default", "server": "qwen"}
    metrics.set_server_state("default", "qwen", "Progressing")
    metrics.set_server_state("default", "qwen", "Ready")
    metrics.set_server_state("default", "qwen", "Ready")
    assert value(metrics, "server_state", **one, state="Progressing") is None
    assert value(metrics, "server_state", **one, state="Ready") == 1
    metrics.set_server_state("default", "qwen", None)
    metrics.set_server_state("default", "qwen", None)
    assert value(metrics, "server_state", **one, state="Ready") is None
    metrics.set_server_state("default", "qwen", "Ready")
    assert value(metrics, "server_state", **one, state="Ready") == 1


def test_the_error_of_a_cache_is_that_of_the_last_measurement_until_it_is_forgotten() -> None:
    metrics = Metrics()
    one = {"namespace": "default", "server": "qwen"}
    metrics.set_cache_error("default", "qwen", None)
    for error in (-0.02, 0.01):
        metrics.set_cache_error("default", "qwen", error)
        assert value(metrics, "kv_cache_error_ratio", **one) == error
    for _ in range(2):
        metrics.set_cache_error("default", "qwen", None)
        assert value(metrics, "kv_cache_error_ratio", **one) is None


def test_what_never_happened_is_counted_as_none() -> None:
    metrics = Metrics()
    assert value(metrics, "reconciles_total", result="error") == 0
    assert value(metrics, "prometheus_queries_total", result="error") == 0
    assert value(metrics, "calibration_reads_total", result="failed") == 0
    assert value(metrics, "tuning_trials_total", verdict="RolledBack") == 0


def test_a_request_is_counted_by_verb_and_code_and_timed_by_verb() -> None:
    metrics = Metrics()
    metrics.api_request("GET", "404", 0.3)
    assert value(metrics, "api_requests_total", verb="GET", code="404") == 1
    name = "api_request_duration_seconds"
    assert value(metrics, f"{name}_sum", verb="GET") == 0.3
    assert value(metrics, f"{name}_bucket", verb="GET", le="0.25") == 0
    assert value(metrics, f"{name}_bucket", verb="GET", le="0.5") == 1


def test_what_is_said_of_a_server_takes_the_place_of_what_was_said_before() -> None:
    metrics = Metrics()
    one = {"namespace": "default", "server": "qwen"}
    metrics.set_server("default", "qwen", [Sample("replicas", 2), Sample("plan_gpus", 8)])
    metrics.set_server("default", "qwen", [Sample("replicas", 3)])
    assert value(metrics, "replicas", **one) == 3
    assert value(metrics, "plan_gpus", **one) is None


def test_another_label_of_what_is_said_is_another_series_and_the_one_before_is_gone() -> None:
    metrics = Metrics()
    one = {"namespace": "default", "server": "qwen"}
    for bound in ("Load", "KVCache"):
        metrics.set_server("default", "qwen", [Sample("tuning_bound", 1, (bound,))])
    assert value(metrics, "tuning_bound", **one, bound="Load") is None
    assert value(metrics, "tuning_bound", **one, bound="KVCache") == 1


def test_of_a_server_that_is_forgotten_nothing_is_said() -> None:
    metrics = Metrics()
    metrics.set_server_state("default", "qwen", "Ready")
    for name in ("qwen", "llama"):
        metrics.set_server("default", name, [Sample("replicas", 1)])
    for _ in range(2):
        metrics.forget("default", "qwen")
    text = metrics.exposition().decode()
    assert 'server="qwen"' not in text
    assert 'server="llama"' in text
