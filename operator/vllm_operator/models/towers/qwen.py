"""Qwen2-VL to Qwen3.5, and dots.ocr."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from vllm_operator.models.reader import Facts, shown

from .parts import (
    GATED,
    Tower,
    attention,
    mlp,
    patches,
    patches_of_pixels,
    vision_facts,
    visual_patches,
)

QWEN2_PIXELS: Final = 12_845_056
"""``max_pixels`` in the ``preprocessor_config.json`` of Qwen2-VL and Qwen2.5-VL."""

QWEN3_PIXELS: Final = 16_777_216
"""``size.longest_edge`` in that of Qwen3-VL and Qwen3.5."""

DOTS_PIXELS: Final = 11_289_600
"""``max_pixels`` in that of dots.ocr."""


def qwen2_vl(top: Facts) -> tuple[Tower, ...]:
    """``qwen2_vl.py``; ``hidden_size`` is the merger's output, the decoder's width.

    Defaults: transformers ``models/qwen2_vl/configuration_qwen2_vl.py``.
    """
    vision = vision_facts(top)
    width, layers = vision.count("embed_dim", 1280), vision.count("depth", 32)
    text, ratio = vision.count("hidden_size", 3584), vision.number("mlp_ratio", 4)
    patch, merge = vision.count("patch_size", 14), vision.count("spatial_merge_size", 2)
    inner = int(width * ratio)
    if not 0 < inner < 2**24:
        raise vision.refusal("mlp_ratio", f"of {ratio} makes an MLP of width {inner}")
    merged = width * merge**2
    return (
        Tower(
            matrices=(
                visual_patches(vision, width, patch, bias=False),
                *attention("visual.blocks.attn", width, layers, query_key_value="qkv",
                            output="proj"),
                *mlp("visual.blocks.mlp", width, inner, layers),
                *mlp("visual.merger.mlp", merged, merged, 1, up=("0",), down="2", outputs=text),
            ),
            norms=layers * 4 * width + 2 * width,
            hidden_size=width,
            intermediate_size=inner,
            layers=layers,
            max_tokens=patches_of_pixels(QWEN2_PIXELS, patch, merge),
            heads=vision.count("num_heads", 16),
        ),
    )  # fmt: skip


def qwen2_5_vl(top: Facts) -> tuple[Tower, ...]:
    """``qwen2_5_vl.py``: norms without bias and a gated MLP.

    Defaults: transformers ``models/qwen2_5_vl/configuration_qwen2_5_vl.py``.
    """
    vision = vision_facts(top)
    width, layers = vision.count("hidden_size", 3584), vision.count("depth", 32)
    inner, text = vision.count("intermediate_size", 3420), vision.count("out_hidden_size", 3584)
    patch, merge = vision.count("patch_size", 14), vision.count("spatial_merge_size", 2)
    merged = width * merge**2
    return (
        Tower(
            matrices=(
                visual_patches(vision, width, patch, bias=False),
                *attention("visual.blocks.attn", width, layers, query_key_value="qkv",
                            output="proj"),
                *mlp("visual.blocks.mlp", width, inner, layers, up=GATED, down="down_proj"),
                *mlp("visual.merger.mlp", merged, merged, 1, up=("0",), down="2", outputs=text),
            ),
            norms=layers * 2 * width + width,
            hidden_size=width,
            intermediate_size=inner,
            layers=layers,
            max_tokens=patches_of_pixels(QWEN2_PIXELS, patch, merge),
            heads=vision.count("num_heads", 16),
        ),
    )  # fmt: skip


def exaone4_5(top: Facts) -> tuple[Tower, ...]:
    """``exaone4_5.py``: Qwen2.5-VL's tower with fewer heads of keys and values.

    Defaults: transformers 5.24 ``models/exaone4_5/configuration_exaone4_5.py``.
    """
    vision = vision_facts(top)
    (tower,) = qwen2_5_vl(top)
    width, heads = tower.hidden_size, vision.count("num_heads", 16)
    groups = vision.count("num_key_value_heads", 8)
    less = 2 * (width - width // heads * groups)
    return (
        replace(
            tower,
            matrices=tuple(
                replace(one, outputs=one.outputs - less) if one.name.endswith("attn.qkv") else one
                for one in tower.matrices
            ),
        ),
    )


def qwen3_vl(top: Facts) -> tuple[Tower, ...]:
    """``qwen3_vl.py``: a merger at the end and one at each deepstack layer.

    Defaults: transformers ``models/qwen3_vl/configuration_qwen3_vl.py`` (the MoE's are the same).
    """
    return (_qwen3_tower(vision_facts(top), deepstack=3),)


def qwen3_5(top: Facts) -> tuple[Tower, ...]:
    """``qwen3_5.py``: Qwen3-VL's tower, by default without deepstack.

    Defaults: transformers ``models/qwen3_5/configuration_qwen3_5.py``.
    """
    return (_qwen3_tower(vision_facts(top), deepstack=0),)


def _qwen3_tower(vision: Facts, *, deepstack: int) -> Tower:
    width, layers = vision.count("hidden_size", 1152), vision.count("depth", 27)
    inner, text = vision.count("intermediate_size", 4304), vision.count("out_hidden_size", 3584)
    patch, merge = vision.count("patch_size", 16), vision.count("spatial_merge_size", 2)
    positions = vision.count("num_position_embeddings", 2304)
    indexes = vision.config.get("deepstack_visual_indexes")
    if indexes is not None:
        if not isinstance(indexes, (list, tuple)) or len(indexes) > layers:
            raise vision.refusal(
                "deepstack_visual_indexes",
                f"must be a list of at most {layers} layers, and is {shown(indexes)}",
            )
        deepstack = len(indexes)
    merged = width * merge**2
    matrices = [
        visual_patches(vision, width, patch, bias=True),
        *attention("visual.blocks.attn", width, layers, query_key_value="qkv", output="proj"),
        *mlp("visual.blocks.mlp", width, inner, layers, up=("linear_fc1",), down="linear_fc2"),
        *mlp("visual.merger", merged, merged, 1, up=("linear_fc1",), down="linear_fc2",
              outputs=text),
    ]  # fmt: skip
    if deepstack:
        matrices += mlp("visual.deepstack_merger_list", merged, merged, deepstack,
                         up=("linear_fc1",), down="linear_fc2", outputs=text)  # fmt: skip
    return Tower(
        matrices=tuple(matrices),
        # The last merger's norm stands before the merging, those of deepstack after it.
        norms=positions * width + layers * 4 * width + 2 * width + deepstack * 2 * merged,
        hidden_size=width,
        intermediate_size=inner,
        layers=layers,
        max_tokens=patches_of_pixels(QWEN3_PIXELS, patch, merge),
        heads=vision.count("num_heads", 16),
    )


def dots_ocr(top: Facts) -> tuple[Tower, ...]:
    """``dots_ocr.py``; ``hidden_size`` is the merger's output. The merger is never quantised.

    Defaults: vllm ``transformers_utils/configs/dotsocr.py``.
    """
    vision = vision_facts(top)
    width, inner = vision.count("embed_dim", 1536), vision.count("intermediate_size", 4224)
    layers, text = vision.count("num_hidden_layers", 42), vision.count("hidden_size", 1536)
    channels, patch = vision.count("num_channels", 3), vision.count("patch_size", 14)
    merge, bias = vision.count("spatial_merge_size", 2), vision.flag("use_bias")
    merged = width * merge**2
    name = "vision_tower"
    matrices = (
        patches(f"{name}.patch_embed.patchifier.proj", channels * patch**2, width, bias=True),
        *attention(f"{name}.blocks.attn", width, layers, bias=bias, query_key_value="qkv",
                    output="proj"),
        *mlp(f"{name}.blocks.mlp", width, inner, layers, up=("fc1", "fc3"), bias=bias),
        *mlp(f"{name}.merger.mlp", merged, merged, 1, up=("0",), down="2", outputs=text,
              kind="other"),
    )  # fmt: skip
    norms = width + layers * 2 * width + 2 * width
    if vision.flag("post_norm", True):
        norms += width
    tokens = patches_of_pixels(DOTS_PIXELS, patch, merge)
    heads = vision.count("num_attention_heads", 12)
    return (Tower(matrices, norms, width, inner, layers, tokens, heads),)
