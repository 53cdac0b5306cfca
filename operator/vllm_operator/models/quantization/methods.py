"""The quantisation methods of vLLM, each from the settings that its checkpoints carry.

Facts are those of vllm 0.33.0 ``model_executor/layers/quantization`` (the files are named beside
what was taken from them); bitsandbytes, which that release no longer has, is that of 0.20.0.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vllm_operator.errors import UnknownModel
from vllm_operator.models.reader import shown

from .modules import Kept, Modules, build
from .names import HEAD, in_decoder, is_head, outside_name, split_name
from .schemes import (
    FP8_CHANNEL,
    FP8_TENSOR,
    FULL,
    INT8,
    INT8_WEIGHTS,
    MXFP4,
    MXFP8,
    NF4,
    NVFP4,
    Quantization,
    Scheme,
    block_scheme,
    integer_scheme,
    mxfp4_expert,
)
from .settings import expert_type, integer, mapping, names_in, refuse


def fp8(found: Mapping[str, Any], config: Mapping[str, Any]) -> Quantization:
    """``fp8.py``: every linear layer that is not listed, never the head.

    Experts are MXFP4 where the checkpoint says so: ``store_dtype``, MiMo's ``moe_quant``,
    DeepSeek-V4's ``expert_dtype`` (``models/deepseek_v4/quant_config.py``).
    """
    activations = found.get("activation_scheme", "dynamic")
    if activations not in ("dynamic", "static"):
        refuse("activation_scheme", f"{activations!r} is neither dynamic nor static")
    size = found.get("weight_block_size")
    linear = FP8_TENSOR if size is None else block_scheme(size)
    experts: Scheme | None = None
    for key in ("moe_quant_algo", "moe_quant", "store_dtype"):
        value = found.get(key)
        if value is None:
            continue
        kind = str(value).lower()
        if kind not in ("mxfp4", "nvfp4", "fp8"):
            refuse(key, f"experts in {value!r} are not understood")
        experts = {"mxfp4": MXFP4, "nvfp4": NVFP4, "fp8": linear}[kind]
        break
    kind = expert_type(config) or "fp8"
    if kind not in ("fp4", "fp8"):
        raise UnknownModel("spec.model.config.expert_dtype", f"{kind!r} is not understood")
    if experts is None:
        experts = MXFP4 if kind == "fp4" else linear
    padded = experts is MXFP4
    kept = Kept(found, config, "ignored_layers", "modules_to_not_convert")

    def choose(name: str, layer: int | None, expert: bool) -> Scheme | None:
        if is_head(name):
            return None
        if not expert:
            return linear
        return mxfp4_expert(name) if padded else experts

    used = (linear,) if padded else (linear, experts)
    return build("fp8", choose, used, 8.0 if padded else 7.5, kept)


def fbgemm(found: Mapping[str, Any], config: Mapping[str, Any]) -> Quantization:
    """``fbgemm_fp8.py``: linear layers with a scale for each channel; experts are not quantised."""
    kept = Kept(found, config, "modules_to_not_convert")

    def choose(name: str, layer: int | None, expert: bool) -> Scheme | None:
        return None if expert or is_head(name) else FP8_CHANNEL

    return build("fbgemm_fp8", choose, (FP8_CHANNEL,), 8.0, kept)


def awq(found: Mapping[str, Any], config: Mapping[str, Any]) -> Quantization:
    """``auto_awq.py``: the decoder's layers; towers and projectors stay in full.

    vLLM learns the latter from the checkpoint's tensors where no list says so.
    """
    bits = integer(found, "w_bit", "bits")
    if bits not in (4, 8):
        refuse("bits", f"AWQ with {bits} bits is not understood")
    scheme = integer_scheme(
        bits,
        integer(found, "q_group_size", "group_size"),
        zeros=bool(found.get("zero_point", True)),
        compute="16bit",
    )
    kept = Kept(found, config, "modules_to_not_convert")
    head = bool(found.get(HEAD, False))

    def choose(name: str, layer: int | None, expert: bool) -> Scheme | None:
        quantized = head if is_head(name) else in_decoder(name, layer)
        return scheme if quantized else None

    return build("awq", choose, (scheme,), 7.5, kept)


def gptq(found: Mapping[str, Any], config: Mapping[str, Any]) -> Quantization:
    """``auto_gptq.py``: the decoder's layers, with rules of their own for some in ``dynamic``."""
    bits = _gptq_bits(integer(found, "bits"), "bits")
    group = integer(found, "group_size")
    zeros = not found.get("sym", True)
    scheme = integer_scheme(bits, group, zeros=zeros, compute="16bit")
    rules: list[tuple[str, Scheme]] = []
    for pattern, rule in mapping(found, "dynamic").items():
        if pattern.startswith("-:"):
            rules.append((f"re:{pattern[2:]}", FULL))
            continue
        own = integer_scheme(
            _gptq_bits(integer(rule, "bits", default=bits), "dynamic"),
            integer(rule, "group_size", default=group),
            zeros=not rule.get("sym", not zeros),
            compute="16bit",
        )
        rules.append((f"re:{pattern.removeprefix('+:')}", own))
    dynamic = Modules(rules)
    listed: list[str] = []
    blocks = found.get("modules_in_block_to_quantize") or []
    if not isinstance(blocks, list):
        refuse("modules_in_block_to_quantize", f"is no list, but {shown(blocks)}")
    for entry in blocks:
        listed.extend(entry if isinstance(entry, list) else [entry])
    inside = Modules((str(name), True) for name in listed)
    kept = Kept(found, config, "modules_to_not_convert")
    head = bool(found.get(HEAD, False))

    def choose(name: str, layer: int | None, expert: bool) -> Scheme | None:
        if is_head(name):
            return scheme if head else None
        if not in_decoder(name, layer) or (listed and not inside.find(name, layer, expert)):
            return None
        chosen = dynamic.find(name, layer, expert) or scheme
        return None if chosen is FULL else chosen

    used = [scheme, *(rule for _, rule in rules if rule is not FULL)]
    return build("gptq", choose, used, 6.0, kept)


