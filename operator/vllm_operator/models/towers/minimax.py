"""MiniMax-M3's encoder."""

from __future__ import annotations

from typing import Final

from vllm_operator.models.matrices import Matrix, Split
from vllm_operator.models.reader import FIELD, Facts

from .parts import Tower, attention, mlp, patches, patches_of_pixels, text_width, vision_facts

PIXELS: Final = 768 * 28 * 28
"""``max_pixels`` of the video processor, of each frame (vllm 0.33.0
``models/minimax_m3/common/mm_preprocess.py``); an image has fewer."""
COMPRESSION: Final = "img_token_compression_config"


def minimax_m3(top: Facts) -> tuple[Tower, ...]:
    """vllm 0.33.0 ``models/minimax_m3/common/vision_tower.py``: no positions and no last norm; the
    projector stands in front of the merging."""
    vision = vision_facts(top)
    width, inner = vision.count("hidden_size"), vision.count("intermediate_size")
    layers, patch = vision.count("num_hidden_layers"), vision.count("patch_size")
    shrinks = vision.part(COMPRESSION) or Facts({}, f"{FIELD}.vision_config.{COMPRESSION}")
    merge, frames = shrinks.count("spatial_merge_size", 2), shrinks.count("temporal_patch_size", 2)
    text = text_width(top, 6144)
    between = top.count("projector_hidden_size", text)
    block = "vision_tower.vision_model.encoder.layers"
    matrices = (
        patches(
            "vision_tower.vision_model.embeddings.patch_embedding",
            vision.count("num_channels", 3) * frames * patch**2,
            width,
        ),
        *attention(f"{block}.self_attn", width, layers),
        *mlp(f"{block}.mlp", width, inner, layers),
        *_pair(
            "multi_modal_projector", width, between, text,
            bias=vision.flag("multimodal_projector_bias", True),
        ),
        *_pair(
            "patch_merge_mlp", text * merge**2, between, text,
            bias=vision.flag("patch_merge_bias", True),
        ),
    )  # fmt: skip
    norms = layers * 4 * width + 2 * width
    tokens = patches_of_pixels(PIXELS, patch, merge)
    heads = vision.count("num_attention_heads")
    return (Tower(matrices, norms, width, inner, layers, tokens, heads),)


def _pair(name: str, inputs: int, between: int, outputs: int, *, bias: bool) -> tuple[Matrix, ...]:
    prefix = f"vision_tower.{name}"
    return (
        Matrix(f"{prefix}.linear_1", inputs, between, Split.OUTPUTS, bias=bias),
        Matrix(f"{prefix}.linear_2", between, outputs, Split.INPUTS, bias=bias),
    )
