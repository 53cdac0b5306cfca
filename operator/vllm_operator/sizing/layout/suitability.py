"""Whether a GPU product can run a model at all, and in which data type."""

from __future__ import annotations

from typing import Final

from vllm_operator.engine import defaults
from vllm_operator.engine.devices import (
    Capability,
    accepted_block_sizes,
    first_version_for,
    latent_block_size,
    newest_capability,
    oldest_capability,
    runs_block_size,
    sparse_capabilities,
)
from vllm_operator.engine.first_engine import first_engine_because, only_xformers
from vllm_operator.engine.versions import NEWEST_KNOWN, Version
from vllm_operator.errors import IllegalPin, Infeasible, PlanningError
from vllm_operator.hardware import catalogue
from vllm_operator.models.shapes import LatentCache
from vllm_operator.sizing.asked.gpu_candidates import GPUCandidate, image_refused
from vllm_operator.sizing.asked.specification import Asked
from vllm_operator.sizing.asked.version_support import case_of, constraint_problem
from vllm_operator.sizing.memory.weights import BYTES_OF
from vllm_operator.sizing.split.parallelism import SINGLE

from .data_types import BFLOAT16_CAPABILITY, PRODUCT_FIELD, demands, dtype_refused, shown_capability
from .v0_setup import setup_of

FP8_CACHE_CAPABILITY: Final = (8, 0)
FP8_BITS: Final = 8.0
KV_ELEMENT_BITS: Final = {"fp8": FP8_BITS, "nvfp4": 4.5}
"""nvfp4: half a byte and an fp8 scale for 16 elements (vllm 0.33.0 ``kv_cache_interface.py``)."""


def unsuited_because(asked: Asked, gpu: GPUCandidate) -> PlanningError | None:
    """Why no layout on this product would start, or None."""
    offer = gpu.offer
    capability = offer.compute_capability
    if (why := image_refused(offer, asked.image, asked.version)) is not None:
        return IllegalPin("spec.engine.image", why)
    if (refused := _block_size_refused(asked, gpu)) is not None:
        return refused
    for check in (
        _image_refused,
        _sparse_refused,
        _quantization_refused,
        dtype_refused,
        _constraint_refused,
    ):
        if (refused := check(asked, gpu)) is not None:
            return refused
    kind = asked.engine.kv_cache_dtype
    if capability is None or kind in (None, "auto") or capability >= FP8_CACHE_CAPABILITY:
        return None
    return IllegalPin(
        "spec.engine.kvCacheDtype",
        f"{shown_capability(gpu)} and an fp8 KV cache needs 8.0; set it to auto",
    )


def _image_refused(asked: Asked, gpu: GPUCandidate) -> Infeasible | None:
    """Why vLLM's images have no code for the GPU: they are built from one generation to another."""
    capability, version = gpu.offer.compute_capability, asked.version
    if capability is None:
        return None
    oldest, newest = oldest_capability(version), newest_capability(version)
    why = f"{shown_capability(gpu)}, and vLLM {version}'s images"
    if capability < oldest:
        return Infeasible(
            PRODUCT_FIELD,
            f"{why} start at {_dotted(oldest)}, for example T4, A10, L4 or H100",
        )
    if newest is None or capability <= newest or not defaults.is_official(asked.image):
        return None
    return Infeasible(
        PRODUCT_FIELD,
        f"{why} end at {_dotted(newest)}; take vLLM {first_version_for(capability)} or newer, or a "
        "GPU such as L4 or H100",
    )


def _quantization_refused(asked: Asked, gpu: GPUCandidate) -> Infeasible | None:
    """Why the quantisation method does not take the GPU."""
    capability, version = gpu.offer.compute_capability, asked.version
    needed = demands(asked, version).oldest
    if capability is None or capability >= needed:
        return None
    method = asked.architecture.quantization.method
    newer = _first_that_takes(asked, capability)
    return Infeasible(
        PRODUCT_FIELD,
        f"{shown_capability(gpu)}, and {method} of vLLM {version} needs {_dotted(needed)} at "
        f"least; take a GPU such as {'L4 or H100' if needed <= (8, 9) else 'B200'}"
        f"{newer and f', or vLLM {newer}'}",
    )


def _first_that_takes(asked: Asked, capability: Capability) -> str:
    """The first newer version whose method takes such a GPU; empty where there is none."""
    for minor in range(asked.version.release[1] + 1, NEWEST_KNOWN.release[1] + 1):
        version = Version((0, minor, 0))
        try:
            needed = demands(asked, version).oldest
        except IllegalPin:
            return ""
        if max(needed, oldest_capability(version)) <= capability:
            return str(version)
    return ""


