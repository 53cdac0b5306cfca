"""What a model's attention asks of a GPU: operations and bytes for each token of the context."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from vllm_operator.models.caches import AttentionCache, CompressedCache, LatentCache, StateCache
from vllm_operator.models.shapes import Layer

LATENT_ROWS: Final = 64
"""Heads that a kernel of latent attention computes at least: vllm 0.33.0
``v1/attention/backends/mla/flashmla_sparse.py`` pads queries to 64 heads, and the dense kernels of
``mla/flashmla.py`` multiply tiles of 64 rows."""
INDEXER: Final = "indexer.wq_b"
INDEX_SCALE_BYTES: Final = 4
"""A float32 scale beside each 8-bit key of an indexer (vllm 0.33.0 ``models/deepseek_v2.py``,
``DeepseekV32IndexerCache``)."""


@dataclass(frozen=True, slots=True)
class Attention:
    """Equal layers' attention on one rank, all layers of a stage together."""

    prompt_flops: float
    """Operations for one token of a prompt and one token of its context."""
    decode_flops: float
    """The same for a generated token."""
    cache_bytes: float
    """Bytes read for one generated token and one token of its context."""
    window: int | None
    """Tokens of the context that it attends to at most."""
    state_bytes: float = 0.0
    """Bytes read and written for one token whatever the context."""
    compute: str = "16bit"
    chosen: bool = False
    """Whether an index chooses the tokens of the window, so that older kernels computed all of it
    whatever the context (``Times``)."""

    def kept(self, context: float) -> float:
        """Bytes of the cache that a request of ``context`` tokens has to be read."""
        return (context if self.window is None else min(context, self.window)) * self.cache_bytes


def attention_of(
    layer: Layer, count: int, tensor: int, kv_bytes: float, indexed: int
) -> Iterator[Attention]:
    """The attention of ``count`` equal layers on one of ``tensor`` ranks, kind by kind.

    4 x heads x dimension operations for a token and a token of its context (scores and their
    product with the values). Latent attention generates in the latent space, where a head's
    dimension is the rank's; sparse attention also computes prompts there, and attends to the
    ``indexed`` best tokens of all that its indexer has scored. An element of the cache has
    ``kv_bytes`` bytes.
    """
    heads = max(1, layer.query_heads // tensor) if layer.query_heads else 0
    flops = 2.0 * heads * (layer.query_dim + layer.value_dim) * count
    kept = layer.cache
    if isinstance(kept, AttentionCache):
        read = max(1, kept.heads // tensor) * (kept.key_dim + kept.value_dim) * kv_bytes
        yield Attention(flops, flops, read * count, kept.window)
    elif isinstance(kept, LatentCache):
        absorbed = 2.0 * max(LATENT_ROWS, heads) * (2 * kept.rank + kept.rope_dim) * count
        read = (kept.rank + kept.rope_dim) * kv_bytes * count
        sparse = bool(kept.indexer_dim)
        if not sparse:
            yield Attention(flops, absorbed, read, None)
        else:
            yield Attention(absorbed, absorbed, read, indexed, chosen=True)
            yield _indexer(layer, kept.indexer_dim, count)
    elif isinstance(kept, CompressedCache):
        yield from _compressed(layer, kept, count, heads, kv_bytes, indexed)
    elif heads:
        yield Attention(flops, flops, 0.0, None)
    for one in layer.kept:
        if isinstance(one, StateCache):
            yield Attention(0.0, 0.0, 0.0, None, 2.0 * one.state * one.state_bytes / tensor * count)


def _indexer(layer: Layer, dim: int, count: float) -> Attention:
    """Scores of every token of the context, of which the best are attended to: in 8 bits, whole on
    every rank (``Indexer`` of vllm 0.33.0 ``models/deepseek_v2.py``)."""
    width = next((one.outputs for one in layer.matrices if one.name.endswith(INDEXER)), dim)
    flops = 2.0 * width * count
    return Attention(flops, flops, (dim + INDEX_SCALE_BYTES) * count, None, compute="fp8")


def _compressed(
    layer: Layer,
    kept: CompressedCache,
    count: int,
    heads: int,
    kv_bytes: float,
    indexed: int,
) -> Iterator[Attention]:
    """DeepSeek-V4: keys and values are one state of ``dim``; those of a window, and one for
    ``ratio`` tokens, of which the indexer, where there is one, takes the ``indexed`` best."""
    flops = 4.0 * max(LATENT_ROWS, heads) * kept.dim * count
    read = kept.dim * kv_bytes * count
    yield Attention(flops, flops, read, kept.window)
    if not kept.ratio:
        return
    most = indexed * kept.ratio if indexed and kept.indexer_dim else None
    yield Attention(flops / kept.ratio, flops / kept.ratio, read / kept.ratio, most)
    if kept.indexer_dim:
        yield _indexer(layer, kept.indexer_dim, count / kept.ratio)
