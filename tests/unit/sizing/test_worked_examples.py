"""Figures that anybody can follow by hand from vLLM's code, and figures that it logged."""

from math import ceil

import pytest

from vllm_operator.engine.versions import Version
from vllm_operator.models import catalogue
from vllm_operator.models.architecture import Architecture, architecture_from_config
from vllm_operator.sizing.memory import accounting
from vllm_operator.sizing.memory.kvcache import CacheLayout, CacheSettings, cache_layout
from vllm_operator.sizing.split.parallelism import Parallelism
from vllm_operator.sizing.split.stages import stage_ranges

GIBIBYTE = 1024**3
GPT_OSS = "openai/gpt-oss-120b"
GEMMA_12B = "gaunernst/gemma-3-12b-it-qat-autoawq"
TOLERANCE = 0.001


def architecture(model: str) -> Architecture:
    return architecture_from_config(catalogue.find(model).config)


def cache(
    model: str | Architecture,
    version: str = "0.30.0",
    split: Parallelism | None = None,
    bits: float = 16,
    tokens: int = 8192,
) -> CacheLayout:
    described = architecture(model) if isinstance(model, str) else model
    split = split or Parallelism()
    settings = CacheSettings(Version.parse(version), split, bits, 16, tokens)
    return cache_layout(described, settings)


def test_the_budget_of_a_logged_start_leaves_the_logged_cache():
    # 2 x RTX 5090, club-3090 issue 1087: 31.4 GiB at 0.92, 15.03 consumed, peak 1.59, 12.26 left.
    budget = accounting.budget_of(int(31.4 * GIBIBYTE), 0.92) / GIBIBYTE
    assert budget == pytest.approx(28.88, rel=TOLERANCE)
    assert budget - 15.03 - 1.59 == pytest.approx(12.26, rel=TOLERANCE)


def test_gpt_oss_prints_the_blocks_of_one_group_up_to_0_20():
    # hf-mem issue 60: 5.38 GiB, "GPU KV cache size: 78,384 tokens".
    tokens, _ = cache(GPT_OSS, "0.20.0").printed(int(5.38 * GIBIBYTE), 131_072)
    assert tokens == pytest.approx(78_384, rel=TOLERANCE)


def test_gpt_oss_prints_concurrency_times_length_afterwards():
    # 9,792 blocks over 8,192 + ceil((127 + 2 x 8192) / 16) + 1 = 9,225 of a whole request.
    tokens, concurrency = cache(GPT_OSS, "0.30.0").printed(int(5.38 * GIBIBYTE), 131_072)
    needed = 131_072 // 16 + ceil((128 - 1 + 2 * 8192) / 16) + 1
    assert concurrency == pytest.approx(9793 / needed, rel=TOLERANCE)
    assert tokens == pytest.approx(139_142, rel=TOLERANCE)


def test_gpt_oss_has_two_groups_of_eighteen_layers():
    groups = cache(GPT_OSS).groups
    assert sorted((group.kind, group.layers) for group in groups) == [("full", 18), ("window", 18)]


def test_gemma_3_27b_has_one_full_group_and_six_of_windows():
    # 10 full and 52 sliding layers in groups of 10: the last of the windows has 8 padding layers.
    config = dict(catalogue.find(GEMMA_12B).config)
    config["text_config"] = {**config["text_config"], "num_hidden_layers": 62}
    groups = cache(architecture_from_config(config)).groups
    assert [group.kind for group in groups].count("full") == 1
    assert [group.kind for group in groups].count("window") == 6
    assert {group.layers for group in groups} == {10}


@pytest.mark.parametrize(
    ("model", "split", "bits", "expected"),
    [
        # layers x key/value heads on a rank x (head dimensions of keys and values) x bytes
        ("meta-llama/Llama-3.1-8B-Instruct", Parallelism(1), 16, 32 * 8 * (128 + 128) * 2),
        ("meta-llama/Llama-3.1-8B-Instruct", Parallelism(2), 16, 32 * 4 * (128 + 128) * 2),
        ("meta-llama/Llama-3.1-8B-Instruct", Parallelism(1, 2), 16, 16 * 8 * (128 + 128) * 2),
        ("meta-llama/Llama-3.1-70B-Instruct", Parallelism(8), 16, 80 * 1 * (128 + 128) * 2),
        ("meta-llama/Llama-3.1-70B-Instruct", Parallelism(8, 2), 16, 40 * 1 * (128 + 128) * 2),
        ("meta-llama/Llama-3.1-70B-Instruct", Parallelism(16), 16, 80 * 1 * (128 + 128) * 2),
        ("meta-llama/Llama-3.1-70B-Instruct", Parallelism(8), 4.5, 80 * 1 * (128 + 128) * 4.5 / 8),
        # latent attention: (rank + rotary) x bytes, the same on every rank
        ("deepseek-ai/DeepSeek-V3", Parallelism(8), 16, 61 * (512 + 64) * 2),
        ("deepseek-ai/DeepSeek-V3", Parallelism(1, 1, 8), 8, 61 * (512 + 64)),
        ("deepseek-ai/DeepSeek-V3", Parallelism(8, 2), 16, 31 * (512 + 64) * 2),
        # sparse latent attention at fp8: 656 bytes and the indexer's 132
        ("deepseek-ai/DeepSeek-V3.2", Parallelism(8), 8, 61 * (656 + 132)),
    ],
)
def test_bytes_of_a_token_on_the_worst_rank(
    model: str, split: Parallelism, bits: float, expected: float
):
    found = cache(model, split=split, bits=bits).bytes_per_block / 16
    assert found == pytest.approx(expected, rel=TOLERANCE)


def test_a_pipelines_stages_are_those_of_vllm():
    # get_pp_indices: the remainder one by one to the stages before the last, the last but one first
    assert [len(stage) for stage in stage_ranges(61, 2)] == [31, 30]
    assert [len(stage) for stage in stage_ranges(61, 4)] == [15, 15, 16, 15]


@pytest.mark.parametrize("length", [1, 16, 17, 4096, 131_072])
@pytest.mark.parametrize("kv_gib", [1, 5.38, 64])
def test_the_printed_figures_follow_from_blocks(length: int, kv_gib: float):
    # Independent of the code above: kv_cache_planning.py of vllm 0.33.0 in five lines.
    layers, heads, dim, window, tokens = 18, 8, 64, 128, 8192
    block_bytes = layers * 16 * heads * 2 * dim * 2
    blocks = int(kv_gib * GIBIBYTE) // block_bytes
    needed = ceil(length / 16) + ceil(min(window - 1 + 2 * tokens, length) / 16) + 1
    printed, concurrency = cache(GPT_OSS).printed(int(kv_gib * GIBIBYTE), length)
    assert concurrency == blocks / needed
    assert printed == int(blocks / needed * length)
