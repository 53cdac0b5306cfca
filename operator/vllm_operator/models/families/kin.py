"""Dense decoders built like Llama or Gemma, which differ from them in what few facts mean."""

from __future__ import annotations

from dataclasses import replace

from vllm_operator.models.blocks import attention, layer, mlp
from vllm_operator.models.reader import Facts

from .common import (
    Decoder,
    all_but_every,
    attention_facts,
    of_kind,
    refuse_where,
    repeated,
    rotary_dim,
    windowed,
)


def solar(facts: Facts) -> Decoder:
    """SOLAR Pro: vLLM's model has no windows, whatever the config says (0.33.0 ``solar.py``)."""
    hidden, heads, groups, size = attention_facts(facts)
    bias = facts.flag("attention_bias") or facts.flag("bias")
    one = layer(
        attention(hidden, heads, groups, size, bias=bias, output_bias=bias),
        mlp(hidden, facts.count("intermediate_size"), bias=facts.flag("mlp_bias")),
        norms=2 * hidden,
    )
    return Decoder(repeated(facts, one), heads, groups, (rotary_dim(facts, size),))


def orion(facts: Facts) -> Decoder:
    """Orion: Llama with layer norms, which have biases (vllm 0.33.0 ``models/orion.py``)."""
    hidden, heads, groups, size = attention_facts(facts)
    one = layer(
        attention(hidden, heads, groups, size),
        mlp(hidden, facts.count("intermediate_size")),
        norms=4 * hidden,
    )
    return Decoder(repeated(facts, one), heads, groups, (size,), extra_norms=hidden)


