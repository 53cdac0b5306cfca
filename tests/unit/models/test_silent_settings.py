"""What a quantisation's settings mean: where they stand, what they leave out and what they name."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import pytest

from unit.models.test_quantization import (
    AUTO_ROUND,
    AWQ,
    BLOCK_FP8,
    FP8,
    GPTQ,
    INT4,
    NF4,
    NVFP4,
    TOKENS,
    compressed,
    modelopt,
    read,
)
from vllm_operator.errors import UnknownModel
from vllm_operator.models.architecture import relevant_facts
from vllm_operator.models.quantization import modules
from vllm_operator.models.quantization.names import split_name

MODULES = (
    ("mlp.down_proj", 0, False),
    ("mlp.experts.down_proj", 0, True),
    ("lm_head", None, False),
    ("visual.blocks.attn.qkv", None, False),
)
ZEROS = {**AWQ, "zero_point": False}
ASYMMETRIC = {**GPTQ, "sym": False}
INT8 = {"quant_method": "bitsandbytes", "load_in_8bit": True, "llm_int8_skip_modules": ["lm_head"]}
LISTED = {**BLOCK_FP8, "modules_to_not_convert": ["model.layers.0.mlp.down_proj"]}
SETTINGS: dict[str, dict[str, Any]] = {
    "AWQ": AWQ,
    "AWQ without zero points": ZEROS,
    "GPTQ": GPTQ,
    "GPTQ asymmetric": ASYMMETRIC,
    "fp8 in blocks": LISTED,
    "NF4": NF4,
    "8 bits": INT8,
    "AutoRound": AUTO_ROUND,
    "AutoRound asymmetric": {**AUTO_ROUND, "sym": False},
    "NVFP4": modelopt("NVFP4", group_size=16),
    "modelopt fp8": modelopt("FP8"),
}
WEIGHTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "INT4": (INT4, {}),
    "INT4 asymmetric": ({**INT4, "symmetric": False}, {}),
    "fp8": (FP8, {"inputs": TOKENS, "storage": "float-quantized"}),
    "NVFP4": (NVFP4, {"inputs": NVFP4, "storage": "nvfp4-pack-quantized"}),
}


def told(settings: dict[str, Any]) -> str:
    """Bits and arithmetic of a layer, an expert, the head and a tower; or the field refused."""
    try:
        quantization = read(settings)
    except UnknownModel as error:
        return "refused: " + error.field.removeprefix("spec.model.config.quantization_config.")
    schemes = [quantization.scheme(name, layer, expert=expert) for name, layer, expert in MODULES]
    return ", ".join(
        "full" if one is None else f"{one.bytes(8192, 8192) * 8 / 8192**2:g} {one.compute}"
        for one in schemes
    )


def without(settings: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name != key}


@pytest.mark.parametrize(
    ("settings", "left_out", "expected"),
    [
        ("AWQ", "", "4.15625 16bit, 4.15625 16bit, full, full"),
        ("AWQ", "bits", "refused: w_bit"),
        ("AWQ", "group_size", "refused: q_group_size"),
        ("AWQ", "zero_point", "4.15625 16bit, 4.15625 16bit, full, full"),
        ("AWQ without zero points", "", "4.125 16bit, 4.125 16bit, full, full"),
        ("AWQ without zero points", "zero_point", "4.15625 16bit, 4.15625 16bit, full, full"),
        ("GPTQ", "", "4.125 16bit, 4.125 16bit, full, full"),
        ("GPTQ", "bits", "refused: bits"),
        ("GPTQ", "group_size", "refused: group_size"),
        ("GPTQ", "sym", "4.125 16bit, 4.125 16bit, full, full"),
        ("GPTQ asymmetric", "", "4.15625 16bit, 4.15625 16bit, full, full"),
        ("GPTQ asymmetric", "sym", "4.125 16bit, 4.125 16bit, full, full"),
        ("fp8 in blocks", "", "full, 8.00195 fp8, full, 8.00195 fp8"),
        ("fp8 in blocks", "activation_scheme", "full, 8.00195 fp8, full, 8.00195 fp8"),
        ("fp8 in blocks", "weight_block_size", "full, 8 fp8, full, 8 fp8"),
        ("fp8 in blocks", "modules_to_not_convert", "8.00195 fp8, 8.00195 fp8, full, 8.00195 fp8"),
        ("NF4", "load_in_4bit", "4.5 16bit, 4.5 16bit, full, 4.5 16bit"),
        ("NF4", "bnb_4bit_use_double_quant", "4.5 16bit, 4.5 16bit, full, 4.5 16bit"),
        ("8 bits", "", "8.00391 int8, 8.00391 int8, full, 8.00391 int8"),
        ("8 bits", "load_in_8bit", "4.5 16bit, 4.5 16bit, full, 4.5 16bit"),
        ("8 bits", "llm_int8_skip_modules", "8.00391 int8, 8.00391 int8, full, 8.00391 int8"),
        ("AutoRound", "", "4.125 16bit, 4.125 16bit, full, full"),
        ("AutoRound", "sym", "4.125 16bit, 4.125 16bit, full, full"),
        ("AutoRound asymmetric", "", "4.15625 16bit, 4.15625 16bit, full, full"),
        ("AutoRound asymmetric", "sym", "4.125 16bit, 4.125 16bit, full, full"),
        ("NVFP4", "quant_algo", "refused: quant_algo"),
        ("NVFP4", "ignore", "4.5 fp4, 4.5 fp4, 4.5 fp4, 4.5 fp4"),
        ("NVFP4", "group_size", "4.5 fp4, 4.5 fp4, 4.5 fp4, 4.5 fp4"),
        ("modelopt fp8", "ignore", "8 fp8, 8 fp8, 8 fp8, 8 fp8"),
    ],
)
def test_a_setting_that_is_left_out_has_its_method_s_default(
    settings: str, left_out: str, expected: str
) -> None:
    assert told(without(SETTINGS[settings], left_out)) == expected


@pytest.mark.parametrize(
    ("weights", "left_out", "expected"),
    [
        ("INT4", "", "4.5 16bit, 4.5 16bit, full, 4.5 16bit"),
        ("INT4", "num_bits", "refused: num_bits"),
        ("INT4", "type", "4.5 16bit, 4.5 16bit, full, 4.5 16bit"),
        ("INT4", "strategy", "4.5 16bit, 4.5 16bit, full, 4.5 16bit"),
        ("INT4", "group_size", "4.00195 16bit, 4.00195 16bit, full, 4.00195 16bit"),
        ("INT4", "symmetric", "4.5 16bit, 4.5 16bit, full, 4.5 16bit"),
        ("INT4 asymmetric", "", "4.625 16bit, 4.625 16bit, full, 4.625 16bit"),
        ("INT4 asymmetric", "symmetric", "4.5 16bit, 4.5 16bit, full, 4.5 16bit"),
        ("fp8", "", "8.00391 fp8, 8.00391 fp8, full, 8.00391 fp8"),
        ("fp8", "num_bits", "refused: num_bits"),
        ("fp8", "type", "refused: config_groups.group_0.weights"),
        ("fp8", "strategy", "8 fp8, 8 fp8, full, 8 fp8"),
        ("NVFP4", "", "4.5 fp4, 4.5 fp4, full, 4.5 fp4"),
        ("NVFP4", "strategy", "4.5 fp4, 4.5 fp4, full, 4.5 fp4"),
        ("NVFP4", "group_size", "refused: config_groups.group_0.weights"),
    ],
)
def test_weights_of_compressed_tensors_that_leave_one_out_have_its_default(
    weights: str, left_out: str, expected: str
) -> None:
    described, how = WEIGHTS[weights]
    assert told(compressed(without(described, left_out), **how)) == expected


@pytest.mark.parametrize("key", ["quantization_config", "compression_config"])
@pytest.mark.parametrize("holder", ["", "text_config", "llm_config"])
def test_wherever_a_config_has_its_quantisation_the_plan_keeps_it_in_one_place(
    holder: str, key: str
) -> None:
    sizes = {"hidden_size": 64, "num_hidden_layers": 2}
    config = {**sizes, key: AWQ} if not holder else {holder: {**sizes, key: AWQ}}
    kept = relevant_facts(config)
    assert set(kept) == {"quantization_config", *(sizes if not holder else (holder,))}
    assert kept["quantization_config"]["quant_method"] == "awq"
    assert kept.get(holder, sizes) == sizes


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("model.layers.3.mlp.up_proj", ("3", "mlp.up_proj")),
        ("layers.3.mlp.up_proj", ("3", "mlp.up_proj")),
        ("language_model.model.layers.12.self_attn", ("12", "self_attn")),
        ("model.language_model.layers.0", ("0", "")),
        ("transformer.h.7.attn.c_attn", ("7", "attn.c_attn")),
        ("transformer.encoder.layers.7.mlp", ("7", "mlp")),
        ("gpt_neox.layers.7.mlp", ("7", "mlp")),
        ("vision_tower.layers.3.mlp", None),
        ("model.vision_tower.layers.3.mlp", None),
        ("mtp.layers.0.mlp", None),
        ("lm_head", None),
        ("", None),
    ],
)
def test_a_path_is_of_a_layer_of_the_decoder_or_of_none(
    path: str, expected: tuple[str, str] | None
) -> None:
    assert split_name(path) == expected


@pytest.mark.parametrize("error", [re.error("no"), OverflowError("no"), RecursionError("no")])
def test_an_expression_that_python_cannot_compile_is_refused_whatever_it_raises(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(_: str) -> re.Pattern[str]:
        raise error

    monkeypatch.setattr(modules, "re", SimpleNamespace(compile=refuses, error=re.error))
    with pytest.raises(UnknownModel, match="is not a regular expression: no"):
        modules._expression("own.to.this.test", True)


@pytest.mark.parametrize(
    ("sym", "rule", "bits"),
    [
        (True, {}, 4 + 16 / 128),
        (False, {}, 4 + 20 / 128),
        (True, {"sym": False}, 4 + 20 / 128),
        (False, {"sym": True}, 4 + 16 / 128),
        (True, {"bits": 8}, 8 + 16 / 128),
        (True, {"group_size": 64}, 4 + 16 / 64),
        (False, {"bits": 8, "group_size": 32}, 8 + 24 / 32),
    ],
)
def test_a_rule_of_gptq_takes_what_it_does_not_say_from_the_whole(
    sym: bool, rule: dict[str, Any], bits: float
) -> None:
    found = read({**GPTQ, "sym": sym, "dynamic": {"+:.*\\.down_proj": rule}})
    ruled, other = (found.scheme(name, 0) for name in ("mlp.down_proj", "mlp.up_proj"))
    assert ruled is not None
    assert other is not None
    assert ruled.bytes(8192, 8192) * 8 / 8192**2 == pytest.approx(bits)
    assert other.bytes(8192, 8192) * 8 / 8192**2 == pytest.approx(4 + (16 if sym else 20) / 128)
