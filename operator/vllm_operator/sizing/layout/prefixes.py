"""Whether prompts' prefixes are cached, and what a prefix that all of them share spares."""

from __future__ import annotations

from dataclasses import dataclass

from vllm_operator.engine.tables import does
from vllm_operator.sizing.asked.specification import Asked
from vllm_operator.sizing.memory.kvcache import CacheLayout

PINNED = "pinned in spec.engine.prefixCaching"


@dataclass(frozen=True, slots=True)
class Prefixes:
    """Whether vLLM keeps the KV cache of prompts for later ones that begin alike."""

    cached: bool
    reason: str


def prefixes_of(asked: Asked, *, first_engine: bool) -> Prefixes | None:
    """Whether prefixes are cached, by a pin or by the version's default; None for pooling models,
    where it depends on how they pool, which no fact says.

    Sources: vllm 0.8.0 to 0.33.0 ``engine/arg_utils.py``, the defaults of
    ``enable_prefix_caching``; ``since.csv`` for recurrent layers.
    """
    if asked.architecture.pooling:
        return None
    pinned = asked.engine.prefix_caching
    if pinned is not None:
        return Prefixes(pinned, PINNED)
    if first_engine:
        return Prefixes(False, f"default of the engine before V1 in vLLM {asked.version}")
    if asked.architecture.recurrent and not does("caches-recurrent-prefixes", asked.version):
        text = f"default of vLLM {asked.version} for models with recurrent layers"
        return Prefixes(False, f"{text}; spec.engine.prefixCaching: true caches them")
    return Prefixes(True, f"default of vLLM {asked.version}")


def cached_tokens(prefixes: Prefixes | None, cache: CacheLayout, shared: int) -> int:
    """Tokens of a shared prefix that are found in the cache: whole blocks, of every group."""
    if prefixes is None or not prefixes.cached:
        return 0
    block = max(group.block_size for group in cache.groups)
    return shared // block * block


def shared_blocks(prefixes: Prefixes | None, cache: CacheLayout, shared: int) -> int:
    """Blocks that all requests have together: those of the prefix, where a layer keeps them all.

    What a window or a recurrent layer keeps of a prefix is not counted on.
    """
    found = cached_tokens(prefixes, cache, shared)
    return sum(found // group.block_size for group in cache.groups if group.kind == "full")
