"""Dense decoders whose layers alternate between a window and everything: Cohere, EXAONE, OLMo."""

from __future__ import annotations

from vllm_operator.models.blocks import attention, called, layer, mlp
from vllm_operator.models.reader import Facts, shown

from .common import (
    Decoder,
    all_but_every,
    attention_facts,
    refuse_where,
    repeated,
    rotary_dim,
    window_of,
    windowed,
)


def cohere(facts: Facts) -> Decoder:
    """Command R: attention and MLP side by side behind one norm without a bias.

    Source: vllm 0.33.0 ``models/commandr.py``; the embedding is always the output head, the norms
    of queries and keys have a weight for each dimension of each head.
    """
    hidden, heads, groups, size = attention_facts(facts)
    refuse_where(facts, "attention_bias", "vLLM's model has no such biases")
    norm = (heads + groups) * size if facts.flag("use_qk_norm") else 0
    one = layer(
        attention(hidden, heads, groups, size, query_key_norm=norm),
        mlp(hidden, facts.count("intermediate_size")),
        norms=hidden,
    )
    return Decoder(repeated(facts, one), heads, groups, (size,), always_tied=True)


def cohere2(facts: Facts) -> Decoder:
    """Command R7B and Command A: three layers with a window to one without.

    Source: vllm 0.33.0 ``models/commandr.py``: a token sees ``sliding_window`` tokens and itself;
    transformers 5.19 models/cohere2/configuration_cohere2.py for what a silent config means.
    """
    hidden, heads, groups, size = attention_facts(facts)
    refuse_where(facts, "attention_bias", "vLLM's model has no such biases")
    norm = (heads + groups) * size if facts.flag("use_qk_norm") else 0
    dense = mlp(hidden, facts.count("intermediate_size"))
    attends = attention(hidden, heads, groups, size, query_key_norm=norm)
    window = facts.count("sliding_window", 4096) + 1
    slides = all_but_every(facts, facts.count("num_hidden_layers"), 4)
    layers = windowed(slides, window, attends, dense, norms=hidden)
    return Decoder(layers, heads, groups, (size,), always_tied=True)


def exaone(facts: Facts) -> Decoder:
    """EXAONE 3 and 3.5: Llama in other words (vllm 0.33.0 ``models/exaone.py``)."""
    hidden, heads, groups, size = attention_facts(facts)
    bias = facts.flag("attention_bias") or facts.flag("bias")
    one = layer(
        called(
            attention(
                hidden, heads, groups, size, bias=bias, output_bias=bias, prefix="attn.attention",
                window=window_of(facts),
            ),
            o_proj="out_proj",
        ),
        called(
            mlp(hidden, facts.count("intermediate_size"), bias=facts.flag("mlp_bias")),
            gate_proj="c_fc_0", up_proj="c_fc_1", down_proj="c_proj",
        ),
        norms=2 * hidden,
    )  # fmt: skip
    return Decoder(
        repeated(facts, one), heads, groups, (rotary_dim(facts, size),), tied_by_default=True
    )


def exaone4(facts: Facts) -> Decoder:
    """EXAONE 4: norms behind attention and MLP, and of queries and keys.

    Source: vllm 0.33.0 ``models/exaone4.py``; transformers 5.19
    models/exaone4/configuration_exaone4.py: without ``sliding_window`` every layer is full.
    """
    hidden, heads, groups, size = attention_facts(facts, required=True)
    number = facts.count("num_hidden_layers")
    bias = facts.flag("attention_bias") or facts.flag("bias")
    dense = mlp(hidden, facts.count("intermediate_size"), bias=facts.flag("mlp_bias"))
    window = facts.count("sliding_window") if facts.has("sliding_window") else None
    attends = attention(
        hidden, heads, groups, size, bias=bias, output_bias=bias, query_key_norm=2 * size
    )
    pattern = facts.config.get("sliding_window_pattern")
    if window is None:
        slides = [False] * number
    elif facts.has("layer_types") or not isinstance(pattern, str):
        slides = all_but_every(facts, number, 4)
    else:
        slides = _lettered(facts, pattern, number)
    layers = windowed(slides, window, attends, dense, norms=2 * hidden)
    return Decoder(layers, heads, groups, (size,))


def _lettered(facts: Facts, pattern: str, number: int) -> list[bool]:
    """Windows as L and G spell them, over and over; the last layer has none."""
    if not pattern or len(pattern) > number or set(pattern) - set("LG"):
        raise facts.refusal(
            "sliding_window_pattern", f"must be made of L and G, and is {shown(pattern)}"
        )
    slides = [pattern[index % len(pattern)] == "L" for index in range(number)]
    return [*slides[:-1], False]


def olmo(facts: Facts, *, windows: bool = False) -> Decoder:
    """OLMo 2 and, with ``windows``, OLMo 3: norms behind attention and MLP, and of all queries.

    Source: vllm 0.28.0 ``models/olmo3.py``, 0.31.0 ``models/transformers``, which serves them with
    transformers 5.19 models/olmo3/modeling_olmo3.py.
    """
    hidden, heads, groups, size = attention_facts(facts)
    number = facts.count("num_hidden_layers")
    bias = facts.flag("attention_bias")
    dense = mlp(hidden, facts.count("intermediate_size"))
    window = facts.count("sliding_window", 4096) if windows else None
    attends = attention(
        hidden, heads, groups, size, bias=bias, output_bias=bias,
        query_key_norm=(heads + groups) * size,
    )  # fmt: skip
    slides = all_but_every(facts, number, 4) if windows else [False] * number
    layers = windowed(slides, window, attends, dense, norms=2 * hidden)
    return Decoder(layers, heads, groups, (size, size) if windows else (size,))
