"""Prompts that begin alike: what a common prefix spares of time and cache, and where nothing."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest

from unit.sizing.examples import LLAMA_8B, QWEN_7B, only_problem, plan_of, reason_of
from vllm_operator.api.performance import Performance
from vllm_operator.api.plan import Plan

L4 = {"product": "L4", "perNode": 1}
LOAD = {"promptTokens": 600, "outputTokens": 100, "concurrency": 32}
SHORT = {"maxModelLen": 4096}
RECURRENT = "Qwen/Qwen3-Next-80B-A3B-Instruct"


def shared(tokens: int | None, model: str = LLAMA_8B, **spec: Any) -> Plan:
    load = LOAD | spec.pop("workload", {})
    if tokens is not None:
        load["sharedPrefixTokens"] = tokens
    return plan_of(model, workload=load, **spec)


def speed(plan: Plan) -> Performance:
    assert plan.performance is not None
    return plan.performance


def test_its_whole_blocks_are_found_in_the_cache() -> None:
    assert speed(shared(500)).cached_prompt_tokens == 496


def test_a_prefix_shorter_than_a_block_is_not_found() -> None:
    assert speed(shared(15)).cached_prompt_tokens == 0


def test_the_first_token_comes_sooner_and_the_replica_makes_more() -> None:
    plain, found = speed(shared(None)), speed(shared(500))
    assert found.time_to_first_token < 0.6 * plain.time_to_first_token
    assert found.output_tokens_per_second > 1.3 * plain.output_tokens_per_second


def test_a_prompt_alone_takes_about_as_long_as_what_is_left_of_it() -> None:
    alone = {"concurrency": 1}
    whole = speed(shared(None, workload=alone)).time_to_first_token
    rest = speed(shared(496, workload=alone)).time_to_first_token
    short = speed(plan_of(LLAMA_8B, workload={**LOAD, **alone, "promptTokens": 104}))
    assert short.time_to_first_token <= rest < whole
    assert rest == pytest.approx(short.time_to_first_token, rel=0.05)


def test_the_cache_holds_it_once() -> None:
    given = {"gpu": L4, "engine": SHORT, "workload": {"promptTokens": 2000, "concurrency": 8}}
    plain, found = shared(None, **deepcopy(given)), shared(1600, **deepcopy(given))
    # 100 blocks of 16 tokens are common to all requests, which have 132 each.
    for plan, common, own in ((plain, 0, 132), (found, 100, 32)):
        blocks = plan.capacity.kv_tokens.low // 16 - 1
        assert common + own * plan.capacity.max_num_seqs <= blocks
    assert found.capacity.max_num_seqs > 2 * plain.capacity.max_num_seqs
    assert "26 requests of 2000 + 100 tokens (1600 shared by all)" in reason_of(
        found, "--max-num-seqs"
    )


def test_more_requests_than_fit_without_it_are_planned() -> None:
    load = {"promptTokens": 2000, "concurrency": 32}
    field, _, message = only_problem(shared(None, gpu=L4, engine=SHORT, workload=load))
    assert field == "spec.workload.concurrency"
    assert "32 requests of 2000 + 100 tokens need" in message
    assert shared(1600, gpu=L4, engine=SHORT, workload=load).feasible


def test_where_prefixes_are_not_cached_it_spares_nothing_and_the_plan_says_so() -> None:
    engine = {"prefixCaching": False}
    plain, found = shared(None, engine=engine), shared(500, engine=engine)
    assert speed(found).cached_prompt_tokens == 0
    assert speed(found).time_to_first_token == speed(plain).time_to_first_token
    assert found.capacity == plain.capacity
    (advice,) = found.advice or ()
    assert advice.field == "spec.engine.prefixCaching"
    assert "the 500 tokens that all prompts begin with" in advice.message


def test_its_figures_are_said_to_be_further_off_than_measured_ones() -> None:
    def width(plan: Plan) -> float:
        known = speed(plan).ranges
        assert known is not None
        return known.output_tokens_per_second.high / known.output_tokens_per_second.low

    assert width(shared(500)) > 1.2 * width(shared(None))


def test_a_prefix_of_no_tokens_is_a_load_without_one() -> None:
    assert speed(shared(0)) == speed(shared(None))


def test_a_prefix_as_long_as_the_prompt_is_refused_with_what_works() -> None:
    field, reason, message = only_problem(shared(600))
    assert (field, reason) == ("spec.workload.sharedPrefixTokens", "IllegalPin")
    assert message.startswith("is 600, and a prompt of 600 tokens (promptTokens) has more")
    assert message.endswith("set it to at most 599, or promptTokens to at least 601")
    assert shared(599).feasible


CACHED = {
    "as it is": (QWEN_7B, {}, True, "default of vLLM 0.32.0"),
    "switched off": (
        QWEN_7B,
        {"prefixCaching": False},
        False,
        "pinned in spec.engine.prefixCaching",
    ),
    "switched on": (QWEN_7B, {"prefixCaching": True}, True, "pinned in spec.engine.prefixCaching"),
    "recurrent layers, an older release": (
        RECURRENT,
        {"version": "0.27.0", "image": "vllm/vllm-openai:v0.27.0"},
        False,
        "default of vLLM 0.27.0 for models with recurrent layers; spec.engine.prefixCaching: true "
        "caches them",
    ),
    "recurrent layers, a newer release": (
        RECURRENT,
        {"version": "0.28.0", "image": "vllm/vllm-openai:v0.28.0"},
        True,
        "default of vLLM 0.28.0",
    ),
}


@pytest.mark.parametrize("case", CACHED)
def test_whether_prefixes_are_cached_is_a_line_of_the_plan(case: str) -> None:
    model, engine, enabled, reason = CACHED[case]
    found = plan_of(model, engine=engine).prefix_caching
    assert found is not None
    assert (found.enabled, found.reason) == (enabled, reason)


def test_the_engine_before_v1_does_not_cache_prefixes_by_itself() -> None:
    engine = {"image": "vllm/vllm-openai:v0.10.1"}
    found = plan_of(QWEN_7B, engine=engine, gpu={"product": "T4", "perNode": 4}).prefix_caching
    assert found is not None
    assert (found.enabled, found.reason) == (
        False,
        "default of the engine before V1 in vLLM 0.10.1",
    )


def test_of_a_pooling_model_nothing_is_said() -> None:
    assert plan_of("Qwen/Qwen3-Embedding-8B").prefix_caching is None
