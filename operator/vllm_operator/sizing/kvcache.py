"""KV-cache blocks: how many there are, and how long a request they hold.

Source: vllm 0.33.0 ``v1/core/kv_cache_planning.py``, ``kv_cache_utils.py`` and
``v1/kv_cache_interface.py``, 0.20.0 and 0.10.2 ``v1/core/kv_cache_utils.py``. Layers of one kind
form groups of equal size; a block holds one page of every layer of a group, whatever the group, and
each group has a block table of its own. One block is the null block.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from vllm_operator.engine import defaults
from vllm_operator.engine.versions import Version
from vllm_operator.models.architecture import Architecture
from vllm_operator.models.shapes import (
    AttentionCache,
    Cache,
    CompressedCache,
    LatentCache,
    StateCache,
)

from .parallelism import Parallelism
from .weights import stage_ranges

NULL_BLOCKS: Final = 1
"""The block that vLLM keeps for itself; the start-up check subtracts it from 0.29 on, and here
always, which costs one block."""

KERNEL_BLOCK: Final = 16
"""Smallest block of the attention kernels; aligned state layers make it larger."""

SPARSE_LATENT_BYTES: Final = 656
"""A token of sparse latent attention at fp8 (``fp8_ds_mla``: 512 fp8, 4 scales, 64 x 2 bytes)."""
INDEXER_SCALE_BYTES: Final = 4

COMPRESSED_BLOCK: Final = 256
"""Tokens in a block of DeepSeek-V4 (vllm 0.33.0 ``models/deepseek_v4/sparse_mla.py``)."""
COMPRESSED_ALIGNMENT: Final = 576
"""Its pages are rounded up to a multiple of this (``attention.py``, ``get_kv_cache_spec``)."""
WINDOW_BLOCK: Final = 64
"""Tokens in a block of its windows (``v1/attention/backends/mla/sparse_swa.py``)."""
STATE_BLOCKS: Final = {4: 4, 128: 8}
"""Tokens in a block of a compressor's own state, by its ratio (``compressor.py``)."""
PACKED_SINCE: Final = Version((0, 29, 0))
"""``_get_packed_kv_cache_groups``: pages of different sizes lie side by side in a block. Before,
a block was as many times all page sizes as the group with the most layers needs."""


@dataclass(frozen=True, slots=True)
class CacheSettings:
    """What the cache's layout depends on beside the model."""

    version: Version
    parallelism: Parallelism
    element_bits: float
    """Bits of an element of keys and values."""
    block_size: int
    max_num_batched_tokens: int
    prefix_caching: bool = True
    speculative_tokens: int = 0
    async_scheduling: bool = True


