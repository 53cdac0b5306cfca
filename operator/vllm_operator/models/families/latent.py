"""DeepSeek V2 to V3.2, Kimi K2 and K3, Mistral 4, GLM-5, Kimi Linear: latent attention, experts."""

from __future__ import annotations

from vllm_operator.models.blocks import (
    experts,
    kimi_delta_attention,
    latent_attention,
    layer,
    mlp,
)
from vllm_operator.models.reader import Facts

from .common import Decoder, dense_then_routed, refuse_where, routing


def deepseek(facts: Facts, *, sparse: bool = False, own_router: bool = False) -> Decoder:
    """Multi-head latent attention (vllm 0.33.0 ``models/deepseek_v2.py``).

    ``sparse``: with the indexer of V3.2 and GLM-5; ``own_router``: GLM's, in float32
    and with a bias whatever ``topk_method`` says.
    """
    hidden = facts.count("hidden_size")
    heads = facts.count("num_attention_heads")
    rope = facts.count("qk_rope_head_dim")
    attends = latent_attention(
        hidden,
        heads,
        # The indexer's queries are made of the compressed ones (``Indexer.wq_b``).
        query_rank=facts.count("q_lora_rank") if sparse else facts.count("q_lora_rank", 0, least=0),
        rank=facts.count("kv_lora_rank"),
        nope_dim=facts.count("qk_nope_head_dim"),
        rope_dim=rope,
        value_dim=facts.count("v_head_dim"),
        index_heads=facts.count("index_n_heads") if sparse else 0,
        index_dim=facts.count("index_head_dim") if sparse else 0,
        bias=facts.flag("attention_bias"),
    )
    wide = facts.count("moe_intermediate_size")
    routed = experts(
        hidden,
        wide,
        *routing(facts, "n_routed_experts"),
        shared=facts.count("n_shared_experts", 0, least=0) * wide,
        router_bias=own_router or facts.config.get("topk_method") == "noaux_tc",
        router_float32=own_router,
    )
    layers, draft, draft_extra = dense_then_routed(facts, hidden, attends, routed)
    tokens = facts.count("index_topk") if sparse else 0
    # Latent attention has one key for all heads: nothing to divide and nothing to respect.
    return Decoder(
        layers, heads, heads, (rope,), draft, draft_extra, rotary_bytes=4, indexed_tokens=tokens
    )


def kimi_linear(facts: Facts) -> Decoder:
    """Kimi Linear: latent attention without rotation, and delta attention in the other layers.

    Kimi K3 besides has experts of a latent width, gates of full rank, and layers that attend to
    what those before gave, a state for each ``attn_res_block_size`` layers. Source: vllm 0.33.0
    ``models/kimi_k3/nvidia/model.py``, which serves both, and
    ``transformers_utils/configs/kimi_linear.py``.
    """
    refuse_where(facts, "mla_use_nope", "vLLM's model does not rotate", says=False)
    hidden, heads = facts.count("hidden_size"), facts.count("num_attention_heads")
    attends = latent_attention(
        hidden,
        heads,
        query_rank=facts.count("q_lora_rank", 0, least=0),
        rank=facts.count("kv_lora_rank"),
        nope_dim=facts.count("qk_nope_head_dim"),
        rope_dim=facts.count("qk_rope_head_dim"),
        value_dim=facts.count("v_head_dim"),
        output_gate=facts.flag("mla_use_output_gate"),
    )
    number = facts.count("num_hidden_layers")
    linear = facts.part("linear_attn_config")
    recurring: frozenset[int] = frozenset()
    recurs = attends
    if linear is not None:
        recurring = frozenset(linear.numbers("kda_layers"))  # the first layer is number 1
        recurs = kimi_delta_attention(
            hidden,
            heads=linear.count("num_heads"),
            head_dim=linear.count("head_dim"),
            kernel=linear.count("short_conv_kernel_size"),
            full_rank=linear.flag("use_full_rank_gate"),
        )
    wide = facts.count("moe_intermediate_size")
    routed = experts(
        hidden,
        wide,
        *routing(facts, active="num_experts_per_token"),
        shared=facts.count("num_shared_experts", 0, least=0) * wide,
        router_bias=True,
        latent=facts.count("routed_expert_hidden_size", 0, least=0),
        latent_norm=facts.flag("latent_moe_use_norm"),
        smallest=facts.count("min_moe_intermediate_per_partition", 256),
        prefix="block_sparse_moe",
    )
    # A norm and a weight for each element in front of attention and of experts, and behind all.
    block = facts.count("attn_res_block_size", 0, least=0)
    residual = 2 * hidden if block else 0
    dense = mlp(hidden, facts.count("intermediate_size"))
    first = facts.count("first_k_dense_replace", 0, least=0)
    every = facts.count("moe_layer_freq", 1)
    layers = [
        layer(
            recurs if index + 1 in recurring else attends,
            routed if index >= first and index % every == 0 else dense,
            norms=2 * hidden + 2 * residual,
        )
        for index in range(number)
    ]
    states = -(-number // block) if block else 0
    return Decoder(layers, heads, heads, (), extra_norms=residual, kept_states=states)
