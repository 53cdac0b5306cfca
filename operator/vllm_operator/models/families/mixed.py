"""Mixtures of experts whose layers alternate between a window and everything."""

from __future__ import annotations

from dataclasses import replace

from vllm_operator.models.blocks import Part, attention, experts, layer, mlp
from vllm_operator.models.matrices import Matrix, Split
from vllm_operator.models.reader import Facts
from vllm_operator.models.shapes import AttentionCache, Layer

from .common import (
    Decoder,
    all_but_every,
    attention_facts,
    layer_types,
    refuse_where,
    routing,
)


def afmoe(facts: Facts) -> Decoder:
    """Trinity: a gate of the attention's output, four norms a layer, a router in float32.

    Source: vllm 0.33.0 ``models/afmoe.py``; defaults of transformers 5.24
    models/afmoe/configuration_afmoe.py. Only layers with a window rotate.
    """
    hidden, heads, groups, size = attention_facts(facts, size=128)
    refuse_where(facts, "attention_bias", "vLLM's model has no such biases")
    attends = attention(hidden, heads, groups, size, query_key_norm=2 * size)
    gate = Matrix("self_attn.gate_proj", hidden, heads * size, Split.OUTPUTS)
    attends = replace(attends, matrices=(*attends.matrices, gate))
    wide = facts.count("moe_intermediate_size")
    routed = experts(
        hidden,
        wide,
        *routing(facts),
        shared=facts.count("num_shared_experts", 2, least=0) * wide,
        router_bias=True,
        router_float32=True,
    )
    dense = mlp(hidden, facts.count("intermediate_size"))
    number = facts.count("num_hidden_layers")
    first = facts.count("num_dense_layers", 1, least=0)
    slides = all_but_every(facts, number, 4, interval="global_attn_every_n_layers")
    layers = _sliding(
        slides, facts.count("sliding_window", 1024), attends,
        [dense if index < first else routed for index in range(number)], norms=4 * hidden,
    )  # fmt: skip
    return Decoder(layers, heads, groups, (size,))


def exaone_moe(facts: Facts) -> Decoder:
    """K-EXAONE: norms of queries and keys, and a shared expert (vllm ``models/exaone_moe.py``).

    Defaults of transformers 5.24 models/exaone_moe/configuration_exaone_moe.py. Windows that
    differ by layer (``sliding_windows``) are refused by name. Its layer of multi-token prediction
    is no part of this reader.
    """
    hidden, heads, groups, size = attention_facts(facts)
    if facts.has("sliding_windows"):
        raise facts.refusal("sliding_windows", "windows that differ by layer are not known")
    bias = facts.flag("attention_bias") or facts.flag("bias")
    attends = attention(
        hidden, heads, groups, size, bias=bias, output_bias=bias, query_key_norm=2 * size
    )
    wide = facts.count("moe_intermediate_size")
    routed = experts(
        hidden,
        wide,
        *routing(facts),
        shared=facts.count("num_shared_experts", 1, least=0) * wide,
        router_bias=True,
    )
    dense = mlp(hidden, facts.count("intermediate_size"), bias=facts.flag("mlp_bias"))
    number = facts.count("num_hidden_layers")
    if facts.has("mlp_layer_types"):
        kinds = layer_types(facts, number, ("dense", "sparse"), fact="mlp_layer_types")
        feeds = [dense if kind == "dense" else routed for kind in kinds]
    else:
        first = facts.count("first_k_dense_replace", 1, least=0)
        feeds = [dense if index < first else routed for index in range(number)]
    slides = all_but_every(facts, number, 4)
    window = facts.count("sliding_window", 4096)
    layers = _sliding(slides, window, attends, feeds, norms=2 * hidden)
    return Decoder(layers, heads, groups, (size,))


def _sliding(
    slides: list[bool], window: int, attends: Part, feeds: list[Part], *, norms: int
) -> list[Layer]:
    """A layer for each of ``slides`` and ``feeds``, with the window (in tokens) where it slides."""
    assert isinstance(attends.cache, AttentionCache)
    narrow = replace(attends, cache=replace(attends.cache, window=window))
    return [
        layer(narrow if slide else attends, feed, norms=norms)
        for slide, feed in zip(slides, feeds, strict=True)
    ]