@dataclass(frozen=True, slots=True)
class Group:
    """Layers that share a block table."""

    kind: str
    """``full``, ``window`` or ``state``."""
    layers: int
    block_size: int
    """Tokens in a block; of a state group, those of the attention beside it."""
    window: int = 0

    def blocks_for(self, length: int, settings: CacheSettings) -> int:
        """Blocks that a request of ``length`` tokens holds in this group."""
        if self.kind == "state":
            held = 1 + settings.speculative_tokens
            return held + (1 if caches_states(settings) else 0)
        if self.kind == "window":
            kept = min(self.window - 1 + tokens_in_flight(settings), length)
            return -(-kept // self.block_size) + 1
        return -(-length // self.block_size)


@dataclass(frozen=True, slots=True)
class CacheLayout:
    """The cache of one rank: the same block is a page of each layer of any group."""

    groups: tuple[Group, ...]
    bytes_per_block: int
    block_size: int
    settings: CacheSettings

    def blocks_in(self, kv_bytes: int) -> int:
        """Blocks that fit into ``kv_bytes``."""
        return max(0, kv_bytes // self.bytes_per_block)

    def blocks_for(self, length: int) -> int:
        """Blocks that a request of ``length`` tokens holds."""
        return sum(group.blocks_for(length, self.settings) for group in self.groups)

    def bytes_for(self, length: int) -> int:
        """KV-cache bytes that vLLM needs to admit one request of ``length`` tokens."""
        return (self.blocks_for(length) + NULL_BLOCKS) * self.bytes_per_block

    def longest_request(self, kv_bytes: int, limit: int) -> int:
        """The longest request up to ``limit`` that fits; 0 where none does."""
        blocks = self.blocks_in(kv_bytes) - NULL_BLOCKS
        if self.blocks_for(1) > blocks:
            return 0
        if self.blocks_for(limit) <= blocks:
            return limit
        low, high = 1, limit
        while high - low > 1:
            middle = (low + high) // 2
            if self.blocks_for(middle) <= blocks:
                low = middle
            else:
                high = middle
        return low // self.block_size * self.block_size or low

    def printed(self, kv_bytes: int, max_model_len: int) -> tuple[int, float]:
        """'GPU KV cache size' in tokens and 'Maximum concurrency', as that version prints them.

        Up to 0.20 the first is the blocks of one group, from 0.21 on concurrency times length
        (``kv_cache_utils.py`` of both).
        """
        blocks = self.blocks_in(kv_bytes)
        concurrency = blocks / self.blocks_for(max_model_len)
        if defaults.prints_concurrency_tokens(self.settings.version):
            return int(concurrency * max_model_len), concurrency
        return blocks // len(self.groups) * self.block_size, concurrency


def tokens_in_flight(settings: CacheSettings) -> int:
    """Tokens that may be written before a window's old blocks are freed."""
    if not defaults.counts_batches_in_flight(settings.version):
        return settings.max_num_batched_tokens
    pipeline = settings.parallelism.pipeline
    batches = pipeline + 1 if pipeline > 1 else (2 if settings.async_scheduling else 1)
    return batches * settings.max_num_batched_tokens


def caches_states(settings: CacheSettings) -> bool:
    """Whether state layers keep a second block for prefix caching."""
    return settings.prefix_caching and defaults.caches_prefixes_of_states(settings.version)


@lru_cache(maxsize=1024)
def cache_layout(architecture: Architecture, settings: CacheSettings) -> CacheLayout:
    """The layout on the stage whose blocks are the largest: the fewest blocks decide."""
    ranges = stage_ranges(architecture.layers, settings.parallelism.pipeline)
    layouts = []
    for number, stage in enumerate(ranges):
        caches = [
            architecture.kinds[architecture.pattern[index]].cache
            for index in range(stage.start, stage.stop)
        ]
        if number == len(ranges) - 1 and architecture.speculator is not None:
            caches += [layer.cache for layer in architecture.speculator.layers]
        kept = [cache for cache in caches if cache is not None]
        if kept:
            layouts.append(_layout(kept, settings))
    return max(layouts, key=lambda layout: layout.bytes_per_block)


def _layout(caches: Sequence[Cache], settings: CacheSettings) -> CacheLayout:
    compressed = [cache for cache in caches if isinstance(cache, CompressedCache)]
    if compressed:
        return _compressed(compressed, settings)
    states = [cache for cache in caches if isinstance(cache, StateCache)]
    attending = [cache for cache in caches if not isinstance(cache, StateCache)]
    whole = not defaults.has_hybrid_cache(settings.version)
    per_token = [bytes_per_token(cache, settings) for cache in attending]
    windows = [None if whole else _window(cache) for cache in attending]
    size = settings.block_size
    page = 0
    if states and per_token:
        state_page = max(state_bytes(cache, settings) for cache in states)
        align = max(KERNEL_BLOCK, size)
        size = max(size, align * -(-state_page // (align * min(per_token))))
    elif states:
        page = max(state_bytes(cache, settings) for cache in states)
    kinds = set(windows)
    if not states and len(kinds) == 1:
        only = next(iter(kinds))
        kind = "full" if only is None else "window"
        group = Group(kind, len(attending), size, only or 0)
        return CacheLayout((group,), sum(per_token) * size, size, settings)
    page = max([page, *(each * size for each in per_token)])
    return _grouped(list(zip(windows, per_token, strict=True)), len(states), page, size, settings)


def _grouped(
    attending: Iterable[tuple[int | None, int]],
    states: int,
    page: int,
    size: int,
    settings: CacheSettings,
) -> CacheLayout:
    """Groups of equally many layers, with pages of equal size.

    Layers with smaller pages get longer blocks where that divides evenly, else padded pages.
    """
    buckets: dict[tuple[int | None, int], int] = {}
    for window, token_bytes in attending:
        key = (window, token_bytes)
        buckets[key] = buckets.get(key, 0) + 1
    counts = [*buckets.values(), *([states] if states else [])]
    smallest, largest = min(counts), max(counts)
    each = largest if largest < smallest * 1.5 else smallest
    groups: list[Group] = []
    for (window, token_bytes), count in buckets.items():
        own = token_bytes * size
        longer = size * (page // own) if page % own == 0 else size
        kind = "full" if window is None else "window"
        groups += [Group(kind, each, longer, window or 0)] * -(-count // each)
    groups += [Group("state", each, size)] * (-(-states // each) if states else 0)
    return CacheLayout(tuple(groups), each * page, size, settings)


@dataclass(frozen=True, slots=True)
class _Bucket:
    """Layers' pages that share a block table, before they are divided into groups."""

    kind: str
    block_size: int
    window: int
    pages: tuple[tuple[int, int], ...]
    """Bytes of a page, and how many layers have such a page."""

    @property
    def balanced(self) -> bool:
        return len({count for _, count in self.pages}) == 1

    @property
    def repeats(self) -> int:
        return max(count for _, count in self.pages)

    def block_bytes(self, groups: int) -> int:
        """Bytes of a block of the largest of ``groups`` groups."""
        return sum(page * -(-count // groups) for page, count in self.pages)


def _compressed(caches: Sequence[CompressedCache], settings: CacheSettings) -> CacheLayout:
    """DeepSeek-V4's layout: compressed states and their indexes, windows, compressors' states.

    The states are 8-bit whatever the data type of the cache (``fp8_ds_mla``), and the same on
    every rank. Source: vllm 0.33.0 ``v1/core/kv_cache_planning.py``,
    ``_get_packed_kv_cache_groups``; 0.20.0 ``kv_cache_utils.py``,
    ``_get_kv_cache_groups_uniform_groups`` and ``_get_kv_cache_config_deepseek_v4``.
    """
    buckets = _buckets(caches)
    mixed = [one for one in buckets if one.balanced and len(one.pages) > 1]
    packed = settings.version.release >= PACKED_SINCE.release
    floor = max((one.repeats for one in mixed), default=0) if packed else buckets[0].repeats
    each = 0
    if floor:
        each = _nearest_divisor(
            [one.repeats for one in buckets if one.balanced or not packed], floor
        )
    groups: list[Group] = []
    widest = 0
    for one in buckets:
        split = -(-one.repeats // each) if each and (one.balanced or not packed) else 1
        widest = max(widest, one.block_bytes(split))
        layers = sum(count for _, count in one.pages)
        group = Group(one.kind, -(-layers // split), one.block_size, one.window)
        groups += [group] * split
    if not packed:
        most = max(-(-one.repeats // -(-one.repeats // each)) for one in buckets)
        widest = most * sum(page for page, _ in buckets[0].pages)
    return CacheLayout(tuple(groups), widest, COMPRESSED_BLOCK, settings)


def _buckets(caches: Sequence[CompressedCache]) -> list[_Bucket]:
    pages: dict[tuple[str, int, int], dict[int, int]] = {}

    def add(kind: str, block: int, window: int, size: int) -> None:
        page = -(-size // COMPRESSED_ALIGNMENT) * COMPRESSED_ALIGNMENT
        counts = pages.setdefault((kind, block, window), {})
        counts[page] = counts.get(page, 0) + 1

    # Compressed states first: their pages are the ones that older versions pad the others to.
    for cache in sorted(caches, key=lambda one: one.ratio == 0):
        # The rotated part in two bytes, the rest in one with a byte of scale for 64 and one more.
        plain = cache.dim - cache.rope_dim
        token = plain + 2 * cache.rope_dim + plain // 64 + 1
        if ratio := cache.ratio:
            states = COMPRESSED_BLOCK // ratio
            width = 2 if ratio == min(STATE_BLOCKS) else 1
            add("full", COMPRESSED_BLOCK, 0, states * token)
            block = STATE_BLOCKS[ratio]
            for dim in (cache.dim, cache.indexer_dim):
                if dim:
                    add("window", block, width * ratio, block * 2 * width * dim * 4)
            if cache.indexer_dim:
                add("full", COMPRESSED_BLOCK, 0,
                    states * (cache.indexer_dim + INDEXER_SCALE_BYTES))  # fmt: skip
        add("window", WINDOW_BLOCK, cache.window, WINDOW_BLOCK * token)
    return [
        _Bucket(kind, block, window, tuple(counts.items()))
        for (kind, block, window), counts in pages.items()
    ]


def _nearest_divisor(values: Sequence[int], least: int) -> int:
    """The number from ``least`` on that the values, rounded up to its multiples, exceed the least
    (``_approximate_gcd``)."""
    return min(
        range(least, max(*values, least) + 1),
        key=lambda one: (sum(-value % one for value in values), -one),
    )


def _window(cache: Cache) -> int | None:
    return cache.window if isinstance(cache, AttentionCache) else None


def bytes_per_token(cache: Cache, settings: CacheSettings) -> int:
    """Bytes that one token takes in one layer on one rank.

    Llama-3.1-8B at 16 bits on one GPU: 8 heads x (128 + 128) x 2 = 4,096.
    """
    bits = settings.element_bits
    if isinstance(cache, AttentionCache):
        heads = max(1, cache.heads // settings.parallelism.tensor)
        return math.ceil(heads * (cache.key_dim + cache.value_dim) * bits / 8)
    if isinstance(cache, LatentCache):
        index = cache.indexer_dim + INDEXER_SCALE_BYTES if cache.indexer_dim else 0
        if cache.indexer_dim and bits == 8:
            return SPARSE_LATENT_BYTES + index
        return math.ceil((cache.rank + cache.rope_dim) * bits / 8) + index
    raise TypeError(f"{type(cache).__name__} has no size by token")


def state_bytes(cache: StateCache, settings: CacheSettings) -> int:
    """Bytes of one sequence's state in one layer on one rank.

    Source: vllm 0.33.0 ``layers/mamba/mamba_utils.py``.
    """
    ranks = settings.parallelism.tensor
    groups = cache.groups
    if groups and groups % ranks:
        groups = ranks  # one of the replicated groups on each rank
    channels = cache.convolution + groups * cache.group_state
    columns = cache.convolution_kernel - 1 + settings.speculative_tokens
    return channels // ranks * columns * 2 + cache.state // ranks * cache.state_bytes
