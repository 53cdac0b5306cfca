"""What sparse attention reserves while it is profiled: buffers of an indexer's keys and logits.

They grow with the longest request and not with what a step computes. vLLM keeps one workspace for
all layers, as large as the largest that any of them asks for, and does not give it back. Source:
vllm 0.20.0, 0.30.0 and 0.32.0 ``layers/sparse_attn_indexer.py``,
``v1/attention/ops/rocm_aiter_mla_sparse.py``, ``v1/attention/backends/mla/indexer.py``
(``get_max_prefill_buffer_size``) and ``flashmla_sparse.py``, ``models/deepseek_v4``
(``_forward_prefill``); 0.12.0 ``models/deepseek_v2.py``, ``sparse_attn_indexer_fake``.
"""

from __future__ import annotations

from typing import Final

from vllm_operator.api.quantity import MEBIBYTE
from vllm_operator.engine.tables import does
from vllm_operator.engine.versions import Version
from vllm_operator.models.shapes import Cache, CompressedCache, LatentCache

from .compressed_kvcache import INDEXER_SCALE_BYTES
from .load import Load

BUFFERED_REQUESTS: Final = 40
"""Whole requests whose keys the indexer gathers at once."""
ATTENDED_REQUESTS: Final = 5
"""Whole requests whose latent states FlashMLA's sparse kernel gathers at once."""
CHUNKED_REQUESTS: Final = 4
"""Requests that DeepSeek-V4 gathers the states of at once (``PREFILL_CHUNK_SIZE``)."""
STATE_BYTES: Final = 2
LOGIT_BYTES: Final = 4
LOGITS: Final = 512 * MEBIBYTE
"""``VLLM_SPARSE_INDEXER_MAX_LOGITS_MB``."""


def indexer_dim(cache: Cache | None) -> int:
    """Head dimension of the keys that an indexer chooses by; 0 where there is none."""
    return cache.indexer_dim if isinstance(cache, (LatentCache, CompressedCache)) else 0


def sparse_logits(cache: Cache | None, version: Version) -> int:
    """Bytes that stand for the indexer's logits of prompts, beside the layer's own."""
    return LOGITS if indexer_dim(cache) and does("reserves-indexer-logits", version) else 0


def sparse_workspace(cache: Cache | None, version: Version, load: Load, *, rocm: bool) -> int:
    """Bytes of the workspace that a layer with such a cache asks for on each rank."""
    if isinstance(cache, CompressedCache):
        states = -(-load.max_model_len // cache.ratio) if cache.ratio else 0
        gathered = states + cache.window + load.max_num_batched_tokens
        attended = CHUNKED_REQUESTS * gathered * cache.dim * STATE_BYTES
    elif isinstance(cache, LatentCache) and cache.indexer_dim:
        states = load.max_model_len
        attended = ATTENDED_REQUESTS * states * (cache.rank + cache.rope_dim) * STATE_BYTES
    else:
        return 0
    if not indexer_dim(cache):
        return attended
    keys = BUFFERED_REQUESTS * states * (indexer_dim(cache) + INDEXER_SCALE_BYTES)
    if not does("reserves-indexer-logits", version):
        keys *= 2  # gathered, then parted into values and scales
    return max(attended, keys, decoded_logits(version, load, states) if rocm else 0)


def decoded_logits(version: Version, load: Load, states: int) -> int:
    """Bytes of the logits of decoded tokens over ``states``, which ROCm's indexer keeps room for:
    of each token of a step, and from 0.30 on of no more than sequences can decode."""
    if not does("reserves-decode-logits-on-rocm", version):
        return 0
    rows = load.max_num_batched_tokens
    if does("bounds-decode-logits-on-rocm", version):
        rows = min(rows, load.max_num_seqs * (1 + load.drafts))
    return rows * states * LOGIT_BYTES
