"""How many GPU kernels a layer of vLLM launches: each takes time, however little it has to do."""

from __future__ import annotations

from typing import Final

from vllm_operator.models.caches import AttentionCache, CompressedCache, LatentCache, StateCache
from vllm_operator.models.shapes import Layer

NORM: Final = 1
"""A norm and the residual before a mixer or an MLP are one kernel (vllm 0.33.0
``layers/layernorm.py``)."""
ATTENTION: Final = 6
"""Projection to queries, keys and values, rotation, writing the cache, attention, merging its
parts, projection back (``models/llama.py``, ``v1/attention/backends/flash_attn.py``)."""
LATENT: Final = 14
"""Two down-projections, two norms, projection to queries, rotation, writing the cache, into the
latent space, concatenation, attention and its merging, out of the latent space, copy, projection
back (``layers/mla.py``, ``layers/attention/mla_attention.py``)."""
INDEXER: Final = 14
"""Three projections, norm, two rotations, transforms, quantisation and scales, writing the cache,
scores, their order, and the places of the best (``models/deepseek_v2.py``, ``Indexer``;
``layers/sparse_attn_indexer.py``)."""
RECURRENT: Final = 10
"""Projection in, convolution, gates, state, norm, projection back, and their copies
(``layers/mamba/mamba_mixer2.py``, ``models/qwen3_next.py``)."""
MLP: Final = 3
"""Both projections in, activation, projection back (``models/llama.py``)."""
EXPERTS: Final = 12
"""Router, scores and their best, three to sort tokens by experts, two quantisations, two grouped
multiplications, activation, sum, and adding what is shared (``layers/fused_moe``)."""


FROM_PYTHON: Final = (2, 3)
"""What launching a kernel of latent attention or of an indexer, and one of routed experts, takes in
units of one that ``torch.compile`` has put into a row with others: these are custom operations,
into which it does not look, and Python runs between their kernels. Chosen with the runs of
``benchmarks/data/vllm_serving_benchmarks.csv`` in view."""


def launches_of(layer: Layer) -> int:
    """What launching a layer's kernels takes without a CUDA graph, in units of the cheapest."""
    latent, experts = FROM_PYTHON
    more = 0
    for kept in layer.kept:
        if isinstance(kept, LatentCache | CompressedCache):
            more += (latent - 1) * (LATENT + (INDEXER if kept.indexer_dim else 0))
    return kernels_of(layer) + more + _mlp(layer)[0] * (experts - 1) * EXPERTS


def kernels_of(layer: Layer) -> int:
    """Kernels of a layer for one step, all-reduces left out.

    Counted in vLLM's model code as ``torch.compile`` leaves it; quantising activations, which some
    releases fuse and others do not, is left out but for experts.
    """
    number = 0
    routed, shared, dense = _mlp(layer)
    for kept in layer.kept:
        if isinstance(kept, LatentCache | CompressedCache):
            number += NORM + LATENT + (INDEXER if kept.indexer_dim else 0)
        elif isinstance(kept, StateCache):
            number += NORM + RECURRENT
        elif isinstance(kept, AttentionCache):
            number += NORM + ATTENTION
    if not layer.kept and layer.query_heads:
        number += NORM + ATTENTION
    if routed:
        number += NORM + EXPERTS
    return number + (NORM + MLP if dense else MLP if shared else 0)


def reductions_of(layer: Layer) -> int:
    """All-reduces of a layer over tensor-parallel ranks: one behind what mixes tokens, one behind
    the MLP (vllm 0.33.0 ``layers/linear.py``, ``RowParallelLinear``)."""
    mixes = bool(layer.kept or layer.query_heads)
    return mixes + any(_mlp(layer))


def _mlp(layer: Layer) -> tuple[bool, bool, bool]:
    """Whether it has routed experts, shared ones, and a dense MLP alone."""
    routed = any(one.experts for one in layer.matrices)
    shared = any(not one.experts and "shared" in one.name for one in layer.matrices)
    dense = not routed and any(one.name.startswith(("mlp", "ffn")) for one in layer.matrices)
    return routed, shared, dense or (layer.intermediate > 0 and not routed)
