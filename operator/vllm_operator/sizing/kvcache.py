"""KV-cache blocks: how many there are, and how long a request they hold.

Source: vllm 0.33.0 ``v1/core/kv_cache_utils.py`` for models whose layers all attend to the whole
context: a block holds ``block_size`` tokens of every layer, one block is the null block.
"""

from __future__ import annotations

from typing import Final

from vllm_operator.engine.defaults import prints_concurrency_tokens
from vllm_operator.engine.versions import Version
from vllm_operator.models.architecture import Architecture

from .weights import key_value_heads_per_rank

NULL_BLOCKS: Final = 1
"""The block that vLLM keeps for itself; the start-up check subtracts it from 0.29 on, and here
always, which costs one block."""


def bytes_per_token(architecture: Architecture, tensor_parallel: int, element_bytes: int) -> int:
    """Bytes that one token takes on one rank: keys and values of every layer.

    Llama-3.1-8B at 2 bytes on one GPU: 32 layers x 8 heads x 128 x 2 x 2 = 131,072.
    """
    heads = key_value_heads_per_rank(architecture, tensor_parallel)
    return architecture.layers * heads * 2 * architecture.head_dim * element_bytes


def blocks_for(length: int, block_size: int) -> int:
    """Blocks that a request of ``length`` tokens holds."""
    return -(-length // block_size)


def blocks_in(kv_bytes: int, token_bytes: int, block_size: int) -> int:
    """Blocks that fit into ``kv_bytes``."""
    return max(0, kv_bytes // (token_bytes * block_size))


def longest_request(kv_bytes: int, token_bytes: int, block_size: int) -> int:
    """The longest request that fits, a multiple of the block size; 0 where none does."""
    blocks = blocks_in(kv_bytes, token_bytes, block_size) - NULL_BLOCKS
    return max(0, blocks) * block_size


def bytes_for(length: int, token_bytes: int, block_size: int) -> int:
    """KV-cache bytes that vLLM needs to admit one request of ``length`` tokens."""
    return (blocks_for(length, block_size) + NULL_BLOCKS) * token_bytes * block_size


def printed(
    version: Version, blocks: int, block_size: int, max_model_len: int
) -> tuple[int, float]:
    """'GPU KV cache size' in tokens and 'Maximum concurrency', as that version prints them."""
    concurrency = blocks / blocks_for(max_model_len, block_size)
    if prints_concurrency_tokens(version):
        return int(concurrency * max_model_len), concurrency
    return blocks * block_size, concurrency
