"""DeepSeek V2 to V3.2, Kimi K2 and GLM-5: latent attention and experts."""

from __future__ import annotations

from vllm_operator.models.blocks import experts, latent_attention
from vllm_operator.models.reader import Facts

from .common import Decoder, dense_then_routed, routing


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
