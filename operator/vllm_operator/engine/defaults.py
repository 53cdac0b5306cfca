"""What each vLLM version accepts, and what it does when it is not told."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from .tables import rows_for
from .versions import Version

GIBIBYTE: Final = 1024**3
DEFAULT_BLOCK_SIZE: Final = 16
"""Tokens in a KV-cache block on CUDA (vllm config/cache.py)."""


@dataclass(frozen=True, slots=True)
class BatchDefaults:
    """``--max-num-batched-tokens`` and ``--max-num-seqs`` of ``vllm serve`` on a device."""

    max_num_batched_tokens: int
    max_num_seqs: int
    reason: str


@lru_cache(maxsize=512)
def has_flag(flag: str, version: Version) -> bool:
    """Whether that version's parser knows a flag (of those in ``flags.csv``)."""
    return any(row["flag"] == flag for row in rows_for("flags.csv", version))


@lru_cache(maxsize=512)
def has_environment(name: str, version: Version) -> bool:
    """Whether that version reads an environment variable (of those in ``environment.csv``)."""
    return any(row["name"] == name for row in rows_for("environment.csv", version))


def accepted_values(flag: str, version: Version) -> tuple[str, ...]:
    """The values that ``values.csv`` lists for a flag of that version."""
    return tuple(row["value"] for row in rows_for("values.csv", version) if row["flag"] == flag)


@lru_cache(maxsize=64)
def gpu_memory_utilization(version: Version) -> float:
    """vLLM's own ``--gpu-memory-utilization``."""
    return float(rows_for("utilization.csv", version)[0]["gpu_memory_utilization"])


@lru_cache(maxsize=512)
def batch_defaults(version: Version, memory_bytes: int, gpu: str) -> BatchDefaults:
    """vLLM's own batching limits by the device's memory and name."""
    for row in rows_for("batching.csv", version):
        excluded = [name for name in row["excluded_name"].split("|") if name]
        if memory_bytes < int(row["min_memory_gib"]) * GIBIBYTE:
            continue
        if any(name in gpu.casefold() for name in excluded):
            continue
        floor = row["min_memory_gib"]
        device = "this GPU" if floor == "0" else f"a GPU with at least {floor} GiB"
        return BatchDefaults(
            max_num_batched_tokens=int(row["max_num_batched_tokens"]),
            max_num_seqs=int(row["max_num_seqs"]),
            reason=f"default of vLLM {version} for {device}",
        )
    raise AssertionError("batching.csv has a row for every supported version and device")


@lru_cache(maxsize=64)
def counts_cuda_graphs(version: Version) -> bool:
    """Whether the budget pays for CUDA graphs (they are captured after the KV cache either way)."""
    return rows_for("graphs.csv", version)[0]["counted"] == "yes"


@lru_cache(maxsize=64)
def prints_concurrency_tokens(version: Version) -> bool:
    """Whether 'GPU KV cache size' is max_concurrency x max_model_len (0.21 on) or blocks x size."""
    return version.release >= (0, 21, 0)


def accepts_block_size(size: int, version: Version) -> bool:
    """Whether ``--block-size`` may be ``size``: the listed values, and from 0.18 every multiple
    of 16, which is what the attention kernels take."""
    if str(size) in accepted_values("--block-size", version):
        return True
    return version.release >= (0, 18, 0) and size % DEFAULT_BLOCK_SIZE == 0


def has_hybrid_cache(version: Version) -> bool:
    """Whether sliding windows and recurrent states have block tables of their own.

    vllm 0.10.2 has ``--disable-hybrid-kv-cache-manager``; logs of 0.8.4 (Gemma 3) count every
    layer as a full one.
    """
    return version.release >= (0, 10, 0)


def counts_batches_in_flight(version: Version) -> bool:
    """Whether a window keeps the tokens of every batch in flight, not of one (0.26 on)."""
    return version.release >= (0, 26, 0)


def caches_prefixes_of_states(version: Version) -> bool:
    """Whether prefix caching covers recurrent layers unless it is switched off (0.26 on)."""
    return version.release >= (0, 26, 0)
