"""Whether a GPU product can run a model at all, and in which data type."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from vllm_operator.engine import defaults
from vllm_operator.engine.devices import (
    FIRST_ENGINE_SIZES,
    accepted_block_sizes,
    latent_block_size,
    oldest_capability,
    runs_block_size,
)
from vllm_operator.engine.first_engine import first_engine_because
from vllm_operator.errors import IllegalPin, Infeasible, PlanningError
from vllm_operator.hardware import catalogue
from vllm_operator.models.shapes import LatentCache

from .engines import setup_of
from .gpus import GPUCandidate, image_refused
from .parallelism import SINGLE
from .request import Request
from .weights import BYTES_OF

BFLOAT16_CAPABILITY: Final = (8, 0)
FP8_CACHE_CAPABILITY: Final = (8, 0)
FP8_BITS: Final = 8.0
KV_ELEMENT_BITS: Final = {"fp8": FP8_BITS, "nvfp4": 4.5}
"""nvfp4: half a byte and an fp8 scale for 16 elements (vllm 0.33.0 ``kv_cache_interface.py``)."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """A value and why it was taken."""

    value: int
    reason: str


def unsuited_because(request: Request, gpu: GPUCandidate) -> PlanningError | None:
    """Why no layout on this product would start, or None."""
    offer = gpu.offer
    capability = offer.compute_capability
    if (why := image_refused(offer, request.image, request.version)) is not None:
        return IllegalPin("spec.engine.image", why)
    if (refused := _block_size_refused(request, gpu)) is not None:
        return refused
    if capability is None:
        return None
    shown = f"{offer.product} has compute capability {capability[0]}.{capability[1]}"
    oldest = oldest_capability(request.version)
    if capability < oldest:
        return Infeasible(
            "spec.gpu.product",
            f"{shown}, and vLLM {request.version}'s images start at {oldest[0]}.{oldest[1]}, "
            "for example T4, A10, L4 or H100",
        )
    quantization = request.architecture.quantization
    needed = quantization.min_capability
    if needed is not None and capability < _capability(needed):
        return Infeasible(
            "spec.gpu.product",
            f"{shown}, and vLLM's {quantization.method} needs {needed:g} at least",
        )
    if request.engine.dtype == "bfloat16" and capability < BFLOAT16_CAPABILITY:
        return IllegalPin(
            "spec.engine.dtype", f"{shown} and bfloat16 needs 8.0; set it to float16 or auto"
        )
    refused = _half_refused(request, shown, capability)
    if refused is not None:
        return refused
    kind = request.engine.kv_cache_dtype
    if kind not in (None, "auto") and capability < FP8_CACHE_CAPABILITY:
        return IllegalPin(
            "spec.engine.kvCacheDtype", f"{shown} and an fp8 KV cache needs 8.0; set it to auto"
        )
    return None


def _block_size_refused(request: Request, gpu: GPUCandidate) -> PlanningError | None:
    """Why the kernels do not take a pinned block size that the parser takes."""
    capability = gpu.offer.compute_capability
    size, version = request.engine.block_size, request.version
    if size is None:
        return None
    setup = setup_of(request, gpu, SINGLE, element_bytes(request, gpu)[0])
    first = first_engine_because(version, setup) is not None
    old = capability is not None and capability < BFLOAT16_CAPABILITY
    if runs_block_size(size, first_engine=first, old_gpu=old):
        return None
    works = accepted_block_sizes(version)
    if first:
        works = ", ".join(map(str, FIRST_ENGINE_SIZES)) if old else f"8, {works}"
    return IllegalPin(
        "spec.engine.blockSize",
        f"is {size}, and the attention kernels of vLLM {version} take {works}",
    )


def _half_refused(
    request: Request, shown: str, capability: tuple[int, int]
) -> PlanningError | None:
    """Why the model cannot be served in float16 where the GPU or a pin asks for it."""
    name, pinned = request.architecture.name, request.engine.dtype
    if defaults.has_half_precision(name, request.version):
        return None
    why = f"vLLM {request.version} does not serve {name} in float16 (it is numerically unstable)"
    if pinned == "float16":
        return IllegalPin("spec.engine.dtype", f"is float16, and {why}; set it to bfloat16 or auto")
    if pinned in (None, "auto") and capability < BFLOAT16_CAPABILITY:
        return Infeasible(
            "spec.gpu.product",
            f"{shown}, bfloat16 needs 8.0, and {why}; take a GPU such as A10, L4 or H100, or set "
            "spec.engine.dtype to float32",
        )
    return None


def element_bytes(request: Request, gpu: GPUCandidate) -> tuple[int, Chosen | None]:
    """Bytes of an element of weights and activations, and the data type where the GPU forces it.

    ``auto`` takes the checkpoint's type, a four-byte checkpoint is loaded at two bytes
    (vllm 0.33.0 ``config/model.py``), and bfloat16 becomes float16 before compute capability 8.0.
    """
    pinned = request.engine.dtype
    if pinned not in (None, "auto"):
        return BYTES_OF[str(pinned)], None
    capability = gpu.offer.compute_capability
    old = capability is not None and capability < BFLOAT16_CAPABILITY
    if pinned is None and old and request.architecture.dtype != "float16":
        shown = f"{capability[0]}.{capability[1]}" if capability else ""
        return 2, Chosen(
            2,
            f"the checkpoint's {request.architecture.dtype} needs compute capability 8.0 and "
            f"{gpu.offer.product} has {shown}",
        )
    return 2, None


def kv_element_bits(request: Request, element_size: int) -> float:
    """Bits of an element of keys and values; a checkpoint may bring an fp8 cache with it."""
    kind = request.engine.kv_cache_dtype
    if kind in (None, "auto"):
        kind = request.architecture.quantization.kv_cache
    if kind is None:
        return 8 * element_size
    return KV_ELEMENT_BITS["nvfp4" if kind == "nvfp4" else "fp8"]


def block_size(request: Request, gpu: GPUCandidate, kv_bits: float) -> int:
    """Tokens in a block of the KV cache: as pinned, or as the kernels of this GPU want it."""
    pinned = request.engine.block_size
    caches = [kind.cache for kind in request.architecture.kinds]
    latent = [cache for cache in caches if isinstance(cache, LatentCache)]
    if not latent or gpu.offer.resource_name == catalogue.AMD_RESOURCE:
        return pinned or defaults.DEFAULT_BLOCK_SIZE
    return latent_block_size(
        request.version,
        gpu.offer.compute_capability,
        pinned,
        sparse=any(cache.indexer_dim for cache in latent),
        small_cache=kv_bits <= FP8_BITS,
    )


def _capability(number: float) -> tuple[int, int]:
    """8.9 as (8, 9), 10.0 as (10, 0)."""
    major, _, minor = f"{number:.1f}".partition(".")
    return int(major), int(minor)
