"""GLM-4: the dense models of both generations, and GLM-4.7-Flash."""

from __future__ import annotations

from dataclasses import replace

from vllm_operator.models.blocks import attention, called, layer, mlp
from vllm_operator.models.reader import Facts

from . import latent
from .common import PACKED, Decoder, attention_facts, repeated, rotary_dim, window_of

HALF = 0.5
"""Part of a head that GLM rotates where no fact says it."""


def glm4(facts: Facts) -> Decoder:
    """GLM-4-0414 and GLM-Z1: four norms a layer, biases of queries, keys and values.

    Source: vllm 0.33.0 ``models/glm4.py``; defaults of transformers 5.19
    models/glm4/configuration_glm4.py (``attention_bias`` is true where the config is silent).
    """
    hidden, heads, groups, size = attention_facts(facts, size=128, required=True)
    one = layer(
        attention(
            hidden, heads, groups, size, bias=facts.flag("attention_bias", True),
            window=window_of(facts),
        ),
        mlp(hidden, facts.count("intermediate_size")),
        norms=4 * hidden,
    )  # fmt: skip
    return Decoder(repeated(facts, one), heads, groups, (rotary_dim(facts, size, HALF),))


def glm(facts: Facts) -> Decoder:
    """GLM-4-9B in the layout of transformers: two norms a layer.

    Source: vllm 0.33.0 ``models/transformers``, transformers 5.24 models/glm.
    """
    hidden, heads, groups, size = attention_facts(facts, size=128, required=True)
    one = layer(
        attention(hidden, heads, groups, size, bias=facts.flag("attention_bias", True)),
        mlp(hidden, facts.count("intermediate_size")),
        norms=2 * hidden,
    )
    return Decoder(repeated(facts, one), heads, groups, (rotary_dim(facts, size, HALF),))


def chatglm(facts: Facts) -> Decoder:
    """ChatGLM2, ChatGLM3 and GLM-4-9B in the layout of their own code.

    Source: vllm 0.33.0 ``models/chatglm.py`` and ``transformers_utils/configs/chatglm.py``: heads
    have hidden_size / heads dimensions, half of which are rotated, whatever ``kv_channels`` says;
    keys and values have ``multi_query_group_num`` heads only with ``multi_query_attention``.
    """
    hidden = facts.count("hidden_size")
    heads = facts.count("num_attention_heads")
    if hidden % heads:
        raise facts.refusal("hidden_size", f"{hidden} is no multiple of {heads} attention heads")
    size = hidden // heads
    groups = heads
    if facts.flag("multi_query_attention"):
        groups = facts.count("multi_query_group_num", 1)
        if heads % groups:
            raise facts.refusal("multi_query_group_num", f"{groups} does not divide {heads} heads")
    bias = facts.flag("add_bias_linear")
    norm = hidden if facts.flag("rmsnorm", True) else 2 * hidden
    one = layer(
        called(
            attention(
                hidden, heads, groups, size, bias=bias or facts.flag("add_qkv_bias"),
                output_bias=bias, prefix="self_attention",
            ),
            **PACKED,
        ),
        called(
            mlp(hidden, facts.count("ffn_hidden_size"), bias=bias),
            gate_proj="dense_h_to_4h", up_proj="dense_h_to_4h", down_proj="dense_4h_to_h",
        ),
        norms=2 * norm,
    )  # fmt: skip
    return Decoder(
        layers=repeated(facts, one),
        attention_heads=heads,
        key_value_heads=groups,
        rotary_dims=(int(size * HALF),),
        # Beside the one that is counted for every model.
        extra_norms=(norm if facts.flag("post_layer_norm", True) else 0) - hidden,
    )


def glm4_moe_lite(facts: Facts) -> Decoder:
    """GLM-4.7-Flash: latent attention, and a bias of the router in every layer that routes.

    Source: vllm 0.33.0 ``models/glm4_moe_lite.py``, which asks ``first_k_dense_replace`` and not
    ``mlp_layer_types`` which layers are dense.
    """
    facts.count("first_k_dense_replace", least=0)
    return replace(latent.deepseek(facts, own_router=True), rotary_bytes=2)
