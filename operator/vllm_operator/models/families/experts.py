"""Mixtures of experts with ordinary attention."""

from __future__ import annotations

from vllm_operator.models.blocks import attention, experts, layer, mlp
from vllm_operator.models.reader import Facts, layer_number

from .common import (
    Decoder,
    attention_facts,
    dense_then_routed,
    of_kind,
    repeated,
    rotary_dim,
    routed_by_step,
    routing,
    window_of,
    windowed,
)


def qwen3_moe(facts: Facts) -> Decoder:
    """Qwen3-MoE (vllm 0.33.0 ``models/qwen3_moe.py``)."""
    hidden, heads, groups, size = attention_facts(facts, required=True)
    bias = facts.flag("attention_bias")
    attends = attention(
        hidden, heads, groups, size, bias=bias, output_bias=bias, query_key_norm=2 * size
    )
    routed = experts(hidden, facts.count("moe_intermediate_size"), *routing(facts))
    dense = mlp(hidden, facts.count("intermediate_size", 1))
    layers = routed_by_step(facts, hidden, attends, routed, dense)
    return Decoder(layers, heads, groups, (rotary_dim(facts, size),))


def mixtral(facts: Facts) -> Decoder:
    """Mixtral (vllm 0.33.0 ``models/mixtral.py``)."""
    hidden, heads, groups, size = attention_facts(facts)
    window = window_of(facts)
    one = layer(
        attention(hidden, heads, groups, size, window=window),
        experts(
            hidden,
            facts.count("intermediate_size"),
            *routing(facts, "num_local_experts"),
            prefix="block_sparse_moe",
        ),
        norms=2 * hidden,
    )
    return Decoder(repeated(facts, one), heads, groups, (size,))


def minimax_m2(facts: Facts) -> Decoder:
    """MiniMax-M2: norms over all heads' dimensions, routers in float32.

    Source: vllm 0.12.0 to 0.33.0 ``models/minimax_m2.py``.
    """
    hidden, heads, groups, size = attention_facts(facts)
    norm = (heads + groups) * size if facts.flag("use_qk_norm", True) else 0
    one = layer(
        attention(hidden, heads, groups, size, query_key_norm=norm),
        experts(
            hidden,
            facts.count("intermediate_size"),
            *routing(facts, "num_local_experts"),
            router_bias=facts.flag("use_routing_bias", True),
            router_float32=True,
            prefix="block_sparse_moe",
        ),
        norms=2 * hidden,
    )
    return Decoder(repeated(facts, one), heads, groups, (rotary_dim(facts, size),))


def glm4_moe(facts: Facts) -> Decoder:
    """GLM-4.5 and 4.6: routers in float32 (vllm 0.11.0 to 0.33.0 ``models/glm4_moe.py``)."""
    hidden, heads, groups, size = attention_facts(facts)
    wide = facts.count("moe_intermediate_size")
    attends = attention(
        hidden, heads, groups, size,
        bias=facts.flag("attention_bias"),
        query_key_norm=2 * size if facts.flag("use_qk_norm") else 0,
    )  # fmt: skip
    routed = experts(
        hidden,
        wide,
        *routing(facts, "n_routed_experts"),
        shared=facts.count("n_shared_experts", 0, least=0) * wide,
        router_bias=True,
        router_float32=True,
    )
    layers, draft, draft_extra = dense_then_routed(facts, hidden, attends, routed)
    return Decoder(layers, heads, groups, (rotary_dim(facts, size),), draft, draft_extra)


def hunyuan_v3(facts: Facts) -> Decoder:
    """Hy3: routers in float32 (vllm 0.20.0 to 0.33.0 ``models/hy_v3.py``)."""
    hidden, heads, groups, size = attention_facts(facts)
    wide = facts.count(facts.first("moe_intermediate_size", "expert_hidden_dim"))
    attends = attention(
        hidden, heads, groups, size,
        query_key_norm=2 * size if facts.flag("qk_norm") else 0,
    )  # fmt: skip
    routed = experts(
        hidden,
        wide,
        *routing(facts),
        shared=facts.count("num_shared_experts", 0, least=0) * wide,
        router_bias=facts.flag("moe_router_enable_expert_bias"),
        router_float32=True,
    )
    layers, draft, draft_extra = dense_then_routed(facts, hidden, attends, routed)
    return Decoder(layers, heads, groups, (rotary_dim(facts, size),), draft, draft_extra)


def gpt_oss(facts: Facts) -> Decoder:
    """gpt-oss: sliding and full layers in turn, sinks, biases (vllm ``models/gpt_oss.py``)."""
    hidden, heads, groups, size = attention_facts(facts, size=64)
    number = facts.count("num_hidden_layers")
    window = facts.count("sliding_window")
    routed = experts(
        hidden,
        facts.count("intermediate_size"),
        *routing(
            facts, "num_local_experts", facts.first("num_experts_per_tok", "experts_per_token")
        ),
        bias=True,
        router_bias=True,
    )
    attends = attention(hidden, heads, groups, size, bias=True, output_bias=True, sinks=True)
    if facts.has("layer_types"):
        slides = of_kind(facts, number)
    else:
        slides = [index % 2 == 0 for index in range(number)]
    layers = windowed(slides, window, attends, routed, norms=2 * hidden)
    return Decoder(layers, heads, groups, (size,))


