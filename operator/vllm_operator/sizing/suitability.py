"""Whether a GPU product can run a model at all, and in which data type."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from vllm_operator.errors import IllegalPin, Infeasible, PlanningError

from .gpus import GPUCandidate, image_suits
from .request import Request
from .weights import BYTES_OF

BFLOAT16_CAPABILITY: Final = (8, 0)
FP8_CACHE_CAPABILITY: Final = (8, 0)
KV_ELEMENT_BITS: Final = {"fp8": 8.0, "nvfp4": 4.5}
"""nvfp4: half a byte and an fp8 scale for 16 elements (vllm 0.33.0 ``kv_cache_interface.py``)."""
OLDEST_CAPABILITY: Final = (7, 5)
"""Compute capability that the default CUDA-13 builds of vLLM start at (vllm 0.33.0 CMakeLists)."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """A value and why it was taken."""

    value: int
    reason: str


def unsuited_because(request: Request, gpu: GPUCandidate) -> PlanningError | None:
    """Why no layout on this product would start, or None."""
    offer = gpu.offer
    capability = offer.compute_capability
    if (why := image_suits(offer.resource_name, request.image, request.image_pinned)) is not None:
        return IllegalPin("spec.engine.image", why)
    if capability is None:
        return None
    shown = f"{offer.product} has compute capability {capability[0]}.{capability[1]}"
    if capability < OLDEST_CAPABILITY:
        return Infeasible(
            "spec.gpu.product",
            f"{shown}, and vLLM's images start at 7.5, for example T4, A10, L4 or H100",
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
    kind = request.engine.kv_cache_dtype
    if kind not in (None, "auto") and capability < FP8_CACHE_CAPABILITY:
        return IllegalPin(
            "spec.engine.kvCacheDtype", f"{shown} and an fp8 KV cache needs 8.0; set it to auto"
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


def _capability(number: float) -> tuple[int, int]:
    """8.9 as (8, 9), 10.0 as (10, 0)."""
    major, _, minor = f"{number:.1f}".partition(".")
    return int(major), int(minor)
