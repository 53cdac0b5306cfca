"""Recurrent layers, mostly beside attention: Qwen3-Next, Qwen3.5, Jamba, Nemotron-H, Mamba."""

from __future__ import annotations

from dataclasses import replace

from vllm_operator.models.blocks import (
    attention,
    experts,
    gated_delta_net,
    layer,
    mamba1,
    mamba2,
    mlp,
)
from vllm_operator.models.matrices import Matrix, Split
from vllm_operator.models.reader import Facts, shown

from .common import Decoder, all_but_every, attention_facts, repeated, rotary_dim, routing

LETTERS = {"mamba": "M", "attention": "*", "mlp": "-", "moe": "E"}
STATE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2, "auto": 2}


def _state_bytes(facts: Facts, fact: str) -> int:
    value = facts.config.get(fact) or "auto"
    if not isinstance(value, str) or value not in STATE_BYTES:
        raise facts.refusal(fact, f"{shown(value)} is none of {', '.join(STATE_BYTES)}")
    return STATE_BYTES[value]


def qwen3_next(facts: Facts) -> Decoder:
    """Qwen3-Next (vllm ``models/qwen3_next.py``).

    Its checkpoints carry one layer of multi-token prediction that their config does not name
    (vllm 0.10.2 to 0.33.0 ``models/qwen3_next_mtp.py``: 1 unless said otherwise).
    """
    return _gated_delta_hybrid(facts, facts.count("num_nextn_predict_layers", 1, least=0))


def qwen3_5(facts: Facts) -> Decoder:
    """Qwen3.5, dense or with experts (vllm ``models/qwen3_5.py``)."""
    return _gated_delta_hybrid(facts, facts.count("mtp_num_hidden_layers", 0, least=0))


def _gated_delta_hybrid(facts: Facts, drafts: int) -> Decoder:
    hidden, heads, groups, size = attention_facts(facts, size=256)
    number = facts.count("num_hidden_layers")
    attends = attention(
        hidden, heads, groups, size, query_key_norm=2 * size,
        output_gate=facts.flag("attn_output_gate", True),
    )  # fmt: skip
    recurs = gated_delta_net(
        hidden,
        key_heads=facts.count("linear_num_key_heads"),
        value_heads=facts.count("linear_num_value_heads"),
        key_dim=facts.count("linear_key_head_dim"),
        value_dim=facts.count("linear_value_head_dim"),
        kernel=facts.count("linear_conv_kernel_dim"),
        state_bytes=_state_bytes(facts, "mamba_ssm_dtype"),
    )
    if facts.count("num_experts", 0, least=0):
        feeds = experts(
            hidden,
            facts.count("moe_intermediate_size"),
            *routing(facts),
            shared=facts.count("shared_expert_intermediate_size", 0, least=0),
            shared_gate=True,
        )
    else:
        feeds = mlp(hidden, facts.count("intermediate_size"))
    full = layer(attends, feeds, norms=2 * hidden)
    linear = layer(recurs, feeds, norms=2 * hidden)
    recurring = all_but_every(
        facts, number, 4, kind="linear_attention", interval="full_attention_interval"
    )
    return Decoder(
        layers=[linear if one else full for one in recurring],
        attention_heads=heads,
        key_value_heads=groups,
        rotary_dims=(rotary_dim(facts, size),),
        draft=(full,) * drafts,
        draft_extra=(Matrix("mtp.fc", 2 * hidden, hidden, Split.OUTPUTS),) * min(1, drafts),
    )


def jamba(facts: Facts) -> Decoder:
    """Jamba (vllm 0.33.0 ``models/jamba.py``)."""
    hidden, heads, groups, size = attention_facts(facts)
    wide = facts.count("intermediate_size")
    recurs = mamba1(
        hidden,
        inner=facts.count("mamba_expand") * hidden,
        state=facts.count("mamba_d_state"),
        kernel=facts.count("mamba_d_conv"),
        rank=facts.count("mamba_dt_rank"),
        conv_bias=facts.flag("mamba_conv_bias", True),
        bias=facts.flag("mamba_proj_bias"),
    )
    attends = attention(hidden, heads, groups, size)
    routed = experts(
        hidden,
        wide,
        *routing(facts),
        prefix="feed_forward",
    )
    dense = mlp(hidden, wide, prefix="feed_forward")
    every, offset = facts.count("attn_layer_period"), facts.count("attn_layer_offset", least=0)
    expert_every = facts.count("expert_layer_period")
    expert_offset = facts.count("expert_layer_offset", least=0)
    layers = [
        layer(
            attends if index % every == offset else recurs,
            routed if index % expert_every == expert_offset else dense,
            norms=2 * hidden,
        )
        for index in range(facts.count("num_hidden_layers"))
    ]
    return Decoder(layers, heads, groups, ())


