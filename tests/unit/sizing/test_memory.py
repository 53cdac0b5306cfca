"""Bytes agree with what vLLM logged, and the ledger's parts sum up."""

import csv
import math
from importlib.resources import files

import pytest

from unit.sizing.examples import LLAMA_8B, LLAMA_70B, QWEN_0_6B, QWEN_7B, plan_of
from vllm_operator.engine.versions import Version
from vllm_operator.errors import IllegalPin, UnknownModel
from vllm_operator.models import catalogue
from vllm_operator.models.architecture import Architecture, architecture_from_config
from vllm_operator.models.facts import ModelFacts
from vllm_operator.models.matrices import padded_vocabulary
from vllm_operator.sizing.memory import accounting, kvcache, weights
from vllm_operator.sizing.memory.load import Load
from vllm_operator.sizing.split import parallelism, stages
from vllm_operator.sizing.split.parallelism import SINGLE, Parallelism

GIBIBYTE = 1024**3
V30 = Version((0, 30, 0))


def architecture(model: str) -> Architecture:
    return architecture_from_config(catalogue.find(model).config)


def test_weights_of_llama_8b_are_what_vllm_logs():
    loaded = weights.bytes_per_rank(architecture(LLAMA_8B), SINGLE, 2) / GIBIBYTE
    assert loaded == pytest.approx(14.9889, abs=0.0002)
    assert 2 * architecture(LLAMA_8B).parameters / GIBIBYTE == pytest.approx(14.9575, abs=0.0001)


def test_weights_of_qwen_32b_on_two_gpus_are_what_vllm_logs():
    loaded = weights.bytes_per_rank(architecture("Qwen/Qwen3-32B"), Parallelism(2), 2) / GIBIBYTE
    assert loaded == pytest.approx(30.59, abs=0.1)


def test_ranks_hold_the_whole_model_together_and_norms_each():
    model = architecture(LLAMA_70B)
    whole, half = (weights.bytes_per_rank(model, Parallelism(tensor), 2) for tensor in (1, 2))
    replicated = 2 * (model.layers * 2 + 1) * model.hidden_size
    rotary = 2 * model.rotary_elements
    assert 2 * half == whole + replicated + rotary


def test_the_vocabulary_is_padded_to_a_multiple_of_64():
    assert padded_vocabulary(32001) == 32064
    assert padded_vocabulary(128256) == 128256


def test_the_remaining_layers_go_to_the_stages_before_the_last():
    assert [len(stage) for stage in stages.stage_ranges(10, 4)] == [2, 3, 3, 2]
    assert [len(stage) for stage in stages.stage_ranges(32, 2)] == [16, 16]


LOGGED_WEIGHTS = [
    # model, tensor, GiB that vLLM logged, tolerance
    ("openai/gpt-oss-120b", 1, 65.9651, 0.002),
    ("RedHatAI/Llama-3.3-70B-Instruct-FP8-dynamic", 2, 33.88, 0.001),
    ("TechxGenus/Meta-Llama-3-70B-Instruct-AWQ", 2, 18.55, 0.003),
    ("Qwen/Qwen3-30B-A3B", 2, 28.4571, 0.001),
    ("mistralai/Mistral-Small-3.2-24B-Instruct-2506", 1, 44.76, 0.001),
    ("zai-org/GLM-5-FP8", 8, 89.0, 0.002),
    ("cyankiwi/Qwen3.5-9B-AWQ-BF16-INT8", 1, 13.04, 0.003),
    ("llava-hf/llava-1.5-7b-hf", 1, 13.1343, 0.001),
    ("Qwen/Qwen2.5-0.5B-Instruct-AWQ", 1, 0.4315, 0.003),
    ("Qwen/Qwen3-Embedding-8B", 1, 14.1062, 0.0001),
]


