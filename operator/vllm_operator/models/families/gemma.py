"""Gemma 2 to 4: sliding layers, four norms a layer, and Gemma 4's many kinds of layer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from vllm_operator.models.blocks import Part, attention, experts, layer, mlp
from vllm_operator.models.matrices import Matrix, Split
from vllm_operator.models.reader import Facts
from vllm_operator.models.shapes import Layer

from .common import Decoder, all_but_every, attention_facts, of_kind, routing, windowed


def gemma2(facts: Facts) -> Decoder:
    """Gemma 2's decoder: every other layer has a window, the first one among them.

    Source: vllm 0.33.0 ``models/gemma2.py``, which always takes the embedding for the output head;
    defaults of transformers 5.19 models/gemma2/configuration_gemma2.py.
    """
    hidden, heads, groups, size = attention_facts(facts, size=256, required=True)
    number = facts.count("num_hidden_layers")
    window = facts.count("sliding_window", 4096)
    bias = facts.flag("attention_bias")
    dense = mlp(hidden, facts.count("intermediate_size"))
    attends = attention(hidden, heads, groups, size, bias=bias, output_bias=bias)
    slides = all_but_every(facts, number, 2)
    layers = windowed(slides, window, attends, dense, norms=4 * hidden)
    return Decoder(layers, heads, groups, (size,), always_tied=True)


def gemma3(facts: Facts) -> Decoder:
    """Gemma 3's decoder; defaults are transformers 4.57 models/gemma3/configuration_gemma3.py."""
    hidden = facts.count("hidden_size", 2304)
    heads = facts.count("num_attention_heads", 8)
    groups = facts.count("num_key_value_heads", 4)
    size = facts.count("head_dim", 256)
    number = facts.count("num_hidden_layers", 26)
    window = facts.count("sliding_window", 4096)
    dense = mlp(hidden, facts.count("intermediate_size", 9216))
    slides = all_but_every(facts, number, 6)
    attends = attention(hidden, heads, groups, size, query_key_norm=2 * size)
    layers = windowed(slides, window, attends, dense, norms=4 * hidden)
    return Decoder(layers, heads, groups, (size, size), tied_by_default=True)


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
    same = facts.flag("attention_k_eq_v")
    per_layer = facts.count("hidden_size_per_layer_input", 0, least=0)
    intermediate = facts.count("intermediate_size")
    slides = of_kind(facts, number)
    double = facts.flag("use_double_wide_mlp")
    beside = [*_experts(facts, hidden), *_inputs(hidden, per_layer)]
    first = number - shared
    # Each reads the last layer of its kind that has a cache of its own.
    targets = {slide: index for index, slide in enumerate(slides[:first])}
    if shared and not targets.keys() >= set(slides[first:]):
        raise facts.refusal(
            "num_kv_shared_layers", f"is {shared}, and a kind of layer among them has no other"
        )

    def one(slide: bool, *, reads: bool) -> Layer:
        full = not slide
        dim = wide if full else size
        part = attention(
            hidden, heads, wide_groups if full else groups, dim,
            query_key_norm=dim if reads else 2 * dim,
            window=None if full else window, shared_cache=reads, key_is_value=same and full,
        )  # fmt: skip
        width = intermediate * (2 if double and reads else 1)
        made = layer(part, mlp(hidden, width), *beside, norms=4 * hidden + 1)
        return replace(made, cache_of=targets[slide]) if reads else made

    layers = [one(slide, reads=index >= first) for index, slide in enumerate(slides)]
    outside: tuple[Matrix, ...] = ()
    if per_layer:
        rows = facts.count("vocab_size_per_layer_input", facts.count("vocab_size"))
        outside = (
            Matrix("embed_tokens_per_layer", number * per_layer, rows, Split.VOCABULARY,
                   kind="embedding"),
            Matrix("per_layer_model_projection", hidden, number * per_layer, Split.OUTPUTS),
        )  # fmt: skip
    return Decoder(
        layers=layers,
        attention_heads=heads,
        key_value_heads=min(groups, wide_groups),
        rotary_dims=(size, wide),
        outside=outside,
        extra_norms=per_layer,
        tied_by_default=True,
    )


def _experts(facts: Facts, hidden: int) -> Iterator[Part]:
    """The experts beside an MLP, with the norms around them and the router's scales."""
    if facts.flag("enable_moe_block"):
        number, active = routing(facts, active=facts.first("top_k_experts", "num_experts_per_tok"))
        part = experts(hidden, facts.count("moe_intermediate_size"), number, active, prefix="moe")
        yield replace(part, norms=4 * hidden + number)


def _inputs(hidden: int, width: int) -> Iterator[Part]:
    """What feeds an embedding of that width into each layer; nothing where it is 0."""
    if width:
        gate = Matrix("per_layer_input_gate", hidden, width, Split.WHOLE)
        back = Matrix("per_layer_projection", width, hidden, Split.WHOLE)
        yield Part((gate, back), norms=hidden)
