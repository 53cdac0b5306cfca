"""KV-cache blocks: how many there are, and how long a request they hold.

Source: vllm 0.33.0 ``v1/core/kv_cache_planning.py``, ``kv_cache_utils.py`` and
``v1/kv_cache_interface.py``, 0.20.0 and 0.10.2 ``v1/core/kv_cache_utils.py``. Layers of one kind
form groups of equal size; a block holds one page of every layer of a group, whatever the group, and
each group has a block table of its own. One block is the null block.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from vllm_operator.engine import defaults
from vllm_operator.engine.tables import does
from vllm_operator.engine.versions import Version
from vllm_operator.models.architecture import Architecture
from vllm_operator.models.shapes import (
    AttentionCache,
    Cache,
    CompressedCache,
    LatentCache,
    StateCache,
)
from vllm_operator.sizing.split.parallelism import Parallelism
from vllm_operator.sizing.split.stages import stage_ranges

from .compressed_kvcache import COMPRESSED_BLOCK, INDEXER_SCALE_BYTES, compressed_groups

NULL_BLOCKS: Final = 1
"""The block that vLLM keeps for itself; the start-up check subtracts it from 0.29 on, and here
always, which costs one block."""

KERNEL_BLOCK: Final = 16
"""Smallest block of the attention kernels; aligned state layers make it larger."""
LATENT_BLOCK: Final = 128
"""What blocks of latent attention beside recurrent layers are multiples of."""

SPARSE_LATENT_BYTES: Final = 656
"""A token of sparse latent attention at fp8 (``fp8_ds_mla``: 512 fp8, 4 scales, 64 x 2 bytes)."""


INDEX_KEY_BYTES: Final = 2
"""An element of the keys that MiniMax-M3 chooses blocks by (0.33.0 ``models/minimax_m3``)."""


@dataclass(frozen=True, slots=True)
class CacheSettings:
    """What the cache's layout depends on beside the model."""

    version: Version
    parallelism: Parallelism
    element_bits: float
    """Bits of an element of keys and values."""
    block_size: int
    max_num_batched_tokens: int
    prefix_caching: bool | None = None
    """``--enable-prefix-caching``; None where nothing is said, which recurrent layers take for no
    up to 0.27."""
    speculative_tokens: int = 0
    async_scheduling: bool = True
    first_engine: bool = False
    """Whether the engine before V1 serves: it has neither windows nor states in its blocks."""


