"""Mixtures of experts built like a family that is read, which differ from it in few facts."""

from __future__ import annotations

from dataclasses import replace

from vllm_operator.models.blocks import (
    Part,
    attention,
    called,
    experts,
    gated_delta_net,
    latent_attention,
    layer,
    mlp,
)
from vllm_operator.models.matrices import Split
from vllm_operator.models.reader import Facts, shown
from vllm_operator.models.shapes import AttentionCache, Layer

from .common import (
    PACKED,
    Decoder,
    all_but_every,
    attention_facts,
    layer_types,
    of_kind,
    refuse_where,
    repeated,
    rotary_dim,
    routing,
)
from .latent import deepseek
from .routed import granite_moe


def param2_moe(facts: Facts) -> Decoder:
    """Param-2: Ling's shapes with defaults of its own (vllm 0.33.0 ``models/param2moe.py``)."""
    hidden, heads, groups, size = attention_facts(facts, required=True)
    attends = called(
        attention(
            hidden, heads, groups, size, bias=facts.flag("use_qkv_bias"),
            output_bias=facts.flag("use_bias"), prefix="attention",
            query_key_norm=2 * size if facts.flag("use_qk_norm") else 0,
        ),
        **PACKED,
    )  # fmt: skip
    # It has no copies of key/value heads where there are more ranks.
    attends = replace(
        attends,
        matrices=tuple(
            replace(one, split=Split.GROUPS) if one.split is Split.HEADS else one
            for one in attends.matrices
        ),
    )
    wide = facts.count("moe_intermediate_size")
    number = facts.count("num_shared_experts", 1, least=0)
    shared = facts.count("moe_shared_expert_intermediate_size", wide * number) if number else 0
    routed = experts(
        hidden, wide, *routing(facts), shared=shared,
        router_bias=facts.flag("moe_router_enable_expert_bias", True), router_float32=True,
    )  # fmt: skip
    return _dense_first(facts, (hidden, heads, groups, size), attends, routed)


def _dense_first(
    facts: Facts, shape: tuple[int, int, int, int], attends: Part, routed: Part
) -> Decoder:
    hidden, heads, groups, size = shape
    sparse = layer(attends, routed, norms=2 * hidden)
    dense = layer(attends, mlp(hidden, facts.count("intermediate_size")), norms=2 * hidden)
    first = facts.count("first_k_dense_replace", 1, least=0)
    layers: list[Layer] = [
        dense if index < first else sparse for index in range(facts.count("num_hidden_layers"))
    ]
    return Decoder(layers, heads, groups, (rotary_dim(facts, size),))


def sarvam_mla(facts: Facts) -> Decoder:
    """Sarvam with latent attention (vllm 0.33.0 ``models/sarvam.py``)."""
    hidden, heads = facts.count("hidden_size"), facts.count("num_attention_heads")
    rope = facts.count("qk_rope_head_dim")
    attends = latent_attention(
        hidden,
        heads,
        query_rank=facts.count("q_lora_rank", 0, least=0),
        rank=facts.count("kv_lora_rank"),
        nope_dim=facts.count("qk_nope_head_dim"),
        rope_dim=rope,
        value_dim=facts.count("v_head_dim"),
    )
    wide = facts.count("moe_intermediate_size")
    shared = facts.count("num_shared_experts", 1, least=0)
    routed = experts(
        hidden, wide, *routing(facts),
        shared=shared * facts.count("moe_shared_expert_intermediate_size", wide),
        router_bias=facts.flag("moe_router_enable_expert_bias", True),
    )  # fmt: skip
    sparse = layer(attends, routed, norms=2 * hidden)
    dense = layer(attends, mlp(hidden, facts.count("intermediate_size")), norms=2 * hidden)
    first = facts.count("first_k_dense_replace", 1, least=0)
    every = facts.count("moe_layer_freq", 1)
    layers = [
        sparse if index >= first and (index - first) % every == 0 else dense
        for index in range(facts.count("num_hidden_layers"))
    ]
    return Decoder(layers, heads, heads, (rope,), rotary_bytes=4)


def axk1(facts: Facts) -> Decoder:
    """A.X K1: DeepSeek with a norm behind each MLP (vllm 0.33.0 ``models/AXK1.py``)."""
    if facts.has("mlp_layer_types"):
        number = facts.count("num_hidden_layers")
        kinds = layer_types(facts, number, ("dense", "sparse"), fact="mlp_layer_types")
        first = facts.count("first_k_dense_replace", kinds.count("dense"), least=0)
        if list(kinds) != ["dense"] * first + ["sparse"] * (number - first):
            raise facts.refusal(
                "mlp_layer_types", f"does not have its {first} dense layers first: {shown(kinds)}"
            )
    read = deepseek(facts)
    hidden = facts.count("hidden_size")
    layers = [replace(one, norms=one.norms + hidden) for one in read.layers]
    return replace(read, layers=layers, draft=(), draft_extra=())


def flex_olmo(facts: Facts) -> Decoder:
    """FlexOlmo: OLMo 2's layers with experts.

    Source: vllm 0.33.0 ``models/transformers``; transformers 5.24 models/flex_olmo.
    """
    hidden, heads, groups, size = attention_facts(facts)
    bias = facts.flag("attention_bias")
    one = layer(
        attention(
            hidden, heads, groups, size, bias=bias, output_bias=bias,
            query_key_norm=(heads + groups) * size,
        ),
        experts(hidden, facts.count("intermediate_size"), *routing(facts)),
        norms=2 * hidden,
    )  # fmt: skip
    return Decoder(repeated(facts, one), heads, groups, (size,))