def _gptq_bits(bits: int, key: str) -> int:
    if bits not in (2, 3, 4, 8):
        refuse(key, f"GPTQ with {bits} bits is not understood")
    return bits


def auto_round(found: Mapping[str, Any], config: Mapping[str, Any]) -> Quantization:
    """``inc``: blocks that are listed, else the decoder, with exceptions in ``extra_config``."""
    kind = str(found.get("data_type", "int"))
    packing = str(found.get("packing_format", "auto_round:auto_gptq"))
    bits = integer(found, "bits")
    zeros = not found.get("sym", True)

    def scheme_of(rule: Mapping[str, Any]) -> Scheme:
        own = integer(rule, "bits", default=bits)
        if own >= 16:
            return FULL
        size = rule.get("group_size", found.get("group_size"))
        if kind in ("fp", "fp8") and own == 8 and isinstance(size, list):
            return block_scheme(size)
        if "mx_fp" in kind and own in (4, 8):
            return MXFP4 if own == 4 else MXFP8
        if kind != "int" or own not in (2, 3, 4, 8):
            refuse("data_type", f"auto-round's {kind!r} with {own} bits is not understood")
        return integer_scheme(
            own,
            integer(rule, "group_size", default=integer(found, "group_size")),
            zeros=not rule.get("sym", not zeros),
            compute="16bit",
        )

    scheme = scheme_of({})
    rules: list[tuple[str, Scheme]] = []
    for pattern, rule in mapping(found, "extra_config").items():
        own = scheme_of(rule)
        special = not set(r"*+?^$()[]{}|\\").isdisjoint(pattern)
        rules.append((f"re:.*?(?:{pattern.lstrip('^')})" if special else pattern, own))
    extra = Modules(rules)
    blocks = names_in(found, "block_name_to_quantize", "to_quant_block_names")
    blocks = [block.strip() for text in blocks for block in text.split(",")]
    decoder = not blocks or any(split_name(f"{block}.") for block in blocks)
    others = tuple(outside_name(block) for block in blocks if not split_name(f"{block}."))
    kept = Kept(found, config, "modules_to_not_convert")

    def choose(name: str, layer: int | None, expert: bool) -> Scheme | None:
        own = extra.find(name, layer, expert)
        if own is not None:
            return None if own is FULL else own
        if layer is not None:
            return scheme if decoder else None
        if is_head(name):
            return None
        if blocks:
            return scheme if outside_name(name).startswith(others or ("\0",)) else None
        return scheme if in_decoder(name, layer) else None

    used = [scheme, *(rule for _, rule in rules if rule is not FULL)]
    return build("inc", choose, used, 7.5 if "awq" in packing else 6.0, kept)


def bitsandbytes(found: Mapping[str, Any], config: Mapping[str, Any]) -> Quantization:
    """``bitsandbytes.py`` of vllm 0.20.0: every linear layer that is not skipped, not the head."""
    eight = bool(found.get("load_in_8bit"))
    scheme = INT8 if eight else NF4
    kept = Kept(found, config, "llm_int8_skip_modules")

    def choose(name: str, layer: int | None, expert: bool) -> Scheme | None:
        return None if is_head(name) else scheme

    return build("bitsandbytes", choose, (scheme,), 7.0, kept)


def mxfp4(found: Mapping[str, Any], config: Mapping[str, Any]) -> Quantization:
    """``mxfp4.py``: routed experts and nothing else, whatever the list says of the others."""
    kept = Kept(found, config, "modules_to_not_convert")

    def choose(name: str, layer: int | None, expert: bool) -> Scheme | None:
        return mxfp4_expert(name) if expert else None

    return build("mxfp4", choose, (), 8.0, kept)


def experts_int8(found: Mapping[str, Any], config: Mapping[str, Any]) -> Quantization:
    """``experts_int8.py``: routed experts, rounded while they are loaded."""

    def choose(name: str, layer: int | None, expert: bool) -> Scheme | None:
        return INT8_WEIGHTS if expert else None

    return build("experts_int8", choose, (INT8_WEIGHTS,), 8.0, Kept({}, config))
