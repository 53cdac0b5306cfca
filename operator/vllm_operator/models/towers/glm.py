"""GLM-4.1V to 4.6V, and GLM-5.3-Flash."""

from __future__ import annotations

from typing import Final

from vllm_operator.models.matrices import Matrix, Split
from vllm_operator.models.reader import Facts

from .parts import (
    GATED,
    Tower,
    attention,
    mlp,
    patches,
    patches_of_pixels,
    side,
    vision_facts,
    visual_patches,
)

GLM4V_PIXELS: Final = 9_633_792 // 2
"""``size.longest_edge`` in the ``preprocessor_config.json`` of GLM-4.1V, of memory, for the two
frames that an image is taken for."""
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
    patch, merge = vision.count("patch_size", 14), vision.count("spatial_merge_size", 2)
    text, between = (
        vision.count("out_hidden_size", 1536),
        vision.count("projection_intermediate_size"),
    )
    matrices = (
        visual_patches(vision, width, patch, bias=True),
        *attention("visual.blocks.attn", width, layers, query_key_value="qkv", output="proj"),
        *mlp("visual.blocks.mlp", width, inner, layers, up=GATED, down="down_proj"),
        patches("visual.downsample", width * merge**2, text, bias=True),
        Matrix("visual.merger.proj", text, text, Split.OUTPUTS),
        *mlp("visual.merger", text, between, 1, up=GATED, down="down_proj", bias=False),
    )
    # Two norms a layer and those of its queries and keys, one after all, one in the merger.
    norms = layers * (2 * width + 2 * (width // heads)) + width + 2 * text
    tokens = GLM_IMAGE_TOKENS * merge**2
    return (Tower(matrices, norms, width, inner, layers, tokens, heads),)


def glm4v(top: Facts) -> tuple[Tower, ...]:
    """``glm4_1v.py``: MLPs as wide as the output, a downsampling convolution, a gated merger.

    Defaults: transformers ``models/glm4v/configuration_glm4v.py``.
    """
    vision = vision_facts(top)
    width, layers = vision.count("hidden_size", 1536), vision.count("depth", 24)
    patch, merge = vision.count("patch_size", 14), vision.count("spatial_merge_size", 2)
    text, between = vision.count("out_hidden_size", 4096), vision.count("intermediate_size", 13696)
    matrices = (
        visual_patches(vision, width, patch, bias=True),
        *attention(
            "visual.blocks.attn", width, layers, bias=False, query_key_value="qkv", output="proj"
        ),
        *mlp("visual.blocks.mlp", width, text, layers, up=GATED, down="down_proj", bias=False),
        patches("visual.downsample", width * merge**2, text, bias=True),
        Matrix("visual.merger.proj", text, text, Split.OUTPUTS),
        *mlp("visual.merger", text, between, 1, up=GATED, down="down_proj", bias=False),
    )
    # Positions, two norms a layer, one before and one after all of them, one in the merger.
    norms = side(vision, 336, 14) ** 2 * width + layers * 2 * width + 2 * width + 2 * text
    tokens = patches_of_pixels(GLM4V_PIXELS, patch, merge)
    heads = vision.count("num_heads", 12)
    return (Tower(matrices, norms, width, text, layers, tokens, heads),)
