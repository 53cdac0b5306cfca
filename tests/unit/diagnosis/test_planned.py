"""Checks of a plan: each passes where it should, and else says what is wrong with its numbers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from support.builders import make_plan, make_server
from support.intervals import intervals
from vllm_operator.api.plan import Plan
from vllm_operator.diagnosis import planned
from vllm_operator.diagnosis.checks import Check, Outcome
from vllm_operator.diagnosis.figures import Figures, figures_of

LOAD = {"promptTokens": 1000, "outputTokens": 200}


def figures(**given: Any) -> Figures:
    found = figures_of(intervals(4))
    assert found is not None
    return replace(found, **given)


def small(**capacity: Any) -> Plan:
    """One GPU with room for 8,000 tokens of requests of at most 4,000."""
    plan = make_plan()
    tokens = {"expected": 8500, "low": 8000}
    held = {"maxModelLen": 4000, "kvTokens": tokens, "maxConcurrency": {"expected": 2.1, "low": 2}}
    return make_plan(
        capacity={**plan.capacity.to_json_object(), **held, **capacity},
        placement={**plan.placement.to_json_object(), "tensor": 1, "gpusPerReplica": 1},
    )


def said(check: Check) -> tuple[str, str]:
    return check.outcome.value, check.field


def test_weights_that_are_quantised_pass() -> None:
    facts = {**make_plan().model.facts, "quantization_config": {"quant_method": "awq"}}
    plan = make_plan(model={**make_plan().model.to_json_object(), "facts": facts})
    check = planned.quantization(make_server(), plan)
    assert said(check) == ("pass", "")
    assert "quantised (awq): 7.12 GiB on each GPU, 9.0 %" in check.why


def test_weights_that_leave_room_for_what_is_expected_need_no_quantisation() -> None:
    server = make_server(workload={**LOAD, "concurrency": 6})
    check = planned.quantization(server, small())
    assert check.outcome is Outcome.PASS
    assert "surely holds 6.7 requests of 1,200 tokens" in check.why


def test_weights_that_leave_too_little_room_are_warned_of() -> None:
    server = make_server(workload={**LOAD, "concurrency": 7})
    check = planned.quantization(server, small())
    assert said(check) == ("warn", "spec.model.id")
    assert check.why.endswith("and 7 are expected at once")


def test_where_a_quantised_model_would_take_fewer_gpus_the_plans_own_advice_is_told() -> None:
    message = "fp8_per_tensor would take 1 instead of 2 H100 for requests that are as long"
    advice = [
        {"field": "spec.engine.speculative", "message": "drafts do not pay"},
        {"field": "spec.engine.quantization", "message": message},
    ]
    check = planned.quantization(make_server(), make_plan(advice=advice))
    assert said(check) == ("warn", "spec.engine.quantization")
    assert check.why.endswith(f". {message}")
    assert planned.quantization(make_server(), make_plan()).outcome is Outcome.PASS


def cached(enabled: bool) -> Plan:
    return make_plan(prefixCaching={"enabled": enabled, "reason": "default of vLLM 0.30.0"})


def test_prefix_caching_is_as_the_plan_has_it() -> None:
    on = planned.prefix_caching(make_server(), cached(True), None)
    off = planned.prefix_caching(make_server(), cached(False), None)
    assert (on.outcome, on.why) == ("pass", "it is on, default of vLLM 0.30.0")
    assert said(off) == ("warn", "spec.engine.prefixCaching")
    assert said(planned.prefix_caching(make_server(), make_plan(), None))[0] == "skip"


@pytest.mark.parametrize(
    ("workload", "hits", "outcome"),
    [
        ({}, 0.31, "pass"),
        ({"sharedPrefixTokens": 800}, 0.75, "pass"),
        ({"sharedPrefixTokens": 800}, 0.31, "warn"),
    ],
)
def test_hits_are_held_to_their_target_where_prompts_share_a_prefix(
    workload: dict[str, int], hits: float, outcome: str
) -> None:
    server = make_server(workload={**LOAD, **workload})
    check = planned.prefix_caching(server, cached(True), figures(hit_rate=hits))
    assert check.outcome == outcome
    assert f"{100 * hits:.1f} % of prompt tokens were found" in check.why


def test_the_default_of_memory_passes_with_what_is_left_free() -> None:
    check = planned.memory_utilization(make_server(), make_plan(), None)
    assert said(check) == ("pass", "")
    assert check.why == "0.92 of 79.16 GiB, 5.87 GiB left free"


def test_a_pin_below_the_default_says_how_many_tokens_it_costs() -> None:
    plan = small()
    memory = {**plan.memory.to_json_object(), "utilization": 0.85}
    server = make_server(engine={"gpuMemoryUtilization": 0.85})
    check = planned.memory_utilization(
        server, plan.model_copy(update={"memory": make_plan(memory=memory).memory}), None
    )
    assert said(check) == ("warn", "spec.engine.gpuMemoryUtilization")
    # 0.07 of 85 GB, and 8,500 tokens in 40 GiB
    assert "costs about 1,178 tokens of KV cache" in check.why


@pytest.mark.parametrize(
    ("seen", "outcome"),
    [
        ({"kv_cache_usage": 0.5}, "pass"),
        ({"kv_cache_usage": 0.93}, "warn"),
        ({"preemptions": 0.2, "kv_cache_usage": 0.97}, "fail"),
    ],
)
def test_a_cache_that_fills_is_warned_of_and_one_that_preempts_fails(
    seen: dict[str, float], outcome: str
) -> None:
    check = planned.memory_utilization(make_server(), make_plan(), figures(**seen))
    assert check.outcome == outcome


@pytest.mark.parametrize(
    ("prompt", "outcome", "why"),
    [
        (800.0, "pass", "and 1,000 come on average; one of the longest takes 50.0 % of the cache"),
        (3400.0, "warn", "longer ones are refused"),
        (4400.0, "fail", "most are refused"),
    ],
)
def test_the_longest_request_is_held_to_those_that_come(
    prompt: float, outcome: str, why: str
) -> None:
    seen = figures(prompt_tokens=prompt, output_tokens=200.0)
    check = planned.request_length(make_server(), small(), seen)
    assert check.outcome == outcome
    assert why in check.why


def test_a_length_that_lets_one_request_take_the_cache_is_warned_of() -> None:
    server = make_server(workload=LOAD)
    check = planned.request_length(server, small(maxModelLen=6000), None)
    assert said(check) == ("warn", "spec.engine.maxModelLen")
    assert "takes 75.0 % of the KV cache of 8,000 tokens" in check.why


def test_without_any_load_the_length_is_not_judged() -> None:
    check = planned.request_length(make_server(), small(), None)
    assert said(check) == ("skip", "spec.workload.promptTokens")


@pytest.mark.parametrize(("number", "outcome"), [(0, "fail"), (1, "warn"), (2, "pass")])
def test_two_replicas_are_wanted(number: int, outcome: str) -> None:
    assert planned.replicas(make_server(replicas=number)).outcome == outcome
