"""What decides whether V0 or V1 serves a layout, in the versions of vLLM that had both engines."""

from __future__ import annotations

from vllm_operator.engine.first_engine import Setup
from vllm_operator.hardware import catalogue
from vllm_operator.models.architecture import Architecture
from vllm_operator.sizing.asked.gpu_candidates import GPUCandidate
from vllm_operator.sizing.asked.specification import Asked
from vllm_operator.sizing.split.parallelism import Parallelism

FLOAT32_BYTES = 4


def setup_of(
    asked: Asked, gpu: GPUCandidate, parallelism: Parallelism, element_bytes: int
) -> Setup:
    """The setup of what is asked on a product in a division."""
    features = asked.features
    return described_setup(
        asked.architecture,
        capability=gpu.offer.compute_capability,
        rocm=gpu.offer.resource_name == catalogue.AMD_RESOURCE,
        float32=element_bytes == FLOAT32_BYTES,
        kv_cache_dtype=asked.engine.kv_cache_dtype or "auto",
        pipeline=parallelism.pipeline,
        adapters=features.adapters is not None,
        drafts=features.speculation.method if features.speculation else None,
    )


def described_setup(
    architecture: Architecture,
    *,
    capability: tuple[int, int] | None,
    rocm: bool = False,
    float32: bool = False,
    kv_cache_dtype: str = "auto",
    pipeline: int = 1,
    adapters: bool = False,
    drafts: str | None = None,
) -> Setup:
    """The same of a model and what is said beside it."""
    return Setup(
        architecture=architecture.name,
        capability=capability,
        rocm=rocm,
        float32=float32,
        kv_cache_dtype=kv_cache_dtype,
        quantization=architecture.quantization.method,
        pooling=architecture.pooling,
        recurrent=architecture.recurrent,
        latent=architecture.latent,
        multimodal=architecture.multimodal,
        windowed=architecture.windowed,
        pipeline=pipeline,
        adapters=adapters,
        drafts=drafts,
    )
