"""Which modules a quantisation covers, by method: head, decoder, routed experts, towers."""

from __future__ import annotations

from typing import Any

import pytest

from unit.models.test_quantization import (
    AUTO_ROUND,
    AWQ,
    BLOCK_FP8,
    GPTQ,
    INT4,
    MXFP4,
    NF4,
    compressed,
    modelopt,
    name_of,
    read,
)

MODULES = {
    "head": ("lm_head", None, False),
    "head of a decoder": ("language_model.lm_head", None, False),
    "attention": ("self_attn.q_proj", 0, False),
    "feed-forward": ("mlp.down_proj", 3, False),
    "experts": ("mlp.experts.down_proj", 0, True),
    "tower": ("visual.blocks.attn.qkv", None, False),
    "ModelOpt's tower": ("vision_tower.encoder.q_proj", None, False),
}
HEAD = ("head", "head of a decoder")
DECODER = ("attention", "feed-forward")
TOWERS = ("tower", "ModelOpt's tower")
EIGHT_BITS = {"quant_method": "bitsandbytes", "load_in_8bit": True}
STATIC_FP8 = {"quant_method": "fp8", "activation_scheme": "static"}
WITH_HEAD = compressed(INT4, targets=("Linear", "lm_head"))
COVERED: dict[str, tuple[dict[str, Any], str, tuple[str, ...]]] = {
    "awq": (AWQ, "int4", (*DECODER, "experts")),
    "awq, the head too": ({**AWQ, "lm_head": True}, "int4", (*HEAD, *DECODER, "experts")),
    "gptq": (GPTQ, "int4", (*DECODER, "experts")),
    "gptq, the head too": ({**GPTQ, "lm_head": True}, "int4", (*HEAD, *DECODER, "experts")),
    "auto-round": (AUTO_ROUND, "int4", (*DECODER, "experts")),
    "fp8 in blocks": (BLOCK_FP8, "fp8-block", (*DECODER, "experts", *TOWERS)),
    "fp8": (STATIC_FP8, "fp8", (*DECODER, "experts", *TOWERS)),
    "fbgemm_fp8": ({"quant_method": "fbgemm_fp8"}, "fp8-channel", (*DECODER, *TOWERS)),
    "compressed-tensors": (compressed(INT4), "int4", (*DECODER, "experts", *TOWERS)),
    "compressed-tensors, the head too": (WITH_HEAD, "int4", tuple(MODULES)),
    "modelopt FP8": (modelopt("FP8"), "fp8", (*HEAD, *DECODER, "experts", "tower")),
    "modelopt NVFP4": (modelopt("NVFP4"), "nvfp4", (*HEAD, *DECODER, "experts", "tower")),
    "mxfp8": ({"quant_method": "mxfp8"}, "mxfp8", (*HEAD, *DECODER, "experts", "tower")),
    "mxfp4": (MXFP4, "mxfp4", ("experts",)),
    "nf4": (NF4, "nf4", (*DECODER, "experts", *TOWERS)),
    "8 bits of bitsandbytes": (EIGHT_BITS, "int8", (*DECODER, "experts", *TOWERS)),
    "experts_int8": ({"quant_method": "experts_int8"}, "int8-w8a16", ("experts",)),
}


@pytest.mark.parametrize("method", COVERED)
def test_a_method_covers_these_modules_and_no_others(method: str) -> None:
    settings, scheme, covered = COVERED[method]
    quantization = read(settings)
    assert {
        where: name_of(quantization, module, layer, expert=expert)
        for where, (module, layer, expert) in MODULES.items()
    } == {where: scheme if where in covered else None for where in MODULES}


COMPUTE = {
    **dict.fromkeys(("int4", "int8-w8a16", "nf4", "mxfp4"), "16bit"),
    **dict.fromkeys(("fp8", "fp8-block", "fp8-channel", "mxfp8"), "fp8"),
    "int8": "int8",
    "nvfp4": "fp4",
}


@pytest.mark.parametrize("method", COVERED)
def test_a_method_multiplies_in_the_arithmetic_of_its_kernels(method: str) -> None:
    settings, name, covered = COVERED[method]
    module, layer, expert = MODULES[covered[-1] if "experts" not in covered else "experts"]
    scheme = read(settings).scheme(module, layer, expert=expert)
    assert scheme is not None
    assert scheme.compute == COMPUTE[name]
