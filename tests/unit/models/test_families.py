"""Families whose layers are made of parts that no other family has."""

import pytest

from vllm_operator.errors import UnknownModel
from vllm_operator.models import catalogue
from vllm_operator.models.architecture import Architecture, architecture_from_config
from vllm_operator.models.families.refused import REFUSED
from vllm_operator.models.shapes import AttentionCache, CompressedCache, StateCache

GRANITE = {
    "architectures": ["GraniteMoeHybridForCausalLM"],
    "hidden_size": 64,
    "intermediate_size": 32,
    "shared_intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_local_experts": 8,
    "num_experts_per_tok": 2,
    "layer_types": ["mamba", "attention"],
    "mamba_n_heads": 8,
    "mamba_d_head": 16,
    "mamba_n_groups": 1,
    "mamba_d_state": 32,
    "mamba_d_conv": 4,
    "max_position_embeddings": 4096,
    "position_embedding_type": "nope",
    "tie_word_embeddings": True,
    "vocab_size": 128,
}
QWEN_MOE = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "moe_intermediate_size": 32,
    "shared_expert_intermediate_size": 32,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "num_experts": 8,
    "num_experts_per_tok": 2,
    "max_position_embeddings": 4096,
    "vocab_size": 128,
}
V4 = "deepseek-ai/DeepSeek-V4-Flash"


def architecture(model: str, **facts: object) -> Architecture:
    return architecture_from_config({**catalogue.find(model).config, **facts})


def refused_fact(config: dict) -> str:
    with pytest.raises(UnknownModel) as refusal:
        architecture_from_config(config)
    return refusal.value.field.removeprefix("spec.model.config.")


def test_granite_with_experts_has_every_matrix_of_both_kinds_of_layer():
    experts = 8 * 3 * 64 * 32 + 64 * 8
    shared = 3 * 64 * 48
    attention = 64 * (64 + 2 * 32) + 64 * 64
    inner, channels = 128, 128 + 2 * 32
    mamba = 64 * (inner + channels + 8) + 5 * channels + inner * 64 + 3 * 8 + inner
    layers = attention + mamba + 2 * (experts + shared + 2 * 64)
    assert architecture_from_config(GRANITE).parameters == layers + 128 * 64 + 64


@pytest.mark.parametrize(
    ("facts", "routed"),
    [
        ({}, [0, 1, 2, 3, 4, 5]),
        ({"decoder_sparse_step": 2}, [1, 3, 5]),
        ({"decoder_sparse_step": 3}, [2, 5]),
        ({"decoder_sparse_step": 2, "mlp_only_layers": [1]}, [3, 5]),
        ({"mlp_only_layers": [0, 5]}, [1, 2, 3, 4]),
    ],
)
@pytest.mark.parametrize("name", ["Qwen3MoeForCausalLM", "Qwen2MoeForCausalLM"])
def test_of_qwen_s_layers_every_nth_has_experts_but_those_that_are_named(
    name: str, facts: dict, routed: list[int]
):
    model = architecture_from_config({**QWEN_MOE, "architectures": [name], **facts})
    kinds = [model.kinds[kind] for kind in model.pattern]
    assert [index for index, kind in enumerate(kinds) if kind.experts_per_token] == routed


def test_granite_without_positions_has_no_rotary_table():
    assert architecture_from_config(GRANITE).rotary_elements == 0
    rotating = architecture_from_config({**GRANITE, "position_embedding_type": "rope"})
    assert rotating.rotary_elements == 4096 * 16


@pytest.mark.parametrize("kinds", [["mamba", "attention"], ["linear_attention", "full_attention"]])
def test_granites_layers_have_older_and_newer_names(kinds: list[str]):
    model = architecture_from_config({**GRANITE, "layer_types": kinds})
    assert [type(model.kinds[kind].cache) for kind in model.pattern] == [StateCache, AttentionCache]


def test_deepseek_v4_has_as_many_parameters_as_published():
    # 284,332,230,231 with fp32 elements counted once; here they count as two 16-bit ones.
    assert architecture(V4).parameters == pytest.approx(284_332_230_231, rel=2e-4)


def test_deepseek_v4_compresses_by_layer():
    ratios = [
        kind.cache.ratio
        for kind, count in architecture(V4).counts
        for _ in range(count)
        if isinstance(kind.cache, CompressedCache)
    ]
    assert (ratios.count(0), ratios.count(4), ratios.count(128)) == (2, 21, 20)


def test_only_overlapping_states_are_indexed():
    indexed = {
        kind.cache.ratio
        for kind in architecture(V4).kinds
        if kind.cache.indexer_dim  # type: ignore[union-attr]
    }
    assert indexed == {4}


def test_names_of_fused_projections_mean_both_parts():
    # RedHatAI/DeepSeek-V4-Flash-NVFP4-FP8: config_groups by regular expressions
    blocks = {"num_bits": 8, "type": "float", "strategy": "block", "block_structure": [128, 128]}
    fours = {"num_bits": 4, "type": "float", "strategy": "tensor_group", "group_size": 16}
    settings = {
        "quant_method": "compressed-tensors",
        "format": "mixed-precision",
        "config_groups": {
            "group_0": {
                "format": "float-quantized",
                "targets": ["re:.*attn.*(fused_wqa_wkv|wq_b|wo_a|wo_b)$"],
                "weights": blocks,
                "input_activations": {"num_bits": 8, "type": "float"},
            },
            "group_1": {
                "format": "nvfp4-pack-quantized",
                "targets": ["re:.*ffn.*(gate|up|down)_proj$"],
                "weights": fours,
                "input_activations": {"num_bits": 4, "type": "float"},
            },
        },
    }
    model = architecture(V4, quantization_config=settings)
    layer = model.kinds[model.pattern[2]]
    found = {
        matrix.name: scheme and scheme.name
        for matrix, scheme in zip(layer.matrices, model.schemes(layer, 2), strict=True)
    }
    assert found["attn.wq_a"] == found["attn.wkv"] == found["attn.indexer.wq_b"] == "fp8-block"
    assert found["ffn.experts.up_proj"] == found["ffn.shared_experts.up_proj"] == "nvfp4"
    assert found["attn.compressor.wkv_gate"] is None


def test_a_config_of_deepseek_v4_that_is_not_understood_is_refused_by_the_fact():
    config = {**catalogue.find(V4).config}
    assert refused_fact({**config, "compress_ratios": [16] * 43}) == "compress_ratios"
    assert refused_fact({**config, "compress_ratios": None}) == "compress_ratios"
    assert refused_fact({**config, "o_groups": 7}) == "o_groups"
    assert refused_fact({**config, "vision_n_layers": 24}) == "vision_n_layers"


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_an_architecture_with_parts_that_are_not_known_is_refused_with_the_part(name: str):
    with pytest.raises(UnknownModel, match=REFUSED[name][:20]):
        architecture_from_config({"architectures": [name]})
