"""MoonViT of Kimi K2.5 to K3."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from vllm_operator.models.matrices import Matrix, Split
from vllm_operator.models.reader import Facts

from .parts import Tower, attention, mlp, patches, text_width, vision_facts

KIMI_VL_PATCHES: Final = 4096
"""``in_token_limit`` in that of Kimi-VL, of memory."""
KIMI_PATCHES: Final = 16_384
"""``in_patch_limit`` in the ``preprocessor_config.json`` of Kimi-K2.5, of memory: patches of the
largest image; a chunk of four frames has as many (``in_patch_limit_each_frame`` 4,096)."""


def kimi_k25(top: Facts) -> tuple[Tower, ...]:
    """``kimi_k25.py`` and ``kimi_k25_vit.py``: the projector is replicated.

    Defaults: transformers ``models/kimi_k25/configuration_kimi_k25.py``. Compressed-tensors leaves
    the tower in 16 bits whatever its lists say (``_maybe_ignore_quant_config``).
    """
    vision = vision_facts(top)
    width, inner = (
        vision.count(vision.first("hidden_size", "vt_hidden_size"), 1152),
        vision.count(vision.first("intermediate_size", "vt_intermediate_size"), 4304),
    )
    layers = vision.count(vision.first("num_hidden_layers", "vt_num_hidden_layers"), 27)
    patch = vision.count("patch_size", 14)
    height = vision.count(vision.first("init_pos_emb_height", "pos_emb_height"), 64)
    across = vision.count(vision.first("init_pos_emb_width", "pos_emb_width"), 64)
    merge = vision.numbers("merge_kernel_size") or (2, 2)
    if len(merge) != 2 or merge[0] != merge[1]:
        raise vision.refusal("merge_kernel_size", "must be two equal numbers")
    for fact, only in (("mm_projector_type", "patchmerger"), ("norm_type", "layernorm")):
        if vision.config.get(fact, only) != only:
            raise vision.refusal(fact, f"must be {only}, as Kimi K2.5 has it")
    text = text_width(top, 7168)
    merged = width * merge[0] * merge[1]
    name = "vision_tower"
    block = f"{name}.encoder.blocks"
    matrices = (
        patches(f"{name}.patch_embed.proj", 3 * patch**2, width, bias=True),
        *attention(block, width, layers, query_key_value="wqkv", output="wo"),
        *mlp(f"{block}.mlp", width, inner, layers, up=("fc0",), down="fc1"),
        Matrix("mm_projector.linear_1", merged, merged, Split.WHOLE, bias=True),
        Matrix("mm_projector.linear_2", merged, text, Split.WHOLE, bias=True),
    )
    if _by_compressed_tensors(top):
        matrices = tuple(replace(one, kind="other") for one in matrices)
    # Positions, two norms a layer and one after all, one before the merging.
    norms = height * across * width + layers * 4 * width + 4 * width
    return (Tower(matrices, norms, width, inner, layers, KIMI_PATCHES),)


def kimi_vl(top: Facts) -> tuple[Tower, ...]:
    """``kimi_vl.py`` and ``moonvit.py``: the same shapes, and smaller images."""
    (tower,) = kimi_k25(top)
    heads = vision_facts(top).count("num_attention_heads", 16)
    return (replace(tower, max_tokens=KIMI_VL_PATCHES, heads=heads),)


def kimi_k3(top: Facts) -> tuple[Tower, ...]:
    """Kimi K3's: heads of their own width, and neither biases nor a norm in front of the merging.

    vLLM 0.33.0 ``models/kimi_k3/nvidia/model.py`` builds it of ``kimi_k25_vit.py``; defaults of
    ``transformers_utils/configs/kimi_k3.py``. It is whole on every rank where its heads are not
    divided evenly (``models/vision.py``, ``is_vit_use_data_parallel``).
    """
    vision = vision_facts(top)
    width, inner = vision.count("vt_hidden_size", 1024), vision.count("vt_intermediate_size", 4096)
    layers, heads = (
        vision.count("vt_num_hidden_layers", 27),
        vision.count("vt_num_attention_heads", 12),
    )
    attends = vision.count("qkv_hidden_size", 1536)
    patch = vision.count("patch_size", 14)
    height = vision.count("init_pos_emb_height", 64)
    across = vision.count("init_pos_emb_width", 64)
    merge = vision.numbers("merge_kernel_size") or (2, 2)
    if len(merge) != 2 or merge[0] != merge[1]:
        raise vision.refusal("merge_kernel_size", "must be two equal numbers")
    for fact, only in (("mm_projector_type", "patchmergerv2"), ("norm_type", "rmsnorm")):
        if vision.config.get(fact, only) != only:
            raise vision.refusal(fact, f"must be {only}, as Kimi K3 has it")
    for fact in ("attn_bias", "linear_bias", "patch_embed_proj_bias"):
        if vision.flag(fact):
            raise vision.refusal(fact, "is true, and Kimi K3 has no such biases")
    merged = width * merge[0] * merge[1]
    text = text_width(top, 7168)
    block = "vision_tower.encoder.blocks"
    matrices: tuple[Matrix, ...] = (
        patches("vision_tower.patch_embed.proj", 3 * patch**2, width),
        Matrix(f"{block}.wqkv", width, 3 * attends, Split.OUTPUTS, heads, copies=layers),
        Matrix(f"{block}.wo", attends, width, Split.INPUTS, heads, copies=layers),
        Matrix(f"{block}.mlp.fc0", width, inner, Split.OUTPUTS, heads, copies=layers),
        Matrix(f"{block}.mlp.fc1", inner, width, Split.INPUTS, heads, copies=layers),
        Matrix("mm_projector.linear_1", merged, merged, Split.WHOLE),
        Matrix("mm_projector.linear_2", merged, text, Split.WHOLE),
    )
    if _by_compressed_tensors(top):
        matrices = tuple(replace(one, kind="other") for one in matrices)
    # Positions, two norms a layer and one after all, one behind the merging.
    norms = height * across * width + layers * 2 * width + width + text
    return (Tower(matrices, norms, width, inner, layers, KIMI_PATCHES),)


def _by_compressed_tensors(top: Facts) -> bool:
    holders = (top, top.part("text_config"))
    found = (one and one.part("quantization_config") for one in holders)
    return any(one and one.config.get("quant_method") == "compressed-tensors" for one in found)
