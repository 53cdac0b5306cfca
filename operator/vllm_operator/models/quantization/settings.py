"""Finds a checkpoint's quantisation in its ``config.json`` and reads single settings of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NoReturn

from vllm_operator.errors import UnknownModel
from vllm_operator.models.reader import OTHER_LIMIT, Facts, shown

METHODS: Final = (
    "fp8",
    "fbgemm_fp8",
    "awq",
    "gptq",
    "compressed-tensors",
    "modelopt",
    "mxfp4",
    "mxfp8",
    "bitsandbytes",
    "auto-round",
    "experts_int8",
)
"""The values of ``quant_method`` that are understood."""

QUANTIZATION_KEYS: Final = frozenset(
    {
        "quant_method",
        # which modules stay in the model's data type
        "ignore",
        "ignored_layers",
        "exclude_modules",
        "modules_to_not_convert",
        "llm_int8_skip_modules",
        "modules_in_block_to_quantize",
        "block_name_to_quantize",
        "to_quant_block_names",
        "lm_head",
        # how the others are stored
        "activation_scheme",
        "weight_block_size",
        "store_dtype",
        "moe_quant",
        "moe_quant_algo",
        "bits",
        "w_bit",
        "group_size",
        "q_group_size",
        "zero_point",
        "sym",
        "data_type",
        "packing_format",
        "extra_config",
        "dynamic",
        "config_groups",
        "format",
        "quant_algo",
        "quantized_layers",
        "load_in_8bit",
        "load_in_4bit",
        # and the KV cache
        "kv_cache_scheme",
        "kv_cache_quant_algo",
    }
)
"""The keys of ``quantization_config`` that are read; ``relevant_quantization`` keeps no others."""

QUANTIZATION_FIELD: Final = "spec.model.config.quantization_config"


def with_hf_quant_config(
    config: Mapping[str, Any], hf_quant_config: Mapping[str, Any]
) -> dict[str, Any]:
    """``config.json`` with the ``hf_quant_config.json`` that lies beside it.

    vLLM reads the latter where the former names no quantisation (``transformers_utils/config.py``).
    """
    if find_settings(config):
        return dict(config)
    return {**config, "quantization_config": dict(hf_quant_config)}


def decoder_part(config: Mapping[str, Any]) -> Any:
    """What a multimodal config says of its decoder (InternVL calls it ``llm_config``)."""
    return config.get("text_config") or config.get("llm_config")


def layer_counts(config: Mapping[str, Any]) -> dict[str, int]:
    """How many layers the decoder has, and how many of a draft are counted on after them.

    Raises ``UnknownModel`` for numbers that no model has.
    """
    text = decoder_part(config)
    settings = {**config, **text} if isinstance(text, Mapping) else config
    facts = Facts({key: value for key, value in settings.items() if value is not None})
    least = {"num_hidden_layers": 1, "num_nextn_predict_layers": 0}
    return {key: facts.count(key, least=one) for key, one in least.items() if facts.has(key)}


def find_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """The quantisation's settings, those of ``hf_quant_config.json`` brought to the same form."""
    text = decoder_part(config)
    for place in (config, text if isinstance(text, Mapping) else {}):
        for key in ("quantization_config", "compression_config"):
            found = place.get(key)
            if not found:
                continue
            if not isinstance(found, Mapping):
                raise UnknownModel(f"spec.model.config.{key}", "is not a mapping")
            result = dict(found)
            inner = result.pop("quantization", None)
            if isinstance(inner, Mapping):
                result = {"quant_method": "modelopt", **result, **inner}
            if key == "compression_config":
                result.setdefault("quant_method", "compressed-tensors")
            return result
    return {}


def method_of(found: Mapping[str, Any]) -> str:
    """The method's name, one for all of its spellings."""
    method = found.get("quant_method")
    if method is None:
        producer = found.get("producer")
        if found.get("load_in_4bit") or found.get("load_in_8bit"):
            return "bitsandbytes"
        if isinstance(producer, Mapping) and producer.get("name") == "modelopt":
            return "modelopt"
        refuse("quant_method", "is missing")
    name = str(method).lower()
    return _ALIASES.get(name, name)


_ALIASES: Final = {
    "compressed_tensors": "compressed-tensors",
    "awq_marlin": "awq",
    "auto_awq": "awq",
    "gptq_marlin": "gptq",
    "auto_gptq": "gptq",
    "gpt_oss_mxfp4": "mxfp4",
    "deepseek_v4_fp8": "fp8",
    "modelopt_fp4": "modelopt",
    "modelopt_mixed": "modelopt",
    "modelopt_mxfp8": "modelopt",
    "auto_round": "auto-round",
    "inc": "auto-round",
}


def refuse(key: str, message: str) -> NoReturn:
    """Raise ``UnknownModel`` about a key of the settings."""
    raise UnknownModel(f"{QUANTIZATION_FIELD}.{key}", message)


def integer(found: Mapping[str, Any], *keys: str, default: int | None = None) -> int:
    """The first of these keys that is there, as a whole number."""
    for key in keys:
        value = found.get(key)
        if value is None:
            continue
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool):
            refuse(key, f"{shown(value)} is not a whole number")
        if not -1 <= value <= OTHER_LIMIT:
            refuse(key, f"must lie between -1 and {OTHER_LIMIT}, and is {shown(value)}")
        return value
    if default is None:
        refuse(keys[0], "is missing")
    return default


def names_in(found: Mapping[str, Any], *keys: str) -> list[str]:
    """The modules that the first of these keys that is there lists."""
    for key in keys:
        value = found.get(key)
        if not value:
            continue
        names = [value] if isinstance(value, str) else value
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            refuse(key, "is not a list of module names")
        return names
    return []


def mapping(found: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """The mapping of mappings under a key; empty where it is not given."""
    value = found.get(key)
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not all(
        isinstance(one, Mapping) for one in value.values()
    ):
        refuse(key, "is not a mapping of mappings")
    return value


def expert_type(config: Mapping[str, Any]) -> str | None:
    """``expert_dtype`` of DeepSeek-V4, fp4 where it is not given (``deepseek_v4``)."""
    text = decoder_part(config)
    for place in (config, text if isinstance(text, Mapping) else {}):
        if place.get("expert_dtype") is not None:
            return str(place["expert_dtype"])
    return "fp4" if str(config.get("model_type", "")).startswith("deepseek_v4") else None