def step1(facts: Facts) -> Decoder:
    """Step-1: slopes in place of positions (vllm 0.33.0 ``models/step1.py``)."""
    hidden = facts.count("hidden_size")
    heads = facts.count("num_attention_heads")
    groups = facts.count(facts.first("num_attention_groups", "num_key_value_heads"), 1)
    if hidden % heads or heads % groups:
        raise facts.refusal(
            "num_attention_heads",
            f"{heads} does not divide {hidden}, or {groups} does not divide it",
        )
    bias = facts.flag("attention_bias")
    one = layer(
        attention(hidden, heads, groups, hidden // heads, bias=bias, output_bias=bias),
        mlp(hidden, facts.count("intermediate_size"), bias=facts.flag("mlp_bias")),
        norms=2 * hidden,
    )
    return Decoder(repeated(facts, one), heads, groups, (), tied_by_default=True)


def telechat2(facts: Facts) -> Decoder:
    """TeleChat 2: Llama with biases of the two output projections alone.

    Source: vllm 0.33.0 ``models/telechat2.py``, which takes those of the others away.
    """
    hidden, heads, groups, size = attention_facts(facts)
    feeds = mlp(hidden, facts.count("intermediate_size"))
    *up, down = feeds.matrices
    one = layer(
        attention(hidden, heads, groups, size, output_bias=True),
        replace(feeds, matrices=(*up, replace(down, bias=True))),
        norms=2 * hidden,
    )
    return Decoder(repeated(facts, one), heads, groups, (size,))


def hyperclovax(facts: Facts) -> Decoder:
    """HyperCLOVA X SEED: Llama, with two norms more a layer where ``use_post_norm`` says so.

    Source: vllm 0.33.0 ``models/hyperclovax.py``.
    """
    hidden, heads, groups, size = attention_facts(facts)
    bias = facts.flag("attention_bias")
    norms = 4 if facts.flag("use_post_norm") else 2
    one = layer(
        attention(hidden, heads, groups, size, bias=bias, output_bias=bias),
        mlp(hidden, facts.count("intermediate_size"), bias=facts.flag("mlp_bias")),
        norms=norms * hidden,
    )
    return Decoder(repeated(facts, one), heads, groups, (rotary_dim(facts, size),))


def granite_swa(facts: Facts) -> Decoder:
    """Granite with windows: a sink a head (vllm 0.33.0 ``models/granite.py``).

    Defaults: transformers 5.24 models/granite_swa/configuration_granite_swa.py.
    """
    hidden, heads, groups, size = attention_facts(facts)
    bias = facts.flag("attention_bias")
    attends = attention(
        hidden, heads, groups, size, bias=bias, output_bias=bias,
        sinks=facts.flag("attention_sinks", True),
    )  # fmt: skip
    dense = mlp(hidden, facts.count("intermediate_size"), bias=facts.flag("mlp_bias"))
    slides = of_kind(facts, facts.count("num_hidden_layers"))
    window = facts.count("sliding_window", 128)
    layers = windowed(slides, window, attends, dense, norms=2 * hidden)
    return Decoder(layers, heads, groups, (size,), tied_by_default=True)


def plamo3(facts: Facts) -> Decoder:
    """PLaMo 3: windows, and norms on both sides of each part (vllm 0.33.0 ``models/plamo3.py``)."""
    hidden, heads, groups, size = attention_facts(facts)
    attends = attention(hidden, heads, groups, size, query_key_norm=2 * size, prefix="mixer")
    dense = mlp(hidden, facts.count("intermediate_size"))
    slides = all_but_every(facts, facts.count("num_hidden_layers"), 8)
    layers = windowed(slides, facts.count("sliding_window"), attends, dense, norms=4 * hidden)
    return Decoder(layers, heads, groups, (size, size))


def jais2(facts: Facts) -> Decoder:
    """Jais 2: an MLP without a gate, biases, layer norms.

    Source: vllm 0.33.0 ``models/transformers``, transformers 5.24 models/jais2.
    """
    hidden, heads, groups, size = attention_facts(facts)
    bias = facts.flag("attention_bias", True)
    one = layer(
        attention(hidden, heads, groups, size, bias=bias, output_bias=bias),
        mlp(
            hidden, facts.count("intermediate_size"), gated=False,
            bias=facts.flag("mlp_bias", True),
        ),
        norms=4 * hidden,
    )  # fmt: skip
    return Decoder(repeated(facts, one), heads, groups, (size,), extra_norms=hidden)


def vaultgemma(facts: Facts) -> Decoder:
    """VaultGemma: Gemma 2 with two norms a layer.

    Source: vllm 0.33.0 ``models/transformers``; defaults of transformers 5.24
    models/vaultgemma/configuration_vaultgemma.py.
    """
    hidden, heads, groups, size = attention_facts(facts, size=256, required=True)
    bias = facts.flag("attention_bias")
    attends = attention(hidden, heads, groups, size, bias=bias, output_bias=bias)
    dense = mlp(hidden, facts.count("intermediate_size"))
    slides = all_but_every(facts, facts.count("num_hidden_layers"), 2)
    window = facts.count("sliding_window", 4096)
    layers = windowed(slides, window, attends, dense, norms=2 * hidden)
    return Decoder(layers, heads, groups, (size,), tied_by_default=True)


def pangu_embedded(facts: Facts) -> Decoder:
    """openPangu Embedded: Llama with biases, of queries, keys and values by ``qkv_bias``.

    Source: vllm 0.33.0 ``models/openpangu.py``, ``OpenPanguEmbeddedAttention``.
    """
    for fact in ("param_sink_number", "sandwich_norm", "interleaved_sliding_window"):
        if facts.config.get(fact):
            raise facts.refusal(fact, "is not known to sizing for this family")
    refuse_where(facts, "is_causal", "attention in both directions keeps no cache", says=False)
    hidden, heads, groups, size = attention_facts(facts)
    output = facts.flag("attention_bias") or facts.flag("bias")
    one = layer(
        attention(
            hidden, heads, groups, size, bias=facts.flag("qkv_bias", output), output_bias=output
        ),
        mlp(hidden, facts.count("intermediate_size"), bias=facts.flag("mlp_bias")),
        norms=2 * hidden,
    )
    return Decoder(repeated(facts, one), heads, groups, (size,))
