"""CLIP, SigLIP and Pixtral: the encoders that several families share."""

from __future__ import annotations

from typing import Literal

from vllm_operator.models.matrices import Matrix
from vllm_operator.models.reader import Facts

from .parts import GATED, Tower, attention, feature_layers, mlp, patches, side


def clip(vision: Facts, layers: int | None, top: Facts, *, default: int) -> Tower:
    """CLIP without the norm after the last layer (``clip.py``).

    Defaults: transformers ``models/clip/configuration_clip.py``.
    """
    width, inner = vision.count("hidden_size", 768), vision.count("intermediate_size", 3072)
    channels, patch = vision.count("num_channels", 3), vision.count("patch_size", 32)
    tokens = side(vision, 224, 32) ** 2 + 1
    all_layers = vision.count("num_hidden_layers", 12)
    layers = feature_layers(top, all_layers, default) if layers is None else layers
    name = "vision_tower.vision_model"
    layer = f"{name}.encoder.layers"
    return Tower(
        matrices=(
            patches(f"{name}.embeddings.patch_embedding", channels * patch**2, width),
            *attention(f"{layer}.self_attn", width, layers),
            *mlp(f"{layer}.mlp", width, inner, layers),
        ),
        # The class token, the positions, the norm before the first layer, two norms a layer.
        norms=width + tokens * width + 2 * width + layers * 4 * width,
        hidden_size=width,
        intermediate_size=inner,
        layers=layers,
        max_tokens=tokens,
        heads=vision.count("num_attention_heads", 12),
    )


def siglip(vision: Facts, layers: int | None, top: Facts, *, default: int) -> Tower:
    """SigLIP without its pooling head (``siglip.py``); ``layers`` None: up to the feature layer.

    Defaults: transformers ``models/siglip/configuration_siglip.py``.
    """
    width, inner = vision.count("hidden_size", 768), vision.count("intermediate_size", 3072)
    channels, patch = vision.count("num_channels", 3), vision.count("patch_size", 16)
    tokens = side(vision, 224, 16) ** 2
    post_norm = layers is not None
    if layers is None:
        layers = feature_layers(top, vision.count("num_hidden_layers", 12), default)
    name = "vision_tower.vision_model"
    layer = f"{name}.encoder.layers"
    # vLLM quantises this MLP only where 64 divides its widths (bitsandbytes and torchao always).
    kind: Literal["linear", "other"] = "other" if width % 64 or inner % 64 else "linear"
    return Tower(
        matrices=(
            patches(f"{name}.embeddings.patch_embedding", channels * patch**2, width, bias=True),
            *attention(f"{layer}.self_attn", width, layers),
            *mlp(f"{layer}.mlp", width, inner, layers, kind=kind),
        ),
        norms=tokens * width + (2 * width if post_norm else 0) + layers * 4 * width,
        hidden_size=width,
        intermediate_size=inner,
        layers=layers,
        max_tokens=tokens,
        heads=vision.count("num_attention_heads", 12),
    )


def pixtral(vision: Facts, layers: int | None, top: Facts, *, default: int) -> Tower:
    """Pixtral as transformers lays it out (``PixtralHFVisionModel`` in ``pixtral.py``).

    Defaults: transformers ``models/pixtral/configuration_pixtral.py``.
    """
    width, inner = vision.count("hidden_size", 1024), vision.count("intermediate_size", 4096)
    channels, patch = vision.count("num_channels", 3), vision.count("patch_size", 16)
    tokens = side(vision, 1024, 16) ** 2
    if layers is None:
        layers = feature_layers(top, vision.count("num_hidden_layers", 24), default)
    name = "vision_tower"
    layer = f"{name}.transformer.layers"
    return Tower(
        matrices=(
            patches(f"{name}.patch_conv", channels * patch**2, width),
            *attention(f"{layer}.attention", width, layers, bias=False, output="o_proj"),
            *mlp(f"{layer}.feed_forward", width, inner, layers, up=GATED, down="down_proj",
                  bias=False),
        ),
        norms=width + layers * 2 * width,
        hidden_size=width,
        intermediate_size=inner,
        layers=layers,
        max_tokens=tokens,
        heads=vision.count("num_attention_heads", 16),
    )  # fmt: skip


def with_projector(
    tower: Tower, *matrices: Matrix, norms: int = 0, max_tokens: int | None = None
) -> tuple[Tower, ...]:
    """The tower with its projector."""
    return (
        Tower(
            (*tower.matrices, *matrices),
            tower.norms + norms,
            tower.hidden_size,
            tower.intermediate_size,
            tower.layers,
            tower.max_tokens if max_tokens is None else max_tokens,
            tower.heads,
        ),
    )
