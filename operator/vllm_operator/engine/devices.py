"""What a vLLM version makes of a GPU: which it runs on, and what its attention kernels take."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from .defaults import DEFAULT_BLOCK_SIZE, accepted_values
from .tables import does, rows, rows_for
from .versions import OLDEST, Version

Capability = tuple[int, int]
FIRST_ENGINE_SIZES: Final = (8, 16, 32)
"""Block sizes of the kernels that served before V1 (0.8.5 ``attention/ops/paged_attn.py``)."""


@lru_cache(maxsize=64)
def oldest_capability(version: Version) -> Capability:
    """The smallest compute capability that vLLM's images of a version are built for."""
    (row,) = rows_for("capabilities.csv", version)
    return read_capability(row["oldest"])


@lru_cache(maxsize=64)
def newest_capability(version: Version) -> Capability | None:
    """The largest that the official images of a version have code for; None where none is known."""
    (row,) = rows_for("capabilities.csv", version)
    return read_capability(row["newest"]) if row["newest"] else None


def first_version_for(capability: Capability) -> str:
    """The first version whose official image has code for GPUs of that compute capability."""
    since = str(OLDEST)
    for row in reversed(rows("capabilities.csv")):
        if row["newest"] and capability > read_capability(row["newest"]):
            break
        since = row["since"]
    return since


@lru_cache(maxsize=64)
def sparse_capabilities(version: Version) -> tuple[int, ...]:
    """Major compute capabilities that some kernel of sparse latent attention takes.

    vLLM refuses a model with ``index_topk`` on any other: "No valid attention backend found"
    (0.33.0 ``platforms/cuda.py``). Empty for versions before such models.
    """
    found = rows_for("sparse_attention.csv", version)
    return tuple(int(one) for row in found for one in row["capabilities"].split("|"))


def read_capability(text: str) -> Capability:
    """8.9 as (8, 9), 10.0 as (10, 0)."""
    major, _, minor = text.partition(".")
    return int(major), int(minor)


@lru_cache(maxsize=512)
def latent_block_size(
    version: Version,
    capability: Capability | None,
    pinned: int | None,
    *,
    sparse: bool,
    small_cache: bool,
) -> int:
    """Tokens in a block of multi-head latent attention's cache; up to 0.17 whatever is pinned.

    ``sparse``: with an indexer; ``small_cache``: with keys and values of 8 bits or fewer.
    """
    for row in rows_for("block_sizes.csv", version):
        major = None if capability is None else str(capability[0])
        if row["capability"] not in ("any", major) or (row["sparse"] == "yes") is not sparse:
            continue
        if row["cache"] == "8bit" and not small_cache:
            continue
        size = int(row["block_size"])
        if pinned is None:
            return size
        kept = row["forced"] == "no" or (row["forced"] == "multiple" and pinned % size == 0)
        return pinned if kept else size
    return pinned or DEFAULT_BLOCK_SIZE


def accepted_block_sizes(
    version: Version, *, first_engine: bool = False, xformers: bool = False
) -> str:
    """The block sizes that both a version's parser and the kernels take, for a message: V1's, or
    those of ``runs_block_size``."""
    if does("takes-blocks-of-any-16", version):
        return "the multiples of 16"
    listed = map(int, accepted_values("--block-size", version))
    return ", ".join(
        str(one)
        for one in listed
        if runs_block_size(one, first_engine=first_engine, xformers=xformers)
    )


def runs_block_size(size: int, *, first_engine: bool = False, xformers: bool = False) -> bool:
    """Whether the attention kernels take blocks of ``size`` tokens.

    V1's take multiples of 16 alone (``v1/attention/backends/flash_attn.py`` and the others beside
    it, 0.8.0 to 0.33.0). The ``first_engine`` serves others with xFormers, and with nothing else
    what FlashAttention does not take (``xformers``: see ``only_xformers``; 0.8.5
    ``platforms/cuda.py``).
    """
    if first_engine and (xformers or size % DEFAULT_BLOCK_SIZE):
        return size in FIRST_ENGINE_SIZES
    return size % DEFAULT_BLOCK_SIZE == 0
