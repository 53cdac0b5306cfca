"""Checks of a server that runs: each passes where it should, and else says what was seen."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from support.intervals import intervals
from vllm_operator.api.conditions import Condition
from vllm_operator.api.performance import Performance
from vllm_operator.diagnosis import running
from vllm_operator.diagnosis.figures import figures_of
from vllm_operator.diagnosis.running import Answered, Scraped, selects
from vllm_operator.engine.attention import Attention
from vllm_operator.lifecycle.reading import pod_record
from vllm_operator.lifecycle.records import PodRecord
from vllm_operator.tuning.intervals import Between
from vllm_operator.tuning.knobs import Objective
from vllm_operator.tuning.load import Load, measured
from vllm_operator.tuning.quality import Held, Hold

AT = "2026-01-01T10:00:00Z"
H100 = "NVIDIA-H100-80GB-HBM3"
LABELS = {"app.kubernetes.io/component": "engine", "team": "a"}


def ready(status: str = "True", reason: str = "Ready") -> Condition:
    return Condition.model_validate(
        {
            "type": "Ready",
            "status": status,
            "reason": reason,
            "message": "as it is",
            "observedGeneration": 1,
            "lastTransitionTime": AT,
        }
    )


def pod(name: str = "qwen-1", restarts: int = 0) -> PodRecord:
    status = {
        "containerStatuses": [
            {
                "name": "engine",
                "restartCount": restarts,
                "lastState": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}},
            }
        ]
    }
    return pod_record({"metadata": {"name": name, "namespace": "default"}, "status": status})


def load(**given: Any) -> Load:
    found = measured(intervals(20))
    assert found is not None
    return replace(found, **given)


def predicted(**given: float) -> Performance:
    figures = {
        "promptTokens": 1024,
        "outputTokens": 256,
        "concurrency": 16,
        "timeToFirstToken": 0.3,
        "interTokenLatency": 0.02,
        "outputTokensPerSecond": 800.0,
        "requestsPerSecond": 3.0,
        "napkinTokensPerSecond": 100.0,
    }
    return Performance.model_validate({**figures, **given})


def test_a_server_whose_replicas_all_serve_is_healthy() -> None:
    assert running.health(ready(), 2, 2, [pod()]).outcome == "pass"


def test_restarts_are_told_with_the_last_exit() -> None:
    check = running.health(ready(), 2, 2, [pod(), pod("qwen-2", 3)])
    assert (check.outcome, check.why) == (
        "warn",
        "2 of 2 replicas serve, after 3 restarts: qwen-2, last exit code 137 (OOMKilled)",
    )


@pytest.mark.parametrize(
    ("condition", "serving"), [(ready("False", "RollingOut"), 2), (ready(), 1), (None, 0)]
)
def test_a_server_that_does_not_serve_as_asked_fails(
    condition: Condition | None, serving: int
) -> None:
    assert running.health(condition, 2, serving, []).outcome == "fail"


OBJECTIVE = Objective(time_to_first_token=0.5, inter_token_latency=0.05)


@pytest.mark.parametrize(
    ("late", "outcome", "why"),
    [
        (Between(0.01, 0.01), "pass", "1.0 % of first tokens take longer than 500 ms, and 5.0 %"),
        (Between(0.02, 0.08), "warn", "2.0 to 8.0 % of first tokens"),
        (Between(0.07, 0.09), "fail", "7.0 to 9.0 % of first tokens"),
    ],
)
def test_an_objective_is_held_to_what_was_seen(late: Between, outcome: str, why: str) -> None:
    seen = load(late_first_tokens=late, late_gaps=Between(0, 0))
    check = running.objective(OBJECTIVE, seen, None, None)
    assert check.outcome == outcome
    assert why in check.why


@pytest.mark.parametrize(("first", "outcome"), [(0.3, "pass"), (0.6, "warn")])
def test_without_requests_an_objective_is_held_to_the_prediction(
    first: float, outcome: str
) -> None:
    expected = predicted(timeToFirstToken=first)
    check = running.objective(OBJECTIVE, None, None, expected)
    assert check.outcome == outcome
    assert f"{1000 * first:.0f} ms to the first token, and 500 ms are asked for" in check.why


def test_where_nothing_was_seen_or_predicted_an_objective_is_not_judged() -> None:
    assert running.objective(OBJECTIVE, None, None, None).outcome == "skip"


def test_a_server_without_objective_is_held_to_what_people_wait_for() -> None:
    check = running.objective(None, load(), figures_of(intervals(4)), predicted())
    assert (check.outcome, check.field) == ("warn", "spec.workload.slo")
    assert "measured: 100 ms to the first token (within the 500 ms" in check.why
    assert "66.7 tokens a second for a request (at least 20)" in check.why
    slow = running.objective(
        None, None, None, predicted(timeToFirstToken=0.7, interTokenLatency=0.1)
    )
    assert "700 ms to the first token (more than the 500 ms" in slow.why
    assert "10.0 tokens a second for a request (fewer than 20)" in slow.why


SILENT = Held(Hold.NO_SERIES, "Prometheus has no series of it.")
QUIET = Held(Hold.TOO_LITTLE_TRAFFIC, "Too few requests.")


@pytest.mark.parametrize(
    ("scraped", "outcome", "why"),
    [
        (Scraped(asked=True), "pass", "fresh samples of all pods"),
        (
            Scraped(asked=True, held=QUIET, monitors=["m/engines"]),
            "pass",
            "by PodMonitor m/engines",
        ),
        (Scraped(asked=True, held=SILENT, monitors=["m/engines"]), "fail", "no series"),
        (Scraped(monitors=["m/engines"]), "pass", "no Prometheus was asked"),
        (Scraped(monitors=[]), "warn", "no PodMonitor selects the pods"),
        (Scraped(missing="you may not list podmonitors"), "skip", "you may not list podmonitors"),
    ],
)
def test_somebody_must_read_the_metrics(scraped: Scraped, outcome: str, why: str) -> None:
    check = running.metrics(scraped)
    assert check.outcome == outcome
    assert why in check.why


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"namespaceSelector": {"any": True}, "selector": {"matchLabels": LABELS}}, True),
        ({"namespaceSelector": {"any": True}, "selector": {"matchLabels": {"team": "b"}}}, False),
        ({"selector": {}}, False),
        ({"namespaceSelector": {"matchNames": ["models"]}, "selector": {}}, True),
        ({"namespaceSelector": {"matchNames": ["other"]}, "selector": {}}, False),
        *(
            (
                {
                    "namespaceSelector": {"any": True},
                    "selector": {"matchExpressions": [{"key": "team", **expression}]},
                },
                expected,
            )
            for expression, expected in (
                ({"operator": "In", "values": ["a", "b"]}, True),
                ({"operator": "NotIn", "values": ["a"]}, False),
                ({"operator": "Exists"}, True),
                ({"operator": "DoesNotExist"}, False),
            )
        ),
    ],
)
def test_a_pod_monitor_selects_as_kubernetes_does(spec: dict[str, Any], expected: bool) -> None:
    monitor = {"metadata": {"name": "engines", "namespace": "monitoring"}, "spec": spec}
    assert selects(monitor, "models", LABELS) is expected


@pytest.mark.parametrize(
    ("found", "outcome", "field"),
    [
        (Attention("FLASH_ATTN"), "pass", ""),
        (Attention("SOMETHING_NEW"), "pass", ""),
        (Attention("FLEX_ATTENTION"), "warn", "spec.engine.env"),
        (Attention("TRITON_ATTN", "FLASH_ATTN"), "warn", "spec.engine.blockSize"),
        (None, "skip", ""),
    ],
)
def test_a_slower_attention_backend_is_warned_of(
    found: Attention | None, outcome: str, field: str
) -> None:
    check = running.attention(found, H100)
    assert (check.outcome, check.field) == (outcome, field)


def test_what_is_a_fallback_on_one_makers_gpus_is_none_on_anothers() -> None:
    assert running.attention(Attention("TRITON_ATTN"), H100).outcome == "warn"
    assert running.attention(Attention("TRITON_ATTN"), "AMD-Instinct-MI300X-OAM").outcome == "pass"


@pytest.mark.parametrize(
    ("answered", "outcome", "why"),
    [
        (Answered(5, 0.123), "pass", "5 tokens came through the Service within 0.12 s"),
        (Answered(5, 0.1, way="from http://a:8000"), "pass", "5 tokens came from http://a:8000"),
        (Answered(problem="no completion came: 503"), "fail", "503"),
        (Answered(missing="none was asked for"), "skip", "none was asked for"),
    ],
)
def test_a_client_must_be_answered(answered: Answered, outcome: str, why: str) -> None:
    check = running.completion(answered)
    assert check.outcome == outcome
    assert why in check.why


@pytest.mark.parametrize(
    ("says", "free", "replicas", "outcome"),
    [
        ("maxUnavailable 1", 1, 2, "pass"),
        ("maxUnavailable 1", None, 2, "pass"),
        ("maxUnavailable 1", 0, 2, "warn"),
        (None, None, 1, "warn"),
        (None, None, 2, "fail"),
    ],
)
def test_a_drain_must_leave_a_replica_and_end(
    says: str | None, free: int | None, replicas: int, outcome: str
) -> None:
    assert running.disruption_budget(says, free, replicas).outcome == outcome