def mellum(facts: Facts) -> Decoder:
    """Mellum 2: windows, and experts in the layers that ``mlp_layer_types`` names.

    Source: vllm 0.33.0 ``models/transformers``; transformers 5.24 models/mellum.
    """
    hidden, heads, groups, size = attention_facts(facts, size=128)
    number = facts.count("num_hidden_layers")
    bias = facts.flag("attention_bias")
    attends = attention(
        hidden, heads, groups, size, bias=bias, output_bias=bias, query_key_norm=2 * size
    )
    assert isinstance(attends.cache, AttentionCache)
    window = facts.count("sliding_window", 1024)
    narrow = replace(attends, cache=replace(attends.cache, window=window))
    routed = experts(hidden, facts.count("moe_intermediate_size"), *routing(facts))
    dense = mlp(hidden, facts.count("intermediate_size"))
    slides = of_kind(facts, number)
    kinds = layer_types(facts, number, ("dense", "sparse"), fact="mlp_layer_types")
    layers = [
        layer(narrow if slide else attends, routed if kind == "sparse" else dense, norms=2 * hidden)
        for slide, kind in zip(slides, kinds, strict=True)
    ]
    return Decoder(layers, heads, groups, (size, size))


def granite_moe_swa(facts: Facts) -> Decoder:
    """Granite with experts and windows: a sink a head (vllm 0.33.0 ``models/granitemoeshared.py``).

    Defaults: transformers 5.24 models/granitemoe_swa/configuration_granitemoe_swa.py.
    """
    number = facts.count("num_hidden_layers")
    slides = of_kind(facts, number)
    window = facts.count("sliding_window", 128)
    sinks = facts.count("num_attention_heads") if facts.flag("attention_sinks", True) else 0
    read = granite_moe(facts, windows=True)
    layers = []
    for slide, one in zip(slides, read.layers, strict=True):
        assert isinstance(one.cache, AttentionCache)
        cache = replace(one.cache, window=window) if slide else one.cache
        layers.append(replace(one, norms=one.norms + sinks, cache=cache))
    return replace(read, layers=layers)


def olmo_hybrid(facts: Facts) -> Decoder:
    """OLMo Hybrid: gated delta nets, and layers that attend with norms behind them.

    Source: vllm 0.33.0 ``models/olmo_hybrid.py`` and ``layers/mamba/gdn/olmo_gdn_linear_attn.py``.
    """
    hidden, heads, groups, size = attention_facts(facts)
    refuse_where(facts, "attention_bias", "vLLM's model has no such biases")
    number = facts.count("num_hidden_layers")
    dense = mlp(hidden, facts.count("intermediate_size"))
    attends = attention(hidden, heads, groups, size, query_key_norm=(heads + groups) * size)
    recurs = gated_delta_net(
        hidden,
        key_heads=facts.count("linear_num_key_heads", heads),
        value_heads=facts.count("linear_num_value_heads", heads),
        key_dim=facts.count("linear_key_head_dim"),
        value_dim=facts.count("linear_value_head_dim"),
        kernel=facts.count("linear_conv_kernel_dim", 4),
        state_bytes=2,
    )
    recurring = all_but_every(facts, number, 4, kind="linear_attention")
    full, linear = (layer(one, dense, norms=2 * hidden) for one in (attends, recurs))
    layers = [linear if one else full for one in recurring]
    return Decoder(layers, heads, groups, (size,))


def cohere2_moe(facts: Facts) -> Decoder:
    """Command with experts: three layers with a window to one without, one norm a layer.

    Source: vllm 0.33.0 ``models/cohere2_moe.py``; defaults of transformers 5.24
    models/cohere2_moe/configuration_cohere2_moe.py.
    """
    hidden, heads, groups, size = attention_facts(facts, size=128)
    number = facts.count("num_hidden_layers")
    wide = facts.count("intermediate_size")
    attends = attention(hidden, heads, groups, size)
    assert isinstance(attends.cache, AttentionCache)
    window = facts.count("sliding_window", 4096) + 1
    narrow = replace(attends, cache=replace(attends.cache, window=window))
    shared = facts.count("num_shared_experts", 0, least=0) * wide
    routed = experts(hidden, wide, *routing(facts), shared=shared)
    dense = mlp(hidden, facts.count("prefix_dense_intermediate_size", wide))
    slides = all_but_every(facts, number, 4)
    kinds = ["sparse"] * number
    if facts.has("mlp_layer_types"):
        kinds = list(layer_types(facts, number, ("dense", "sparse"), fact="mlp_layer_types"))
    layers = [
        layer(narrow if slide else attends, dense if kind == "dense" else routed, norms=hidden)
        for slide, kind in zip(slides, kinds, strict=True)
    ]
    return Decoder(layers, heads, groups, (size,), always_tied=True)


def dbrx(facts: Facts) -> Decoder:
    """DBRX: norms without biases, heads and experts in parts of their own (vllm ``dbrx.py``)."""
    hidden, heads = facts.count("hidden_size"), facts.count("num_attention_heads")
    own, feeds = facts.part("attn_config"), facts.part("ffn_config")
    if own is None or feeds is None:
        fact = "attn_config" if own is None else "ffn_config"
        raise facts.refusal(fact, "is missing; give the model's config.json as it is")
    groups = own.count("kv_n_heads", 1)
    if hidden % heads or heads % groups:
        raise own.refusal("kv_n_heads", f"{groups} does not divide the {heads} heads")
    one = layer(
        attention(hidden, heads, groups, hidden // heads),
        experts(
            hidden, feeds.count("ffn_hidden_size", 3584),
            *routing(feeds, "moe_num_experts", "moe_top_k"),
        ),
        norms=4 * hidden,
    )  # fmt: skip
    return Decoder(repeated(facts, one), heads, groups, (hidden // heads,), extra_norms=hidden)