def _sparse_refused(asked: Asked, gpu: GPUCandidate) -> Infeasible | None:
    """Why no kernel of sparse latent attention (DeepSeek-V3.2, GLM-5) takes the GPU.

    Of the official images alone: others are built with kernels of their own, and GLM-5 has been
    served on RTX PRO 6000 by such builds of 0.20.
    """
    capability, architecture = gpu.offer.compute_capability, asked.architecture
    kept = (one for kind in architecture.kinds for one in kind.kept)
    if capability is None or not any(isinstance(k, LatentCache) and k.indexer_dim for k in kept):
        return None
    majors = sparse_capabilities(asked.version)
    if not majors or capability[0] in majors or not defaults.is_official(asked.image):
        return None
    shown = ", ".join(f"{major}.x" for major in majors)
    return Infeasible(
        PRODUCT_FIELD,
        f"{shown_capability(gpu)}, and vLLM {asked.version} has the sparse attention of "
        f"{architecture.name} for {shown}; take a GPU such as H200 or B200",
    )


def _constraint_refused(asked: Asked, gpu: GPUCandidate) -> PlanningError | None:
    """What the engine refuses on such GPUs of what its parser takes."""
    case = case_of(
        asked.engine,
        asked.architecture,
        asked.features,
        pipeline=asked.pins.pipeline or 1,
        capability=gpu.offer.compute_capability,
        rocm=gpu.offer.resource_name == catalogue.AMD_RESOURCE,
    )
    return constraint_problem(case, asked.version)


def _block_size_refused(asked: Asked, gpu: GPUCandidate) -> PlanningError | None:
    """Why the kernels do not take a pinned block size that the parser takes."""
    size, version = asked.engine.block_size, asked.version
    if size is None:
        return None
    setup = setup_of(asked, gpu, SINGLE, element_bytes(asked, gpu)[0])
    first = first_engine_because(version, setup) is not None
    xformers = only_xformers(setup)
    if runs_block_size(size, first_engine=first, xformers=xformers):
        return None
    works = accepted_block_sizes(version, first_engine=first, xformers=xformers)
    return IllegalPin(
        "spec.engine.blockSize",
        f"is {size}, and the attention kernels of vLLM {version} take {works}",
    )


def element_bytes(asked: Asked, gpu: GPUCandidate) -> tuple[int, str | None]:
    """Bytes of an element of weights and activations, and why where the GPU forces float16.

    ``auto`` takes the checkpoint's type, a four-byte checkpoint is loaded at two bytes
    (vllm 0.33.0 ``config/model.py``), and bfloat16 becomes float16 before compute capability 8.0.
    """
    pinned = asked.engine.dtype
    if pinned not in (None, "auto"):
        return BYTES_OF[str(pinned)], None
    capability = gpu.offer.compute_capability
    old = capability is not None and capability < BFLOAT16_CAPABILITY
    if pinned is None and old and asked.architecture.dtype != "float16":
        shown = f"{capability[0]}.{capability[1]}" if capability else ""
        return 2, (
            f"the checkpoint's {asked.architecture.dtype} needs compute capability 8.0 and "
            f"{gpu.offer.product} has {shown}"
        )
    return 2, None


def kv_element_bits(asked: Asked, element_size: int) -> float:
    """Bits of an element of keys and values; a checkpoint may bring an fp8 cache with it."""
    kind = asked.engine.kv_cache_dtype
    if kind in (None, "auto"):
        kind = asked.architecture.quantization.kv_cache
    if kind is None:
        return 8 * element_size
    return KV_ELEMENT_BITS["nvfp4" if kind == "nvfp4" else "fp8"]


def block_size(asked: Asked, gpu: GPUCandidate, kv_bits: float) -> int:
    """Tokens in a block of the KV cache: as pinned, or as the kernels of this GPU want it."""
    pinned = asked.engine.block_size
    caches = [kind.cache for kind in asked.architecture.kinds]
    latent = [cache for cache in caches if isinstance(cache, LatentCache)]
    if not latent or gpu.offer.resource_name == catalogue.AMD_RESOURCE:
        return pinned or defaults.DEFAULT_BLOCK_SIZE
    return latent_block_size(
        asked.version,
        gpu.offer.compute_capability,
        pinned,
        sparse=any(cache.indexer_dim for cache in latent),
        small_cache=kv_bits <= FP8_BITS,
    )


def _dotted(capability: Capability) -> str:
    """(8, 9) as 8.9."""
    return f"{capability[0]}.{capability[1]}"
