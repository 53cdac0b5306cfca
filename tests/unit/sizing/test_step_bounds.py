"""What bounds a step: memory, arithmetic, or neither."""

from __future__ import annotations

import pytest

from unit.sizing.examples import LLAMA_8B, LLAMA_70B, QWEN_0_6B, plan_of
from vllm_operator.api.performance import Performance, StepBounds


def performance(
    model: str = LLAMA_8B, concurrency: int = 8, tokens: int = 1000, **spec: object
) -> Performance:
    load = {"promptTokens": tokens, "outputTokens": 200, "concurrency": concurrency}
    found = plan_of(model, workload=load, **spec).performance
    assert found is not None
    return found


def bounds(
    model: str = LLAMA_8B, concurrency: int = 8, tokens: int = 1000, **spec: object
) -> StepBounds:
    found = performance(model, concurrency, tokens, **spec).bounds
    assert found is not None
    return found


def test_a_few_requests_generate_at_the_pace_of_memory_and_prompts_at_that_of_arithmetic() -> None:
    found = bounds()
    assert (found.generating.by, found.prompts.by) == ("Memory", "Arithmetic")
    assert found.generating.share > 0.7


def test_many_short_requests_generate_at_the_pace_of_arithmetic() -> None:
    few, many = bounds(concurrency=8), bounds(concurrency=900, tokens=16)
    assert few.arithmetic_from_tokens is not None
    assert 8 < few.arithmetic_from_tokens < 900
    assert many.generating.by == "Arithmetic"


def test_many_long_ones_read_their_caches() -> None:
    assert bounds(concurrency=900, gpu={"product": "H200"}).generating.by == "Memory"


def test_a_small_model_is_bound_by_launches() -> None:
    assert bounds(QWEN_0_6B, engine={"enforceEager": True}).generating.by == "Overhead"


def test_weights_in_fewer_bits_turn_sooner() -> None:
    whole = bounds(LLAMA_70B).arithmetic_from_tokens
    small = bounds(LLAMA_70B, engine={"quantization": "fp8_per_tensor"}, gpu={"product": "A100"})
    assert whole is not None
    assert small.arithmetic_from_tokens is not None
    assert small.arithmetic_from_tokens < whole


@pytest.mark.parametrize("model", ["deepseek-ai/DeepSeek-V2-Lite", "Qwen/Qwen3-30B-A3B"])
def test_experts_turn_later_than_what_every_token_goes_through(model: str) -> None:
    dense, experts = bounds().arithmetic_from_tokens, bounds(model).arithmetic_from_tokens
    assert dense is not None
    assert experts is not None
    assert experts > 2 * dense


def test_a_request_sees_the_tokens_between_which_its_latency_lies() -> None:
    found = performance()
    each = found.output_tokens_per_second_per_request
    assert each == pytest.approx(1 / found.inter_token_latency, rel=0.01)
