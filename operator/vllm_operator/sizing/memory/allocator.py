"""What PyTorch's caching allocator counts for a tensor: more than the tensor's own bytes.

vLLM logs and subtracts ``torch.cuda.memory_allocated`` (``DeviceMemoryProfiler`` of vllm 0.33.0
``utils/mem_utils.py``), which counts blocks. Blocks are cut from segments of 2 MiB multiples, and
what is left of one is not always split off: a matrix of 24.5 MiB has its own segment of 26 MiB,
one of 31.5 MiB counts as 32. Qwen2.5-7B has 14.1930 GiB of weights; logged are 14.2488 (0.11.0)
and 14.29 (0.22.0).

Source: PyTorch 2.6 to 2.11 ``c10/cuda/CUDACachingAllocator.cpp`` (``get_free_block``,
``get_allocation_size``, ``should_split``). With ``expandable_segments`` blocks are always split and
nothing is added; that is the user's own setting and costs nothing here but caution.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from typing import Final

from vllm_operator.api.quantity import MEBIBYTE
from vllm_operator.engine.tables import does
from vllm_operator.engine.versions import Version

SMALL: Final = MEBIBYTE
"""Up to this (``kSmallSize``) tensors share segments of 2 MiB and are split to 512 bytes: what
they lose is not counted here."""
SEGMENT: Final = 20 * MEBIBYTE
"""``kLargeBuffer``: the segment that tensors below ``LARGE`` are cut from."""
LARGE: Final = 10 * MEBIBYTE
"""``kMinLargeAlloc``: from this on a tensor has its own segment, rounded up to ``ROUNDING``."""
ROUNDING: Final = 2 * MEBIBYTE

SPLIT_LIMIT: Final = 20 * MEBIBYTE
"""While it loads weights vLLM sets ``max_split_size_mb:20``: larger blocks are never split."""


class CachingAllocator:
    """Counts the blocks of tensors that are allocated one after the other and never freed."""

    def __init__(self, version: Version) -> None:
        self.allocated = 0
        """Bytes of the blocks, as ``torch.cuda.memory_allocated`` counts them."""
        self._limit = SPLIT_LIMIT if does("limits-splits", version) else None
        self._free: list[int] = []

    def allocate(self, size: int) -> None:
        """Take a tensor of ``size`` bytes."""
        if size <= SMALL:
            self.allocated += size
            return
        block = self._block(size)
        rest = block - size
        if rest > SMALL and (self._limit is None or size < self._limit):
            insort(self._free, rest)
            block = size
        self.allocated += block

    def _block(self, size: int) -> int:
        """The smallest free block that holds ``size``, else a new segment."""
        place = bisect_left(self._free, size)
        if place < len(self._free) and self._may_take(size, self._free[place]):
            return self._free.pop(place)
        return SEGMENT if size < LARGE else -(-size // ROUNDING) * ROUNDING

    def _may_take(self, size: int, block: int) -> bool:
        if self._limit is None:
            return True
        return block < self._limit if size < self._limit else block < size + SEGMENT
