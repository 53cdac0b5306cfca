"""DeepSeek-V4's blocks: compressed states and their indexes, windows, compressors' states.

The states are 8-bit whatever the data type of the cache (``fp8_ds_mla``), and the same on every
rank. Source: vllm 0.33.0 ``v1/core/kv_cache_planning.py``, ``_get_packed_kv_cache_groups``; 0.20.0
``kv_cache_utils.py``, ``_get_kv_cache_groups_uniform_groups`` and
``_get_kv_cache_config_deepseek_v4``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from vllm_operator.models.shapes import CompressedCache

INDEXER_SCALE_BYTES: Final = 4
COMPRESSED_BLOCK: Final = 256
"""Tokens in a block of DeepSeek-V4 (vllm 0.33.0 ``models/deepseek_v4/sparse_mla.py``)."""
COMPRESSED_ALIGNMENT: Final = 576
"""Its pages are rounded up to a multiple of this (``attention.py``, ``get_kv_cache_spec``)."""
WINDOW_BLOCK: Final = 64
"""Tokens in a block of its windows (``v1/attention/backends/mla/sparse_swa.py``)."""
STATE_BLOCKS: Final = {4: 4, 128: 8}
"""Tokens in a block of a compressor's own state, by its ratio (``compressor.py``)."""


class PagedGroup(NamedTuple):
    """Layers that share a block table: the fields of ``kvcache.Group``, in its order."""

    kind: str
    layers: int
    block_size: int
    window: int


@dataclass(frozen=True, slots=True)
class _Bucket:
    """Layers' pages that share a block table, before they are divided into groups."""

    kind: str
    block_size: int
    window: int
    pages: tuple[tuple[int, tuple[int, ...]], ...]
    """Bytes of a page, and the stages of the layers that have such a page."""

    @property
    def balanced(self) -> bool:
        return len({len(stages) for _, stages in self.pages}) == 1

    @property
    def repeats(self) -> int:
        return max(len(stages) for _, stages in self.pages)

    def groups(self, number: int) -> Iterator[list[tuple[int, Counter[int]]]]:
        """Pages of each of ``number`` groups, and how many of them each stage has."""
        for start in range(number):
            yield [(page, Counter(stages[start::number])) for page, stages in self.pages]


def compressed_groups(
    layers: Sequence[tuple[int, CompressedCache]], *, packed: bool
) -> tuple[list[PagedGroup], int]:
    """The groups, and bytes of a block on the stage where it is the largest.

    ``layers``: each with its stage. ``packed``: whether pages lie side by side.
    """
    buckets = _buckets(layers)
    mixed = [one for one in buckets if one.balanced and len(one.pages) > 1]
    floor = max((one.repeats for one in mixed), default=0) if packed else buckets[0].repeats
    each = 0
    if floor:
        each = _nearest_divisor(
            [one.repeats for one in buckets if one.balanced or not packed], floor
        )
    groups: list[PagedGroup] = []
    pages: list[list[tuple[int, Counter[int]]]] = []
    for one in buckets:
        split = -(-one.repeats // each) if each and (one.balanced or not packed) else 1
        count = sum(len(stages) for _, stages in one.pages)
        groups += [PagedGroup(one.kind, -(-count // split), one.block_size, one.window)] * split
        pages += one.groups(split)
    stages = {stage for stage, _ in layers}
    sizes = {stage: _page_sizes(pages[0], stage) for stage in stages}
    widest = max(
        sum(page * on_stages[stage] for page, on_stages in group)
        if packed
        else sum(sizes[stage]) * max(on_stages[stage] for _, on_stages in group)
        for group in pages
        for stage in stages
    )
    return groups, widest


def _page_sizes(group: list[tuple[int, Counter[int]]], stage: int) -> list[int]:
    """The sizes that older versions make every page one of; a stage without any keeps them all."""
    return [page for page, on_stages in group if on_stages[stage]] or [page for page, _ in group]


def _buckets(layers: Sequence[tuple[int, CompressedCache]]) -> list[_Bucket]:
    pages: dict[tuple[str, int, int], dict[int, list[int]]] = {}

    # Compressed states first: their pages are the ones that older versions pad the others to.
    for stage, cache in sorted(layers, key=lambda one: one[1].ratio == 0):
        for kind, block, window, size in _pages(cache):
            page = -(-size // COMPRESSED_ALIGNMENT) * COMPRESSED_ALIGNMENT
            pages.setdefault((kind, block, window), {}).setdefault(page, []).append(stage)
    return [
        _Bucket(kind, block, window, tuple((page, tuple(on)) for page, on in counts.items()))
        for (kind, block, window), counts in pages.items()
    ]


def _pages(cache: CompressedCache) -> Iterator[tuple[str, int, int, int]]:
    """What a layer keeps: kind, tokens in a block, window, bytes of a page before alignment."""
    # The rotated part in two bytes, the rest in one with a byte of scale for 64 and one more.
    plain = cache.dim - cache.rope_dim
    token = plain + 2 * cache.rope_dim + plain // 64 + 1
    if ratio := cache.ratio:
        states = COMPRESSED_BLOCK // ratio
        width = 2 if ratio == min(STATE_BLOCKS) else 1
        yield "full", COMPRESSED_BLOCK, 0, states * token
        block = STATE_BLOCKS[ratio]
        for dim in (cache.dim, cache.indexer_dim):
            if dim:
                yield "window", block, width * ratio, block * 2 * width * dim * 4
        if cache.indexer_dim:
            index = cache.indexer_dim + INDEXER_SCALE_BYTES
            yield "full", COMPRESSED_BLOCK, 0, states * index
    yield "window", WINDOW_BLOCK, cache.window, WINDOW_BLOCK * token


def _nearest_divisor(values: Sequence[int], least: int) -> int:
    """The number from ``least`` on that the values, rounded up to its multiples, exceed the least
    (``_approximate_gcd``)."""
    return min(
        range(least, max(*values, least) + 1),
        key=lambda one: (sum(-value % one for value in values), -one),
    )
