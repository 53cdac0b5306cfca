"""What a version of vLLM refuses of a model and of single pins, whatever the GPU."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from vllm_operator.api.v1alpha1 import Engine
from vllm_operator.engine import defaults
from vllm_operator.engine.architectures import unserved_because
from vllm_operator.engine.devices import accepted_block_sizes
from vllm_operator.engine.first_engine import serves_old_gpus_first
from vllm_operator.engine.refusals import Case, refused
from vllm_operator.engine.tables import does
from vllm_operator.engine.versions import IMAGE_FIELD, VERSION_FIELD, Version
from vllm_operator.errors import (
    IllegalPin,
    Infeasible,
    PlanningError,
    UnsupportedEngineVersion,
)
from vllm_operator.models.architecture import Architecture, decoder_of

from .features import Features

BLOCK_FIELD: Final = "spec.engine.blockSize"
CACHE_FIELD: Final = "spec.engine.kvCacheDtype"
WITH_CACHE_SCALES: Final = (
    "fp8",
    "compressed-tensors",
    "modelopt",
    "modelopt_fp4",
    "modelopt_mixed",
    "modelopt_mxfp8",
)
"""Methods that have scales for the KV cache, so that vLLM calls their checkpoints fp8 ones
(``BaseKVCacheMethod``, ``model_executor/layers/quantization``, 0.8.0 to 0.33.0)."""


def with_length_of(
    architecture: Architecture, version: Version, pinned: int | None = None
) -> Architecture:
    """The architecture with the longest request that ``version`` derives from its positions.

    ``pinned``: ``spec.engine.maxModelLen``, which a model without positions takes as it is.
    """
    if architecture.unbounded and pinned is not None:
        return replace(architecture, context_length=pinned)
    stated = architecture.stated_length
    if stated is None or does("multiplies-yarn", version):
        return architecture
    return replace(architecture, context_length=stated)


def model_problems(
    engine: Engine, version: Version, architecture: Architecture
) -> Iterator[PlanningError]:
    """Whether the version serves the architecture at all."""
    name = decoder_of(architecture.name) or architecture.name
    why = unserved_because(name, version)
    if why is not None:
        field = VERSION_FIELD if engine.version is not None else IMAGE_FIELD
        yield UnsupportedEngineVersion(field, why)


def value_problems(
    engine: Engine, version: Version, architecture: Architecture | None
) -> Iterator[PlanningError]:
    """Single pins whose value the version does not take."""
    size = engine.block_size
    if size is not None and not defaults.accepts_block_size(size, version):
        accepted = accepted_block_sizes(version)
        text = f"{size} is none of {accepted}, which vLLM {version} accepts"
        if serves_old_gpus_first(version):
            few = accepted_block_sizes(version, first_engine=True, xformers=True)
            text += f"; on GPUs before compute capability 8.0 it takes {few}"
        yield IllegalPin(BLOCK_FIELD, text)
    kind = engine.kv_cache_dtype
    accepted_kinds = defaults.accepted_values("--kv-cache-dtype", version)
    if kind is not None and kind not in ("auto", *accepted_kinds):
        yield IllegalPin(
            CACHE_FIELD,
            f"{kind} is none of auto, {', '.join(accepted_kinds)}, which vLLM {version} accepts",
        )
    elif kind == "fp8_e5m2" and architecture is not None and _has_scales(architecture, version):
        method = architecture.quantization.method
        yield IllegalPin(
            CACHE_FIELD,
            f"is fp8_e5m2, which vLLM {version} does not take with checkpoints that have scales "
            f"for an fp8 cache, as {method} has; set it to fp8 or auto",
        )


def case_of(
    engine: Engine,
    architecture: Architecture,
    features: Features,
    *,
    pipeline: int = 1,
    capability: tuple[int, int] | None = None,
    rocm: bool = False,
) -> Case:
    """What is asked for, as the engine's constraints speak of it."""
    backend = features.extra_arguments.value("--attention-backend")
    speculation = features.speculation
    return Case(
        architecture=architecture.name,
        capability=capability,
        rocm=rocm,
        latent=architecture.latent,
        sparse=architecture.sparse,
        compressed=architecture.compressed,
        states=architecture.state_kinds,
        multimodal=architecture.multimodal,
        pooling=architecture.pooling,
        nvfp4_experts="nvfp4" in architecture.expert_schemes,
        quantization=engine.quantization or architecture.quantization.method,
        cache=engine.kv_cache_dtype,
        float32=engine.dtype == "float32",
        prefix_caching=engine.prefix_caching,
        chunked_prefill=engine.chunked_prefill,
        pipeline=pipeline,
        drafts=speculation.method if speculation is not None else None,
        adapters=features.adapters is not None,
        backend=backend.upper() if backend is not None else None,
        moe=features.extra_arguments.value("--moe-backend"),
        arguments=frozenset(
            (flag.name, flag.value or "") for flag in features.extra_arguments.flags
        ),
    )


def constraint_problem(case: Case, version: Version) -> PlanningError | None:
    """What the engine refuses of what its parser takes, as the field's own problem."""
    found = refused(case, version)
    if found is None:
        return None
    kind = Infeasible if found.field == "spec.gpu.product" else IllegalPin
    return kind(found.field, found.why)


def _has_scales(architecture: Architecture, version: Version) -> bool:
    quantization = architecture.quantization
    declares = does("has-cache-scales-where-declared", version)
    if quantization.method == "compressed-tensors" and declares:
        return quantization.kv_cache is not None
    return quantization.method in WITH_CACHE_SCALES
