"""DeepSeek-V4: windows with compressed states, hash-routed experts, hyper-connections.

Source: vllm 0.33.0 ``models/deepseek_v4``: ``attention.py``, ``compressor.py``,
``nvidia/model.py`` and ``nvidia/mtp.py``.
"""

from __future__ import annotations

from typing import Final

from vllm_operator.models.blocks import Part, experts, layer
from vllm_operator.models.matrices import Matrix, Split
from vllm_operator.models.reader import Facts, shown
from vllm_operator.models.shapes import CompressedCache, Layer

from .common import Decoder, routing

FP32: Final = 2
"""16-bit elements of an fp32 (or int32) one."""
PADDED_HEADS: Final = 64
"""Heads that the sinks are padded to a multiple of (``get_padded_num_q_heads``)."""
OVERLAPPING: Final = 4
"""The ratio whose windows overlap, so that its compressor is twice as wide, and that is indexed."""
RATIOS: Final = (0, OVERLAPPING, 128)


def deepseek_v4(facts: Facts) -> Decoder:
    """The decoder of DeepSeek-V4 by its ``compress_ratios``."""
    hidden = facts.count("hidden_size")
    number = facts.count("num_hidden_layers")
    ratios = facts.list_of("compress_ratios", number)
    for ratio in ratios:
        if ratio not in RATIOS:
            raise facts.refusal("compress_ratios", f"names {shown(ratio)}, and known are {RATIOS}")
    if facts.count("vision_n_layers", 0, least=0):
        raise facts.refusal("vision_n_layers", "the tower of DeepSeek-V4 is not known to sizing")
    hashed = facts.count("num_hash_layers", 0, least=0)
    parts = {ratio: _attention(facts, hidden, ratio) for ratio in {0, *ratios}}
    feeds = {by_hash: _experts(facts, hidden, by_hash=by_hash) for by_hash in (False, True)}
    streams = facts.count("hc_mult")
    mixes = (2 + streams) * streams
    connections = 2 * FP32 * (mixes * streams * hidden + mixes + 3)
    built: dict[tuple[int, bool], Layer] = {}
    layers = []
    for index, ratio in enumerate(ratios):
        key = (ratio, index < hashed)
        if key not in built:
            built[key] = layer(parts[ratio], feeds[key[1]], norms=2 * hidden + connections)
        layers.append(built[key])
    drafts = facts.count("num_nextn_predict_layers", 0, least=0)
    draft = layer(parts[0], feeds[False], norms=2 * hidden + connections)
    projections = tuple(
        Matrix(f"mtp.layers.0.{name}", hidden, hidden, Split.WHOLE) for name in ("e_proj", "h_proj")
    )
    rope = facts.count("qk_rope_head_dim")
    return Decoder(
        layers=layers,
        attention_heads=facts.count("num_attention_heads"),
        # One latent state for all heads, whole on every rank.
        key_value_heads=facts.count("num_attention_heads"),
        # One table for windows and one for compressed states, both in fp32.
        rotary_dims=(rope, rope),
        rotary_bytes=4,
        draft=(draft,) * drafts,
        draft_extra=projections * drafts,
        extra_norms=FP32 * (streams * streams * hidden + streams + 1),
        indexed_tokens=facts.count("index_topk"),
    )


def _attention(facts: Facts, hidden: int, ratio: int) -> Part:
    heads, size = facts.count("num_attention_heads"), facts.count("head_dim")
    rank, groups = facts.count("q_lora_rank"), facts.count("o_groups")
    out = groups * facts.count("o_lora_rank")
    if heads % groups:
        raise facts.refusal("o_groups", f"{groups} does not divide num_attention_heads {heads}")
    name = "attn"
    matrices = [
        Matrix(f"{name}.wq_a", hidden, rank, Split.WHOLE),
        Matrix(f"{name}.wkv", hidden, size, Split.WHOLE),
        Matrix(f"{name}.wq_b", rank, heads * size, Split.OUTPUTS),
        Matrix(f"{name}.wo_a", heads * size // groups, out, Split.OUTPUTS),
        Matrix(f"{name}.wo_b", out, hidden, Split.INPUTS),
    ]
    sinks = -(-heads // PADDED_HEADS) * PADDED_HEADS
    norms = rank + size + FP32 * sinks
    index_dim = 0
    if ratio:
        compressor, kept = _compressor(f"{name}.compressor", hidden, ratio, size)
        matrices.append(compressor)
        norms += kept
    if ratio == OVERLAPPING:
        index_dim, index_heads = facts.count("index_head_dim"), facts.count("index_n_heads")
        compressor, kept = _compressor(f"{name}.indexer.compressor", hidden, ratio, index_dim)
        matrices += [
            Matrix(f"{name}.indexer.wq_b", rank, index_heads * index_dim, Split.WHOLE),
            Matrix(f"{name}.indexer.weights_proj", hidden, index_heads, Split.WHOLE, kind="other"),
            compressor,
        ]
        norms += kept
    window = facts.count("sliding_window")
    return Part(
        tuple(matrices),
        norms=norms,
        cache=CompressedCache(size, facts.count("qk_rope_head_dim"), window, ratio, index_dim),
        query_heads=heads,
        query_dim=size,
        value_dim=size,
    )


def _compressor(name: str, hidden: int, ratio: int, size: int) -> tuple[Matrix, int]:
    """The projection to keys and scores, never quantised, and its replicated elements."""
    width = (2 if ratio == OVERLAPPING else 1) * size
    projection = Matrix(f"{name}.wkv_gate", hidden, 2 * width, Split.WHOLE, kind="other")
    return projection, FP32 * ratio * width + size


def _experts(facts: Facts, hidden: int, *, by_hash: bool) -> Part:
    wide = facts.count("moe_intermediate_size")
    number, active = routing(facts, "n_routed_experts")
    part = experts(
        hidden, wide, number, active,
        shared=facts.count("n_shared_experts", 0, least=0) * wide,
        prefix="ffn",
    )  # fmt: skip
    # The first layers look their experts up by the token, the others have a bias for each.
    table = facts.count("vocab_size") * active if by_hash else number
    return Part(
        part.matrices,
        norms=FP32 * table,
        intermediate=part.intermediate,
        expert_intermediate=part.expert_intermediate,
        experts_per_token=part.experts_per_token,
    )
