"""Which numbers of a tower's config its size, or its pictures' tokens, go by.

Each is doubled by itself: two facts that happen to be equal in a config are so told apart.
"""

from __future__ import annotations

from typing import Any

import pytest

from unit.models.test_matrices import CONFIGS
from vllm_operator.errors import UnknownModel
from vllm_operator.models.architecture import Architecture, architecture_from_config

SIGLIP = "hidden_size image_size intermediate_size num_hidden_layers patch_size"
GLM = (
    "depth hidden_size image_size in_channels intermediate_size out_hidden_size patch_size "
    "spatial_merge_size temporal_patch_size"
)
QWEN3 = (
    "depth hidden_size in_channels intermediate_size num_position_embeddings out_hidden_size "
    "patch_size spatial_merge_size temporal_patch_size"
)
MOVED = {
    "DotsOCRForCausalLM": (
        "embed_dim hidden_size intermediate_size num_channels num_hidden_layers "
        "patch_size spatial_merge_size temporal_patch_size"
    ),
    "Gemma3ForConditionalGeneration": SIGLIP,
    "Gemma4ForConditionalGeneration": (
        "default_output_length head_dim hidden_size intermediate_size "
        "num_attention_heads num_hidden_layers num_key_value_heads patch_size "
        "pooling_kernel_size position_embedding_size"
    ),
    "Glm4vForConditionalGeneration": GLM,
    "Glm4vMoeForConditionalGeneration": GLM,
    "InternVLChatModel": (
        "hidden_size image_size intermediate_size num_channels num_hidden_layers patch_size"
    ),
    "KimiK25ForConditionalGeneration": (
        "hidden_size intermediate_size num_hidden_layers patch_size pos_emb_height pos_emb_width"
    ),
    "Llama4ForConditionalGeneration": (
        "hidden_size image_size intermediate_size num_channels num_hidden_layers "
        "patch_size projector_input_dim projector_output_dim vision_output_dim"
    ),
    "LlavaForConditionalGeneration": SIGLIP,
    "LlavaNextForConditionalGeneration": SIGLIP,
    "LlavaNextVideoForConditionalGeneration": SIGLIP,
    "Mistral3ForConditionalGeneration": (
        "hidden_size image_size intermediate_size num_channels num_hidden_layers patch_size"
    ),
    "Qwen2VLForConditionalGeneration": (
        "depth embed_dim hidden_size mlp_ratio patch_size spatial_merge_size temporal_patch_size"
    ),
    "Qwen2_5_VLForConditionalGeneration": (
        "depth hidden_size intermediate_size out_hidden_size patch_size "
        "spatial_merge_size temporal_patch_size"
    ),
    "Qwen3VLForConditionalGeneration": QWEN3,
    "Qwen3VLMoeForConditionalGeneration": QWEN3,
    "Qwen3_5ForConditionalGeneration": QWEN3,
    "Qwen3_5MoeForConditionalGeneration": QWEN3,
    "Step3p7ForConditionalGeneration": "image_size layers patch_size width",
}


def told(model: Architecture) -> tuple[Any, ...]:
    return model.parameters, str(model.pictures), str(model.kinds)


def moves(config: dict[str, Any], fact: str, value: int) -> bool:
    tower = config["vision_config"]
    try:
        other = architecture_from_config({**config, "vision_config": {**tower, fact: 2 * value}})
    except UnknownModel:
        return True
    return told(other) != told(architecture_from_config(config))


@pytest.mark.parametrize("family", MOVED)
def test_a_tower_goes_by_these_numbers(family: str) -> None:
    config = CONFIGS[family]
    numbers = {
        fact: value
        for fact, value in config["vision_config"].items()
        if type(value) is int and value > 0
    }
    assert [fact for fact in sorted(numbers) if moves(config, fact, numbers[fact])] == MOVED[
        family
    ].split()
