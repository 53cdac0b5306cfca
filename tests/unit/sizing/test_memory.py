"""Bytes agree with what vLLM logged, and the ledger's parts sum up."""

import csv
import math
from dataclasses import replace
from importlib.resources import files

import pytest

from unit.sizing.examples import LLAMA_8B, LLAMA_70B, QWEN_0_6B, QWEN_7B, plan_of
from vllm_operator.engine.versions import Version
from vllm_operator.errors import IllegalPin, UnknownModel
from vllm_operator.models import catalogue
from vllm_operator.models.architecture import Architecture, architecture_from_config
from vllm_operator.models.facts import ModelFacts
from vllm_operator.sizing import kvcache, memory, parallelism, weights

GIBIBYTE = 1024**3
V30 = Version((0, 30, 0))


def architecture(model: str) -> Architecture:
    return architecture_from_config(catalogue.find(model).config)


def test_weights_of_llama_8b_are_what_vllm_logs():
    loaded = weights.bytes_per_rank(architecture(LLAMA_8B), 1, 2) / GIBIBYTE
    assert loaded == pytest.approx(14.9889, abs=0.0002)
    assert 2 * architecture(LLAMA_8B).parameters / GIBIBYTE == pytest.approx(14.9575, abs=0.0001)


def test_weights_of_qwen_32b_on_two_gpus_are_what_vllm_logs():
    loaded = weights.bytes_per_rank(architecture("Qwen/Qwen3-32B"), 2, 2) / GIBIBYTE
    assert loaded == pytest.approx(30.59, abs=0.1)


def test_ranks_hold_the_whole_model_together_and_norms_each():
    model = architecture(LLAMA_70B)
    whole, half = (weights.bytes_per_rank(model, tensor, 2) for tensor in (1, 2))
    replicated = 2 * (model.layers * 2 + 1) * model.hidden_size
    rotary = 2 * model.rotary_positions * model.rotary_dim
    assert 2 * half == whole + replicated + rotary


def test_key_value_heads_are_replicated_where_there_are_fewer_than_ranks():
    model = architecture(LLAMA_70B)
    assert weights.key_value_heads_per_rank(model, 8) == 1
    assert weights.key_value_heads_per_rank(model, 16) == 1


def test_the_vocabulary_is_padded_to_a_multiple_of_64():
    assert weights.padded_vocabulary(32001) == 32064
    assert weights.padded_vocabulary(128256) == 128256


@pytest.mark.parametrize(
    ("model", "tensor", "element_bytes", "expected"),
    [(LLAMA_8B, 1, 2, 131_072), (LLAMA_8B, 1, 1, 65_536), (LLAMA_70B, 8, 2, 40_960)],
)
def test_cache_bytes_of_a_token_are_the_published_ones(
    model: str, tensor: int, element_bytes: int, expected: int
):
    assert kvcache.bytes_per_token(architecture(model), tensor, element_bytes) == expected


def test_replication_stops_the_cache_from_shrinking():
    model = architecture(LLAMA_70B)
    assert kvcache.bytes_per_token(model, 16, 2) == kvcache.bytes_per_token(model, 8, 2)


def test_one_block_is_the_null_block():
    assert kvcache.bytes_for(16, 1, 16) == 32
    assert kvcache.longest_request(32, 1, 16) == 16
    assert kvcache.longest_request(31, 1, 16) == 0


def test_tokens_are_printed_as_the_version_prints_them():
    assert kvcache.printed(Version((0, 20, 0)), 101, 16, 1000) == (1616, 101 / 63)
    assert kvcache.printed(Version((0, 21, 0)), 101, 16, 1000) == (int(101 / 63 * 1000), 101 / 63)


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
    found = memory.footprint(
        architecture(model),
        Version((0, 10, 0)),
        tensor_parallel=tensor,
        max_num_seqs=1024,
        max_num_batched_tokens=8192,
        element_bytes=2,
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
    found = memory.footprint(
        architecture(model),
        Version(version),
        tensor_parallel=1,
        max_num_seqs=seqs,
        max_num_batched_tokens=tokens,
        element_bytes=2,
        enforce_eager=False,
    )
    _, low = found.kv_cache(int(total_gib * GIBIBYTE), 0.9)
    assert low / GIBIBYTE <= measured_gib


def test_graphs_lie_outside_the_budget_in_versions_that_do_not_count_them():
    counted = plan_of(engine={"version": "0.30.0"}).memory
    uncounted = plan_of(engine={"version": "0.24.0"}).memory
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
    assert why in str(parallelism.illegal_because(architecture(model), tensor))


def test_the_intermediate_size_and_the_padded_vocabulary_must_divide_too():
    model = architecture(LLAMA_8B)
    narrow = replace(model, intermediate_size=14337)
    assert "intermediate size 14337" in str(parallelism.illegal_because(narrow, 2))
    odd = replace(model, attention_heads=33, key_value_heads=33, intermediate_size=33)
    assert "padded to 128256" in str(parallelism.illegal_because(odd, 11))


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


def test_every_coefficient_has_a_source_and_a_bound_above_its_estimate():
    text = files("vllm_operator.sizing").joinpath("coefficients.csv").read_text(encoding="utf-8")
    for row in csv.DictReader(text.splitlines()):
        assert row["source"]
        assert float(row["high"]) >= float(row["expected"])
