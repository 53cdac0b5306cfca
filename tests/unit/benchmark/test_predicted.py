"""What the plan expects of a load stands beside what is measured of it."""

from __future__ import annotations

import pytest

from support.builders import make_server
from vllm_operator.api.performance import SpeedCorrection
from vllm_operator.api.plan import Plan
from vllm_operator.api.v1alpha1 import VLLMServer
from vllm_operator.benchmark.load import Load, Point
from vllm_operator.benchmark.predicted import predicted
from vllm_operator.models import catalogue
from vllm_operator.sizing.asked.inputs import PlanningInputs
from vllm_operator.sizing.plan.planner import make_plan

MODEL = "Qwen/Qwen2.5-7B-Instruct"


def planned(**spec: object) -> tuple[VLLMServer, Plan]:
    gpu = {"product": "NVIDIA-H100-80GB-HBM3", "perNode": 8}
    server = make_server(model={"id": MODEL}, gpu=gpu, **spec)
    facts = catalogue.find(MODEL)
    plan = make_plan(server, PlanningInputs(facts, "vllm/vllm-openai:v0.32.0"))
    assert isinstance(plan, Plan)
    return server, plan


WORKLOAD = {"promptTokens": 1000, "outputTokens": 200, "concurrency": 32}


def test_the_plans_own_load_has_the_plans_own_figures() -> None:
    server, plan = planned(workload=WORKLOAD)
    assert plan.performance is not None
    found = predicted(server, plan, Load(1000, 200), Point(128, 32))
    assert found is not None
    assert found["output_throughput"] == plan.performance.output_tokens_per_second
    assert found["mean_ttft_ms"] == pytest.approx(1000 * plan.performance.time_to_first_token)


def test_what_was_measured_before_corrects_no_prediction_beside_which_is_measured_again() -> None:
    server, plan = planned(workload=WORKLOAD)
    assert plan.performance is not None
    corrected = plan.performance.model_copy(
        update={
            "output_tokens_per_second": 1.0,
            "correction": SpeedCorrection(
                measured_at="2026-01-01", inter_token_latency=2.0, output_tokens_per_second=0.5
            ),
        }
    )
    found = predicted(
        server, plan.model_copy(update={"performance": corrected}), Load(1000, 200), Point(128, 32)
    )
    assert found is not None
    assert found["output_throughput"] == plan.performance.output_tokens_per_second


def test_another_load_is_asked_of_the_same_layout() -> None:
    server, plan = planned(workload=WORKLOAD)
    alone = predicted(server, plan, Load(1000, 200), Point(20, 1))
    many = predicted(server, plan, Load(1000, 200), Point(256, 64))
    assert alone is not None
    assert many is not None
    assert alone["output_throughput"] < many["output_throughput"]
    assert alone["mean_tpot_ms"] < many["mean_tpot_ms"]


def test_it_is_what_a_plan_for_that_load_says() -> None:
    server, plan = planned(workload=WORKLOAD)
    _, other = planned(workload={**WORKLOAD, "concurrency": 8}, engine={
        "maxNumSeqs": plan.capacity.max_num_seqs,
        "maxNumBatchedTokens": plan.capacity.max_num_batched_tokens,
    })  # fmt: skip
    found = predicted(server, plan, Load(1000, 200), Point(32, 8))
    assert found is not None
    assert other.performance is not None
    assert found["output_throughput"] == other.performance.output_tokens_per_second


def test_replicas_share_the_requests_and_add_up() -> None:
    one = predicted(*planned(workload=WORKLOAD), Load(1000, 200), Point(128, 32))
    two = predicted(*planned(workload=WORKLOAD, replicas=2), Load(1000, 200), Point(256, 64))
    assert one is not None
    assert two is not None
    assert two["output_throughput"] == 2 * one["output_throughput"]
    assert two["mean_tpot_ms"] == one["mean_tpot_ms"]


def test_a_rate_of_requests_is_not_predicted() -> None:
    load, point = Load(1000, 200), Point(60, request_rate=1.0)
    assert predicted(*planned(workload=WORKLOAD), load, point) is None


def test_a_shared_prefix_is_asked_anew_and_answered_sooner() -> None:
    server, plan = planned(workload=WORKLOAD)
    plain = predicted(server, plan, Load(1000, 200), Point(128, 32))
    shared = predicted(server, plan, Load(1000, 200, 500), Point(128, 32))
    assert plain is not None
    assert shared is not None
    assert shared["mean_ttft_ms"] < plain["mean_ttft_ms"]


def test_a_load_without_the_specifications_prefix_is_asked_anew() -> None:
    expected = {**WORKLOAD, "sharedPrefixTokens": 500}
    plain = predicted(*planned(workload=WORKLOAD), Load(1000, 200), Point(128, 32))
    assert predicted(*planned(workload=expected), Load(1000, 200), Point(128, 32)) == plain
