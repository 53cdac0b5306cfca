"""Dense decoders with layer norms or MLPs without a gate: GPT-2 and what came after it."""

from __future__ import annotations

from typing import Final

from vllm_operator.models.blocks import attention, called, layer, mlp
from vllm_operator.models.reader import Facts

from .common import (
    PACKED,
    Decoder,
    attention_facts,
    head_dim,
    refuse_where,
    repeated,
    rotary_dim,
    window_of,
)

UP_DOWN: Final = {"up_proj": "dense_h_to_4h", "down_proj": "dense_4h_to_h"}
"""Matrices of Falcon's and GPT-NeoX's MLPs."""


def gpt2(facts: Facts, *, multi_query: bool = False) -> Decoder:
    """GPT-2 and, with ``multi_query``, GPT-BigCode (StarCoder): learned positions, biases.

    Source: vllm 0.33.0 ``models/gpt2.py``, 0.24.0 ``models/gpt_bigcode.py``. From 0.25 on
    transformers' own code serves the latter, which says of no matrix how to divide it: vLLM divides
    the attention alone (0.32.0 ``models/transformers/fusers/packed_qkv.py``).
    """
    hidden = facts.count("hidden_size")
    heads = facts.count("num_attention_heads")
    size = head_dim(facts, hidden, heads)
    for fact in (
        "add_cross_attention",
        "scale_attn_by_inverse_layer_idx",
        "reorder_and_upcast_attn",
    ):
        refuse_where(facts, fact, "vLLM's model refuses it")
    groups = 1 if multi_query and facts.flag("multi_query", True) else heads
    one = layer(
        called(
            attention(hidden, heads, groups, size, bias=True, output_bias=True, prefix="attn"),
            q_proj="c_attn", k_proj="c_attn", v_proj="c_attn", o_proj="c_proj",
        ),
        called(
            mlp(
                hidden, facts.count("intermediate_size", 4 * hidden), gated=False, bias=True,
                whole=multi_query,
            ),
            up_proj="c_fc", down_proj="c_proj",
        ),
        norms=4 * hidden,
    )  # fmt: skip
    return Decoder(
        layers=repeated(facts, one),
        attention_heads=heads,
        key_value_heads=groups,
        rotary_dims=(),
        extra_norms=facts.count("max_position_embeddings") * hidden + hidden,
        tied_by_default=True,
    )


def gpt_neox(facts: Facts) -> Decoder:
    """GPT-NeoX and Pythia (vllm 0.31.0 ``models/gpt_neox.py``)."""
    hidden = facts.count("hidden_size")
    heads = facts.count("num_attention_heads")
    size = head_dim(facts, hidden, heads)
    bias = facts.flag("attention_bias", True)
    one = layer(
        called(
            attention(hidden, heads, heads, size, bias=bias, output_bias=bias, prefix="attention"),
            **PACKED,
        ),
        called(mlp(hidden, facts.count("intermediate_size"), gated=False, bias=True), **UP_DOWN),
        norms=4 * hidden,
    )
    return Decoder(
        repeated(facts, one), heads, heads, (rotary_dim(facts, size, 0.25),), extra_norms=hidden
    )


def falcon(facts: Facts) -> Decoder:
    """Falcon: attention and MLP side by side, one key and value for all heads in the older ones.

    Source: vllm 0.33.0 ``models/falcon.py``: MLPs are four times as wide as the hidden state, and
    only ``new_decoder_architecture`` counts ``num_kv_heads``.
    """
    hidden = facts.count("hidden_size")
    heads = facts.count("num_attention_heads")
    size = head_dim(facts, hidden, heads)
    newer = facts.flag("new_decoder_architecture")
    if newer:
        groups = facts.count("num_kv_heads", heads)
        if heads % groups:
            raise facts.refusal("num_kv_heads", f"{groups} does not divide {heads} heads")
    else:
        groups = 1 if facts.flag("multi_query", True) else heads
    if facts.count("ffn_hidden_size", 4 * hidden) != 4 * hidden:
        raise facts.refusal("ffn_hidden_size", "must be four times hidden_size")
    norms = 2
    if facts.flag("parallel_attn", True):
        norms = facts.count("num_ln_in_parallel_attn", 2 if newer else 1)
    bias = facts.flag("bias")
    one = layer(
        called(
            attention(
                hidden, heads, groups, size, bias=bias, output_bias=bias, prefix="self_attention"
            ),
            **PACKED,
        ),
        called(mlp(hidden, 4 * hidden, gated=False, bias=bias), **UP_DOWN),
        norms=2 * hidden * (2 if norms == 2 else 1),
    )
    return Decoder(
        layers=repeated(facts, one),
        attention_heads=heads,
        key_value_heads=groups,
        rotary_dims=() if facts.flag("alibi") else (size,),
        extra_norms=hidden,
        tied_by_default=True,
    )


def phi(facts: Facts) -> Decoder:
    """Phi-1, 1.5 and 2: one norm for attention and MLP, biases, also of the output head.

    Source: vllm 0.31.0 ``models/phi.py``; transformers 5.19 models/phi/configuration_phi.py.
    """
    hidden, heads, groups, size = attention_facts(facts)
    if groups != heads:
        raise facts.refusal("num_key_value_heads", f"is {groups}, and vLLM's model has {heads}")
    refuse_where(facts, "qk_layernorm", "vLLM's model has no such norms")
    one = layer(
        called(attention(hidden, heads, heads, size, bias=True, output_bias=True), o_proj="dense"),
        called(
            mlp(hidden, facts.count("intermediate_size", 4 * hidden), gated=False, bias=True),
            up_proj="fc1",
            down_proj="fc2",
        ),
        norms=2 * hidden,
    )
    return Decoder(
        layers=repeated(facts, one),
        attention_heads=heads,
        key_value_heads=heads,
        rotary_dims=(rotary_dim(facts, size, 0.5),),
        extra_norms=hidden,
        head_bias=True,
    )


