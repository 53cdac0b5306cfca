"""Weights as a vLLM version keeps them on a GPU, where that is not as its newest release does.

Most kernels keep what the checkpoint has. Those for MXFP4 experts pad their dimensions, each
another way (``engine/expert_padding.csv``; Marlin's 256 and 128 for all others), and bitsandbytes
kept its scales quantised up to 0.9.1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache

from vllm_operator.engine.tables import does, rows_for
from vllm_operator.engine.versions import Version
from vllm_operator.models.architecture import Architecture
from vllm_operator.models.quantization import NF4, NF4_NESTED, Scheme, mxfp4_expert

Change = Callable[[str, bool, Scheme], Scheme]


@lru_cache(maxsize=512)
def as_loaded(
    architecture: Architecture, version: Version, capability: tuple[int, int] | None
) -> Architecture:
    """The model with its weights as ``version`` keeps them on a GPU of that compute capability.

    The same object where nothing differs, or where the capability is not known: what the readers
    assume then is the most that a known kernel takes, but for TensorRT-LLM's before 0.27.
    """
    change = _change(architecture, version, capability)
    if change is None:
        return architecture
    original = architecture.quantization

    def choose(name: str, layer: int | None, expert: bool) -> Scheme | None:
        scheme = original.choose(name, layer, expert)
        return None if scheme is None else change(name, expert, scheme)

    return replace(architecture, quantization=replace(original, choose=choose))


def _change(
    architecture: Architecture, version: Version, capability: tuple[int, int] | None
) -> Change | None:
    method = architecture.quantization.method
    if method == "bitsandbytes" and does("nests-bitsandbytes", version):
        return lambda name, expert, scheme: NF4_NESTED if scheme == NF4 else scheme
    if method != "mxfp4" or capability is None:
        return None
    for row in rows_for("expert_padding.csv", version):
        if (row["architecture"], row["capability"]) == (architecture.name, str(capability[0])):
            hidden, intermediate = int(row["hidden"]), int(row["intermediate"])
            return lambda name, expert, scheme: (
                mxfp4_expert(name, hidden, intermediate) if expert else scheme
            )
    return None
