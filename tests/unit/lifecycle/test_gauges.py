"""What the operator's metrics say of one server."""

from __future__ import annotations

from typing import Any

import pytest

from support.builders import make_plan, make_server
from support.observed import DEPLOYMENT, NOW
from vllm_operator.api.ledger import Tuning, TuningDiagnosis
from vllm_operator.api.performance import Performance
from vllm_operator.api.status import VLLMServerStatus
from vllm_operator.lifecycle.gauges import FAMILIES, Sample, gauges
from vllm_operator.lifecycle.progress import Observed
from vllm_operator.lifecycle.remembered import Remembered
from vllm_operator.lifecycle.status import fold

PERFORMANCE = Performance(
    prompt_tokens=1024,
    output_tokens=256,
    concurrency=64,
    time_to_first_token=0.3,
    inter_token_latency=0.02,
    output_tokens_per_second=3000.0,
    requests_per_second=12.0,
    napkin_tokens_per_second=4000.0,
)
PLAN = make_plan().model_copy(update={"performance": PERFORMANCE})
SERVED = Observed((), False, PLAN, True, None, DEPLOYMENT, ())
UNKNOWN_GPU = Observed((), False, make_plan(), True, None, DEPLOYMENT, ())
UNPLANNED = Observed((), True, None, False, None, None, ())


def status(observed: Observed, **spec: Any) -> VLLMServerStatus:
    return fold(make_server(**spec), Remembered.from_status(None), observed, NOW).status


def said(observed: Observed = SERVED, **spec: Any) -> dict[str, tuple[float, tuple[str, ...]]]:
    samples = gauges(make_server(**spec).spec, status(observed, **spec))
    return {one.name: (one.value, one.labels) for one in samples}


def objectives(**slo: int) -> list[Sample]:
    workload = {"slo": slo}
    samples = gauges(make_server(workload=workload).spec, status(SERVED, workload=workload))
    return [one for one in samples if one.name.startswith("objective")]


def test_what_is_planned_and_predicted_is_the_plans() -> None:
    found = said()
    assert found["plan_max_num_seqs"][0] == PLAN.capacity.max_num_seqs
    assert found["plan_kv_cache_tokens"][0] == PLAN.capacity.kv_tokens.expected
    assert found["plan_gpu_memory_utilization_ratio"][0] == PLAN.memory.utilization
    assert found["predicted_concurrency"][0] == 64
    assert found["predicted_time_to_first_token_seconds"][0] == 0.3
    assert found["predicted_inter_token_latency_seconds"][0] == 0.02
    assert found["predicted_output_tokens_per_second"][0] == 3000


def test_what_is_in_force_is_in_labels() -> None:
    model, version, gpu = PLAN.model.id, PLAN.engine.version, PLAN.placement.gpu
    assert said()["plan_info"] == (1, (model, version, gpu, "TP2"))


def test_without_a_plan_only_replicas_and_objectives_are_told() -> None:
    workload = {"slo": {"timeToFirstTokenMilliseconds": 500}}
    assert set(said(UNPLANNED, workload=workload)) == {
        "replicas",
        "ready_replicas",
        "objective_seconds",
        "objective_ratio",
    }


def test_nothing_is_predicted_where_nothing_is_known_of_the_gpu() -> None:
    assert not [name for name in said(UNKNOWN_GPU) if name.startswith("predicted")]


@pytest.mark.parametrize(
    ("milliseconds", "edge"), [(500, "0.5"), (501, "0.75"), (1000, "1.0"), (3_000_000, "+Inf")]
)
def test_an_objective_is_counted_by_the_next_edge_of_the_buckets(
    milliseconds: int, edge: str
) -> None:
    seconds, ratio = objectives(timeToFirstTokenMilliseconds=milliseconds, percentile=99)
    assert (seconds.value, seconds.labels) == (milliseconds / 1000, ("timeToFirstToken",))
    assert (ratio.value, ratio.labels) == (0.99, ("timeToFirstToken", edge))


def test_an_objective_without_a_percentile_is_of_95_in_100() -> None:
    _seconds, ratio = objectives(interTokenLatencyMilliseconds=40)
    assert (ratio.value, ratio.labels) == (0.95, ("interTokenLatency", "0.05"))


def test_what_bounds_a_server_is_told_while_tuning_says_it() -> None:
    found = TuningDiagnosis(bound="KVCache", message="it is full")
    tuning = Tuning(state="Settled", since="2026-01-01T00:00:00Z", reason="A", diagnosis=found)
    tuned = status(SERVED).model_copy(update={"tuning": tuning})
    samples = gauges(make_server().spec, tuned)
    assert Sample("tuning_bound", 1, ("KVCache",)) in samples


def test_every_sample_has_the_labels_of_its_family() -> None:
    slo = {"timeToFirstTokenMilliseconds": 500, "interTokenLatencyMilliseconds": 50}
    samples = gauges(make_server().spec, status(SERVED)) + tuple(objectives(**slo))
    assert {one.name for one in samples} == set(FAMILIES) - {"tuning_bound"}
    for one in samples:
        assert len(one.labels) == len(FAMILIES[one.name].labels), one.name
