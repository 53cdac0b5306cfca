"""Which engine serves: versions up to 0.10 fall back to the one before V1 for what V1 lacks.

``first_engine.csv`` holds the reasons of each version. The operator sets no VLLM_USE_V1, so that
vLLM decides by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from .tables import rows_for
from .versions import Version

LONG_CONTEXT: Final = 32_768
"""Tokens of a request above which the engine before V1 prefills in chunks unless it is told
otherwise (0.8.0 to 0.10.2 ``engine/arg_utils.py``, ``_set_default_args_v0``)."""
LAST_PATCH: Final = 99
V1_DRAFTS: Final = frozenset({"ngram", "medusa", "eagle", "eagle3", "deepseek_mtp", "mtp"})


@dataclass(frozen=True, slots=True)
class Setup:
    """What decides which engine serves, beside the version."""

    architecture: str
    """Name in ``config.json``."""
    capability: tuple[int, int] | None = None
    """Compute capability, where it is known."""
    rocm: bool = False
    float32: bool = False
    kv_cache_dtype: str = "auto"
    """As the command has it: a checkpoint's own fp8 cache is ``auto``."""
    quantization: str | None = None
    pooling: bool = False
    recurrent: bool = False
    latent: bool = False
    """Multi-head latent attention."""
    multimodal: bool = False
    windowed: bool = False
    """Whether every layer has a sliding window: vLLM then has no ``sliding_window`` of layers that
    take turns."""
    pipeline: int = 1
    adapters: bool = False
    drafts: str | None = None
    """Method of speculative decoding."""


FACTS: Final[Mapping[str, Callable[[Setup], bool]]] = {
    "old_gpu": lambda one: _capability(one) < (8, 0),
    "hopper": lambda one: _capability(one)[0] == 9,
    "blackwell": lambda one: _capability(one) == (10, 0),
    "rocm": lambda one: one.rocm,
    "small_cache": lambda one: one.kv_cache_dtype != "auto",
    "float32": lambda one: one.float32,
    "bitsandbytes": lambda one: one.quantization == "bitsandbytes",
    "pooling": lambda one: one.pooling,
    "recurrent": lambda one: one.recurrent,
    "latent": lambda one: one.latent,
    "stages": lambda one: one.pipeline > 1,
    "adapters": lambda one: one.adapters,
    "drafts": lambda one: one.drafts is not None,
    "drafts_of_v1": lambda one: one.drafts in V1_DRAFTS,
}
"""What the columns ``when`` and ``unless`` speak of."""


def _capability(setup: Setup) -> tuple[int, int]:
    """The compute capability; one that is not known, or AMD's, is new and none of NVIDIA's."""
    return (99, 0) if setup.rocm or setup.capability is None else setup.capability


def _before(version: Version) -> Version:
    """The release before a version's, or one that stands for all patches of the minor before."""
    major, minor, patch = version.release
    return Version((major, minor, patch - 1) if patch else (major, minor - 1, LAST_PATCH))


@lru_cache(maxsize=1024)
def first_engine_because(version: Version, setup: Setup) -> str | None:
    """Why the engine before V1 serves, or None where V1 does (always from 0.11 on).

    A development build may still do what the release before its own does: one of 0.9.2 on MI300X
    was seen to. Whole prompts in a step, for which its plan makes room, V1 takes as well.
    """
    found = _because(version, setup)
    if found is None and ".dev" in version.suffix:
        return _because(_before(version), setup)
    return found


def _because(version: Version, setup: Setup) -> str | None:
    for row in rows_for("first_engine.csv", version):
        if row["architectures"] and setup.architecture not in row["architectures"].split("|"):
            continue
        if row["when"] and not FACTS[row["when"]](setup):
            continue
        if any(FACTS[name](setup) for name in row["unless"].split("|") if name):
            continue
        return row["because"]
    return None


def only_xformers(setup: Setup) -> bool:
    """Whether the engine before V1 has no kernels but xFormers' for a setup, whatever its blocks:
    old GPUs, float32, and an 8-bit cache without FlashAttention 3 (0.8.0 to 0.10.2
    ``platforms/cuda.py``, ``get_attn_backend_cls``; latent attention has kernels of its own)."""
    if FACTS["old_gpu"](setup):
        return True
    eight_bits = FACTS["small_cache"](setup) and not FACTS["hopper"](setup)
    return (setup.float32 or eight_bits) and not (setup.latent or setup.rocm)


def serves_old_gpus_first(version: Version) -> bool:
    """Whether the engine before V1 serves GPUs before compute capability 8.0."""
    return first_engine_because(version, Setup("", capability=(7, 5))) is not None


def prefills_whole_prompts(setup: Setup, max_model_len: int) -> bool:
    """Whether the engine before V1 leaves chunked prefill off unless it is told to chunk.

    Its scheduler then refuses fewer tokens a step than the longest request has (0.8.0 to 0.10.2
    ``config``, ``SchedulerConfig._verify_args``).
    """
    never = setup.multimodal or setup.latent or setup.rocm or setup.windowed
    never = never or setup.pooling or setup.adapters or setup.drafts is not None
    return never or max_model_len <= LONG_CONTEXT
