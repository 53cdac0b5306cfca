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


def interns1(top: Facts) -> tuple[Tower, ...]:
    """``interns1.py`` and ``interns1_vit.py``: InternVL as transformers lays it out.

    Attention and projector are ordinary torch modules, replicated. Defaults: transformers 5.24
    ``models/internvl/configuration_internvl.py``. How many tiles an image is cut into is not in
    the config: what is encoded is not profiled here.
    """
    vision = vision_facts(top)
    width, inner = vision.count("hidden_size", 1024), vision.count("intermediate_size", 4096)
    layers = vision.count("num_hidden_layers", 24)
    image, patch = _edge(vision, "image_size", 448), _edge(vision, "patch_size", 14)
    text = (top.part("text_config") or Facts({}, f"{FIELD}.text_config")).count("hidden_size")
    shrink = round(1 / top.fraction("downsample_ratio", 0.5)) ** 2
    name = "vision_tower.encoder.layer"
    bias = vision.flag("attention_bias")
    qkv = [
        _whole(f"{name}.attention.{one}", width, width, bias=bias, copies=layers)
        for one in ("q_proj", "k_proj", "v_proj")
    ]
    matrices = (
        patches(
            "vision_tower.embeddings.patch_embeddings.projection",
            vision.count("num_channels", 3) * patch**2, width, bias=True,
        ),
        *qkv,
        _whole(f"{name}.attention.projection_layer", width, width, bias=True, copies=layers),
        *mlp(f"{name}.mlp", width, inner, layers),
        _whole("multi_modal_projector.linear_1", shrink * width, text, bias=True),
        _whole("multi_modal_projector.linear_2", text, text, bias=True),
    )  # fmt: skip
    each = 2 * width * (2 if vision.config.get("norm_type", "layer_norm") == "layer_norm" else 1)
    each += 2 * width + (2 * width if vision.flag("use_qk_norm") else 0)
    tile = (image // patch) ** 2
    norms = width + layers * each + 2 * shrink * width
    norms += (tile + 1) * width if vision.flag("use_absolute_position_embeddings", True) else 0
    norms += width if vision.flag("use_mask_token") else 0
    norms += 0 if vision.flag("use_mean_pooling", True) else 2 * width
    return (Tower(matrices, norms, width, inner, layers, 0),)


def _whole(name: str, inputs: int, outputs: int, *, bias: bool, copies: int = 1) -> Matrix:
    return Matrix(name, inputs, outputs, Split.WHOLE, bias=bias, copies=copies, kind="other")


def _edge(vision: Facts, fact: str, default: int) -> int:
    """A length in pixels that may be given for both directions."""
    value = vision.config.get(fact)
    if not isinstance(value, (list, tuple)):
        return vision.count(fact, default)
    found = set(vision.numbers(fact, 2))
    if len(found) != 1:
        raise vision.refusal(fact, f"must be a square, and is {shown(value)}")
    return found.pop()
