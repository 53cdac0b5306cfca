"""InternViT of InternVL."""

from __future__ import annotations

from typing import Final

from vllm_operator.models.matrices import Matrix, Split
from vllm_operator.models.reader import FIELD, Facts, shown

from .parts import Tower, attention, mlp, patches, side, vision_facts

LANGUAGE: Final = "llm_config"
"""Where InternVL's configs have their decoder."""


def internvl(top: Facts) -> tuple[Tower, ...]:
    """``internvl.py`` and ``intern_vit.py``; the projector is an ordinary torch module, replicated.

    Every fact of the tower must be given but those that have one value in all released models.
    """
    vision = vision_facts(top)
    width, inner = vision.count("hidden_size"), vision.count("intermediate_size")
    layers, patch = vision.count("num_hidden_layers"), vision.count("patch_size", 14)
    if top.config.get("select_layer", -1) != -1:
        raise top.refusal("select_layer", f"must be -1, and is {shown(top.config['select_layer'])}")
    kind = vision.config.get("norm_type", "layer_norm")
    if kind not in ("layer_norm", "rms_norm"):
        raise vision.refusal("norm_type", f"{shown(kind)} is none of layer_norm and rms_norm")
    text = (top.part(LANGUAGE) or Facts({}, f"{FIELD}.{LANGUAGE}")).count("hidden_size")
    shrink = round(1 / top.fraction("downsample_ratio", 0.5)) ** 2
    name = "vision_model.encoder.layers"
    qkv, out = attention(
        f"{name}.attn", width, layers, query_key_value="qkv", output="proj",
        bias=vision.flag("qkv_bias"),
    )  # fmt: skip
    matrices = (
        patches(
            "vision_model.embeddings.patch_embedding",
            vision.count("num_channels", 3) * patch**2, width, bias=True,
        ),
        qkv,
        Matrix(out.name, width, width, Split.INPUTS, bias=True, copies=layers),
        *mlp(f"{name}.mlp", width, inner, layers),
        Matrix("mlp1.1", shrink * width, text, Split.WHOLE, bias=True, kind="other"),
        Matrix("mlp1.3", text, text, Split.WHOLE, bias=True, kind="other"),
    )  # fmt: skip
    tile = side(vision, 448, 14) ** 2
    each = 2 * width * (2 if kind == "layer_norm" else 1) + 2 * width  # norms, and two scales
    each += 2 * width if vision.flag("qk_normalization") else 0
    # A class token, positions, the norm before the projector.
    norms = width + (tile + 1) * width + layers * each + 2 * shrink * width
    tiles = top.count("max_dynamic_patch", 12) if top.flag("dynamic_image_size", True) else 1
    tiles += 1 if top.flag("use_thumbnail", True) and tiles > 1 else 0
    return (Tower(matrices, norms, width, inner, layers, tiles * (tile + 1)),)