def stablelm(facts: Facts) -> Decoder:
    """StableLM 2 and 3B: layer norms, a quarter of each head rotated.

    Source: vllm 0.33.0 ``models/stablelm.py``, which knows neither norms of queries and keys nor
    the parallel residual of StableLM 2 12B.
    """
    hidden, heads, groups, size = attention_facts(facts, required=True)
    refuse_where(facts, "qk_layernorm", "vLLM's model has no such norms")
    refuse_where(facts, "use_parallel_residual", "vLLM's model has none")
    one = layer(
        attention(hidden, heads, groups, size, bias=facts.flag("use_qkv_bias")),
        mlp(hidden, facts.count("intermediate_size")),
        norms=4 * hidden,
    )
    return Decoder(
        repeated(facts, one), heads, groups, (rotary_dim(facts, size, 0.25),), extra_norms=hidden
    )


def nemotron(facts: Facts) -> Decoder:
    """Nemotron-4 and Minitron: layer norms, an MLP without a gate, half of each head rotated.

    Source: vllm 0.33.0 ``models/nemotron.py``; transformers 5.19
    models/nemotron/configuration_nemotron.py.
    """
    hidden, heads, groups, size = attention_facts(facts, required=True)
    bias = facts.flag("attention_bias") or facts.flag("bias")
    one = layer(
        attention(hidden, heads, groups, size, bias=bias, output_bias=bias),
        mlp(
            hidden, facts.count("intermediate_size"), gated=False,
            bias=facts.flag("mlp_bias"),
        ),
        norms=4 * hidden,
    )  # fmt: skip
    return Decoder(
        repeated(facts, one), heads, groups, (rotary_dim(facts, size, 0.5),), extra_norms=hidden
    )


def arcee(facts: Facts) -> Decoder:
    """AFM: Llama with an MLP without a gate (vllm 0.31.0 ``models/arcee.py``)."""
    hidden, heads, groups, size = attention_facts(facts)
    bias = facts.flag("attention_bias")
    one = layer(
        attention(
            hidden, heads, groups, size, bias=bias, output_bias=bias,
            window=window_of(facts),
        ),
        mlp(
            hidden, facts.count("intermediate_size"), gated=False,
            bias=facts.flag("mlp_bias"),
        ),
        norms=2 * hidden,
    )  # fmt: skip
    return Decoder(repeated(facts, one), heads, groups, (rotary_dim(facts, size),))


def apertus(facts: Facts) -> Decoder:
    """Apertus: an MLP without a gate whose activation learns two factors, norms of queries.

    Source: vllm 0.33.0 ``models/apertus.py``, ``layers/activation.py`` (XIELU).
    """
    hidden, heads, groups, size = attention_facts(facts)
    bias = facts.flag("attention_bias") or facts.flag("bias")
    if facts.has("layer_types"):
        raise facts.refusal("layer_types", "is not known to sizing for this family")
    one = layer(
        attention(
            hidden, heads, groups, size, bias=facts.flag("qkv_bias", bias), output_bias=bias,
            query_key_norm=2 * size,
            window=window_of(facts),
        ),
        mlp(
            hidden, facts.count("intermediate_size"), gated=False,
            bias=facts.flag("mlp_bias"),
        ),
        norms=2 * hidden + 2,
    )  # fmt: skip
    return Decoder(repeated(facts, one), heads, groups, (rotary_dim(facts, size),))


def gpt_j(facts: Facts) -> Decoder:
    """GPT-J: attention and MLP side by side behind one norm, a head with a bias.

    Source: vllm 0.33.0 ``models/gpt_j.py``.
    """
    hidden = facts.count("hidden_size")
    heads = facts.count("num_attention_heads")
    size = head_dim(facts, hidden, heads)
    one = layer(
        called(attention(hidden, heads, heads, size, prefix="attn"), o_proj="out_proj"),
        called(
            mlp(hidden, facts.count("intermediate_size", 4 * hidden), gated=False, bias=True),
            up_proj="fc_in", down_proj="fc_out",
        ),
        norms=2 * hidden,
    )  # fmt: skip
    return Decoder(
        layers=repeated(facts, one),
        attention_heads=heads,
        key_value_heads=heads,
        rotary_dims=(facts.count("rotary_dim", 64),),
        extra_norms=hidden,
        head_bias=True,
    )


def bloom(facts: Facts) -> Decoder:
    """BLOOM: ALiBi in place of positions, biases everywhere (vllm 0.33.0 ``models/bloom.py``)."""
    hidden = facts.count("hidden_size")
    heads = facts.count("num_attention_heads")
    size = head_dim(facts, hidden, heads)
    one = layer(
        called(
            attention(hidden, heads, heads, size, bias=True, output_bias=True,
                      prefix="self_attention"),
            **PACKED,
        ),
        called(mlp(hidden, 4 * hidden, gated=False, bias=True), **UP_DOWN),
        norms=4 * hidden,
    )  # fmt: skip
    # The norm of the embedding, and the bias of the last one.
    return Decoder(
        repeated(facts, one), heads, heads, (), extra_norms=3 * hidden, tied_by_default=True
    )