@pytest.mark.parametrize(("model", "tensor", "logged_gib", "tolerance"), LOGGED_WEIGHTS)
def test_weights_are_what_vllm_logs(model: str, tensor: int, logged_gib: float, tolerance: float):
    # benchmarks/data/vllm_startup_logs.csv, column model_loading_gib
    loaded = weights.bytes_per_rank(architecture(model), Parallelism(tensor), 2) / GIBIBYTE
    assert loaded == pytest.approx(logged_gib, rel=tolerance)


def layout(model: str, version: str, tensor: int = 1, bits: float = 16, tokens: int = 2048):
    settings = kvcache.CacheSettings(
        Version.parse(version), Parallelism(tensor), bits, 16, tokens, prefix_caching=True
    )
    return kvcache.cache_layout(architecture(model), settings)


@pytest.mark.parametrize(
    ("model", "tensor", "bits", "expected"),
    [
        (LLAMA_8B, 1, 16, 131_072),
        (LLAMA_8B, 1, 8, 65_536),
        (LLAMA_70B, 8, 16, 40_960),
        (LLAMA_70B, 16, 16, 40_960),
        ("deepseek-ai/DeepSeek-V3", 8, 16, 70_272),
        ("deepseek-ai/DeepSeek-V3", 1, 8, 35_136),
    ],
)
def test_cache_bytes_of_a_token_are_the_published_ones(
    model: str, tensor: int, bits: float, expected: int
):
    found = layout(model, "0.30.0", tensor, bits)
    assert found.bytes_per_block == 16 * expected


def test_one_block_is_the_null_block():
    found = layout(LLAMA_8B, "0.30.0")
    assert found.bytes_for(16) == 2 * found.bytes_per_block
    assert found.longest_request(2 * found.bytes_per_block, 1000) == 16
    assert found.longest_request(2 * found.bytes_per_block - 1, 1000) == 0


def test_tokens_are_printed_as_the_version_prints_them():
    old, new = (layout(LLAMA_8B, version) for version in ("0.20.0", "0.21.0"))
    assert old.printed(101 * old.bytes_per_block, 1000) == (1616, 101 / 63)
    assert new.printed(101 * new.bytes_per_block, 1000) == (int(101 / 63 * 1000), 101 / 63)


LOGGED_TOKENS = [
    # benchmarks/data/vllm_startup_logs.csv: KV GiB, length -> tokens, concurrency
    ("Qwen/Qwen3.5-27B", "0.19.0", 4, 16, 2048, False, 7.56, 50000, 123_088, 9.42),
    ("huihui-ai/Huihui-gpt-oss-20b-mxfp4-abliterated-v2", "0.13.0", 1, 16, 2048, True, 12.94, 8192,
     282_624, 54.44),
    ("lukealonso/GLM-5.1-NVFP4-MTP", "0.20.2", 8, 8, 8192, True, 19.55, 202_752, 341_504, 1.684),
    ("google/gemma-4-E2B", "0.21.0", 1, 16, 2048, True, 9.92, 8192, 1_062_157, 129.66),
    ("rednote-hilab/dots.ocr", "0.10.0", 1, 16, 2048, True, 12.20, 131_072, 456_816, 3.49),
    ("MiniMaxAI/MiniMax-M2.5", "0.16.0", 4, 16, 8192, True, 120.07, 131_072, 2_030_656, 15.49),
]  # fmt: skip


@pytest.mark.parametrize(
    ("model", "version", "tensor", "bits", "tokens", "prefixes", "kv_gib", "length", "logged",
     "concurrency"),
    LOGGED_TOKENS,
)  # fmt: skip
def test_the_printed_figures_are_those_of_the_logs(
    model: str,
    version: str,
    tensor: int,
    bits: float,
    tokens: int,
    prefixes: bool,
    kv_gib: float,
    length: int,
    logged: int,
    concurrency: float,
):
    settings = kvcache.CacheSettings(
        Version.parse(version), Parallelism(tensor), bits, 16, tokens, prefix_caching=prefixes
    )
    found = kvcache.cache_layout(architecture(model), settings)
    printed, times = found.printed(int(kv_gib * GIBIBYTE), length)
    # The log rounds GiB to two digits.
    assert printed == pytest.approx(logged, rel=0.001)
    assert times == pytest.approx(concurrency, rel=0.002)


