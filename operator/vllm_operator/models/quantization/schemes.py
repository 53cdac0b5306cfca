"""How many bits the elements of a matrix take: the schemes that checkpoints are stored in.

Facts are those of vllm 0.33.0 ``model_executor/layers/quantization``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final, Literal, TypeVar

from .settings import refuse

ComputeType = Literal["16bit", "fp8", "int8", "fp4", "32bit"]
"""The kind of matrix multiplication that a scheme needs of the hardware."""

KVCacheType = Literal["fp8", "nvfp4"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Scheme:
    """How a matrix is stored; ``scale_bits`` are those of scales and zero points of one group."""

    name: str
    weight_bits: float
    group: int = 0
    """Elements along the inputs that share a scale; 0: one scale for an output channel or all."""
    scale_bits: float = 0.0
    """Bits of scale (and zero point) for each group."""
    block: int = 0
    """Edge of a square block that shares an fp32 scale; 0 where there are none."""
    channel_bits: float = 0.0
    """Bits for each output channel beside its elements."""
    compute: ComputeType = "16bit"
    pad_inputs: int = 1
    """vLLM pads the inputs to a multiple of this when it loads the matrix."""
    pad_outputs: int = 1

    def bytes(self, inputs: int, outputs: int, *, padded: bool = True) -> int:
        """Bytes of ``outputs`` x ``inputs`` elements with their scales.

        As vLLM holds them, or with ``padded=False`` as the checkpoint does.
        """
        if padded:
            inputs = -(-inputs // self.pad_inputs) * self.pad_inputs
            outputs = -(-outputs // self.pad_outputs) * self.pad_outputs
        bits = outputs * inputs * self.weight_bits
        if self.group:
            bits += outputs * -(-inputs // self.group) * self.scale_bits
        if self.block:
            bits += -(-outputs // self.block) * -(-inputs // self.block) * 32
        bits += outputs * self.channel_bits
        return -(-int(bits) // 8)


@dataclass(frozen=True)
class Quantization:
    """The schemes of a checkpoint's matrices."""

    method: str | None
    """vLLM's name of the method; None for an unquantised checkpoint."""
    choose: Callable[[str, int | None, bool], Scheme | None] = field(
        default=lambda name, layer, expert: None, compare=False
    )
    """The scheme of the matrix of that name in that layer; None: the model's data type."""
    block: int = 0
    """Edge of the blocks of a block-quantised checkpoint, which tensor parallelism must respect."""
    group: int = 0
    """Group size along the inputs, likewise; 0 where vLLM pads instead."""
    min_capability: float | None = None
    """Compute capability below which vLLM refuses the method."""
    kv_cache: KVCacheType | None = None
    """The KV cache's data type that the checkpoint asks for and vLLM's ``auto`` grants."""

    def scheme(self, name: str, layer: int | None, *, expert: bool = False) -> Scheme | None:
        """The scheme of a matrix; None where it is kept in the model's data type."""
        return self.choose(name, layer, expert)


UNQUANTIZED: Final = Quantization(method=None)

FP8_TENSOR: Final = Scheme("fp8", 8, compute="fp8")

FP8_BLOCK: Final = Scheme("fp8-block", 8, block=128, compute="fp8")
FP8_CHANNEL: Final = Scheme("fp8-channel", 8, channel_bits=32, compute="fp8")

NVFP4: Final = Scheme("nvfp4", 4, group=16, scale_bits=8, compute="fp4")

NVFP4_WEIGHTS: Final = replace(NVFP4, name="nvfp4-w4a16", compute="16bit")

MXFP4: Final = Scheme("mxfp4", 4, group=32, scale_bits=8)

MXFP8: Final = Scheme("mxfp8", 8, group=32, scale_bits=8, compute="fp8")

INT8_WEIGHTS: Final = Scheme("int8-w8a16", 8, channel_bits=32)

INT8: Final = Scheme("int8", 8, channel_bits=32, compute="int8")

NF4: Final = Scheme("nf4", 4.5)
"""bitsandbytes: an fp32 scale for 64 elements. vLLM undoes the double quantisation of the scales
when it loads the weights (0.20.0 ``model_loader/bitsandbytes_loader.py``, ``_dequantize_dq``)."""

NF4_NESTED: Final = Scheme("nf4-nested", 4 + 8 / 64 + 32 / (64 * 256))
"""bitsandbytes with double quantisation, as checkpoints have it and vLLM up to 0.9.1 kept it: a
byte for 64 elements, and an fp32 scale for 256 such bytes."""

MXFP4_HIDDEN_PADDING: Final = 256

MXFP4_INTERMEDIATE_PADDING: Final = 128
"""``fused_moe/oracle/mxfp4.py``: what Marlin and the TensorRT-LLM kernels round experts up to."""

FULL: Final = Scheme("full", 16)
"""Says inside this module that a module is named as one that stays in the model's data type."""


def block_scheme(size: object) -> Scheme:
    """FP8 in square blocks of ``size``, a list of two edges; refuses others."""
    if (
        not isinstance(size, list)
        or len(size) != 2
        or size[0] != size[1]
        or not isinstance(size[0], int)
        or size[0] <= 0
    ):
        refuse("weight_block_size", f"blocks of {size!r} are not square")
    return Scheme("fp8-block", 8, block=size[0], compute="fp8")


def integer_scheme(bits: int, group: int, *, zeros: bool, compute: ComputeType) -> Scheme:
    """Packed integers with 16-bit scales; kernels drop the zero points of symmetric weights."""
    scale = 16 + (bits if zeros else 0)
    name = f"int{bits}"
    if group > 0:
        return Scheme(name, bits, group=group, scale_bits=scale, compute=compute)
    return Scheme(name, bits, channel_bits=scale, compute=compute)


def mxfp4_expert(
    name: str,
    hidden: int = MXFP4_HIDDEN_PADDING,
    intermediate: int = MXFP4_INTERMEDIATE_PADDING,
) -> Scheme:
    """MXFP4 of an expert's matrix; its dimensions are rounded up to these multiples."""
    last = name.rpartition(".")[2]
    if last in ("down_proj", "w2"):
        return replace(MXFP4, pad_inputs=intermediate, pad_outputs=hidden)
    fused = 2 if last in ("gate_up_proj", "w13") else 1
    return replace(MXFP4, pad_inputs=hidden, pad_outputs=fused * intermediate)