@dataclass(frozen=True, slots=True)
class Group:
    """Layers that share a block table."""

    kind: str
    """``full``, ``window`` or ``state``."""
    layers: int
    block_size: int
    """Tokens in a block; of a state group, those of the attention beside it."""
    window: int = 0
    cached: int = 0
    """Blocks of a state group that a sequence holds for the prefixes that are cached."""
    each_block: bool = False
    """Whether a state group keeps a state at the end of each block."""

    def blocks_for(self, length: int, settings: CacheSettings) -> int:
        """Blocks that a request of ``length`` tokens holds in this group."""
        if self.kind == "state":
            kept = max(1, -(-length // self.block_size)) if self.each_block else 1
            return kept + settings.speculative_tokens + self.cached
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
        if does("prints-concurrency-tokens", self.settings.version):
            return int(concurrency * max_model_len), concurrency
        return blocks // len(self.groups) * self.block_size, concurrency


def tokens_in_flight(settings: CacheSettings) -> int:
    """Tokens that may be written before a window's old blocks are freed."""
    if not does("counts-batches-in-flight", settings.version):
        return settings.max_num_batched_tokens
    pipeline = settings.parallelism.pipeline
    batches = pipeline + 1 if pipeline > 1 else (2 if settings.async_scheduling else 1)
    return batches * settings.max_num_batched_tokens


def state_caching(states: Iterable[StateCache], settings: CacheSettings) -> defaults.StateCaching:
    """How prefixes are cached in the groups of recurrent layers: as the kind that keeps most."""
    drafting = settings.speculative_tokens > 0
    return max(
        (
            defaults.state_caching(
                settings.version, kind, settings.prefix_caching, drafting=drafting
            )
            for kind in {one.kind for one in states}
        ),
        key=lambda one: (one.chunk, one.blocks),
        default=defaults.NO_STATE_CACHING,
    )


@lru_cache(maxsize=1024)
def cache_layout(architecture: Architecture, settings: CacheSettings) -> CacheLayout:
    """The layout of the rank whose blocks are the largest: the fewest blocks decide.

    The groups are the whole model's from 0.11 on, and each stage has its part of each of them
    (0.20.0 ``_project_kv_cache_groups_to_worker``). Before, each stage groups its own layers.
    """
    layers = kept_layers(architecture, settings)
    if does("groups-whole-models", settings.version):
        return _layout(layers, settings)
    return max(_stage_layouts(layers, settings), key=lambda layout: layout.bytes_per_block)


@lru_cache(maxsize=1024)
def unequal_stages_because(architecture: Architecture, settings: CacheSettings) -> str | None:
    """Why vLLM refuses the stages of a pipeline, or None: before 0.11 their groups must be equal.

    Source: vllm 0.10.2 ``v1/core/kv_cache_utils.py``, ``unify_kv_cache_configs``.
    """
    if settings.parallelism.pipeline == 1 or does("groups-whole-models", settings.version):
        return None
    found = [
        [(group.kind, group.block_size, group.window) for group in layout.groups]
        for layout in _stage_layouts(kept_layers(architecture, settings), settings)
    ]
    if all(groups == found[0] for groups in found):
        return None
    shown = ", ".join(str(len(groups)) for groups in found)
    return (
        f"vLLM {settings.version} groups the KV cache of each pipeline stage by itself and wants "
        f"equal groups, and these stages have {shown} of unlike kinds"
    )


StagedCache = tuple[int, Cache]
"""What a layer keeps of a sequence, and the stage that has the layer."""


def kept_layers(architecture: Architecture, settings: CacheSettings) -> list[StagedCache]:
    """The layers with a cache, first layer first; a draft's are on the last stage.

    The engine before V1 keeps recurrent states outside its blocks (0.8.5
    ``models/mamba_cache.py``).
    """
    ranges = stage_ranges(architecture.layers, settings.parallelism.pipeline)
    kept = [
        (stage, cache)
        for stage, indices in enumerate(ranges)
        for index in indices
        for cache in architecture.kinds[architecture.pattern[index]].kept
    ]
    if architecture.speculator is not None:
        last = len(ranges) - 1
        kept += [(last, cache) for layer in architecture.speculator.layers for cache in layer.kept]
    attending = [one for one in kept if not isinstance(one[1], StateCache)]
    return attending if settings.first_engine and attending else kept


def _stage_layouts(layers: list[StagedCache], settings: CacheSettings) -> list[CacheLayout]:
    stages = sorted({stage for stage, _ in layers})
    return [_layout([one for one in layers if one[0] == stage], settings) for stage in stages]


def _layout(layers: list[StagedCache], settings: CacheSettings) -> CacheLayout:
    compressed = [(stage, one) for stage, one in layers if isinstance(one, CompressedCache)]
    if compressed:
        packed = does("packs-cache-pages", settings.version)
        found, block_bytes = compressed_groups(compressed, packed=packed)
        groups = tuple(Group(*one) for one in found)
        return CacheLayout(groups, block_bytes, COMPRESSED_BLOCK, settings)
    states = [(stage, one) for stage, one in layers if isinstance(one, StateCache)]
    attending = [
        _Attending(stage, _window(one, settings), bytes_per_token(one, settings))
        for stage, one in layers
        if not isinstance(one, StateCache)
    ]
    size, page = settings.block_size, 0
    caching = state_caching([one for _, one in states], settings)
    if states:
        ranks, drafted = settings.parallelism.tensor, settings.speculative_tokens
        page = max(state_bytes(one, ranks, drafted) for _, one in states)
    if states and attending:
        latent = any(isinstance(one, LatentCache) for _, one in layers)
        wide = latent and does("aligns-latent-beside-states", settings.version)
        smallest = max(LATENT_BLOCK if wide else KERNEL_BLOCK, size)
        align = math.lcm(smallest, max(1, caching.chunk))
        size = max(size, align * -(-page // (align * min(one.token_bytes for one in attending))))
        page = 0  # of the longer blocks, which hold a state
    windows = {one.window for one in attending}
    if not states and len(windows) == 1:
        window = next(iter(windows))
        on_stages: Counter[int] = Counter()
        for one in attending:
            on_stages[one.stage] += one.token_bytes * size
        group = Group("full" if window is None else "window", len(attending), size, window or 0)
        return CacheLayout((group,), max(on_stages.values()), size, settings)
    page = max([page, *(one.token_bytes * size for one in attending)])
    kept = _States([stage for stage, _ in states], caching)
    return _grouped(attending, kept, page, size, settings)


@dataclass(frozen=True, slots=True)
class _Attending:
    """A layer that keeps something of each token."""

    stage: int
    window: int | None
    token_bytes: int


@dataclass(frozen=True, slots=True)
class _States:
    """The recurrent layers: the stage of each, and how prefixes are cached in them."""

    stages: list[int]
    caching: defaults.StateCaching


def _grouped(
    attending: Iterable[_Attending],
    states: _States,
    page: int,
    size: int,
    settings: CacheSettings,
) -> CacheLayout:
    """Groups of equally many layers, with pages of equal size.

    Layers with smaller pages get longer blocks where that divides evenly, else padded pages. The
    layers of a kind are dealt out to its groups one by one, so that each stage has its share of
    each; a block on a stage is as many pages as its largest share.
    """
    buckets: dict[tuple[int | None, int], list[int]] = {}
    for one in attending:
        buckets.setdefault((one.window, one.token_bytes), []).append(one.stage)
    counts = [len(stages) for stages in (*buckets.values(), states.stages) if stages]
    smallest, largest = min(counts), max(counts)
    padding = defaults.group_padding(settings.version)
    each = largest if largest < smallest * padding else smallest
    groups: list[Group] = []
    most = 0
    for (window, token_bytes), stages in buckets.items():
        own = token_bytes * size
        longer = size * (page // own) if page % own == 0 else size
        kind = "full" if window is None else "window"
        dealt = _dealt(stages, each)
        groups += [Group(kind, each, longer, window or 0)] * len(dealt)
        most = max(most, *map(_largest_share, dealt))
    if states.stages:
        dealt = _dealt(states.stages, each)
        caching = states.caching
        group = Group("state", each, size, cached=caching.blocks, each_block=caching.chunk > 0)
        groups += [group] * len(dealt)
        most = max(most, *map(_largest_share, dealt))
    return CacheLayout(tuple(groups), most * page, size, settings)


def _dealt(layers: list[int], each: int) -> list[list[int]]:
    """The groups that layers of one kind are dealt out to, none of more than ``each``."""
    number = -(-len(layers) // each)
    return [layers[start::number] for start in range(number)]


def _largest_share(stages: list[int]) -> int:
    """Layers of a group on the stage that has most of them."""
    return max(Counter(stages).values())


def _window(cache: Cache, settings: CacheSettings) -> int | None:
    """Tokens that a layer keeps; None for all, also where windows have no groups of their own."""
    hybrid = does("has-hybrid-cache", settings.version) and not settings.first_engine
    return cache.window if hybrid and isinstance(cache, AttentionCache) else None


def bytes_per_token(cache: Cache, settings: CacheSettings) -> int:
    """Bytes that one token takes in one layer on one rank.

    Llama-3.1-8B at 16 bits on one GPU: 8 heads x (128 + 128) x 2 = 4,096.
    """
    bits = settings.element_bits
    if isinstance(cache, AttentionCache):
        heads = max(1, cache.heads // settings.parallelism.tensor)
        index = INDEX_KEY_BYTES * cache.indexer_dim
        return math.ceil(heads * (cache.key_dim + cache.value_dim) * bits / 8) + index
    if isinstance(cache, LatentCache):
        index = cache.indexer_dim + INDEXER_SCALE_BYTES if cache.indexer_dim else 0
        if cache.indexer_dim and bits == 8:
            return SPARSE_LATENT_BYTES + index
        return math.ceil((cache.rank + cache.rope_dim) * bits / 8) + index
    raise TypeError(f"{type(cache).__name__} has no size by token")


def state_bytes(cache: StateCache, tensor: int, speculative_tokens: int = 0) -> int:
    """Bytes of one sequence's state in one layer on one of ``tensor`` ranks.

    Source: vllm 0.33.0 ``layers/mamba/mamba_utils.py``.
    """
    groups = cache.groups
    if groups and groups % tensor:
        groups = tensor  # one of the replicated groups on each rank
    channels = cache.convolution + groups * cache.group_state
    columns = cache.convolution_kernel - 1 + speculative_tokens
    return channels // tensor * columns * 2 + cache.state // tensor * cache.state_bytes


def states_beside_blocks(
    architecture: Architecture, parallelism: Parallelism, max_num_seqs: int
) -> int:
    """Bytes of the recurrent states that the engine before V1 holds on a rank, for all sequences.

    It makes them in its profiling run, padded to the sizes of CUDA graphs, which are multiples of
    8 (0.8.5 ``models/mamba_cache.py``).
    """
    padded = -(-max_num_seqs // 8) * 8
    kinds = [architecture.kinds[kind] for kind in architecture.pattern]
    on_stages = (
        sum(
            state_bytes(cache, parallelism.tensor)
            for index in stage
            for cache in kinds[index].kept
            if isinstance(cache, StateCache)
        )
        for stage in stage_ranges(len(kinds), parallelism.pipeline)
    )
    return padded * max(on_stages)