def test_recurrent_layers_raise_the_block_to_the_size_of_a_state():
    # "Setting attention block size to 1056 tokens" of Qwen3.5-9B with an fp8 cache.
    assert layout("cyankiwi/Qwen3.5-9B-AWQ-BF16-INT8", "0.16.0", 1, 8).block_size == 1056


def test_the_budget_is_the_sum_of_its_parts():
    ledger = plan_of().memory
    parts = ledger.weights + ledger.activation_peak + ledger.cuda_graphs + ledger.non_torch
    assert ledger.budget == parts + ledger.kv_cache.expected
    assert ledger.budget == math.ceil(ledger.total * ledger.utilization)
    assert ledger.margin == ledger.kv_cache.expected - ledger.kv_cache.low


@pytest.mark.parametrize(
    ("model", "tensor", "measured_gib"),
    [(LLAMA_8B, 1, 51.38), (QWEN_0_6B, 1, 64.45), ("Qwen/Qwen3-32B", 1, 4.45)],
)
def test_the_sure_cache_stays_under_what_was_measured_on_an_h100(
    model: str, tensor: int, measured_gib: float
):
    # llm-d-benchmark, empirical-vllm-memory-results.md; vLLM's defaults, version not stated, so the
    # figures of the versions before 0.11 are compared with.
    found = accounting.footprint(
        architecture(model),
        Version((0, 10, 0)),
        Parallelism(tensor),
        Load(1024, 8192, element_bytes=2),
        enforce_eager=False,
    )
    expected, low = found.kv_cache(int(79.18 * GIBIBYTE), 0.9)
    assert low / GIBIBYTE <= measured_gib
    assert expected / GIBIBYTE == pytest.approx(measured_gib, abs=0.7)


@pytest.mark.parametrize(
    ("model", "total_gib", "version", "seqs", "tokens", "measured_gib"),
    [
        ("Qwen/Qwen2.5-Coder-14B-Instruct", 44.39, (0, 11, 2), 256, 2048, 10.93),
        ("codellama/CodeLlama-34b-Instruct-hf", 79.18, (0, 11, 0), 256, 4096, 7.43),
        (QWEN_7B, 79.18, (0, 11, 0), 256, 4096, 56.25),
        ("meta-llama/Llama-2-7b-hf", 79.18, (0, 11, 0), 256, 4096, 58.12),
    ],
)
def test_the_sure_cache_stays_under_other_boot_logs(
    model: str,
    total_gib: float,
    version: tuple[int, int, int],
    seqs: int,
    tokens: int,
    measured_gib: float,
):
    found = accounting.footprint(
        architecture(model),
        Version(version),
        SINGLE,
        Load(seqs, tokens, element_bytes=2),
        enforce_eager=False,
    )
    _, low = found.kv_cache(int(total_gib * GIBIBYTE), 0.9)
    assert low / GIBIBYTE <= measured_gib


def test_graphs_lie_outside_the_budget_in_versions_that_do_not_count_them():
    counted = plan_of(engine={"version": "0.21.0"}).memory
    uncounted = plan_of(engine={"version": "0.19.0"}).memory
    assert counted.cuda_graphs > 0
    assert uncounted.cuda_graphs == 0
    assert uncounted.outside_budget == counted.outside_budget + counted.cuda_graphs


def test_eager_execution_needs_no_graphs():
    eager = plan_of(engine={"enforceEager": True}).memory
    assert eager.cuda_graphs == 0
    assert eager.kv_cache.low > plan_of().memory.kv_cache.low


@pytest.mark.parametrize(
    ("model", "tensor", "why"),
    [
        (QWEN_7B, 8, "28 attention heads"),
        (LLAMA_8B, 3, "32 attention heads"),
        ("Qwen/Qwen2.5-Coder-14B-Instruct", 5, "8 key/value heads"),
    ],
)
def test_an_illegal_split_says_which_shape_stops_it(model: str, tensor: int, why: str):
    assert why in str(parallelism.illegal_because(architecture(model), Parallelism(tensor)))


