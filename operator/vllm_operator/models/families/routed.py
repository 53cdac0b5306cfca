"""More mixtures of experts with ordinary attention."""

from __future__ import annotations

from collections.abc import Sequence

from vllm_operator.models.blocks import attention, called, experts, layer, mlp
from vllm_operator.models.reader import Facts, shown
from vllm_operator.models.shapes import Layer

from .common import (
    PACKED,
    Decoder,
    attention_facts,
    dense_then_routed,
    drafts,
    refuse_where,
    repeated,
    rotary_dim,
    routed_by_step,
    routing,
    window_of,
)
from .plain import refuse_hunyuan


def qwen2_moe(facts: Facts) -> Decoder:
    """Qwen1.5-MoE and Qwen2-57B-A14B: a shared expert with a gate.

    Source: vllm 0.33.0 ``models/qwen2_moe.py``, where queries, keys and values have biases.
    """
    hidden, heads, groups, size = attention_facts(facts, required=True)
    refuse_where(facts, "use_sliding_window", "windows of this family are not known to sizing")
    refuse_where(facts, "qkv_bias", "vLLM's model has these biases", says=False)
    attends = attention(hidden, heads, groups, size, bias=True)
    routed = experts(
        hidden,
        facts.count("moe_intermediate_size"),
        *routing(facts),
        shared=facts.count("shared_expert_intermediate_size", least=0),
        shared_gate=True,
    )
    dense = mlp(hidden, facts.count("intermediate_size"))
    layers = routed_by_step(facts, hidden, attends, routed, dense)
    return Decoder(layers, heads, groups, (rotary_dim(facts, size),))


def phimoe(facts: Facts) -> Decoder:
    """Phi-3.5-MoE: layer norms, biases of the attention and of the output head.

    Source: vllm 0.33.0 ``models/phimoe.py``, which has these biases whatever the config says.
    """
    hidden, heads, groups, size = attention_facts(facts)
    for fact in ("attention_bias", "lm_head_bias"):
        refuse_where(facts, fact, "vLLM's model has these biases", says=False)
    one = layer(
        attention(
            hidden, heads, groups, size, bias=True, output_bias=True,
            window=window_of(facts),
        ),
        experts(
            hidden,
            facts.count("intermediate_size"),
            *routing(facts, "num_local_experts"),
            prefix="block_sparse_moe",
        ),
        norms=4 * hidden,
    )  # fmt: skip
    return Decoder(
        layers=repeated(facts, one),
        attention_heads=heads,
        key_value_heads=groups,
        rotary_dims=(rotary_dim(facts, size),),
        extra_norms=hidden,
        head_bias=True,
    )


def olmoe(facts: Facts) -> Decoder:
    """OLMoE: norms over all heads' dimensions (vllm 0.33.0 ``models/olmoe.py``)."""
    hidden, heads, groups, size = attention_facts(facts)
    refuse_where(facts, "attention_bias", "vLLM's model has no such biases")
    one = layer(
        attention(hidden, heads, groups, size, query_key_norm=(heads + groups) * size),
        experts(
            hidden,
            facts.count("intermediate_size"),
            *routing(facts),
        ),
        norms=2 * hidden,
    )
    return Decoder(repeated(facts, one), heads, groups, (rotary_dim(facts, size),))


def ernie45_moe(facts: Facts) -> Decoder:
    """ERNIE 4.5 with experts in a span of its layers.

    Source: vllm 0.33.0 ``models/ernie45_moe.py``; transformers 5.19
    models/ernie4_5_moe/configuration_ernie4_5_moe.py for what a silent config means.
    """
    hidden, heads, groups, size = attention_facts(facts, required=True)
    number = facts.count("num_hidden_layers")
    bias = facts.flag("use_bias")
    wide = facts.count("moe_intermediate_size")
    attends = attention(hidden, heads, groups, size, bias=bias)
    routed = experts(
        hidden,
        wide,
        *routing(facts, "moe_num_experts", "moe_k"),
        shared=facts.count("moe_num_shared_experts", 2, least=0) * wide,
        router_bias=True,
        router_float32=True,
    )
    if bias:
        raise facts.refusal("use_bias", "biases beside shared experts are not known to sizing")
    sparse = layer(attends, routed, norms=2 * hidden)
    dense = layer(attends, mlp(hidden, facts.count("intermediate_size")), norms=2 * hidden)
    first = facts.count("moe_layer_start_index", 1, least=0)
    last = facts.count("moe_layer_end_index", -1, least=-1)
    last = number - 1 if last == -1 else last
    step = facts.count("moe_layer_interval", 1)
    used = facts.flag("use_moe", True)
    layers = [
        sparse if used and first <= index <= last and (index + 1) % step == 0 else dense
        for index in range(number)
    ]
    return Decoder(layers, heads, groups, (rotary_dim(facts, size),), tied_by_default=True)


