"""From the settings of a checkpoint to its quantisation, by its method."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from .methods import auto_round, awq, bitsandbytes, experts_int8, fbgemm, fp8, gptq, mxfp4
from .producers import compressed_tensors, modelopt, mxfp8
from .schemes import UNQUANTIZED, Quantization
from .settings import METHODS, find_settings, method_of, refuse


def quantization_from_config(config: Mapping[str, Any]) -> Quantization:
    """The quantisation of the checkpoint whose ``config.json`` this is.

    Where the repository has a ``hf_quant_config.json`` instead, ``with_hf_quant_config`` merges
    it. Raises ``UnknownModel`` for what is not understood.
    """
    found = find_settings(config)
    if not found:
        return UNQUANTIZED
    method = method_of(found)
    reader = _READERS.get(method)
    if reader is None:
        refuse(
            "quant_method",
            f"quantisation {method!r} is not understood; understood are {', '.join(METHODS)}",
        )
    return reader(found, config)


_READERS: Final[dict[str, Callable[[Mapping[str, Any], Mapping[str, Any]], Quantization]]] = {
    "fp8": fp8,
    "fbgemm_fp8": fbgemm,
    "awq": awq,
    "gptq": gptq,
    "compressed-tensors": compressed_tensors,
    "modelopt": modelopt,
    "mxfp4": mxfp4,
    "mxfp8": mxfp8,
    "bitsandbytes": bitsandbytes,
    "auto-round": auto_round,
    "experts_int8": experts_int8,
}
