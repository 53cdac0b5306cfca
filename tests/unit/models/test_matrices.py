"""Matrices of a layer join: what reads the hidden state has its width, and what writes it too."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from vllm_operator.models.architecture import Architecture, architecture_from_config
from vllm_operator.models.matrices import Matrix, Split

ENTRIES = json.loads(files("vllm_operator.models").joinpath("catalogue.json").read_text("utf-8"))[
    "models"
]
FAMILIES = json.loads((Path(__file__).parents[2] / "support" / "families.json").read_text("utf-8"))[
    "families"
]
CONFIGS: dict[str, dict[str, Any]] = {
    one["config"]["architectures"][0]: one["config"] for one in (*FAMILIES, *ENTRIES)
}
READ = {
    *("q_proj", "k_proj", "v_proj", "gate_proj", "up_proj", "in_proj", "in_proj_qkv", "in_proj_z"),
    *("in_proj_ba", "q_a_proj", "kv_a_proj_with_mqa", "wq_a", "wkv", "gate", "g_proj"),
    *("c_attn", "c_fc", "c_fc_0", "c_fc_1", "dense_h_to_4h", "fc1", "query_key_value", "w1", "w3"),
    "wqkv",
    "shared_expert_gate",
}
WRITE = {
    *("o_proj", "down_proj", "out_proj", "wo_b", "c_proj", "dense", "dense_4h_to_h", "fc2", "w2"),
    "wo",
}
OTHER_NAMES = {
    *("ChatGLMModel", "ExaoneForCausalLM", "FalconForCausalLM", "GPT2LMHeadModel"),
    *("GPTBigCodeForCausalLM", "GPTNeoXForCausalLM", "InternLM2ForCausalLM", "Lfm2ForCausalLM"),
    *("Lfm2MoeForCausalLM", "PhiForCausalLM"),
}
"""Families whose feed-forward calls its matrices otherwise."""
INSIDE = {
    *("q_b_proj", "kv_b_proj", "wq_b", "wo_a"),  # of a latent
    *("conv1d", "conv", "x_proj", "dt_proj", "A"),  # of a recurrent state
    *("wk", "weights_proj", "wkv_gate"),  # of an index
}
OUTPUTS, INPUTS, HEADS, WHOLE = {Split.OUTPUTS}, {Split.INPUTS}, {Split.HEADS}, {Split.WHOLE}
SPLITS = {
    **dict.fromkeys(("q_proj", "q_b_proj", "kv_b_proj", "wo_a", "g_proj"), OUTPUTS),
    **dict.fromkeys(("gate_proj", "up_proj", "in_proj_qkv", "in_proj_z", "in_proj_ba"), OUTPUTS),
    **dict.fromkeys(("A", "dt_proj", "conv", "w1", "w3"), OUTPUTS),
    **dict.fromkeys(("c_fc_0", "c_fc_1", "dense_h_to_4h", "fc1"), OUTPUTS),
    **dict.fromkeys(("o_proj", "out_proj", "wo_b", "down_proj", "x_proj"), INPUTS),
    **dict.fromkeys(("dense", "dense_4h_to_h", "fc2", "w2", "wo"), INPUTS),
    **dict.fromkeys(("c_attn", "query_key_value", "wqkv"), OUTPUTS | HEADS),
    # GPT-2's feed-forward is divided, GPTBigCode's is not.
    "c_fc": OUTPUTS | WHOLE,
    "c_proj": INPUTS | WHOLE,
    **dict.fromkeys(("k_proj", "v_proj"), HEADS),
    **dict.fromkeys(("gate", "shared_expert_gate"), WHOLE),
    **dict.fromkeys(("q_a_proj", "kv_a_proj_with_mqa", "wq_a", "wkv"), WHOLE),
    **dict.fromkeys(("wk", "weights_proj", "wkv_gate"), WHOLE),
    "conv1d": OUTPUTS | {Split.GROUPS},
    "in_proj": OUTPUTS | {Split.GROUPS},
    "wq_b": OUTPUTS | WHOLE,
}


def hidden_size(config: dict[str, Any]) -> int:
    text = config.get("text_config") or config.get("llm_config") or config
    own = text.get("hidden_size", text.get("n_embd", config.get("hidden_size")))
    return int(own or 4096)


def matrices(model: Architecture) -> list[tuple[str, Matrix]]:
    return [
        (matrix.name.rpartition(".")[2], matrix)
        for kind in model.kinds
        for matrix in kind.matrices
        if "indexer" not in matrix.name
    ]


@pytest.mark.parametrize("family", sorted(CONFIGS))
def test_what_reads_the_hidden_state_and_what_writes_it_has_its_width(family: str) -> None:
    config = CONFIGS[family]
    found = matrices(architecture_from_config(config))
    widths = {
        *(matrix.inputs for name, matrix in found if name in READ),
        *(matrix.outputs for name, matrix in found if name in WRITE),
    }
    assert widths == {hidden_size(config)}
    assert {name for name, _ in found} <= READ | WRITE | INSIDE


@pytest.mark.parametrize("family", sorted(CONFIGS.keys() - OTHER_NAMES))
def test_what_a_feed_forward_widens_it_narrows_again(family: str) -> None:
    found = [one for _, one in matrices(architecture_from_config(CONFIGS[family]))]
    down = {one.name: one.inputs for one in found if one.name.endswith(".down_proj")}
    up = {one.name: one.outputs for one in found if one.name.endswith(".up_proj")}
    assert up
    assert {name.replace("up_proj", "down_proj"): width for name, width in up.items()} == down


@pytest.mark.parametrize("family", sorted(CONFIGS))
def test_ranks_divide_each_matrix_as_vllm_s_layer_does(family: str) -> None:
    model = architecture_from_config(CONFIGS[family])
    every = [matrix for kind in model.kinds for matrix in kind.matrices]
    found = {(one.name.rpartition(".")[2], one.split) for one in every}
    assert {(name, split) for name, split in found if split not in SPLITS[name]} == set()


@pytest.mark.parametrize("family", sorted(CONFIGS))
def test_words_are_divided_in_whole_blocks_of_the_vocabulary(family: str) -> None:
    model = architecture_from_config(CONFIGS[family])
    assert model.embedding.split is Split.VOCABULARY
    assert model.head is None or model.head.split is Split.VOCABULARY


USUAL = {"self_attn", "mlp"}
EXPERTS = USUAL | {"mlp.experts"}
SHARED = EXPERTS | {"mlp.shared_experts"}
SPARSE_BLOCK = {"self_attn", "block_sparse_moe", "block_sparse_moe.experts"}
FEED_FORWARD = {"feed_forward", "feed_forward.experts"}
PARENTS = {
    "BailingMoeForCausalLM": {"attention", "mlp", "mlp.experts", "mlp.shared_experts"},
    "BailingMoeV2ForCausalLM": {"attention", "mlp", "mlp.experts", "mlp.shared_experts"},
    "ChatGLMModel": {"mlp", "self_attention"},
    "DeepseekV2ForCausalLM": SHARED,
    "DeepseekV32ForCausalLM": SHARED | {"self_attn.indexer"},
    "DeepseekV3ForCausalLM": SHARED,
    "DeepseekV4ForCausalLM": {
        "attn",
        "attn.compressor",
        "attn.indexer",
        "attn.indexer.compressor",
        "ffn",
        "ffn.experts",
        "ffn.shared_experts",
    },
    "Ernie4_5_MoeForCausalLM": SHARED,
    "ExaoneForCausalLM": {"attn.attention", "mlp"},
    "FalconForCausalLM": {"mlp", "self_attention"},
    "FalconH1ForCausalLM": {"feed_forward", "mamba", "self_attn"},
    "GPT2LMHeadModel": {"attn", "mlp"},
    "GPTBigCodeForCausalLM": {"attn", "mlp"},
    "GPTNeoXForCausalLM": {"attention", "mlp"},
    "Gemma4ForConditionalGeneration": USUAL | {"moe", "moe.experts"},
    "Glm4MoeForCausalLM": SHARED,
    "Glm4MoeLiteForCausalLM": SHARED,
    "GlmMoeDsaForCausalLM": SHARED | {"self_attn.indexer"},
    "GptOssForCausalLM": EXPERTS,
    "GraniteMoeForCausalLM": SPARSE_BLOCK,
    "GraniteMoeHybridForCausalLM": {"self_attn", "shared_mlp"},
    "GraniteMoeSharedForCausalLM": SPARSE_BLOCK | {"shared_mlp"},
    "HYV3ForCausalLM": SHARED,
    "HunYuanMoEV1ForCausalLM": EXPERTS | {"mlp.shared_mlp"},
    "InternLM2ForCausalLM": {"attention", "feed_forward"},
    "JambaForCausalLM": FEED_FORWARD | {"mamba", "self_attn"},
    "LagunaForCausalLM": SHARED,
    "Lfm2ForCausalLM": {"conv", "feed_forward", "self_attn"},
    "Lfm2MoeForCausalLM": FEED_FORWARD | {"conv", "self_attn"},
    "Llama4ForConditionalGeneration": FEED_FORWARD | {"feed_forward.shared_experts", "self_attn"},
    "MiMoV2ForCausalLM": EXPERTS,
    "MiniMaxM2ForCausalLM": SPARSE_BLOCK,
    "NemotronHForCausalLM": {"mixer", "mixer.experts", "mixer.shared_experts"},
    "OlmoeForCausalLM": EXPERTS,
    "PhiMoEForCausalLM": SPARSE_BLOCK,
    "Qwen2MoeForCausalLM": SHARED,
    "Qwen3MoeForCausalLM": EXPERTS,
    "Qwen3NextForCausalLM": SHARED | {"linear_attn"},
    "Qwen3VLMoeForConditionalGeneration": EXPERTS,
    "Qwen3_5ForConditionalGeneration": USUAL | {"linear_attn"},
    "Qwen3_5MoeForConditionalGeneration": SHARED | {"linear_attn"},
    "Step3p5ForCausalLM": USUAL | {"moe", "moe.experts", "moe.shared_experts"},
}
"""Modules that a layer's matrices lie in, as lists of what is not quantised name them; of families
that are not named here, ``self_attn`` and ``mlp``."""


@pytest.mark.parametrize("family", sorted(CONFIGS))
def test_a_layer_s_matrices_lie_in_the_modules_that_the_checkpoint_names(family: str) -> None:
    model = architecture_from_config(CONFIGS[family])
    parents = {one.name.rpartition(".")[0] for kind in model.kinds for one in kind.matrices}
    assert parents == PARENTS.get(family, USUAL)