def mimo_v2(facts: Facts) -> Decoder:
    """MiMo-V2: sliding layers with more key/value heads, routers in ``moe_router_dtype``.

    Source: vllm 0.14.0 to 0.33.0 ``models/mimo_v2_flash.py`` and ``mimo_v2.py``.
    """
    hidden, heads, groups, size = attention_facts(facts)
    number = facts.count("num_hidden_layers")
    value = facts.count("v_head_dim", size)
    window = facts.count("sliding_window")
    wide_heads = facts.count("swa_num_attention_heads", heads)
    wide_groups = facts.count("swa_num_key_value_heads", groups)
    wide_size = facts.count("swa_head_dim", size)
    wide_value = facts.count("swa_v_head_dim", value)
    full = attention(
        hidden, heads, groups, size, value_dim=value,
        sinks=facts.flag("add_full_attention_sink_bias"),
    )  # fmt: skip
    sliding = attention(
        hidden, wide_heads, wide_groups, wide_size, value_dim=wide_value, window=window,
        sinks=facts.flag("add_swa_attention_sink_bias"),
    )  # fmt: skip
    routed = experts(
        hidden,
        facts.count("moe_intermediate_size"),
        *routing(facts, "n_routed_experts"),
        shared=facts.count("n_shared_experts", 0, least=0) * facts.count("moe_intermediate_size"),
        router_bias=True,
        router_float32=facts.config.get("moe_router_dtype", "float32") == "float32",
    )
    dense = mlp(hidden, facts.count("intermediate_size"))
    slides = facts.list_of("hybrid_layer_pattern", number)
    routes = facts.list_of("moe_layer_freq", number)
    layers = [
        layer(sliding if slide else full, routed if route else dense, norms=2 * hidden)
        for slide, route in zip(slides, routes, strict=True)
    ]
    return Decoder(layers, heads, groups, (rotary_dim(facts, size), rotary_dim(facts, wide_size)))


def laguna(facts: Facts) -> Decoder:
    """Laguna: query heads by layer, a gate a head (vllm ``models/laguna.py``)."""
    hidden = facts.count("hidden_size")
    number = facts.count("num_hidden_layers")
    groups = facts.count("num_key_value_heads")
    size = facts.count("head_dim")
    window = facts.count("sliding_window")
    slides = of_kind(facts, number)
    heads = facts.numbers("num_attention_heads_per_layer", number)
    feeds = facts.list_of("mlp_layer_types", number)
    routed = experts(
        hidden,
        facts.count("moe_intermediate_size"),
        *routing(facts),
        shared=facts.count("shared_expert_intermediate_size", 0, least=0),
        router_bias=True,
    )
    dense = mlp(hidden, facts.count("intermediate_size"))
    gated = facts.config.get("gating") == "per-head"
    layers = [
        layer(
            attention(
                hidden, heads[index], groups, size, query_key_norm=2 * size, head_gate=gated,
                window=window if slide else None,
            ),
            routed if feeds[index] == "sparse" else dense,
            norms=2 * hidden,
        )
        for index, slide in enumerate(slides)
    ]  # fmt: skip
    return Decoder(layers, min(heads), groups, (size, size))


def step3p5(facts: Facts) -> Decoder:
    """Step-3.5: sliding layers with more query heads, routers in float32.

    Source: vllm 0.16.0 to 0.33.0 ``models/step3p5.py``.
    """
    hidden = facts.count("hidden_size")
    number = facts.count("num_hidden_layers")
    heads = facts.count("num_attention_heads")
    groups = facts.count(facts.first("num_attention_groups", "num_key_value_heads"))
    size = facts.count("head_dim")
    window = facts.count("sliding_window")
    slides = of_kind(facts, number)
    other = facts.part("attention_other_setting")
    norm = 2 * size if facts.flag("use_qk_norm") else 0
    gate = facts.flag("use_head_wise_attn_gate")
    routed = experts(
        hidden,
        facts.count("moe_intermediate_size"),
        *routing(facts, "moe_num_experts", "moe_top_k"),
        shared=facts.count("share_expert_dim", 0, least=0),
        router_bias=facts.flag("use_moe_router_bias"),
        router_float32=True,
        prefix="moe",
    )
    dense = mlp(hidden, facts.count("intermediate_size"))
    text = facts.config.get("moe_layers_enum")
    if not isinstance(text, str):
        raise facts.refusal("moe_layers_enum", "is missing; give the model's config.json as it is")
    routed_layers = {layer_number(one.strip()) for one in text.split(",")}
    layers = []
    for index, slide in enumerate(slides):
        mine, theirs = heads, groups
        if slide and other is not None:
            mine = other.count("num_attention_heads", heads)
            theirs = other.count("num_attention_groups", groups)
        attends = attention(
            hidden, mine, theirs, size, query_key_norm=norm, head_gate=gate,
            window=window if slide else None,
        )  # fmt: skip
        layers.append(layer(attends, routed if index in routed_layers else dense, norms=2 * hidden))
    return Decoder(layers, heads, groups, (size, size))


def llama4(facts: Facts) -> Decoder:
    """Llama 4's decoder. vLLM keeps whole keys and values of its chunked layers by default."""
    hidden, heads, groups, size = attention_facts(facts)
    number = facts.count("num_hidden_layers")
    wide = facts.count("intermediate_size")
    attends = attention(hidden, heads, groups, size)
    routed = experts(
        hidden,
        wide,
        *routing(facts, "num_local_experts"),
        shared=wide,
        prefix="feed_forward",
    )
    dense = layer(
        attends,
        mlp(hidden, facts.count("intermediate_size_mlp"), prefix="feed_forward"),
        norms=2 * hidden,
    )
    sparse = layer(attends, routed, norms=2 * hidden)
    step = facts.count("interleave_moe_layer_step", 1)
    layers = [dense if (index + 1) % step else sparse for index in range(number)]
    return Decoder(layers, heads, groups, (size,))
