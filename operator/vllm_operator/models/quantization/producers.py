"""Checkpoints of ModelOpt and of compressed-tensors, whose settings hold schemes for groups."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from .modules import Kept, Modules, build
from .names import is_head
from .schemes import (
    FP8_CHANNEL,
    FP8_TENSOR,
    INT8,
    MXFP4,
    MXFP8,
    NVFP4,
    NVFP4_WEIGHTS,
    ComputeType,
    KVCacheType,
    Quantization,
    Scheme,
    block_scheme,
    integer_scheme,
)
from .settings import integer, mapping, names_in, refuse


def _modelopt_scheme(algorithm: object, group: int | None, key: str) -> Scheme:
    name = str(algorithm).upper()
    if group is not None and group < 1:
        refuse(key, f"groups of {group} are not understood")
    if name in ("FP8_PB_WO", "FP8_BLOCK_SCALES"):
        return block_scheme([group or 128, group or 128])
    if name in ("NVFP4", "W4A16_NVFP4"):
        scheme = NVFP4 if name == "NVFP4" else NVFP4_WEIGHTS
        return replace(scheme, group=group) if group and group != scheme.group else scheme
    known = {"FP8": FP8_TENSOR, "FP8_PER_CHANNEL_PER_TOKEN": FP8_CHANNEL, "MXFP8": MXFP8}
    if name not in known:
        refuse(key, f"ModelOpt's {algorithm!r} is not understood")
    return known[name]


def modelopt(found: Mapping[str, Any], config: Mapping[str, Any]) -> Quantization:
    """``modelopt.py``: linear layers, experts and the head, unless they are excluded.

    With MIXED_PRECISION only what ``quantized_layers`` names is quantised. NVFP4 whose groups
    have no activations is weight-only.
    """
    kept = Kept(found, config, "ignore", "exclude_modules")
    kv_cache = _modelopt_kv_cache(found)
    algorithm = str(found.get("quant_algo") or "").upper()
    if algorithm == "MIXED_PRECISION":
        entries = {
            name: _modelopt_scheme(
                entry.get("quant_algo"),
                integer(entry, "group_size", default=0) or None,
                "quantized_layers",
            )
            for name, entry in mapping(found, "quantized_layers").items()
        }
        if not entries:
            refuse("quantized_layers", "MIXED_PRECISION names no layer")
        layers = Modules(entries.items())

        def choose_layer(name: str, layer: int | None, expert: bool) -> Scheme | None:
            return layers.find(name, layer, expert)

        return build("modelopt_mixed", choose_layer, set(entries.values()), 7.5, kept, kv_cache)
    scheme = _modelopt_scheme(
        found.get("quant_algo"), integer(found, "group_size", default=0) or None, "quant_algo"
    )
    groups = mapping(found, "config_groups").values()
    if algorithm == "NVFP4" and groups and not any(one.get("input_activations") for one in groups):
        scheme = replace(scheme, name=NVFP4_WEIGHTS.name, compute="16bit")

    def choose(name: str, layer: int | None, expert: bool) -> Scheme | None:
        if layer is None and any(tower in name for tower in _MODELOPT_TOWERS):
            return None
        return scheme

    method, capability = {
        "nvfp4": ("modelopt_fp4", 7.5),
        "nvfp4-w4a16": ("modelopt_fp4", 7.5),
        "mxfp8": ("modelopt_mxfp8", 8.0),
    }.get(scheme.name, ("modelopt", 8.0))
    return build(method, choose, (scheme,), capability, kept, kv_cache)


_MODELOPT_TOWERS: Final = ("vision_tower", "vision_model", "vit_large_projector")
"""Never quantised in ModelOpt's checkpoints (``modelopt.py``, ``get_quant_method``)."""


def _modelopt_kv_cache(found: Mapping[str, Any]) -> KVCacheType | None:
    """``get_kv_cache_quant_algo_string`` of ``utils/torch_utils.py``."""
    value = found.get("kv_cache_scheme") or found.get("kv_cache_quant_algo")
    if isinstance(value, Mapping):
        if value.get("type") != "float":
            return None
        if value.get("num_bits") == 8 and value.get("dynamic") is False:
            return "fp8"
        return "nvfp4" if value.get("num_bits") == 4 else None
    name = str(value or "").lower()
    return "fp8" if name == "fp8" else "nvfp4" if name == "nvfp4" else None


def mxfp8(found: Mapping[str, Any], config: Mapping[str, Any]) -> Quantization:
    """Checkpoints that are tagged ``mxfp8`` load as ModelOpt's MXFP8 (``__init__.py``)."""
    names = names_in(found, "ignore", "exclude_modules", "ignored_layers", "modules_to_not_convert")
    return modelopt({**found, "quant_algo": "MXFP8", "ignore": names, "group_size": 32}, config)