def granite_moe(facts: Facts, *, windows: bool = False) -> Decoder:
    """Granite 3 with experts, and with a shared MLP beside them.

    Source: vllm 0.33.0 ``models/granitemoe.py`` and ``granitemoeshared.py``. Layers with windows
    have sinks there: refused by name unless the caller reads ``windows``.
    """
    hidden, heads, groups, size = attention_facts(facts)
    refuse_where(facts, "attention_bias", "vLLM's model has no such biases")
    for fact in () if windows else ("layer_types", "attention_sinks", "layer_rope_theta"):
        if facts.config.get(fact):
            raise facts.refusal(fact, "is not known to sizing for this family")
    feeds = [
        experts(
            hidden,
            facts.count("intermediate_size"),
            *routing(facts, "num_local_experts"),
            prefix="block_sparse_moe",
        )
    ]
    if shared := facts.count("shared_intermediate_size", 0, least=0):
        feeds.append(mlp(hidden, shared, prefix="shared_mlp"))
    one = layer(attention(hidden, heads, groups, size), *feeds, norms=2 * hidden)
    return Decoder(repeated(facts, one), heads, groups, (rotary_dim(facts, size),))


def _same(facts: Facts, fact: str, default: int, number: int) -> int:
    """A number that may be given once for all layers, or equally for each."""
    value = facts.config.get(fact)
    if not isinstance(value, Sequence) or isinstance(value, str):
        return facts.count(fact, default)
    found = set(facts.numbers(fact, number))
    if len(found) != 1:
        raise facts.refusal(fact, f"must be the same for all layers, and is {shown(value)}")
    return found.pop()


def hunyuan_moe(facts: Facts) -> Decoder:
    """Hunyuan-A13B: experts and one shared MLP of the same width.

    Source: vllm 0.28.0 ``models/hunyuan_v1.py``; from 0.29 on transformers 5.19
    models/hunyuan_v1_moe, which knows one width only and always norms queries and keys.
    """
    hidden, heads, groups, size = attention_facts(facts)
    refuse_hunyuan(facts)
    number = facts.count("num_hidden_layers")
    wide = facts.count("intermediate_size")
    for fact, only in (("moe_intermediate_size", wide), ("num_shared_expert", 1)):
        if (found := _same(facts, fact, only, number)) != only:
            raise facts.refusal(fact, f"is {found}, and transformers' model has {only}")
    refuse_where(facts, "use_mixed_mlp_moe", "transformers' model has the shared MLP", says=False)
    count = facts.count("num_experts")
    active = _same(facts, facts.first("moe_topk", "num_experts_per_tok"), 1, number)
    if active > count:
        raise facts.refusal("moe_topk", f"is {active}, more than the {count} experts")
    bias = facts.flag("attention_bias")
    one = layer(
        attention(
            hidden, heads, groups, size, bias=bias, output_bias=bias, query_key_norm=2 * size
        ),
        experts(hidden, wide, count, active),
        mlp(hidden, wide, prefix="mlp.shared_mlp"),
        norms=2 * hidden,
    )
    return Decoder(repeated(facts, one), heads, groups, (rotary_dim(facts, size),))


def bailing_moe(facts: Facts) -> Decoder:
    """Ling and Ring: experts from some layer on (vllm 0.33.0 ``models/bailing_moe.py``).

    The checkpoint's layers of multi-token prediction are no part of vLLM's model.
    """
    hidden, heads, groups, size = attention_facts(facts, required=True)
    bias = facts.flag("use_bias")
    norm = 2 * size * (1 if facts.flag("use_rmsnorm") else 2)
    attends = called(
        attention(
            hidden, heads, groups, size, bias=bias or facts.flag("use_qkv_bias"),
            output_bias=bias, query_key_norm=norm if facts.flag("use_qk_norm") else 0,
            prefix="attention",
        ),
        **PACKED,
    )  # fmt: skip
    if bias:
        raise facts.refusal("use_bias", "biases beside shared experts are not known to sizing")
    wide = facts.count("moe_intermediate_size")
    shared = facts.count("num_shared_experts", least=0)
    routed = experts(
        hidden,
        wide,
        *routing(facts),
        shared=shared * facts.count("moe_shared_expert_intermediate_size", wide),
        router_bias=facts.flag("moe_router_enable_expert_bias"),
        router_float32=facts.config.get("router_dtype") == "fp32",
    )
    sparse = layer(attends, routed, norms=2 * hidden)
    dense = layer(attends, mlp(hidden, facts.count("intermediate_size")), norms=2 * hidden)
    first = facts.count("first_k_dense_replace", least=0)
    number = facts.count("num_hidden_layers")
    draft, draft_extra = drafts(facts, hidden, sparse)
    layers: list[Layer] = [dense if index < first else sparse for index in range(number)]
    return Decoder(layers, heads, groups, (rotary_dim(facts, size),), draft, draft_extra)


def deepseek_moe(facts: Facts) -> Decoder:
    """DeepSeek-MoE, the first generation: ordinary attention without biases.

    Source: vllm 0.33.0 ``models/deepseek_v2.py``, ``DeepseekAttention``; heads have hidden_size /
    heads dimensions.
    """
    hidden, heads, groups, size = attention_facts(facts)
    if facts.has("rswa_window"):
        raise facts.refusal("rswa_window", "windows of this family are not known to sizing")
    refuse_where(facts, "attention_bias", "vLLM's model has no such biases")
    wide = facts.count("moe_intermediate_size")
    routed = experts(
        hidden,
        wide,
        *routing(facts, "n_routed_experts"),
        shared=facts.count("n_shared_experts", 0, least=0) * wide,
    )
    attends = attention(hidden, heads, groups, size)
    layers, draft, draft_extra = dense_then_routed(facts, hidden, attends, routed)
    return Decoder(layers, heads, groups, (size,), draft, draft_extra)
