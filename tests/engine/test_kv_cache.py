"""The KV cache that is computed is the one that the real engine makes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.support import Start
from realengine.environments import PARSERS, Environment, installed
from vllm_operator.engine.versions import Version

pytestmark = pytest.mark.timeout(600)  # the first test waits for all starts

SIZES = [
    Start("llama", 2048, 300_000_000),
    Start("llama", 2000, 300_000_001),
    Start("llama", 8192, 50_000_000, block_size=32),
    Start("llama", 4096, 123_456_789, block_size=64),
    Start("llama", 1024, 200_000_000, block_size=256),
    Start("llama", 100, 10_000_000, block_size=32, max_num_batched_tokens=512),
    Start("mistral", 2048, 300_000_000),
    Start("mistral", 8192, 100_000_000, block_size=32, max_num_batched_tokens=2048),
    Start("mistral", 4096, 100_000_000, block_size=64, max_num_batched_tokens=256),
    Start("gemma3", 2048, 300_000_000),
    Start("gemma3", 8192, 300_000_000, block_size=32, max_num_batched_tokens=512),
    Start("gemma3", 8192, 300_000_000, block_size=64, max_num_batched_tokens=8192),
    Start("gpt-oss", 2048, 300_000_000),
    Start("gpt-oss", 8192, 77_777_777, block_size=32, max_num_batched_tokens=256),
    Start("deepseek", 2048, 300_000_000, block_size=16),
    Start("deepseek", 8192, 64_000_000, block_size=16, max_num_batched_tokens=4096),
    Start("qwen3-next", 2048, 300_000_000),
    Start("qwen3-next", 8192, 150_000_000, prefix_caching=False),
    Start("jamba", 2048, 300_000_000),
    Start("jamba", 8192, 150_000_000, prefix_caching=False),
    Start("granite-hybrid", 8192, 150_000_000, prefix_caching=False),
    Start("gemma2", 8192, 150_000_000, block_size=32, max_num_batched_tokens=512),
    Start("falcon-h1", 8192, 150_000_000, prefix_caching=False),
    Start("glm-flash", 8192, 64_000_000, block_size=16, max_num_batched_tokens=2048),
]
CHECKPOINTED = Start("granite-hybrid", 2048, 300_000_000)
EDGES = [
    Start("llama", 8192),
    Start("llama", 1000, block_size=32),
    Start("mistral", 8192, block_size=32, max_num_batched_tokens=512),
    Start("gemma3", 8192, block_size=64, max_num_batched_tokens=512),
    Start("gpt-oss", 4096, max_num_batched_tokens=512),
    Start("deepseek", 3000, block_size=16),
    Start("qwen3-next", 8192),
    Start("jamba", 8192, prefix_caching=False),
    Start("falcon-h1", 8192, prefix_caching=False),
]
EARLIER = next(lock for lock in PARSERS if lock.version == "0.30.0")
"""It shares its PyTorch with the newest, so its engine starts here, too."""
AGAIN = [
    Start("llama", 1024, 200_000_000, block_size=256),
    Start("gemma3", 8192, 300_000_000, block_size=32, max_num_batched_tokens=512),
    Start("gpt-oss", 8192, 77_777_777, block_size=32, max_num_batched_tokens=256),
    Start("qwen3-next", 8192, 150_000_000, prefix_caching=False),
    Start("granite-hybrid", 2048, 300_000_000),
]
Outcomes = Mapping[Start, Mapping[str, Any]]
by_name = pytest.mark.parametrize("start", SIZES, ids=str)
at_the_edge = pytest.mark.parametrize("edge", EDGES, ids=str)


def just_enough(edge: Start, models: Path) -> Start:
    return replace(edge, kv_bytes=edge.layout(models).bytes_for(edge.max_model_len))


def a_byte_less(edge: Start, models: Path) -> Start:
    enough = just_enough(edge, models)
    return replace(enough, kv_bytes=enough.kv_bytes - 1)


@pytest.fixture(scope="module")
def outcomes(environment: Environment, models: Path) -> Outcomes:
    """What the engine answered to every start; one process makes them all, one after the other."""
    starts = [
        *SIZES,
        CHECKPOINTED,
        *(just_enough(edge, models) for edge in EDGES),
        *(a_byte_less(edge, models) for edge in EDGES),
    ]
    answers = environment.boot([start.arguments(models) for start in starts])
    return dict(zip(starts, answers, strict=True))


@by_name
def test_the_engine_has_as_many_blocks_of_that_size(
    start: Start, outcomes: Outcomes, models: Path
) -> None:
    layout = start.layout(models)
    told = outcomes[start]
    assert (layout.blocks_in(start.kv_bytes), layout.block_size) == (
        told["blocks"],
        told["blockSize"],
    )


@by_name
def test_the_engine_has_that_many_tokens_and_that_concurrency(
    start: Start, outcomes: Outcomes, models: Path
) -> None:
    tokens, concurrency = start.layout(models).printed(start.kv_bytes, start.max_model_len)
    told = outcomes[start]
    assert (tokens, concurrency) == (told["tokens"], pytest.approx(told["concurrency"]))


def test_the_third_block_of_a_cached_mamba2_state_is_counted(
    outcomes: Outcomes, models: Path
) -> None:
    layout = CHECKPOINTED.layout(models)
    tokens, _ = layout.printed(CHECKPOINTED.kv_bytes, CHECKPOINTED.max_model_len)
    assert tokens == outcomes[CHECKPOINTED]["tokens"]


@at_the_edge
def test_the_smallest_cache_that_is_computed_for_a_request_is_enough(
    edge: Start, outcomes: Outcomes, models: Path
) -> None:
    assert "refusal" not in outcomes[just_enough(edge, models)]


@at_the_edge
def test_a_byte_less_is_refused_by_the_engine(
    edge: Start, outcomes: Outcomes, models: Path
) -> None:
    assert "KV cache is needed" in outcomes[a_byte_less(edge, models)]["refusal"]


@at_the_edge
def test_the_longest_request_that_is_computed_is_one_that_the_engine_would_take(
    edge: Start, outcomes: Outcomes, models: Path
) -> None:
    """The engine's own estimate may lie inside a block; the operator's ends with one."""
    less = a_byte_less(edge, models)
    estimate = re.search(r"estimated maximum model length is (\d+)", outcomes[less]["refusal"])
    assert estimate is not None
    computed = less.layout(models).longest_request(less.kv_bytes, less.max_model_len)
    assert 0 <= int(estimate[1]) - computed < less.layout(models).block_size


@pytest.fixture(scope="module")
def earlier_outcomes(models: Path) -> Outcomes:
    """The same of the earlier version."""
    environment = installed(EARLIER)
    assert environment is not None, f"vLLM {EARLIER.version} is not installed: `make engine`"
    answers = environment.boot([start.arguments(models) for start in AGAIN])
    return dict(zip(AGAIN, answers, strict=True))


@pytest.mark.parametrize("start", AGAIN, ids=str)
def test_an_earlier_engine_has_what_is_computed_for_its_version(
    start: Start, earlier_outcomes: Outcomes, models: Path
) -> None:
    layout = start.layout(models, Version.parse(EARLIER.version))
    tokens, _ = layout.printed(start.kv_bytes, start.max_model_len)
    told = earlier_outcomes[start]
    assert (layout.blocks_in(start.kv_bytes), tokens) == (told["blocks"], told["tokens"])
