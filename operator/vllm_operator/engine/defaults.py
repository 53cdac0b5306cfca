"""What each vLLM version accepts, and what it does when it is not told."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal

from vllm_operator.api.quantity import GIBIBYTE

from .images import COMMON, repository
from .tables import does, rows_for
from .versions import Version

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
        required = [name for name in row["required_name"].split("|") if name]
        if required and not any(name in gpu.casefold() for name in required):
            continue
        floor = row["min_memory_gib"]
        device = "this GPU" if floor == "0" else f"a GPU with at least {floor} GiB"
        return BatchDefaults(
            max_num_batched_tokens=int(row["max_num_batched_tokens"]),
            max_num_seqs=int(row["max_num_seqs"]),
            reason=f"default of vLLM {version} for {device}",
        )
    raise AssertionError("batching.csv has a row for every supported version and device")


@lru_cache(maxsize=512)
def model_runner(
    architecture: str,
    version: Version,
    *,
    dense: bool,
    recurrent: bool,
    quantized: bool,
    rocm: bool = False,
) -> Literal[1, 2]:
    """Which of vLLM's model runners serves a generating model unless it is told otherwise.

    ``recurrent``: with states beside or instead of attention. Source: ``use_v2_model_runner`` in
    ``config/vllm.py`` of each version.
    """
    for row in rows_for("runners.csv", version):
        names = row["architectures"].split("|")
        if quantized and row["quantized"] == "no":
            return 1
        if rocm and architecture in row["first_on_rocm"].split("|"):
            return 1
        if architecture in names or "*" in names:
            return 2
        return 2 if row["dense"] == "yes" and dense and not recurrent else 1
    return 1


@lru_cache(maxsize=64)
def counts_cuda_graphs(version: Version, runner: Literal[1, 2] = 1) -> bool:
    """Whether the budget pays for CUDA graphs (they are captured after the KV cache either way)."""
    rows = rows_for("graphs.csv", version)
    return any(row["counted"] == "yes" and row["runner"] == str(runner) for row in rows)


OFFICIAL_IMAGE: Final = COMMON


def samples_with_flashinfer(version: Version, image: str) -> bool:
    """Whether FlashInfer samples because the image holds it, as the official images do."""
    return does("samples-with-flashinfer", version) and is_official(image)


def is_official(image: str) -> bool:
    """Whether an image is one that the vLLM project publishes."""
    return repository(image) == OFFICIAL_IMAGE


def accepts_block_size(size: int, version: Version) -> bool:
    """Whether ``--block-size`` may be ``size``: the listed values, and from 0.18 every multiple
    of 16, which is what the attention kernels take."""
    if str(size) in accepted_values("--block-size", version):
        return True
    return does("takes-blocks-of-any-16", version) and size % DEFAULT_BLOCK_SIZE == 0


@lru_cache(maxsize=64)
def group_padding(version: Version) -> float:
    """How many times as many layers as the smallest kind of them the largest may have for all to
    be padded to it, instead of being divided into groups of the smallest's size."""
    return float(rows_for("kv_groups.csv", version)[0]["padding"])


@dataclass(frozen=True, slots=True)
class StateCaching:
    """How a version caches the prefixes of recurrent layers of one kind."""

    blocks: int
    """Blocks that a sequence holds beside the running one (``align``)."""
    chunk: int = 0
    """Above 0, a state is kept at the end of each block (``all``), and blocks are multiples of so
    many tokens."""


NO_STATE_CACHING: Final = StateCaching(0)


@lru_cache(maxsize=512)
def state_caching(
    version: Version, kind: str, asked: bool | None, *, drafting: bool
) -> StateCaching:
    """How prefixes of a kind of recurrent layers are cached (``state_blocks.csv``).

    ``asked`` is ``--enable-prefix-caching``; None where nothing is said. Drafts need ``align``
    (0.20.0 ``model_executor/models/config.py``, ``MambaModelConfig``).
    """
    if asked is False or (asked is None and not does("caches-recurrent-prefixes", version)):
        return NO_STATE_CACHING
    for row in rows_for("state_blocks.csv", version):
        if row["kind"] == kind and not (drafting and row["mode"] == "all"):
            return StateCaching(int(row["blocks"]), int(row["chunk"] or 0))
    return NO_STATE_CACHING


@lru_cache(maxsize=512)
def prompt_logprobs_bytes(
    version: Version, runner: Literal[1, 2], max_num_batched_tokens: int, vocabulary: int
) -> int:
    """Bytes of the logits that a step of prompts with ``prompt_logprobs`` makes on each rank.

    ``vocabulary`` is padded. The first model runner makes those of all tokens at once.
    """
    rows = rows_for("prompt_logprobs.csv", version)
    (row,) = [row for row in rows if row["runner"] == str(runner)]
    at_once = int(row["rows"]) if row["rows"] else max_num_batched_tokens
    return min(max_num_batched_tokens, at_once) * vocabulary * int(row["bytes_per_logit"])


@lru_cache(maxsize=512)
def rejection_bytes(version: Version, runner: Literal[1, 2], logits: int) -> int:
    """Bytes that the rejection sampler takes to verify drafts, by its logits (``rejection.csv``).

    vLLM's profiling run verifies one token a sequence (``v1/worker/gpu_model_runner.py``,
    ``_dummy_sampler_run``), or none.
    """
    found = [row for row in rows_for("rejection.csv", version) if row["runner"] == str(runner)]
    if not found:
        return 0
    row = found[0]
    whole = logits * int(row["whole_bytes"])
    limit = int(row["chunk_logits_bytes"] or 0) // 4
    return whole + min(logits, limit) * int(row["chunk_bytes"])


def has_half_precision(architecture: str, version: Version) -> bool:
    """Whether ``version`` serves an architecture in float16 (``half_precision.csv``)."""
    return all(
        row["architecture"] != architecture for row in rows_for("half_precision.csv", version)
    )
