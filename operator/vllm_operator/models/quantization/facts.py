"""The part of a quantisation's settings that is read, for catalogue and pinned facts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from vllm_operator.models.reader import layer_number

from .names import layers_in_prose, split_name, without_expert
from .schemes import T
from .settings import (
    QUANTIZATION_KEYS,
    expert_type,
    find_settings,
    layer_counts,
    mapping,
    method_of,
    names_in,
)


def relevant_quantization(config: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a ``config.json`` that ``quantization_from_config`` reads, cut to the necessary.

    Modules that nobody asks for (norms, routers, embeddings) and the numbers of experts go, what
    is said of every layer is said once, and prose is replaced by the layers that it means. Empty
    for an unquantised checkpoint.
    """
    found = find_settings(config)
    if not found:
        return {}
    cut = {key: value for key, value in found.items() if key in QUANTIZATION_KEYS}
    cut = {key: value for key, value in cut.items() if value is not None}
    cut["quant_method"] = method_of(found)
    for key in _MODULE_LISTS & cut.keys():
        names = dict.fromkeys(_relevant_modules(names_in(cut, key), config))
        cut[key] = list(_for_all_layers(names, config))
    if "quantized_layers" in cut:
        cut.pop("config_groups", None)
        entries = {
            without_expert(name): {
                key: value for key, value in entry.items() if key in ("quant_algo", "group_size")
            }
            for name, entry in mapping(cut, "quantized_layers").items()
        }
        cut["quantized_layers"] = _for_all_layers(entries, config)
    if "config_groups" in cut:
        cut["config_groups"] = {
            name: _relevant_group(group) for name, group in mapping(cut, "config_groups").items()
        }
    result: dict[str, Any] = {"quantization_config": cut, **layer_counts(config)}
    if (expert := expert_type(config)) is not None:
        result["expert_dtype"] = expert
    return result


_MODULE_LISTS: Final = {
    "ignore",
    "ignored_layers",
    "exclude_modules",
    "modules_to_not_convert",
    "llm_int8_skip_modules",
}

_NEVER_ASKED: Final = (
    "norm",
    ".gate",
    "router",
    "conv1d",
    "embed_tokens",
    "embeddings",
    "e_score_correction_bias",
)

_ARGUMENTS: Final = (
    "num_bits",
    "type",
    "strategy",
    "group_size",
    "block_structure",
    "symmetric",
    "dynamic",
    "scale_dtype",
)


def _relevant_modules(names: Iterable[str], config: Mapping[str, Any]) -> Iterator[str]:
    for name in names:
        if " " in name:
            yield from layers_in_prose(name, config)
        elif name.startswith("re:") or not name.endswith(_NEVER_ASKED):
            yield without_expert(name)


def _for_all_layers(entries: Mapping[str, T], config: Mapping[str, Any]) -> dict[str, T]:
    """The entries, those that are the same for every layer replaced by one for ``layers.*``."""
    counts = layer_counts(config)
    if not counts.get("num_hidden_layers"):
        return dict(entries)
    needed = set(range(sum(counts.values())))
    by_name: dict[str, dict[int, T]] = {}
    for path, value in entries.items():
        split = None if path.startswith("re:") else split_name(path)
        number = layer_number(split[0]) if split else None
        if split and number is not None:
            by_name.setdefault(split[1], {})[number] = value
    same = {
        name
        for name, values in by_name.items()
        if needed <= values.keys() and all(one == values[0] for one in values.values())
    }
    result: dict[str, T] = {}
    for path, value in entries.items():
        split = None if path.startswith("re:") else split_name(path)
        if split and layer_number(split[0]) is not None and split[1] in same:
            path = f"model.layers.*.{split[1]}" if split[1] else "model.layers.*"
        result[path] = value
    return result


def _relevant_group(group: Mapping[str, Any]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key in ("targets", "format", "weights", "input_activations", "output_activations"):
        value = group.get(key)
        if isinstance(value, Mapping):
            value = {one: value[one] for one in _ARGUMENTS if value.get(one) is not None}
        if value is not None or key == "input_activations":
            result[key] = value
    return result
