"""Hybrids whose layers attend and recur side by side, or convolve over few tokens."""

from __future__ import annotations

from typing import Final

from vllm_operator.models.blocks import (
    Part,
    attention,
    called,
    experts,
    layer,
    mamba2,
    mlp,
    short_convolution,
)
from vllm_operator.models.reader import Facts, shown

from .common import Decoder, attention_facts, layer_types, refuse_where, repeated, routing

GATED: Final = {"gate_proj": "w1", "up_proj": "w3", "down_proj": "w2"}
"""Matrices of LFM2's MLPs and experts."""


def falcon_h1(facts: Facts) -> Decoder:
    """Falcon-H1: every layer attends and has a Mamba2 state (vllm 0.33.0 ``falcon_h1.py``).

    Defaults of transformers 5.19 models/falcon_h1/configuration_falcon_h1.py.
    """
    hidden, heads, groups, size = attention_facts(facts, required=True)
    for fact in ("attention_bias", "mlp_bias", "projectors_bias"):
        refuse_where(facts, fact, "vLLM's model has no such biases")
    state_heads = facts.count("mamba_n_heads", 128)
    if facts.has("mamba_d_ssm"):
        inner = facts.count("mamba_d_ssm")
    else:
        inner = facts.count("mamba_expand", 2) * hidden
    dim = facts.count("mamba_d_head")
    if state_heads * dim != inner:
        raise facts.refusal(
            "mamba_d_head", f"is {dim}: {state_heads} heads of it are not {inner} elements"
        )
    one = layer(
        attention(hidden, heads, groups, size),
        mamba2(
            hidden,
            heads=state_heads,
            head_dim=dim,
            groups=facts.count("mamba_n_groups", 1),
            state=facts.count("mamba_d_state", 256),
            kernel=facts.count("mamba_d_conv", 4),
            conv_bias=facts.flag("mamba_conv_bias", True),
            bias=facts.flag("mamba_proj_bias"),
            norm=facts.flag("mamba_rms_norm"),
            state_bytes=2,
            prefix="mamba",
        ),
        mlp(hidden, facts.count("intermediate_size"), prefix="feed_forward"),
        norms=2 * hidden,
    )
    rotated = facts.count("attn_rotary_emb", size)
    return Decoder(repeated(facts, one), heads, groups, (rotated,))


def lfm2(facts: Facts) -> Decoder:
    """LFM2: short convolutions, and layers that attend.

    Source: vllm 0.33.0 ``models/lfm2.py`` and ``lfm2_moe.py``: the embedding is always the output
    head, and the width of the MLP is two thirds of the config's, rounded up, where
    ``block_auto_adjust_ff_dim`` says so.
    """
    hidden, heads, groups, size = attention_facts(facts, required=True)
    if facts.count("block_dim", hidden) != hidden:
        raise facts.refusal("block_dim", "must equal hidden_size")
    width = facts.count("intermediate_size")
    if facts.flag("block_auto_adjust_ff_dim", True):
        width = int(facts.number("block_ffn_dim_multiplier", 1.0) * int(2 * width / 3))
        multiple = facts.count("block_multiple_of", 256)
        width = -(-width // multiple) * multiple
    dense = called(mlp(hidden, width, prefix="feed_forward"), **GATED)
    return _convolving(facts, (hidden, heads, groups, size), dense, None)


def lfm2_moe(facts: Facts) -> Decoder:
    """LFM2 with experts behind the first layers (vllm 0.33.0 ``models/lfm2_moe.py``)."""
    hidden, heads, groups, size = attention_facts(facts, required=True)
    routed = experts(
        hidden,
        facts.count("moe_intermediate_size"),
        *routing(facts),
        router_bias=facts.flag("use_expert_bias", True),
        prefix="feed_forward",
    )
    routed = called(routed, **GATED)
    dense = called(mlp(hidden, facts.count("intermediate_size"), prefix="feed_forward"), **GATED)
    return _convolving(facts, (hidden, heads, groups, size), dense, routed)


def _convolving(
    facts: Facts, shape: tuple[int, int, int, int], dense: Part, routed: Part | None
) -> Decoder:
    hidden, heads, groups, size = shape
    number = facts.count("num_hidden_layers")
    if facts.count("conv_dim", hidden) != hidden:
        raise facts.refusal("conv_dim", "must equal hidden_size")
    attends = called(
        attention(hidden, heads, groups, size, query_key_norm=2 * size), o_proj="out_proj"
    )
    convolves = short_convolution(
        hidden, facts.count("conv_L_cache", 3), bias=facts.flag("conv_bias")
    )
    first = number if routed is None else facts.count("num_dense_layers", least=0)
    layers = []
    for index, kind in enumerate(_kinds(facts, number)):
        feeds = dense if routed is None or index < first else routed
        mixer = attends if kind == "full_attention" else convolves
        layers.append(layer(mixer, feeds, norms=2 * hidden))
    return Decoder(layers, heads, groups, (size,), always_tied=True)


def _kinds(facts: Facts, number: int) -> list[str]:
    """``full_attention`` or ``conv`` for each layer, by either of the facts that say it."""
    if facts.has("layer_types"):
        return list(layer_types(facts, number, ("full_attention", "conv")))
    attending = set(facts.numbers("full_attn_idxs", least=0))
    if not attending:
        raise facts.refusal(
            "layer_types", f"is missing, and full_attn_idxs is {shown(sorted(attending))}"
        )
    return ["full_attention" if index in attending else "conv" for index in range(number)]
