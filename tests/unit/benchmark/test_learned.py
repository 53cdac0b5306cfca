"""What a benchmark teaches: measured over estimated, of the plan that was measured."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from unit.benchmark.test_predicted import MODEL, WORKLOAD, planned
from vllm_operator.api.plan import Plan
from vllm_operator.api.v1alpha1 import VLLMServer
from vllm_operator.benchmark.learned import kind_of, speeds_of
from vllm_operator.benchmark.load import Load, Point
from vllm_operator.benchmark.results import Measured, Result
from vllm_operator.models import catalogue
from vllm_operator.sizing.asked.defaults import Defaults, overlaid
from vllm_operator.sizing.asked.inputs import PlanningInputs
from vllm_operator.sizing.performance.learned import MeasuredSpeed

AT = "2026-01-01T00:00:00Z"
INPUTS = PlanningInputs(catalogue.find(MODEL), "vllm/vllm-openai:v0.32.0")


def runs(plan: Plan, throughput: float, between: float) -> tuple[dict[str, float], ...]:
    """Three runs that differ by a tenth, whose geometric mean is these factors on the plan's."""
    assert plan.performance is not None
    return tuple(
        {
            "completed": 128,
            "output_throughput": plan.performance.output_tokens_per_second * throughput * noise,
            "mean_tpot_ms": 1000 * plan.performance.inter_token_latency * between / noise,
        }
        for noise in (1 / 1.1, 1.0, 1.1)
    )


def learned(
    server: VLLMServer, plan: Plan, points: tuple[Measured, ...], **changes: Any
) -> list[MeasuredSpeed]:
    result = Result("20260101-000000", "default", "qwen", AT, 1, Load(1000, 200), plan, points)
    return list(speeds_of(server, plan, INPUTS, [replace(result, **changes)]))


def test_a_load_is_learned_as_measured_over_estimated() -> None:
    server, plan = planned(workload=WORKLOAD)
    (found,) = learned(server, plan, (Measured(Point(128, 32), runs(plan, 0.8, 1.25)),))
    assert found.kind == kind_of(server, plan)
    assert found.kind[:3] == (MODEL, "0.32.0", "NVIDIA-H100-80GB-HBM3")
    assert found.kind[4:7] == (1, 1, 1)
    assert found.load == (1000, 200, 32)
    assert found.throughput == pytest.approx(0.8, rel=0.01)
    assert found.between == pytest.approx(1.25, rel=0.01)
    assert found.at == AT


def test_limits_are_no_other_kind_and_data_types_are() -> None:
    server, plan = planned(workload=WORKLOAD)
    fewer, _ = planned(workload=WORKLOAD, engine={"maxNumSeqs": 64})
    narrow, _ = planned(workload=WORKLOAD, engine={"kvCacheDtype": "fp8"})
    assert kind_of(fewer, plan) == kind_of(server, plan)
    assert kind_of(narrow, plan) != kind_of(server, plan)


def test_two_replicas_are_measured_together_and_learned_as_one() -> None:
    server, plan = planned(workload=WORKLOAD, replicas=2)
    measured = Measured(Point(128, 64), runs(plan, 2.0, 1.0))
    (found,) = learned(server, plan, (measured,), replicas=2)
    assert found.load.concurrency == 32
    assert found.throughput == pytest.approx(1.0, rel=0.01)


@pytest.mark.parametrize(
    ("points", "changes"),
    [
        ((Measured(Point(128, request_rate=3.0), ({"completed": 128},)),), {}),
        ((Measured(Point(128, 32), ({"completed": 128, "output_throughput": 9.0},)),), {}),
        ((Measured(Point(128, 32), ()),), {}),
    ],
    ids=["a rate", "no time between tokens", "no run"],
)
def test_what_is_not_comparable_teaches_nothing(
    points: tuple[Measured, ...], changes: dict[str, Any]
) -> None:
    server, plan = planned(workload=WORKLOAD)
    assert learned(server, plan, points, **changes) == []


def test_failed_requests_teach_nothing() -> None:
    server, plan = planned(workload=WORKLOAD)
    failing = tuple({**run, "completed": 100} for run in runs(plan, 0.8, 1.25))
    assert learned(server, plan, (Measured(Point(128, 32), failing),)) == []


def test_a_shared_prefix_teaches_nothing() -> None:
    server, plan = planned(workload=WORKLOAD)
    points = (Measured(Point(128, 32), runs(plan, 0.8, 1.25)),)
    assert learned(server, plan, points, load=Load(1000, 200, 500)) == []


def test_a_result_of_another_plan_teaches_nothing_of_this_one() -> None:
    server, plan = planned(workload=WORKLOAD)
    _, other = planned(workload=WORKLOAD, engine={"maxNumSeqs": 64})
    points = (Measured(Point(128, 32), runs(plan, 0.8, 1.25)),)
    result = Result("20260101-000000", "default", "qwen", AT, 1, Load(1000, 200), other, points)
    assert list(speeds_of(server, plan, INPUTS, [result])) == []


def test_a_result_of_another_version_teaches_nothing_of_this_one() -> None:
    server, plan = planned(workload=WORKLOAD)
    engine = plan.engine.model_copy(update={"version": "0.31.0", "image": "vllm:v0.31.0"})
    points = (Measured(Point(128, 32), runs(plan, 0.8, 1.25)),)
    old = plan.model_copy(update={"engine": engine})
    result = Result("20260101-000000", "default", "qwen", AT, 1, Load(1000, 200), old, points)
    assert list(speeds_of(server, plan, INPUTS, [result])) == []


def test_a_time_that_is_none_teaches_nothing() -> None:
    server, plan = planned(workload=WORKLOAD)
    points = (Measured(Point(128, 32), runs(plan, 0.8, 1.25)),)
    assert learned(server, plan, points, at="2" * 41) == []


def test_what_the_platform_gives_is_of_the_kind() -> None:
    """As a plan is of the server with the platform's defaults."""
    server, plan = planned(workload=WORKLOAD)
    points = (Measured(Point(128, 32), runs(plan, 0.8, 1.25)),)
    env = {"engine": {"env": [{"name": "A", "value": "1"}]}}
    defaults = Defaults.model_validate(env)
    inputs = replace(INPUTS, defaults=defaults)
    result = Result("20260101-000000", "default", "qwen", AT, 1, Load(1000, 200), plan, points)
    (found,) = speeds_of(server, plan, inputs, [result])
    assert found.kind == kind_of(overlaid(server, defaults).server, plan)


def test_what_was_learned_before_is_not_learned_again() -> None:
    """The estimate beside it is the one without any correction."""
    server, plan = planned(workload=WORKLOAD)
    points = (Measured(Point(128, 32), runs(plan, 0.8, 1.25)),)
    (first,) = learned(server, plan, points)
    corrected = replace(INPUTS, measured_speeds=(first,))
    result = Result("20260101-000000", "default", "qwen", AT, 1, Load(1000, 200), plan, points)
    assert list(speeds_of(server, plan, corrected, [result])) == [first]
