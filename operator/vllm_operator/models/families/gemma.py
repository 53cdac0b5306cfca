"""Gemma 2 to 4: sliding layers, four norms a layer, and Gemma 4's many kinds of layer."""

from __future__ import annotations

from dataclasses import replace

from vllm_operator.models.blocks import Part, attention, experts, layer, mlp
from vllm_operator.models.reader import Facts
from vllm_operator.models.shapes import Matrix, Split

from .common import Decoder, attention_facts, layer_types, routing, sliding_or_full


def gemma2(facts: Facts) -> Decoder:
    """Gemma 2's decoder: every other layer has a window, the first one among them.

    Source: vllm 0.33.0 ``models/gemma2.py``, which always takes the embedding for the output head;
    defaults of transformers 5.19 models/gemma2/configuration_gemma2.py.
    """
    hidden, heads, groups, size = attention_facts(facts, size=256, required=True)
    number = facts.count("num_hidden_layers")
    window = facts.count("sliding_window", 4096)
    bias = facts.flag("attention_bias", False)
    dense = mlp(hidden, facts.count("intermediate_size"))
    full, sliding = (
        layer(
            attention(hidden, heads, groups, size, bias=bias, output_bias=bias, window=kept),
            dense,
            norms=4 * hidden,
        )
        for kept in (None, window)
    )
    return Decoder(
        layers=[sliding if one else full for one in sliding_or_full(facts, number, every=2)],
        attention_heads=heads,
        key_value_heads=groups,
        rotary_dims=(size,),
        always_tied=True,
    )


def gemma3(facts: Facts) -> Decoder:
    """Gemma 3's decoder; defaults are transformers 4.57 models/gemma3/configuration_gemma3.py."""
    hidden = facts.count("hidden_size", 2304)
    heads = facts.count("num_attention_heads", 8)
    groups = facts.count("num_key_value_heads", 4)
    size = facts.count("head_dim", 256)
    number = facts.count("num_hidden_layers", 26)
    window = facts.count("sliding_window", 4096)
    dense = mlp(hidden, facts.count("intermediate_size", 9216))
    if facts.has("layer_types"):
        kinds = layer_types(facts, number, ("full_attention", "sliding_attention"))
    else:
        every = facts.count("sliding_window_pattern", 6)
        kinds = [
            "sliding_attention" if (index + 1) % every else "full_attention"
            for index in range(number)
        ]

    def one(kept: int | None) -> Part:
        return attention(hidden, heads, groups, size, query_key_norm=2 * size, window=kept)

    full = layer(one(None), dense, norms=4 * hidden)
    sliding = layer(one(window), dense, norms=4 * hidden)
    return Decoder(
        layers=[full if kind == "full_attention" else sliding for kind in kinds],
        attention_heads=heads,
        key_value_heads=groups,
        rotary_dims=(size, size),
        tied_by_default=True,
    )


def gemma4(facts: Facts) -> Decoder:
    """Gemma 4's decoder (vllm 0.33.0 ``models/gemma4.py``).

    Full layers have wider heads of their own number, and keys that serve as values; the last
    layers read the cache of an earlier one; small models feed an embedding into each layer.
    """
    hidden, heads, groups, size = attention_facts(facts, size=256)
    wide = facts.count("global_head_dim", size)
    wide_groups = facts.count("num_global_key_value_heads", groups)
    number = facts.count("num_hidden_layers")
    window = facts.count("sliding_window")
    shared = facts.count("num_kv_shared_layers", 0, least=0)
    if shared >= number:
        raise facts.refusal(
            "num_kv_shared_layers",
            f"is {shared}, and {number} layers leave none whose cache they share",
        )
    same = facts.flag("attention_k_eq_v", False)
    per_layer = facts.count("hidden_size_per_layer_input", 0, least=0)
    intermediate = facts.count("intermediate_size")
    kinds = layer_types(facts, number, ("full_attention", "sliding_attention"))
    double = facts.flag("use_double_wide_mlp", False)
    routed: tuple[Part, ...] = ()
    norms = 4 * hidden + 1
    if facts.flag("enable_moe_block", False):
        part = experts(
            hidden,
            facts.count("moe_intermediate_size"),
            *routing(facts, "num_experts", facts.first("top_k_experts", "num_experts_per_tok")),
            prefix="moe",
        )
        routed = (part,)
        norms += 3 * hidden + hidden + facts.count("num_experts")
    input_parts: tuple[Part, ...] = ()
    if per_layer:
        gate = Matrix("per_layer_input_gate", hidden, per_layer, Split.WHOLE)
        back = Matrix("per_layer_projection", per_layer, hidden, Split.WHOLE)
        input_parts = (Part((gate, back)),)
        norms += hidden

    first = number - shared
    # Each reads the last layer of its kind that has a cache of its own.
    targets = {kind: index for index, kind in enumerate(kinds[:first])}
    if shared and not targets.keys() >= set(kinds[first:]):
        raise facts.refusal(
            "num_kv_shared_layers", f"is {shared}, and a kind of layer among them has no other"
        )

    def one(kind: str, *, reads: bool) -> object:
        full = kind == "full_attention"
        dim = wide if full else size
        part = attention(
            hidden, heads, wide_groups if full else groups, dim,
            query_key_norm=dim if reads else 2 * dim,
            window=None if full else window, shared_cache=reads, key_is_value=same and full,
        )  # fmt: skip
        width = intermediate * (2 if double and reads else 1)
        made = layer(part, mlp(hidden, width), *routed, *input_parts, norms=norms)
        return replace(made, cache_of=targets[kind]) if reads else made

    layers = [one(kind, reads=index >= first) for index, kind in enumerate(kinds)]
    outside: tuple[Matrix, ...] = ()
    if per_layer:
        rows = facts.count("vocab_size_per_layer_input", facts.count("vocab_size"))
        outside = (
            Matrix("embed_tokens_per_layer", number * per_layer, rows, Split.VOCABULARY,
                   kind="embedding"),
            Matrix("per_layer_model_projection", hidden, number * per_layer, Split.OUTPUTS),
        )  # fmt: skip
    return Decoder(
        layers=layers,  # type: ignore[arg-type]
        attention_heads=heads,
        key_value_heads=min(groups, wide_groups),
        rotary_dims=(size, wide),
        outside=outside,
        extra_norms=per_layer,
        tied_by_default=True,
    )