def nemotron_h(facts: Facts) -> Decoder:
    """Nemotron-H: one mixer a layer, by the letters of the pattern (vllm ``nemotron_h.py``).

    M: Mamba2, ``*``: attention, ``-``: an MLP without a gate, E: experts without a gate.
    """
    hidden, heads, groups, size = attention_facts(facts)
    number = facts.count("num_hidden_layers")
    pattern = facts.config.get("hybrid_override_pattern")
    if pattern is None and facts.has("layers_block_type"):
        kinds = facts.list_of("layers_block_type", number)
        pattern = "".join(LETTERS.get(str(kind), "?") for kind in kinds)
    if not isinstance(pattern, str) or len(pattern) != number or set(pattern) - set("M*-E"):
        raise facts.refusal(
            "hybrid_override_pattern",
            f"must have one of M, *, - and E for each of {number} layers, and is {shown(pattern)}",
        )
    built = {}
    if "M" in pattern:
        built["M"] = layer(
            mamba2(
                hidden,
                heads=facts.count("mamba_num_heads"),
                head_dim=facts.count("mamba_head_dim"),
                groups=facts.count("n_groups"),
                state=facts.count("ssm_state_size"),
                kernel=facts.count("conv_kernel"),
                conv_bias=facts.flag("use_conv_bias", True),
                bias=facts.flag("mamba_proj_bias"),
                state_bytes=_state_bytes(facts, "mamba_ssm_cache_dtype"),
            ),
            norms=hidden,
        )
    if "*" in pattern:
        bias = facts.flag("attention_bias")
        part = attention(hidden, heads, groups, size, bias=bias, output_bias=bias, prefix="mixer")
        built["*"] = layer(part, norms=hidden)
    if "-" in pattern:
        bias = facts.flag("mlp_bias")
        width = facts.count("intermediate_size")
        built["-"] = layer(mlp(hidden, width, gated=False, bias=bias, prefix="mixer"), norms=hidden)
    if "E" in pattern:
        built["E"] = layer(
            experts(
                hidden,
                facts.count("moe_intermediate_size"),
                *routing(facts, "n_routed_experts"),
                gated=False,
                shared=facts.count("moe_shared_expert_intermediate_size", 0, least=0)
                * min(1, facts.count("n_shared_experts", 1, least=0)),
                router_bias=True,
                prefix="mixer",
            ),
            norms=hidden,
        )
    return Decoder([built[letter] for letter in pattern], heads, groups, ())


def mamba_alone(facts: Facts) -> Decoder:
    """Mamba and Falcon-Mamba: nothing but recurrent layers, without an MLP.

    Source: vllm 0.33.0 ``models/mamba.py``, whose norms inside a layer have no weights; defaults of
    transformers 5.24 models/mamba/configuration_mamba.py.
    """
    hidden = facts.count("hidden_size")
    inner = facts.count("intermediate_size", facts.count("expand", 2) * hidden)
    rank = facts.config.get("time_step_rank", "auto")
    part = mamba1(
        hidden,
        inner=inner,
        state=facts.count("state_size", 16),
        kernel=facts.count("conv_kernel", 4),
        rank=-(-hidden // 16) if rank == "auto" else facts.count("time_step_rank"),
        conv_bias=facts.flag("use_conv_bias", True),
        bias=facts.flag("use_bias"),
    )
    one = layer(replace(part, norms=inner), norms=hidden)
    return Decoder(repeated(facts, one), inner, inner, (), tied_by_default=True, unbounded=True)


def mamba2_alone(facts: Facts) -> Decoder:
    """Mamba 2, Codestral Mamba among them: nothing but recurrent layers.

    Source: vllm 0.33.0 ``models/mamba2.py``; defaults of transformers 5.24
    models/mamba2/configuration_mamba2.py.
    """
    hidden, heads = facts.count("hidden_size"), facts.count("num_heads", 128)
    part = mamba2(
        hidden,
        heads=heads,
        head_dim=facts.count("head_dim", 64),
        groups=facts.count("n_groups", 8),
        state=facts.count("state_size", 128),
        kernel=facts.count("conv_kernel", 4),
        conv_bias=facts.flag("use_conv_bias", True),
        bias=facts.flag("use_bias"),
        state_bytes=2,
    )
    one = layer(part, norms=hidden)
    return Decoder(repeated(facts, one), heads, heads, (), unbounded=True)
