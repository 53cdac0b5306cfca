"""What a plan says of its speed is the estimate for the server that it plans, in every argument."""

from __future__ import annotations

from typing import Any

import pytest

from unit.sizing.examples import H100, LLAMA_8B, inputs_for, plan_of, server
from vllm_operator.api.plan import Plan
from vllm_operator.engine.versions import Version
from vllm_operator.hardware import performance as gpus
from vllm_operator.models import catalogue
from vllm_operator.models.architecture import architecture_from_config
from vllm_operator.sizing.asked.gpu_candidates import gpu_candidates
from vllm_operator.sizing.asked.specification import read_specification
from vllm_operator.sizing.layout.choice import choose
from vllm_operator.sizing.layout.search import Layout
from vllm_operator.sizing.layout.speed import seconds_of_answer
from vllm_operator.sizing.performance.batch import PerformanceEstimate
from vllm_operator.sizing.performance.estimate import estimate
from vllm_operator.sizing.plan.planner import make_plan

SPEC: dict[str, Any] = {
    "engine": {"version": "0.30.0", "maxNumSeqs": 64, "maxNumBatchedTokens": 4096},
    "workload": {"promptTokens": 2000, "outputTokens": 300, "concurrency": 32},
}
ARGUMENTS: dict[str, Any] = {
    "version": Version((0, 30, 0)),
    "max_num_seqs": 64,
    "max_num_batched_tokens": 4096,
    "prompt_tokens": 2000,
    "output_tokens": 300,
    "concurrency": 32,
}
CASES = {
    "as it is": ({}, {}),
    "eager": ({"engine": {"enforceEager": True}}, {"enforce_eager": True}),
    "another release": ({"engine": {"version": "0.12.0"}}, {"version": Version((0, 12, 0))}),
    "a cache of 8 bits": ({"engine": {"kvCacheDtype": "fp8"}}, {"kv_element_bytes": 1}),
    "32 bits": (
        {"engine": {"dtype": "float32"}},
        {"element_bytes": 4, "kv_element_bytes": 4},
    ),
    "smaller steps": (
        {"engine": {"maxNumBatchedTokens": 512}},
        {"max_num_batched_tokens": 512},
    ),
    "two ranks": ({"parallelism": {"tensor": 2}}, {"tensor": 2}),
    "two stages": ({"parallelism": {"pipeline": 2}}, {"pipeline": 2}),
    "longer prompts": ({"workload": {"promptTokens": 3000}}, {"prompt_tokens": 3000}),
    "longer answers": ({"workload": {"outputTokens": 400}}, {"output_tokens": 400}),
    "fewer requests": ({"workload": {"concurrency": 8}}, {"concurrency": 8}),
}


def with_changes(spec: dict[str, Any]) -> dict[str, Any]:
    return {key: SPEC.get(key, {}) | spec.get(key, {}) for key in {**SPEC, **spec}}


def expected(**changes: Any) -> PerformanceEstimate:
    gpu = gpus.find("NVIDIA-H100-80GB-HBM3")
    assert gpu is not None
    facts = catalogue.find(LLAMA_8B)
    assert facts is not None
    return estimate(architecture_from_config(facts.config), gpu, **{**ARGUMENTS, **changes})


def told(plan: Plan) -> tuple[float, float]:
    assert plan.performance is not None
    return plan.performance.inter_token_latency, plan.performance.time_to_first_token


@pytest.mark.parametrize(("spec", "changes"), CASES.values(), ids=CASES)
def test_the_speed_of_a_plan_is_that_of_what_it_plans(
    spec: dict[str, Any], changes: dict[str, Any]
) -> None:
    found = expected(**changes)
    assert told(plan_of(LLAMA_8B, **with_changes(spec))) == pytest.approx(
        (found.inter_token_latency, found.time_to_first_token), rel=0.006
    )


@pytest.mark.parametrize("changes", [one for _, one in CASES.values() if one], ids=str)
def test_each_of_these_changes_makes_another_speed(changes: dict[str, Any]) -> None:
    one, other = expected(), expected(**changes)
    assert (one.inter_token_latency, one.time_to_first_token) != pytest.approx(
        (other.inter_token_latency, other.time_to_first_token), rel=0.01
    )


def test_the_network_between_nodes_is_counted() -> None:
    planned = server(
        LLAMA_8B,
        **with_changes({"parallelism": {"tensor": 2}, "gpu": H100 | {"perNode": 1}}),
    )
    plan = make_plan(planned, inputs_for(planned, max_nodes=2))
    found = expected(tensor=2, nodes=2)
    assert told(plan)[0] == pytest.approx(found.inter_token_latency, rel=0.006)
    assert found.inter_token_latency > 1.05 * expected(tensor=2).inter_token_latency


@pytest.mark.parametrize(("stated", "at_once"), [(None, 1), (1, 1), (32, 32)])
def test_an_answer_is_waited_for_under_the_load_that_is_stated_else_alone(
    stated: int | None, at_once: int
) -> None:
    workload = {"promptTokens": 2000, "outputTokens": 300}
    spec = {**SPEC, "workload": workload | ({"concurrency": stated} if stated else {})}
    planned = server(LLAMA_8B, gpu=H100, **spec)
    inputs = inputs_for(planned)
    asked, problems = read_specification(planned, inputs)
    assert asked is not None
    assert problems == []
    layout = choose(asked, gpu_candidates(planned.spec.gpu, inputs), None, 1).taken
    assert isinstance(layout, Layout)
    found = expected(concurrency=at_once)
    seconds = found.time_to_first_token + 300 * found.inter_token_latency
    assert seconds_of_answer(asked, layout) == pytest.approx(seconds)
