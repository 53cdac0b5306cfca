"""How many bytes the elements of a weight matrix take: the checkpoint's quantisation.

Read from ``quantization_config`` (or ``compression_config``) of a ``config.json``. What stays in
the model's data type is named there, by methods in different ways; what no method quantises
(embeddings, norms, convolutions, routers) is marked in the shapes and never asked for. A method
or a setting that is not understood is refused, never guessed.
"""

from __future__ import annotations

from .facts import relevant_quantization
from .names import FUSED_PART
from .reading import quantization_from_config
from .schemes import (
    FP8_BLOCK,
    FP8_CHANNEL,
    FP8_TENSOR,
    INT8,
    INT8_WEIGHTS,
    MXFP4,
    MXFP8,
    NF4,
    NF4_NESTED,
    NVFP4,
    NVFP4_WEIGHTS,
    UNQUANTIZED,
    ComputeType,
    KVCacheType,
    Quantization,
    Scheme,
    mxfp4_expert,
)
from .settings import METHODS, QUANTIZATION_KEYS, with_hf_quant_config

__all__ = [
    "FP8_BLOCK",
    "FP8_CHANNEL",
    "FP8_TENSOR",
    "FUSED_PART",
    "INT8",
    "INT8_WEIGHTS",
    "METHODS",
    "MXFP4",
    "MXFP8",
    "NF4",
    "NF4_NESTED",
    "NVFP4",
    "NVFP4_WEIGHTS",
    "QUANTIZATION_KEYS",
    "UNQUANTIZED",
    "ComputeType",
    "KVCacheType",
    "Quantization",
    "Scheme",
    "mxfp4_expert",
    "quantization_from_config",
    "relevant_quantization",
    "with_hf_quant_config",
]
