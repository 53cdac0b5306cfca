"""Ordinary attention that chooses blocks of tokens by an index beside it: MiniMax-M3."""

from __future__ import annotations

from dataclasses import replace

from vllm_operator.models.blocks import Part, attention, called, experts, layer, mlp
from vllm_operator.models.matrices import Matrix, Split
from vllm_operator.models.reader import Facts
from vllm_operator.models.shapes import AttentionCache

from .common import Decoder, attention_facts, rotary_dim, routing


def minimax_m3(facts: Facts) -> Decoder:
    """MiniMax-M3: dense layers, then ones with experts and an index of keys of their own.

    Source: vllm 0.33.0 ``models/minimax_m3/nvidia/model.py`` and ``common/indexer.py``: the index
    is one 16-bit key a token on every rank, whatever the cache's type; its queries are divided as
    keys and values are. Defaults of ``transformers_utils/configs/minimax_m3.py``. Its layers of
    multi-token prediction are no part of this reader.
    """
    hidden, heads, groups, size = attention_facts(facts, size=128)
    number = facts.count("num_hidden_layers")
    attends = attention(hidden, heads, groups, size, query_key_norm=2 * size)
    wide = facts.count("intermediate_size")
    routed = called(
        experts(
            hidden,
            wide,
            *routing(facts, "num_local_experts"),
            shared=facts.count("n_shared_experts", 1, least=0) * wide,
            router_bias=facts.flag("use_routing_bias", True),
            router_float32=True,
            prefix="block_sparse_moe",
        ),
        gate_proj="w1", up_proj="w3", down_proj="w2",
    )  # fmt: skip
    dense = mlp(hidden, facts.count("dense_intermediate_size"))
    sparse = facts.part("sparse_attention_config")
    chooses = attends
    which: set[int] = set()
    if sparse is not None and sparse.has("sparse_attention_freq"):
        found = sparse.numbers("sparse_attention_freq", number, least=0)
        which = {index for index, one in enumerate(found) if one}
        chooses = _with_index(hidden, attends, sparse)
    mixes = [1] * number
    if facts.has("moe_layer_freq"):
        mixes = list(facts.numbers("moe_layer_freq", number, least=0))
    layers = [
        layer(chooses if index in which else attends, routed if mixed else dense, norms=2 * hidden)
        for index, mixed in enumerate(mixes)
    ]
    return Decoder(layers, heads, groups, (rotary_dim(facts, size, 0.5),))


def _with_index(hidden: int, attends: Part, sparse: Facts) -> Part:
    """The attention with queries and a key that choose blocks, and what is kept of the latter."""
    dim = sparse.count("sparse_index_dim")
    number = sparse.count("sparse_num_index_heads")
    assert isinstance(attends.cache, AttentionCache)
    return replace(
        attends,
        matrices=(
            *attends.matrices,
            Matrix("self_attn.index_q_proj", hidden, number * dim, Split.HEADS, heads=number),
            Matrix("self_attn.index_k_proj", hidden, dim, Split.WHOLE),
        ),
        norms=attends.norms + 2 * dim,
        cache=replace(attends.cache, indexer_dim=dim),
    )
