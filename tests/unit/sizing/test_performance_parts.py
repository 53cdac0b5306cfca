"""What attention, experts and launches of each family ask of a GPU."""

from dataclasses import replace

import pytest

from vllm_operator.engine.versions import Version
from vllm_operator.hardware import performance as gpus
from vllm_operator.models import catalogue
from vllm_operator.models.architecture import architecture_from_config
from vllm_operator.models.shapes import Architecture
from vllm_operator.sizing.performance.attention import Attention
from vllm_operator.sizing.performance.kernels import kernels_of, launches_of, reductions_of
from vllm_operator.sizing.performance.server import Server, pads_sparse_attention, server
from vllm_operator.sizing.performance.work import work_of
from vllm_operator.sizing.split.parallelism import Parallelism

R1, V32, V4 = (
    "deepseek-ai/DeepSeek-R1-0528",
    "deepseek-ai/DeepSeek-V3.2",
    "deepseek-ai/DeepSeek-V4-Flash",
)
NANO = "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-FP8"


def model(name: str) -> Architecture:
    facts = catalogue.find(name)
    assert facts is not None
    return architecture_from_config(facts.config)


def attention(name: str, tensor: int = 8) -> tuple[Attention, ...]:
    return work_of(model(name), tensor=tensor).stages[0][0].attention


def flops(name: str, context: float, *, prompt: bool, tensor: int = 8) -> float:
    """Operations of a token that attends to ``context`` tokens, all kinds of attention together."""
    return sum(
        (one.prompt_flops if prompt else one.decode_flops) * min(context, one.window or context)
        for one in attention(name, tensor)
    )


def test_latent_attention_computes_prompts_in_heads_and_generates_in_the_latent_space():
    assert flops(R1, 1, prompt=True) == 61 * 2 * 16 * (192 + 128)
    assert flops(R1, 1, prompt=False) == 61 * 2 * 64 * (2 * 512 + 64)


def test_a_latent_cache_is_read_whole_on_every_rank():
    assert [sum(one.kept(1000) for one in attention(R1, ranks)) for ranks in (1, 8)] == [
        61 * 1000 * 576 * 2
    ] * 2


def test_sparse_attention_attends_to_the_best_and_its_indexer_to_all():
    best, indexer = attention(V32)[:2]
    assert best.window == 2048
    assert best.prompt_flops == best.decode_flops
    assert indexer.window is None
    assert (indexer.compute, indexer.prompt_flops) == ("fp8", 3 * 2 * 64 * 128)


def test_a_long_prompt_costs_sparse_attention_less_than_the_same_in_the_latent_space():
    assert flops(V32, 32_000, prompt=True) < 0.4 * flops(R1, 32_000, prompt=False)


def serving(name: str, version: str, gpu: str = "NVIDIA-H200") -> Server:
    on = gpus.find(gpu)
    assert on is not None
    return server(
        work_of(model(name), tensor=8),
        on,
        version=Version.parse(version),
        max_num_batched_tokens=8192,
        max_num_seqs=64,
    )


@pytest.mark.parametrize(
    ("version", "gpu", "padded"),
    [
        ("0.23.0", "NVIDIA-H200", True),
        ("0.24.0", "NVIDIA-H200", False),
        ("0.23.0", "NVIDIA-B200", False),
        ("0.23.0", "AMD_Instinct_MI300X_OAM", False),
    ],
)
def test_sparse_attention_was_padded_on_hopper_before_0_24(version: str, gpu: str, padded: bool):
    on = gpus.find(gpu)
    assert on is not None
    assert pads_sparse_attention(Version.parse(version), on) is padded


def test_a_short_prompt_took_padded_sparse_attention_as_long_as_one_of_2048():
    old, new = (serving(V32, version).times.step for version in ("0.23.0", "0.24.0"))
    assert old(0, 0, 8192, 100) - new(0, 0, 8192, 100) == pytest.approx(
        new(0, 0, 8192, 2048) - new(0, 0, 8192, 100), rel=0.1
    )
    assert old(0, 0, 8192, 2048) == pytest.approx(new(0, 0, 8192, 2048))


def test_attention_without_an_index_was_never_padded():
    old, new = (serving(R1, version).times.step for version in ("0.23.0", "0.24.0"))
    assert old(0, 0, 8192, 100) == new(0, 0, 8192, 100)


def test_compressed_states_are_read_for_a_window_and_for_every_so_many_tokens():
    kept = [one.kept(100_000) for one in attention(V4, 1)]
    assert all(bytes_read > 0 for bytes_read in kept)
    whole = sum(kept)
    assert whole < sum(one.kept(100_000) for one in attention(R1, 1)) / 10


@pytest.mark.parametrize(
    ("name", "kernels", "reductions"),
    [
        ("meta-llama/Llama-3.1-8B-Instruct", {11}, {2}),
        ("Qwen/Qwen3-30B-A3B", {20}, {2}),
        (R1, {19, 31}, {2}),
        (V32, {33, 45}, {2}),
        (NANO, {7, 11, 16}, {1}),
    ],
)
def test_a_layer_launches_what_it_is_made_of(name, kernels, reductions):
    kinds = model(name).kinds
    assert {kernels_of(one) for one in kinds} == kernels
    assert {reductions_of(one) for one in kinds} == reductions


@pytest.mark.parametrize(
    ("name", "launches"),
    [
        ("meta-llama/Llama-3.1-8B-Instruct", {11}),
        ("Qwen/Qwen3-30B-A3B", {44}),
        (R1, {33, 69}),
        (V32, {61, 97}),
    ],
)
def test_what_python_launches_one_by_one_counts_more(name, launches):
    assert {launches_of(one) for one in model(name).kinds} == launches


KEPT = Attention(0, 0, 10, None)
WINDOW = Attention(0, 0, 10, 300)
STATE = Attention(0, 0, 0, None, state_bytes=5000)


@pytest.mark.parametrize(
    ("kinds", "context", "read", "held"),
    [
        ((KEPT,), 1000, 10_000, 10_000),
        ((WINDOW,), 1000, 3000, 3000),
        ((WINDOW,), 200, 2000, 2000),
        # A state is read and written again, and held once.
        ((STATE,), 1000, 5000, 2500),
        ((STATE,), 0, 5000, 2500),
        ((KEPT, WINDOW, STATE), 1000, 18_000, 15_500),
    ],
)
@pytest.mark.parametrize("stages", [1, 2])
def test_a_token_reads_what_its_request_keeps_and_its_states_twice(
    kinds: tuple[Attention, ...], context: float, read: float, held: float, stages: int
):
    work = work_of(model(NANO), tensor=1)
    stage = replace(work.stages[0][0], attention=kinds, multiplications=(), head=None)
    alone = replace(work, stages=((stage, stages),), split=Parallelism(1, stages))
    assert alone.napkin_bytes(context) == stages * read
    assert alone.cache_bytes(context) == held