_LINEAR_CLASSES: Final = frozenset({"Linear", "LinearBase", "RoutedExperts", "FusedMoE"})

_IDLE_CLASSES: Final = frozenset({"Embedding", "VocabParallelEmbedding"})


def compressed_tensors(found: Mapping[str, Any], config: Mapping[str, Any]) -> Quantization:
    """``compressed_tensors.py``: groups of modules by name, expression or class.

    Targets that name modules go before classes; ``Linear`` is also the routed experts and never
    the head. A group of attention modules alone is about the KV cache.
    """
    kept = Kept(found, config, "ignore")
    by_class: Scheme | None = None
    targets: list[tuple[str, Scheme]] = []
    used: list[Scheme] = []
    for name, group in mapping(found, "config_groups").items():
        listed = names_in(group, "targets")
        if len(listed) == 1 and listed[0].endswith("Attention"):
            continue
        scheme = _compressed_scheme(group, str(group.get("format") or found.get("format")), name)
        used.append(scheme)
        for target in listed:
            if target in _LINEAR_CLASSES:
                by_class = scheme
            elif target[:1].isupper() and target not in _IDLE_CLASSES:
                refuse(f"config_groups.{name}.targets", f"{target!r} is not understood")
            elif target not in _IDLE_CLASSES:
                targets.append((target, scheme))
    if not used:
        refuse("config_groups", "names no group of modules")
    named = Modules(targets)

    def choose(name: str, layer: int | None, expert: bool) -> Scheme | None:
        found = named.find(name, layer, expert) if targets else None
        return found if found is not None or is_head(name) else by_class

    capability = 8.0 if any(scheme.name == "mxfp4" for scheme in used) else 7.5
    kv_scheme = found.get("kv_cache_scheme")
    return build("compressed-tensors", choose, used, capability, kept, "fp8" if kv_scheme else None)


def _compressed_scheme(group: Mapping[str, Any], storage: str, name: str) -> Scheme:
    """``_get_scheme_from_parts``."""
    key = f"config_groups.{name}"
    weights = group.get("weights")
    if not isinstance(weights, Mapping):
        refuse(f"{key}.weights", "is missing")
    given = group.get("input_activations")
    inputs: Mapping[str, Any] = given if isinstance(given, Mapping) else {}
    bits = integer(weights, "num_bits")
    size = integer(weights, "group_size", default=0)
    strategy = weights.get("strategy") or ("group" if size > 0 else "tensor")
    kind = (weights.get("type", "int"), bits)
    symmetric = weights.get("symmetric", True)
    if kind == ("float", 4) and size == 16 and symmetric:
        return NVFP4 if inputs else NVFP4_WEIGHTS
    if kind == ("float", 4) and size == 32 and symmetric:
        if inputs.get("num_bits") == 8:
            return replace(MXFP4, compute="fp8")
        return replace(MXFP4, compute="fp4") if inputs else MXFP4
    if kind == ("float", 8) and strategy == "group" and size == 32:
        return MXFP8
    if kind == ("float", 8) and symmetric and storage in ("float-quantized", "naive-quantized"):
        compute: ComputeType = "fp8" if inputs else "16bit"
        if strategy == "block":
            return replace(block_scheme(weights.get("block_structure")), compute=compute)
        if strategy in ("channel", "tensor"):
            scheme = FP8_CHANNEL if strategy == "channel" else FP8_TENSOR
            return replace(scheme, compute=compute)
    if kind[0] == "int" and 2 <= bits <= 8 and strategy in ("group", "channel", "tensor"):
        if storage in ("pack-quantized", "marlin-24") and strategy != "tensor":
            return integer_scheme(
                bits,
                size if strategy == "group" else 0,
                zeros=not symmetric,
                compute=_activations(group, inputs, key),
            )
        if storage in ("int-quantized", "naive-quantized") and bits in (4, 8) and symmetric:
            compute = _activations(group, inputs, key)
            if strategy == "group":
                return integer_scheme(bits, size, zeros=False, compute=compute)
            return replace(INT8, name=f"int{bits}", weight_bits=bits, compute=compute)
    return refuse(
        f"{key}.weights",
        f"{bits}-bit {kind[0]} weights by {strategy} in {storage} are not understood",
    )


def _activations(group: Mapping[str, Any], inputs: Mapping[str, Any], key: str) -> ComputeType:
    """What integer weights are multiplied with; outputs that are rounded too only pretend it."""
    if not inputs or group.get("output_activations"):
        return "16bit"
    kind = (inputs.get("type", "int"), inputs.get("num_bits"))
    if kind == ("int", 8):
        return "int8"
    if kind == ("float", 8):
        return "fp8"
    return refuse(f"{key}.input_activations", f"{kind[1]}-bit {kind[0]} is not understood")
