"""GLM-5.3-Flash."""

from __future__ import annotations

from typing import Final

from vllm_operator.models.matrices import Matrix, Split
from vllm_operator.models.reader import Facts

from .parts import GATED, Tower, attention, mlp, patches, vision_facts

GLM_IMAGE_TOKENS: Final = 8000
"""``max_image_tokens`` of GLM-5.3-Flash (vllm ``models/glm5next/common/multimodal.py``)."""


def glm5_next(top: Facts) -> tuple[Tower, ...]:
    """vllm ``models/glm5next/common/multimodal.py``.

    Defaults: transformers ``models/glm_ocr/configuration_glm_ocr.py``; the merger's width is
    this model's own and has none.
    """
    vision = vision_facts(top)
    width, inner = vision.count("hidden_size", 1024), vision.count("intermediate_size", 4096)
    layers, heads = vision.count("depth", 24), vision.count("num_heads", 16)
    channels, frames = vision.count("in_channels", 3), vision.count("temporal_patch_size", 2)
    patch, merge = vision.count("patch_size", 14), vision.count("spatial_merge_size", 2)
    text, between = (
        vision.count("out_hidden_size", 1536),
        vision.count("projection_intermediate_size"),
    )
    matrices = (
        patches("visual.patch_embed.proj", channels * frames * patch**2, width, bias=True),
        *attention("visual.blocks.attn", width, layers, query_key_value="qkv", output="proj"),
        *mlp("visual.blocks.mlp", width, inner, layers, up=GATED, down="down_proj"),
        patches("visual.downsample", width * merge**2, text, bias=True),
        Matrix("visual.merger.proj", text, text, Split.OUTPUTS),
        *mlp("visual.merger", text, between, 1, up=GATED, down="down_proj", bias=False),
    )
    # Two norms a layer and those of its queries and keys, one after all, one in the merger.
    norms = layers * (2 * width + 2 * (width // heads)) + width + 2 * text
    return (Tower(matrices, norms, width, inner, layers, GLM_IMAGE_TOKENS * merge**2),)