def narrow(**facts: int) -> Architecture:
    return architecture_from_config({**catalogue.find(LLAMA_8B).config, **facts})


def test_the_intermediate_size_and_the_padded_vocabulary_must_divide_too():
    odd = narrow(intermediate_size=14337)
    assert "intermediate size 14337" in str(parallelism.illegal_because(odd, Parallelism(2)))
    odd = narrow(
        num_attention_heads=33, num_key_value_heads=33, intermediate_size=33, hidden_size=33 * 128
    )
    assert "padded to 128256" in str(parallelism.illegal_because(odd, Parallelism(11)))


def test_blocks_of_a_quantised_expert_must_not_be_cut():
    model = architecture("Qwen/Qwen3-235B-A22B-FP8")
    assert "block of 128" in str(parallelism.illegal_because(model, Parallelism(8)))
    assert parallelism.illegal_because(model, Parallelism(4)) is None
    assert parallelism.illegal_because(model, Parallelism(8, expert=True)) is None


def test_legal_splits_of_qwen_7b_divide_its_28_heads():
    assert parallelism.legal_sizes(architecture(QWEN_7B), 8) == (1, 2, 4)


def test_a_checkpoint_without_known_size_has_the_size_of_its_parameters():
    model = architecture(LLAMA_8B)
    facts = ModelFacts({}, None, "inline")
    assert weights.checkpoint_bytes(model, facts, None) == (2 * model.parameters, 0)


def test_a_tied_embedding_that_is_stored_twice_is_loaded_once():
    model, facts = architecture(QWEN_0_6B), catalogue.find(QWEN_0_6B)
    assert weights.checkpoint_bytes(model, facts, None) == (1_503_264_768, 0)


def test_a_checkpoint_at_four_bytes_is_loaded_at_two():
    model = architecture(LLAMA_8B)
    facts = ModelFacts({}, 4 * model.parameters, "hub")
    assert weights.checkpoint_bytes(model, facts, None)[1] == 0


def test_tensors_that_the_shapes_do_not_explain_are_taken_to_be_loaded():
    model = architecture(LLAMA_8B)
    facts = ModelFacts({}, int(2.4 * model.parameters), "hub")
    _, unexplained = weights.checkpoint_bytes(model, facts, None)
    assert unexplained > 0.3 * model.parameters


def test_a_checkpoint_that_is_too_small_for_its_config_is_refused():
    with pytest.raises(UnknownModel, match="does not tell all"):
        weights.checkpoint_bytes(
            architecture(LLAMA_8B), ModelFacts({}, 5_700_000_000, "catalogue"), None
        )


def test_a_pinned_size_that_is_too_small_is_an_illegal_pin():
    with pytest.raises(IllegalPin) as refusal:
        weights.checkpoint_bytes(
            architecture(LLAMA_8B), ModelFacts({}, None, "catalogue"), 1_000_000
        )
    assert refusal.value.field == "spec.model.weightBytes"


@pytest.mark.parametrize("tensor", [1, 2])
def test_a_release_beyond_the_newest_log_is_surely_left_less_by_what_releases_moved(tensor: int):
    logged, beyond = (
        plan_of(LLAMA_8B, engine={"version": version}, parallelism={"tensor": tensor}).memory
        for version in ("0.29.0", "0.30.0")
    )
    assert beyond.kv_cache.expected == logged.kv_cache.expected
    assert logged.kv_cache.low - beyond.kv_cache.low == int(0.99 * GIBIBYTE)


def test_every_coefficient_has_a_source_and_a_bound_above_its_estimate():
    text = (
        files("vllm_operator.sizing.memory")
        .joinpath("coefficients.csv")
        .read_text(encoding="utf-8")
    )
    for row in csv.DictReader(text.splitlines()):
        assert row["source"]
        assert float(row["high"]) >= float(row["expected"])
