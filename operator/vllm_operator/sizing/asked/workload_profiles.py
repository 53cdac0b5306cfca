"""``spec.workload.profile``: what is favoured where nobody pinned it.

A profile moves starting points and preferences. It never overrides a pin, and never takes what the
GPU cannot hold: limits give way as they do without one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from vllm_operator.api.workload import Workload
from vllm_operator.engine.tables import does
from vllm_operator.engine.versions import Version
from vllm_operator.models.architecture import Architecture
from vllm_operator.models.shapes import AttentionCache


@dataclass(frozen=True, slots=True)
class Profile:
    """What a profile changes."""

    name: str
    times: int = 1
    """Batch limits start from vLLM's defaults times this. vLLM's own throughput mode doubles them
    (0.17.0 ``engine/arg_utils.py``, ``performance_mode``)."""
    most_seqs: int | None = None
    """``max-num-seqs`` starts no higher."""
    most_tokens: int | None = None
    """``max-num-batched-tokens`` starts no higher."""
    follows: bool = False
    """Whether the limits end no larger than what the KV cache holds of the expected requests, also
    where ``spec.workload`` states none."""
    fast: bool = False
    """Whether GPUs of a node are added as long as they make an answer noticeably faster."""
    whole: bool = False
    """Whether the model's whole context is worth further nodes."""
    small_cache: bool = False
    """Whether the KV cache is fp8 where that is safe to choose unasked."""
    cheap: bool = False
    """Whether a shorter context that nobody asked for is no reason for more GPUs."""


PROFILES: Final[Mapping[str, Profile]] = {
    one.name: one
    for one in (
        Profile("Balanced"),
        Profile("Throughput", times=2, follows=True),
        Profile("Latency", most_seqs=64, most_tokens=2048, fast=True),
        Profile("LongContext", most_seqs=64, whole=True, small_cache=True),
        Profile("Cost", cheap=True),
    )
}
BALANCED: Final = PROFILES["Balanced"]

ENOUGH_CONTEXT: Final = 8192
"""Tokens of a request that ``Cost`` takes for enough where neither a length nor a load is given."""
WORTH_SECONDS: Final = 0.9
"""``Latency`` takes more GPUs where an answer takes at most this part of the time."""
SMALL_CACHE_CAPABILITY: Final = (8, 9)
"""Native fp8 arithmetic."""
SINKS: Final = frozenset({"GptOssForCausalLM", "MiMoV2ForCausalLM"})
"""Attention with sinks: which kernels take an fp8 cache beside them differs by GPU and version."""


def profile_of(workload: Workload | None) -> Profile:
    """The profile that is asked for; Balanced where none is."""
    name = workload.profile if workload is not None else None
    return PROFILES[name or BALANCED.name]


def takes_small_cache(
    profile: Profile,
    architecture: Architecture,
    version: Version,
    capability: tuple[int, int] | None,
    pinned: str | None,
) -> bool:
    """Whether the KV cache is made fp8 unasked.

    Only for ordinary attention on GPUs with fp8 arithmetic, where every vLLM from 0.11 on has a
    kernel for it.
    """
    if not profile.small_cache or pinned is not None or capability is None:
        return False
    if capability < SMALL_CACHE_CAPABILITY or not does("serves-small-cache-in-v1", version):
        return False
    if architecture.quantization.kv_cache is not None or architecture.name in SINKS:
        return False
    caches = [cache for kind in architecture.kinds for cache in kind.kept]
    return bool(caches) and all(isinstance(cache, AttentionCache) for cache in caches)
