"""Llama 3.2 Vision and Llama 4."""

from __future__ import annotations

import math
from typing import Final

from vllm_operator.models.matrices import Matrix, Split
from vllm_operator.models.reader import Facts

from .parts import Tower, attention, mlp, patches, side, text_width, vision_facts

LLAMA4_TILES: Final = 16
"""``max_patches`` in that of Llama 4; one more tile shows the whole image."""


def mllama(top: Facts) -> tuple[Tower, ...]:
    """Llama 3.2 Vision; the last vLLM to have it is 0.10.2 (``mllama.py`` there).

    Its cross-attention layers belong to the decoder. Defaults: transformers
    ``models/mllama/configuration_mllama.py``.
    """
    vision = vision_facts(top)
    width, inner = vision.count("hidden_size", 1280), vision.count("intermediate_size", 5120)
    local, over = vision.count("num_hidden_layers", 32), vision.count("num_global_layers", 8)
    channels, patch = vision.count("num_channels", 3), vision.count("patch_size", 14)
    tokens, tiles = side(vision, 448, 14) ** 2 + 1, vision.count("max_num_tiles", 4)
    outputs, text = vision.count("vision_output_dim", 7680), text_width(top, 4096)
    ratios = 8
    given = vision.config.get("supported_aspect_ratios")
    if isinstance(given, (list, tuple)):
        ratios = len(given)
    matrices = [
        patches("vision_model.patch_embedding", channels * patch**2, width, split=Split.OUTPUTS)
    ]
    for name, layers in (("transformer", local), ("global_transformer", over)):
        layer = f"vision_model.{name}.layers"
        matrices += attention(f"{layer}.self_attn", width, layers, bias=False, output="o_proj")
        matrices += mlp(f"{layer}.mlp", width, inner, layers)
    matrices.append(Matrix("multi_modal_projector", outputs, text, Split.OUTPUTS, bias=True))
    # Each aspect ratio, and none, has positions of every patch of every tile, and of every tile
    # before and after the encoder; three gates weigh these, two more each global layer's parts.
    tables = (ratios + 1) * tiles * width * (tokens + 2)
    norms = tables + tokens * width + width + 3 + 4 * width
    norms += (local + over) * 4 * width + over * 2
    return (
        Tower(
            tuple(matrices),
            norms,
            width,
            inner,
            local + over,
            # Tiles are padded to a multiple of 8 patches.
            tiles * math.ceil(tokens / 8) * 8,
        ),
    )


def llama4(top: Facts) -> tuple[Tower, ...]:
    """``mllama4.py``. Defaults: transformers ``models/llama4/configuration_llama4.py``."""
    vision = vision_facts(top)
    width, inner = vision.count("hidden_size", 768), vision.count("intermediate_size", 5632)
    layers, outputs = vision.count("num_hidden_layers", 34), vision.count("vision_output_dim", 7680)
    channels, patch = vision.count("num_channels", 3), vision.count("patch_size", 14)
    between = vision.count("projector_input_dim", 4096)
    after = vision.count("projector_output_dim", 4096)
    tokens, text = side(vision, 448, 14) ** 2 + 1, text_width(top, 5120)
    layer = "vision_model.model.layers"
    matrices = (
        patches("vision_model.patch_embedding.linear", channels * patch**2, width,
                 split=Split.OUTPUTS),
        *attention(f"{layer}.self_attn", width, layers, output="o_proj"),
        *mlp(f"{layer}.mlp", width, inner, layers),
        # The pixel shuffle makes tokens of the MLP's width out of four patches.
        *mlp("vision_model.vision_adapter.mlp", inner, between, 1, outputs=after,
              bias=vision.flag("multi_modal_projector_bias")),
        Matrix("multi_modal_projector.linear_1", outputs, text, Split.OUTPUTS),
    )  # fmt: skip
    norms = width + tokens * width + 4 * width + layers * 4 * width
    heads = vision.count("num_attention_heads", 16)
    return (Tower(matrices, norms, width, inner, layers, (LLAMA4_TILES + 1) * tokens, heads),)
