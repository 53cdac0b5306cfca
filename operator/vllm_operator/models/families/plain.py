"""Dense decoders built like Llama that differ from it in what few facts mean."""

from __future__ import annotations

from dataclasses import replace

from vllm_operator.models.blocks import (
    attention,
    called,
    experts,
    latent_attention,
    layer,
    mlp,
)
from vllm_operator.models.reader import Facts
from vllm_operator.models.shapes import AttentionCache

from .common import (
    Decoder,
    attention_facts,
    drafts,
    refuse_where,
    repeated,
    rotary_dim,
    routing,
    window_of,
)
from .dense import llama_like


def internlm2(facts: Facts) -> Decoder:
    """InternLM 2 and 2.5 (vllm 0.33.0 ``models/internlm2.py``, which has no biases)."""
    refuse_where(facts, "bias", "vLLM's model has no biases")
    hidden, heads, groups, size = attention_facts(facts)
    one = layer(
        called(
            attention(
                hidden, heads, groups, size, prefix="attention",
                window=window_of(facts),
            ),
            q_proj="wqkv", k_proj="wqkv", v_proj="wqkv", o_proj="wo",
        ),
        called(
            mlp(hidden, facts.count("intermediate_size"), prefix="feed_forward"),
            gate_proj="w1", up_proj="w3", down_proj="w2",
        ),
        norms=2 * hidden,
    )  # fmt: skip
    return Decoder(repeated(facts, one), heads, groups, (rotary_dim(facts, size),))


def internlm3(facts: Facts) -> Decoder:
    """InternLM 3: vLLM's Llama, with biases of its own names (0.33.0 ``models/llama.py``)."""
    refuse_where(facts, "bias", "vLLM's model has none in the MLP")
    return llama_like(facts, query_key_value_bias="qkv_bias", output_bias="no", mlp_bias="no")


def ernie45(facts: Facts) -> Decoder:
    """ERNIE 4.5 without experts: vLLM's Llama (0.33.0 ``models/ernie45.py``).

    Defaults of transformers 5.19 models/ernie4_5/configuration_ernie4_5.py.
    """
    refuse_where(facts, "use_bias", "vLLM's model has no biases")
    return llama_like(
        facts, query_key_value_bias="no", output_bias="no", mlp_bias="no", size=128,
        tied_by_default=True,
    )  # fmt: skip


def seed_oss(facts: Facts) -> Decoder:
    """Seed-OSS: biases of queries, keys and values (vllm 0.31.0 ``models/seed_oss.py``).

    Defaults of transformers 5.19 models/seed_oss/configuration_seed_oss.py.
    """
    bias = "yes" if facts.flag("attention_bias", True) else "no"
    return llama_like(facts, query_key_value_bias=bias, output_bias="attention_out_bias", size=128)


def smollm3(facts: Facts) -> Decoder:
    """SmolLM 3: Llama, some of whose layers do not rotate.

    Source: vllm 0.33.0 ``models/transformers``, transformers 5.19
    models/smollm3/configuration_smollm3.py.
    """
    if not facts.has("layer_types"):
        refuse_where(
            facts, "use_sliding_window", "layer_types must say which layers have the window"
        )
    return llama_like(facts, tied_by_default=True)


def hunyuan_dense(facts: Facts) -> Decoder:
    """Hunyuan 0.5B to 7B: norms of queries and keys behind the rotation.

    Source: vllm 0.28.0 ``models/hunyuan_v1.py``; from 0.29 on transformers 5.19
    models/hunyuan_v1_dense, which always has those norms.
    """
    refuse_hunyuan(facts)
    if facts.count("num_experts", 1) > 1:
        raise facts.refusal("num_experts", "is more than 1, which HunYuanMoEV1ForCausalLM has")
    return llama_like(facts, mlp_bias="no", query_key_norm=True)


def refuse_hunyuan(facts: Facts) -> None:
    """Refuse what the older Hunyuan-Large has and this code does not."""
    refuse_where(facts, "use_cla", "layers that share a KV cache are not known to sizing")
    for fact in ("use_qk_norm", "qk_norm"):
        refuse_where(facts, fact, "transformers' model always has these norms", says=False)
    if facts.config.get("mlp_bias") or facts.config.get("bias"):
        raise facts.refusal("mlp_bias", "vLLM's model has no such biases")


def minicpm(facts: Facts) -> Decoder:
    """MiniCPM 1, 2 and 4, with experts where ``num_experts`` says so.

    Source: vllm 0.33.0 ``models/minicpm.py``. Its sparse attention (``sparse_config``) is not
    used: all tokens are kept and attended to.
    """
    hidden, heads, groups, size = attention_facts(facts, required=True)
    wide = facts.count("intermediate_size")
    feeds = mlp(hidden, wide)
    if facts.count("num_experts", 0, least=0):
        feeds = experts(hidden, wide, *routing(facts))
    one = layer(
        attention(
            hidden, heads, groups, size,
            window=window_of(facts),
        ),
        feeds,
        norms=2 * hidden,
    )  # fmt: skip
    return Decoder(
        repeated(facts, one), heads, groups, (rotary_dim(facts, size),), tied_by_default=True
    )


def minicpm3(facts: Facts) -> Decoder:
    """MiniCPM 3: the matrices of latent attention, and an ordinary cache.

    Source: vllm 0.33.0 ``models/minicpm3.py``: keys are written out for every head, and values
    padded to their width. Defaults of transformers 5.19 models/minicpm3.
    """
    hidden = facts.count("hidden_size")
    heads = facts.count("num_attention_heads")
    nope, rope = facts.count("qk_nope_head_dim"), facts.count("qk_rope_head_dim")
    refuse_where(facts, "attention_bias", "vLLM's model has no such biases")
    part = latent_attention(
        hidden,
        heads,
        query_rank=facts.count("q_lora_rank"),
        rank=facts.count("kv_lora_rank"),
        nope_dim=nope,
        rope_dim=rope,
        value_dim=facts.count("v_head_dim", max(1, hidden // heads)),
    )
    size = nope + rope
    one = layer(
        replace(part, cache=AttentionCache(heads, size, size), value_dim=size),
        mlp(hidden, facts.count("intermediate_size")),
        norms=2 * hidden,
    )
    return Decoder(repeated(facts, one), heads, heads, (rope,), tied_by_default=True)


def mimo(facts: Facts) -> Decoder:
    """MiMo-7B: Qwen2, and layers of multi-token prediction of the same kind.

    Source: vllm 0.33.0 ``models/mimo.py`` and ``mimo_mtp.py``.
    """
    read = llama_like(
        facts, query_key_value_bias="yes", output_bias="no", mlp_bias="no", required=True
    )
    draft, projections = drafts(facts, facts.count("hidden_size"), read.layers[-1])
    return replace(read, draft=draft, draft_extra=projections)


def olmo1(facts: Facts) -> Decoder:
    """OLMo, the first generation: norms without weights.

    Source: vllm 0.33.0 ``models/transformers``, transformers 5.24 models/olmo.
    """
    hidden, heads, groups, size = attention_facts(facts)
    bias = facts.flag("attention_bias")
    one = layer(
        attention(hidden, heads, groups, size, bias=bias, output_bias=bias),
        mlp(hidden, facts.count("intermediate_size")),
        norms=0,
    )
    return Decoder(repeated(facts, one), heads, groups, (size,), extra_norms=-hidden)
