"""Quantising a 16-bit checkpoint while vLLM loads it (``--quantization``).

What each method makes of which matrices, in which versions, and whether the 16-bit copy lies on
the GPU meanwhile stands in ``engine/online_quantization.csv``. In 16 bits stay embeddings, the
output head, norms, routers, convolutions, and with the methods for experts all else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final

from vllm_operator.engine.quantization import dtypes_in
from vllm_operator.engine.tables import rows_for
from vllm_operator.engine.versions import Version
from vllm_operator.errors import IllegalPin
from vllm_operator.models.architecture import Architecture
from vllm_operator.models.quantization import (
    FP8_BLOCK,
    FP8_CHANNEL,
    FP8_TENSOR,
    INT8_WEIGHTS,
    MXFP4,
    MXFP8,
    NF4,
    NF4_NESTED,
    NVFP4,
    Quantization,
    Scheme,
    mxfp4_expert,
)
from vllm_operator.sizing.split.parallelism import Parallelism

from .weights import bytes_per_rank, largest_matrix_bytes

FIELD: Final = "spec.engine.quantization"
TABLE: Final = "online_quantization.csv"
ADVISED: Final = ("fp8_per_tensor", "fp8")
"""Spellings of fp8 weights while loading, the newest first."""

SCHEMES: Final[Mapping[str, Scheme]] = {
    "fp8": FP8_TENSOR,
    "fp8-block": FP8_BLOCK,
    "fp8-channel": FP8_CHANNEL,
    "int8": INT8_WEIGHTS,
    "mxfp4": MXFP4,
    "mxfp4-expert": MXFP4,
    "mxfp8": MXFP8,
    "nf4": NF4,
    "nf4-nested": NF4_NESTED,
    "nvfp4": NVFP4,
}
"""The schemes by their names in the table; experts in MXFP4 are padded besides."""

SAME_METHOD: Final[Mapping[str, str]] = {
    "awq_marlin": "awq",
    "auto_awq": "awq",
    "gptq_marlin": "gptq",
    "auto_gptq": "gptq",
    "modelopt_fp4": "modelopt_fp4",
    "gpt_oss_mxfp4": "mxfp4",
}
"""Names under which vLLM also accepts a checkpoint's own method."""


@dataclass(frozen=True, slots=True)
class Method:
    """A method of online quantisation in one vLLM version."""

    name: str
    linear: Scheme | None
    """Of linear layers; None: they stay in 16 bits."""
    experts: Scheme | None
    """Of routed experts, likewise."""
    padded_experts: bool
    min_capability: float
    dtypes: tuple[str, ...]
    """Data types of activations that it takes (``get_supported_act_dtypes``)."""
    streams: bool
    """Whether each layer is quantised as soon as it is loaded. Else the whole model lies on the
    GPU in 16 bits first."""


def methods_of(version: Version) -> tuple[str, ...]:
    """The methods that ``version`` knows, in the table's order."""
    return tuple(dict.fromkeys(row["method"] for row in rows_for(TABLE, version)))


def _suiting(architecture: Architecture, version: Version) -> str:
    """What to do instead of a method that does not quantise this model."""
    kind = "experts" if architecture.has_experts else "linear"
    found = [row["method"] for row in rows_for(TABLE, version) if row[kind]]
    if not found:
        return "leave the field out"
    return f"take one of {', '.join(dict.fromkeys(found))}, or leave the field out"


def method_of(name: str, version: Version) -> Method:
    """A method by vLLM's name; raises ``IllegalPin`` where ``version`` does not know it."""
    for row in rows_for(TABLE, version):
        if row["method"] == name:
            return Method(
                name=name,
                linear=SCHEMES[row["linear"]] if row["linear"] else None,
                experts=SCHEMES[row["experts"]] if row["experts"] else None,
                padded_experts=row["experts"] == "mxfp4-expert",
                min_capability=float(row["min_capability"]),
                dtypes=dtypes_in(row["dtypes"]),
                streams=version.release >= Version.parse(row["streams_since"]).release,
            )
    known = ", ".join(methods_of(version))
    raise IllegalPin(
        FIELD, f"vLLM {version} cannot quantise with {name!r} while loading; it can with {known}"
    )


def advised_method(version: Version) -> str | None:
    """What to advise where fewer bits would help: fp8 of all linear layers, as the version spells
    it; None where it has none."""
    known = methods_of(version)
    return next((method for method in ADVISED if method in known), None)


def quantized_online(architecture: Architecture, name: str, version: Version) -> Architecture:
    """The model as ``--quantization name`` keeps it.

    A checkpoint that is quantised by that very method is returned as it is. Raises ``IllegalPin``
    for a method that ``version`` does not know, that leaves this model as it is, or that is not
    the checkpoint's own.
    """
    own = architecture.quantization.method
    if own is not None:
        if SAME_METHOD.get(name, name) in (own, "modelopt" if own.startswith("modelopt") else own):
            return architecture
        raise IllegalPin(
            FIELD,
            f"the checkpoint is quantised with {own!r} and vLLM refuses {name!r} for it; "
            "leave the field out",
        )
    method = method_of(name, version)
    if method.linear is None and not architecture.has_experts:
        raise IllegalPin(
            FIELD,
            f"{name!r} quantises routed experts alone and this model has none; "
            f"{_suiting(architecture, version)}",
        )
    if method.experts is None and architecture.has_experts:
        raise IllegalPin(
            FIELD,
            f"vLLM {version} does not quantise experts with {name!r}; "
            f"take vLLM 0.10.0 or newer, or {_suiting(architecture, version)}",
        )
    return _quantized(architecture, method)


@lru_cache(maxsize=256)
def _quantized(architecture: Architecture, method: Method) -> Architecture:
    """Once for each model and method: what is computed of a model is kept by its identity."""
    return replace(architecture, quantization=_quantization(method))


def _quantization(method: Method) -> Quantization:
    def choose(name: str, layer: int | None, expert: bool) -> Scheme | None:
        last = name.rpartition(".")[2]
        if last == "lm_head" or last.startswith("embed_tokens"):
            return None
        if not expert:
            return method.linear
        return mxfp4_expert(name) if method.padded_experts else method.experts

    used = [scheme for scheme in (method.linear, method.experts) if scheme is not None]
    return Quantization(
        method.name,
        choose,
        block=max((scheme.block for scheme in used), default=0),
        group=max((scheme.group for scheme in used), default=0),
        min_capability=method.min_capability,
    )


def loading_bytes(
    architecture: Architecture,
    name: str,
    version: Version,
    parallelism: Parallelism,
    element_bytes: int,
) -> int:
    """Bytes of weights on the fullest rank at the worst moment of loading.

    ``architecture`` is that of the 16-bit checkpoint. A method that streams holds the largest
    matrix in 16 bits beside what it has quantised; the others hold all, and one matrix quantised.
    """
    largest = largest_matrix_bytes(architecture, parallelism, element_bytes)
    if method_of(name, version).streams:
        quantized = quantized_online(architecture, name, version)
        return bytes_per_rank(quantized, parallelism, element_bytes) + largest
    whole = bytes_per_rank(architecture, parallelism, element_bytes, version=version)
    return whole + largest // element_bytes
