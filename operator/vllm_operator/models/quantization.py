"""How many bytes the elements of a weight matrix take: the checkpoint's quantisation.

Read from ``quantization_config`` (or ``compression_config``) of a ``config.json``. What stays in
the model's data type is named there, by methods in different ways; what no method quantises
(embeddings, norms, convolutions, routers) is marked in the shapes and never asked for. A method
or a setting that is not understood is refused, never guessed.

Facts are those of vllm 0.33.0 ``model_executor/layers/quantization`` (the files are named beside
what was taken from them); bitsandbytes, which that release no longer has, is that of 0.20.0.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import translate
from functools import lru_cache
from typing import Any, Final, Generic, Literal, NoReturn, TypeVar

from vllm_operator.errors import UnknownModel

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

_FIELD: Final = "spec.model.config.quantization_config"

FP8_TENSOR: Final = Scheme("fp8", 8, compute="fp8")
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

MXFP4_HIDDEN_PADDING: Final = 256
MXFP4_INTERMEDIATE_PADDING: Final = 128
"""``fused_moe/oracle/mxfp4.py``: what Marlin and the TensorRT-LLM kernels round experts up to."""

_MXFP4_DOWN: Final = replace(
    MXFP4, pad_inputs=MXFP4_INTERMEDIATE_PADDING, pad_outputs=MXFP4_HIDDEN_PADDING
)
_MXFP4_UP: Final = replace(
    MXFP4, pad_inputs=MXFP4_HIDDEN_PADDING, pad_outputs=MXFP4_INTERMEDIATE_PADDING
)
_MXFP4_GATE_UP: Final = replace(_MXFP4_UP, pad_outputs=2 * MXFP4_INTERMEDIATE_PADDING)

FULL: Final = Scheme("full", 16)
"""Says inside this module that a module is named as one that stays in the model's data type."""


def quantization_from_config(config: Mapping[str, Any]) -> Quantization:
    """The quantisation of the checkpoint whose ``config.json`` this is.

    Where the repository has a ``hf_quant_config.json`` instead, ``with_hf_quant_config`` merges
    it. Raises ``UnknownModel`` for what is not understood.
    """
    found = _find(config)
    if not found:
        return UNQUANTIZED
    method = _method(found)
    reader = _READERS.get(method)
    if reader is None:
        _refuse(
            "quant_method",
            f"quantisation {method!r} is not understood; understood are {', '.join(METHODS)}",
        )
    return reader(found, config)


def with_hf_quant_config(
    config: Mapping[str, Any], hf_quant_config: Mapping[str, Any]
) -> dict[str, Any]:
    """``config.json`` with the ``hf_quant_config.json`` that lies beside it.

    vLLM reads the latter where the former names no quantisation (``transformers_utils/config.py``).
    """
    if _find(config):
        return dict(config)
    return {**config, "quantization_config": dict(hf_quant_config)}


def relevant_quantization(config: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a ``config.json`` that ``quantization_from_config`` reads, cut to the necessary.

    Modules that nobody asks for (norms, routers, embeddings) and the numbers of experts go, what
    is said of every layer is said once, and prose is replaced by the layers that it means. Empty
    for an unquantised checkpoint.
    """
    found = _find(config)
    if not found:
        return {}
    cut = {key: value for key, value in found.items() if key in QUANTIZATION_KEYS}
    cut = {key: value for key, value in cut.items() if value is not None}
    cut["quant_method"] = _method(found)
    for key in _MODULE_LISTS & cut.keys():
        names = dict.fromkeys(_relevant_modules(_names(cut, key), config))
        cut[key] = list(_for_all_layers(names, config))
    if "quantized_layers" in cut:
        cut.pop("config_groups", None)
        entries = {
            _without_expert(name): {
                key: value for key, value in entry.items() if key in ("quant_algo", "group_size")
            }
            for name, entry in _mapping(cut, "quantized_layers").items()
        }
        cut["quantized_layers"] = _for_all_layers(entries, config)
    if "config_groups" in cut:
        cut["config_groups"] = {
            name: _relevant_group(group) for name, group in _mapping(cut, "config_groups").items()
        }
    result: dict[str, Any] = {"quantization_config": cut, **_layer_counts(config)}
    if (expert := _expert_type(config)) is not None:
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
            yield from _prose(name, config)
        elif name.startswith("re:") or not name.endswith(_NEVER_ASKED):
            yield _without_expert(name)


def _layer_counts(config: Mapping[str, Any]) -> dict[str, int]:
    """How many layers the decoder has, and how many of a draft are counted on after them."""
    text = config.get("text_config")
    settings = {**config, **text} if isinstance(text, Mapping) else config
    keys = ("num_hidden_layers", "num_nextn_predict_layers")
    return {key: value for key in keys if isinstance(value := settings.get(key), int)}


def _for_all_layers(entries: Mapping[str, T], config: Mapping[str, Any]) -> dict[str, T]:
    """The entries, those that are the same for every layer replaced by one for ``layers.*``."""
    counts = _layer_counts(config)
    if not counts.get("num_hidden_layers"):
        return dict(entries)
    needed = set(range(sum(counts.values())))
    by_name: dict[str, dict[int, T]] = {}
    for path, value in entries.items():
        split = None if path.startswith("re:") else _split(path)
        if split and split[0].isdigit():
            by_name.setdefault(split[1], {})[int(split[0])] = value
    same = {
        name
        for name, values in by_name.items()
        if needed <= values.keys() and all(one == values[0] for one in values.values())
    }
    result: dict[str, T] = {}
    for path, value in entries.items():
        split = None if path.startswith("re:") else _split(path)
        if split and split[0].isdigit() and split[1] in same:
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


def _find(config: Mapping[str, Any]) -> dict[str, Any]:
    """The quantisation's settings, those of ``hf_quant_config.json`` brought to the same form."""
    text = config.get("text_config")
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


def _method(found: Mapping[str, Any]) -> str:
    method = found.get("quant_method")
    if method is None:
        producer = found.get("producer")
        if found.get("load_in_4bit") or found.get("load_in_8bit"):
            return "bitsandbytes"
        if isinstance(producer, Mapping) and producer.get("name") == "modelopt":
            return "modelopt"
        _refuse("quant_method", "is missing")
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


def _refuse(key: str, message: str) -> NoReturn:
    raise UnknownModel(f"{_FIELD}.{key}", message)


def _integer(found: Mapping[str, Any], *keys: str, default: int | None = None) -> int:
    """The first of these keys that is there, as a whole number."""
    for key in keys:
        value = found.get(key)
        if value is None:
            continue
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool):
            _refuse(key, f"{value!r} is not a whole number")
        return value
    if default is None:
        _refuse(keys[0], "is missing")
    return default


def _names(found: Mapping[str, Any], *keys: str) -> list[str]:
    """The modules that the first of these keys that is there lists."""
    for key in keys:
        value = found.get(key)
        if not value:
            continue
        names = [value] if isinstance(value, str) else value
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            _refuse(key, "is not a list of module names")
        return names
    return []


def _mapping(found: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = found.get(key)
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not all(
        isinstance(one, Mapping) for one in value.values()
    ):
        _refuse(key, "is not a mapping of mappings")
    return value


# Names of modules --------------------------------------------------------------------------------

_FUSED: Final[dict[str, tuple[str, ...]]] = {
    "qkv_proj": ("q_proj", "k_proj", "v_proj"),
    "gate_up_proj": ("gate_proj", "up_proj"),
    "w13": ("w1", "w3"),
    "in_proj_qkvz": ("in_proj_qkv", "in_proj_z"),
    "in_proj_ba": ("in_proj_b", "in_proj_a"),
    "fused_qkv_a_proj": ("q_a_proj", "kv_a_proj_with_mqa"),
}
_OTHER_NAMES: Final = {
    **_FUSED,
    **{part: (whole,) for whole, parts in _FUSED.items() for part in parts},
}
"""Matrices that vLLM loads as one have one scheme: lists may name the parts or the whole."""

_OTHER_MODULES: Final = (
    ("shared_experts.", "shared_expert."),
    ("mlp.experts.", "block_sparse_moe.experts."),
    ("moe.experts.", "experts."),
)
"""Modules of experts that checkpoints call otherwise than the shapes."""

_DECODERS: Final = frozenset(
    {"model", "language_model", "backbone", "decoder", "transformer", "text_model", "llm"}
)
"""Components that stand before ``layers.N`` of the decoder (and not of a tower or a draft)."""

_PREFIXES: Final = ("model.", "model.language_model.", "language_model.model.", "backbone.", "")

_WILDCARDS: Final = frozenset("*?[")

_ONE_LAYER: Final = re.compile(r"\D*layers\\?\.(\d+)(?:\\\.|\.(?=\(?[a-z]))\D*")
"""A regular expression that can match modules of one layer only."""

_TELLS_LAYERS: Final = re.compile(r"(?<![a-z\d])\d|\\d(?![+*])|layers")
"""In an expression that may treat layers differently."""

_MOST_LAYERS: Final = 1000
"""More than any model has; ``layers.78*`` is written out up to there."""

_UNNAMED: Final = -1
"""Stands for every layer of which a list says nothing of its own."""


@lru_cache(maxsize=4096)
def _expression(pattern: str, glob: bool) -> re.Pattern[str]:
    try:
        return re.compile(translate(pattern) if glob else pattern)
    except re.error as error:
        _refuse("ignore", f"{pattern!r} is not a regular expression: {error}")


def _split(path: str) -> tuple[str, str] | None:
    """Number and name of ``model.layers.N.name``; None where it is no module of the decoder's."""
    head, found, tail = path.partition("layers.")
    if not found or (head and not _DECODERS.issuperset(head[:-1].split("."))):
        return None
    number, _, name = tail.partition(".")
    return number, name


def _without_expert(name: str) -> str:
    """The name without the number of a routed expert: all of a layer's have one scheme."""
    head, found, tail = name.partition("experts.")
    if not found:
        return name
    number, _, rest = tail.partition(".")
    if not number.isdigit():
        return name
    return f"{head}experts.{rest}" if rest else f"{head}experts"


@lru_cache(maxsize=4096)
def _outside(name: str) -> str:
    """A module's name outside the decoder, without numbers: all layers of a tower are equal."""
    parts = [part for part in name.split(".") if not part.isdigit()]
    while len(parts) > 1 and parts[0] == "model":
        parts.pop(0)
    return ".".join(parts)


@lru_cache(maxsize=4096)
def _spellings(name: str) -> tuple[str, ...]:
    """The name, and what else its matrix may be called."""
    names = [name]
    for ours, theirs in _OTHER_MODULES:
        names.extend(one.replace(ours, theirs, 1) for one in [*names] if ours in one)
    for one in [*names]:
        head, dot, last = one.rpartition(".")
        names.extend(f"{head}{dot}{other}" for other in _OTHER_NAMES.get(last, ()))
    return tuple(dict.fromkeys(names))


@lru_cache(maxsize=4096)
def _parents(name: str) -> tuple[str, ...]:
    """The name and those of the modules that it is in, the layer itself (an empty name) last."""
    result = [name]
    while name:
        name = name.rpartition(".")[0]
        result.append(name)
    return tuple(result)


@lru_cache(maxsize=4096)
def _sequences(name: str) -> tuple[str, ...]:
    """Every run of a name's components."""
    parts = name.split(".")
    return tuple(
        ".".join(parts[start:end])
        for start in range(len(parts))
        for end in range(start + 1, len(parts) + 1)
    )


class _Modules(Generic[T]):
    """Looks up what a list of names, globs and regular expressions says of a module.

    Lists are written with the checkpoint's prefixes, with vLLM's or with none, so that prefixes
    before ``layers.N.`` do not count. A name stands for itself and for the modules below it; one
    without ``layers.N.`` stands for every run of components like it (``visual``, ``mlp.gate``).
    Names end where components end: ``mlp.gate`` is not ``mlp.gate_proj``. Layers that the list
    does not tell apart are looked up once.
    """

    def __init__(self, entries: Iterable[tuple[str, T]]) -> None:
        self._in_layer: dict[int, dict[str, T]] = {}
        self._in_layer_globs: dict[int, list[tuple[re.Pattern[str], T]]] = {}
        self._in_layer_expressions: dict[int, list[tuple[re.Pattern[str], bool, T]]] = {}
        self._in_every_layer: dict[str, T] = {}
        self._name_globs: list[tuple[re.Pattern[str], T]] = []
        self._anywhere: dict[str, T] = {}
        self._expressions: list[tuple[re.Pattern[str], bool, T]] = []
        self._by_layer: list[tuple[re.Pattern[str], bool, T]] = []
        self._outside: list[tuple[re.Pattern[str], bool, T]] = []
        for pattern, value in entries:
            self._add(pattern, value)
        self._like = self._alike()
        self._known: dict[tuple[str, int | None, bool], T | None] = {}

    def _add(self, pattern: str, value: T) -> None:
        if pattern.startswith("re:"):
            self._add_expression(pattern[3:], False, value)
            return
        split = _split(pattern)
        if split is None:
            if _WILDCARDS.isdisjoint(pattern):
                self._anywhere.setdefault(_outside(_without_expert(pattern)), value)
            else:
                self._add_expression(pattern, True, value)
            return
        number, name = split[0], _without_expert(split[1])
        wild = not _WILDCARDS.isdisjoint(name)
        if number.isdigit() and wild:
            globs = self._in_layer_globs.setdefault(int(number), [])
            globs.append((_expression(name, True), value))
        elif number.isdigit():
            self._in_layer.setdefault(int(number), {}).setdefault(name, value)
        elif number == "*" and wild:
            self._name_globs.append((_expression(name, True), value))
        elif number == "*":
            self._in_every_layer.setdefault(name, value)
        elif number[:-1].isdigit() and number.endswith("*") and not name:
            for one in range(_MOST_LAYERS):
                if str(one).startswith(number[:-1]):
                    self._in_layer.setdefault(one, {}).setdefault("", value)
        else:
            self._add_expression(pattern, True, value)

    def _add_expression(self, pattern: str, glob: bool, value: T) -> None:
        anchored = not pattern.startswith("*" if glob else (".*", "^.*"))
        entry = (_expression(pattern, glob), anchored, value)
        one = None if glob else _ONE_LAYER.fullmatch(pattern)
        if glob and anchored and "layers." in pattern and _split(pattern) is None:
            self._outside.append(entry)
            return
        if one:
            self._in_layer_expressions.setdefault(int(one[1]), []).append(entry)
        elif _TELLS_LAYERS.search(pattern):
            self._by_layer.append(entry)
        else:
            self._expressions.append(entry)

    def _alike(self) -> dict[int, int]:
        """For every layer that is named, the first of which the same is said."""
        numbers = sorted({*self._in_layer, *self._in_layer_globs, *self._in_layer_expressions})
        first: dict[object, int] = {}
        return {
            number: first.setdefault(
                (
                    frozenset(self._in_layer.get(number, {}).items()),
                    tuple(self._in_layer_globs.get(number, ())),
                    number if number in self._in_layer_expressions else None,
                ),
                number,
            )
            for number in numbers
        }

    def find(self, name: str, layer: int | None, expert: bool = False) -> T | None:
        """What the list says of this module; None where it does not name it."""
        like = layer
        if layer is not None and not self._by_layer:
            like = self._like.get(layer, _UNNAMED)
        key = (name, like, expert)
        if key in self._known:
            return self._known[key]
        found = None
        if layer is not None:
            found = self._of_layer(name, layer, expert)
        if found is None:
            found = self._of_any(name, layer, expert)
        self._known[key] = found
        return found

    def _of_layer(self, name: str, layer: int, expert: bool) -> T | None:
        names = self._in_layer.get(layer, {})
        globs = self._in_layer_globs.get(layer, ())
        if names or globs:
            for spelling in _spellings(name):
                for parent in _parents(spelling):
                    if parent in names:
                        return names[parent]
                    for expression, value in globs:
                        if expression.match(parent):
                            return value
        own = self._in_layer_expressions.get(layer, [])
        return self._matching([*own, *self._by_layer], name, layer, expert)

    def _of_any(self, name: str, layer: int | None, expert: bool) -> T | None:
        plain = name if layer is not None else _outside(name)
        for spelling in _spellings(plain):
            for run in _sequences(spelling):
                if run in self._anywhere:
                    return self._anywhere[run]
            if layer is None:
                continue
            for parent in _parents(spelling):
                if parent in self._in_every_layer:
                    return self._in_every_layer[parent]
                for expression, value in self._name_globs:
                    if expression.match(parent):
                        return value
        found = self._matching(self._expressions, name, layer, expert)
        if found is None and layer is None:
            found = self._matching([*self._outside, *self._by_layer], name, layer, expert)
        return found

    @staticmethod
    def _matching(
        expressions: list[tuple[re.Pattern[str], bool, T]],
        name: str,
        layer: int | None,
        expert: bool,
    ) -> T | None:
        if not expressions:
            return None
        full = list(_full_names(name, layer, expert))
        for expression, anchored, value in expressions:
            for prefix in _PREFIXES if anchored else _PREFIXES[:1]:
                if any(expression.match(prefix + one) for one in full):
                    return value
        return None


def _full_names(name: str, layer: int | None, expert: bool) -> Iterator[str]:
    """The names, below the decoder's prefix, that an expression may have been written for."""
    for spelling in _spellings(name):
        head, experts, rest = spelling.partition("experts.")
        variants = [spelling, f"{head}experts.0.{rest}"] if expert and experts else [spelling]
        if layer is None:
            yield from variants
            for part in ("blocks.", "layers."):
                before, found, after = spelling.partition(part)
                if found and not after[:1].isdigit():
                    yield f"{before}{part}0.{after}"
        else:
            yield from (f"layers.{layer}.{variant}" for variant in variants)


def _prose(text: str, config: Mapping[str, Any]) -> list[str]:
    """The layers that a list names in words, as the cards of Nemotron's checkpoints do."""
    match = re.fullmatch(
        r"(?:the )?attention layers(?P<mamba> and the mamba layers preceding them)?(?: \([^)]*\))?",
        text.strip().lower(),
    )
    kinds = config.get("layers_block_type") or config.get("hybrid_override_pattern")
    if match is None or not kinds:
        _refuse("ignore", f"{text!r} names no module")
    attention = [number for number, kind in enumerate(kinds) if kind in ("attention", "*")]
    layers = set(attention)
    if match["mamba"]:
        layers |= {
            number - 1 for number in attention if number and kinds[number - 1] in ("mamba", "M")
        }
    return [f"model.layers.{number}" for number in sorted(layers)]


class _Kept:
    """The modules that stay in the model's data type."""

    def __init__(self, found: Mapping[str, Any], config: Mapping[str, Any], *keys: str) -> None:
        names: list[str] = []
        for name in _names(found, *keys):
            names.extend(_prose(name, config) if " " in name else [name])
        self._modules = _Modules((name, True) for name in names)
        self._layers = _layer_counts(config).get("num_hidden_layers", _MOST_LAYERS)

    def names(self, name: str, layer: int | None, expert: bool) -> bool:
        """Whether the list names this module; layers after the last are those of a draft."""
        if self._modules.find(name, layer, expert):
            return True
        if layer is None or layer < self._layers:
            return False
        draft = f"mtp.layers.0.{name}"
        return bool(self._modules.find(draft, None, expert))


_HEAD: Final = "lm_head"


def _is_embedding(name: str) -> bool:
    """Tables, which are counted in full (Gemma has some for each layer, outside the layers)."""
    return name.rpartition(".")[2].startswith("embed_tokens")


def _is_head(name: str) -> bool:
    return name == _HEAD or name.endswith("." + _HEAD)


def _quantization(
    method: str,
    choose: Callable[[str, int | None, bool], Scheme | None],
    schemes: Iterable[Scheme],
    capability: float,
    kept: _Kept,
    kv_cache: KVCacheType | None = None,
) -> Quantization:
    """What a method makes of its settings; ``choose`` is asked for what is not kept in full."""
    known: dict[tuple[str, int | None, bool], Scheme | None] = {}

    def remembered(name: str, layer: int | None, expert: bool) -> Scheme | None:
        key = (name, layer, expert)
        if key not in known:
            whole = _is_embedding(name) or kept.names(name, layer, expert)
            known[key] = None if whole else choose(name, layer, expert)
        return known[key]

    schemes = [*schemes]
    return Quantization(
        method,
        remembered,
        block=max((scheme.block for scheme in schemes), default=0),
        group=max((one.group for one in schemes if one.pad_inputs == 1), default=0),
        min_capability=capability,
        kv_cache=kv_cache,
    )


# Methods -----------------------------------------------------------------------------------------


def _block_scheme(size: object) -> Scheme:
    if (
        not isinstance(size, list)
        or len(size) != 2
        or size[0] != size[1]
        or not isinstance(size[0], int)
        or size[0] <= 0
    ):
        _refuse("weight_block_size", f"blocks of {size!r} are not square")
    return Scheme("fp8-block", 8, block=size[0], compute="fp8")


def _integer_scheme(bits: int, group: int, *, zeros: bool, compute: ComputeType) -> Scheme:
    """Packed integers with 16-bit scales; kernels drop the zero points of symmetric weights."""
    scale = 16 + (bits if zeros else 0)
    name = f"int{bits}"
    if group > 0:
        return Scheme(name, bits, group=group, scale_bits=scale, compute=compute)
    return Scheme(name, bits, channel_bits=scale, compute=compute)


def _mxfp4_expert(name: str) -> Scheme:
    last = name.rpartition(".")[2]
    if last in ("down_proj", "w2"):
        return _MXFP4_DOWN
    return _MXFP4_GATE_UP if last in ("gate_up_proj", "w13") else _MXFP4_UP


def _expert_type(config: Mapping[str, Any]) -> str | None:
    """``expert_dtype`` of DeepSeek-V4, fp4 where it is not given (``deepseek_v4``)."""
    text = config.get("text_config")
    for place in (config, text if isinstance(text, Mapping) else {}):
        if place.get("expert_dtype") is not None:
            return str(place["expert_dtype"])
    return "fp4" if str(config.get("model_type", "")).startswith("deepseek_v4") else None


def _fp8(found: Mapping[str, Any], config: Mapping[str, Any]) -> Quantization:
    """``fp8.py``: every linear layer that is not listed, never the head.

    Experts are MXFP4 where the checkpoint says so: ``store_dtype``, MiMo's ``moe_quant``,
    DeepSeek-V4's ``expert_dtype`` (``models/deepseek_v4/quant_config.py``).
    """
    activations = found.get("activation_scheme", "dynamic")
    if activations not in ("dynamic", "static"):
        _refuse("activation_scheme", f"{activations!r} is neither dynamic nor static")
    size = found.get("weight_block_size")
    linear = FP8_TENSOR if size is None else _block_scheme(size)
    experts: Scheme | None = None
    for key in ("moe_quant_algo", "moe_quant", "store_dtype"):
        value = found.get(key)
        if value is None:
            continue
        kind = str(value).lower()
        if kind not in ("mxfp4", "nvfp4", "fp8"):
            _refuse(key, f"experts in {value!r} are not understood")
        experts = {"mxfp4": MXFP4, "nvfp4": NVFP4, "fp8": linear}[kind]
        break
    kind = _expert_type(config) or "fp8"
    if kind not in ("fp4", "fp8"):
        raise UnknownModel("spec.model.config.expert_dtype", f"{kind!r} is not understood")
    if experts is None:
        experts = MXFP4 if kind == "fp4" else linear
    padded = experts is MXFP4
    kept = _Kept(found, config, "ignored_layers", "modules_to_not_convert")

    def choose(name: str, layer: int | None, expert: bool) -> Scheme | None:
        if _is_head(name):
            return None
        if not expert:
            return linear
        return _mxfp4_expert(name) if padded else experts

    used = (linear,) if padded else (linear, experts)
    return _quantization("fp8", choose, used, 8.0 if padded else 7.5, kept)


def _fbgemm(found: Mapping[str, Any], config: Mapping[str, Any]) -> Quantization:
    """``fbgemm_fp8.py``: linear layers with a scale for each channel; experts are not quantised."""
    kept = _Kept(found, config, "modules_to_not_convert")

    def choose(name: str, layer: int | None, expert: bool) -> Scheme | None:
        return None if expert or _is_head(name) else FP8_CHANNEL

    return _quantization("fbgemm_fp8", choose, (FP8_CHANNEL,), 8.0, kept)


def _in_decoder(name: str, layer: int | None) -> bool:
    """Whether a method that quantises decoder layers only takes this module (or a draft's)."""
    return layer is not None or name.startswith("mtp.layers.")


def _awq(found: Mapping[str, Any], config: Mapping[str, Any]) -> Quantization:
    """``auto_awq.py``: the decoder's layers; towers and projectors stay in full.

    vLLM learns the latter from the checkpoint's tensors where no list says so.
    """
    bits = _integer(found, "w_bit", "bits")
    if bits not in (4, 8):
        _refuse("bits", f"AWQ with {bits} bits is not understood")
    scheme = _integer_scheme(
        bits,
        _integer(found, "q_group_size", "group_size"),
        zeros=bool(found.get("zero_point", True)),
        compute="16bit",
    )
    kept = _Kept(found, config, "modules_to_not_convert")
    head = bool(found.get(_HEAD, False))

    def choose(name: str, layer: int | None, expert: bool) -> Scheme | None:
        quantized = head if _is_head(name) else _in_decoder(name, layer)
        return scheme if quantized else None

    return _quantization("awq", choose, (scheme,), 7.5, kept)


def _gptq(found: Mapping[str, Any], config: Mapping[str, Any]) -> Quantization:
    """``auto_gptq.py``: the decoder's layers, with rules of their own for some in ``dynamic``."""
    bits = _gptq_bits(_integer(found, "bits"), "bits")
    group = _integer(found, "group_size")
    zeros = not found.get("sym", True)
    scheme = _integer_scheme(bits, group, zeros=zeros, compute="16bit")
    rules: list[tuple[str, Scheme]] = []
    for pattern, rule in _mapping(found, "dynamic").items():
        if pattern.startswith("-:"):
            rules.append((f"re:{pattern[2:]}", FULL))
            continue
        own = _integer_scheme(
            _gptq_bits(_integer(rule, "bits", default=bits), "dynamic"),
            _integer(rule, "group_size", default=group),
            zeros=not rule.get("sym", not zeros),
            compute="16bit",
        )
        rules.append((f"re:{pattern.removeprefix('+:')}", own))
    dynamic = _Modules(rules)
    listed: list[str] = []
    for entry in found.get("modules_in_block_to_quantize") or []:
        listed.extend(entry if isinstance(entry, list) else [entry])
    inside = _Modules((str(name), True) for name in listed)
    kept = _Kept(found, config, "modules_to_not_convert")
    head = bool(found.get(_HEAD, False))

    def choose(name: str, layer: int | None, expert: bool) -> Scheme | None:
        if _is_head(name):
            return scheme if head else None
        if not _in_decoder(name, layer) or (listed and not inside.find(name, layer, expert)):
            return None
        chosen = dynamic.find(name, layer, expert) or scheme
        return None if chosen is FULL else chosen

    used = [scheme, *(rule for _, rule in rules if rule is not FULL)]
    return _quantization("gptq", choose, used, 6.0, kept)


def _gptq_bits(bits: int, key: str) -> int:
    if bits not in (2, 3, 4, 8):
        _refuse(key, f"GPTQ with {bits} bits is not understood")
    return bits


def _auto_round(found: Mapping[str, Any], config: Mapping[str, Any]) -> Quantization:
    """``inc``: blocks that are listed, else the decoder, with exceptions in ``extra_config``."""
    kind = str(found.get("data_type", "int"))
    packing = str(found.get("packing_format", "auto_round:auto_gptq"))
    bits = _integer(found, "bits")
    zeros = not found.get("sym", True)

    def scheme_of(rule: Mapping[str, Any]) -> Scheme:
        own = _integer(rule, "bits", default=bits)
        if own >= 16:
            return FULL
        size = rule.get("group_size", found.get("group_size"))
        if kind in ("fp", "fp8") and own == 8 and isinstance(size, list):
            return _block_scheme(size)
        if "mx_fp" in kind and own in (4, 8):
            return MXFP4 if own == 4 else MXFP8
        if kind != "int" or own not in (2, 3, 4, 8):
            _refuse("data_type", f"auto-round's {kind!r} with {own} bits is not understood")
        return _integer_scheme(
            own,
            _integer(rule, "group_size", default=_integer(found, "group_size")),
            zeros=not rule.get("sym", not zeros),
            compute="16bit",
        )

    scheme = scheme_of({})
    rules: list[tuple[str, Scheme]] = []
    for pattern, rule in _mapping(found, "extra_config").items():
        own = scheme_of(rule)
        special = not set(r"*+?^$()[]{}|\\").isdisjoint(pattern)
        rules.append((f"re:.*?(?:{pattern.lstrip('^')})" if special else pattern, own))
    extra = _Modules(rules)
    blocks = _names(found, "block_name_to_quantize", "to_quant_block_names")
    blocks = [block.strip() for text in blocks for block in text.split(",")]
    decoder = not blocks or any(_split(f"{block}.") for block in blocks)
    others = tuple(_outside(block) for block in blocks if not _split(f"{block}."))
    kept = _Kept(found, config, "modules_to_not_convert")

    def choose(name: str, layer: int | None, expert: bool) -> Scheme | None:
        own = extra.find(name, layer, expert)
        if own is not None:
            return None if own is FULL else own
        if layer is not None:
            return scheme if decoder else None
        if _is_head(name):
            return None
        if blocks:
            return scheme if _outside(name).startswith(others or ("\0",)) else None
        return scheme if _in_decoder(name, layer) else None

    used = [scheme, *(rule for _, rule in rules if rule is not FULL)]
    return _quantization("inc", choose, used, 7.5 if "awq" in packing else 6.0, kept)


def _bitsandbytes(found: Mapping[str, Any], config: Mapping[str, Any]) -> Quantization:
    """``bitsandbytes.py`` of vllm 0.20.0: every linear layer that is not skipped, not the head."""
    eight = bool(found.get("load_in_8bit"))
    scheme = INT8 if eight else NF4
    kept = _Kept(found, config, "llm_int8_skip_modules")

    def choose(name: str, layer: int | None, expert: bool) -> Scheme | None:
        return None if _is_head(name) else scheme

    return _quantization("bitsandbytes", choose, (scheme,), 7.0, kept)


def _mxfp4(found: Mapping[str, Any], config: Mapping[str, Any]) -> Quantization:
    """``mxfp4.py``: routed experts and nothing else, whatever the list says of the others."""
    kept = _Kept(found, config, "modules_to_not_convert")

    def choose(name: str, layer: int | None, expert: bool) -> Scheme | None:
        return _mxfp4_expert(name) if expert else None

    return _quantization("mxfp4", choose, (), 8.0, kept)


def _experts_int8(found: Mapping[str, Any], config: Mapping[str, Any]) -> Quantization:
    """``experts_int8.py``: routed experts, rounded while they are loaded."""

    def choose(name: str, layer: int | None, expert: bool) -> Scheme | None:
        return INT8_WEIGHTS if expert else None

    return _quantization("experts_int8", choose, (INT8_WEIGHTS,), 8.0, _Kept({}, config))


def _modelopt_scheme(algorithm: object, group: int | None, key: str) -> Scheme:
    name = str(algorithm).upper()
    if name in ("FP8_PB_WO", "FP8_BLOCK_SCALES"):
        return _block_scheme([group or 128, group or 128])
    if name in ("NVFP4", "W4A16_NVFP4"):
        scheme = NVFP4 if name == "NVFP4" else NVFP4_WEIGHTS
        return replace(scheme, group=group) if group and group != scheme.group else scheme
    known = {"FP8": FP8_TENSOR, "FP8_PER_CHANNEL_PER_TOKEN": FP8_CHANNEL, "MXFP8": MXFP8}
    if name not in known:
        _refuse(key, f"ModelOpt's {algorithm!r} is not understood")
    return known[name]


def _modelopt(found: Mapping[str, Any], config: Mapping[str, Any]) -> Quantization:
    """``modelopt.py``: linear layers, experts and the head, unless they are excluded.

    With MIXED_PRECISION only what ``quantized_layers`` names is quantised. NVFP4 whose groups
    have no activations is weight-only.
    """
    kept = _Kept(found, config, "ignore", "exclude_modules")
    kv_cache = _modelopt_kv_cache(found)
    algorithm = str(found.get("quant_algo") or "").upper()
    if algorithm == "MIXED_PRECISION":
        entries = {
            name: _modelopt_scheme(
                entry.get("quant_algo"),
                _integer(entry, "group_size", default=0) or None,
                "quantized_layers",
            )
            for name, entry in _mapping(found, "quantized_layers").items()
        }
        if not entries:
            _refuse("quantized_layers", "MIXED_PRECISION names no layer")
        layers = _Modules(entries.items())

        def choose_layer(name: str, layer: int | None, expert: bool) -> Scheme | None:
            return layers.find(name, layer, expert)

        return _quantization(
            "modelopt_mixed", choose_layer, set(entries.values()), 7.5, kept, kv_cache
        )
    scheme = _modelopt_scheme(
        found.get("quant_algo"), _integer(found, "group_size", default=0) or None, "quant_algo"
    )
    groups = _mapping(found, "config_groups").values()
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
    return _quantization(method, choose, (scheme,), capability, kept, kv_cache)


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


def _mxfp8(found: Mapping[str, Any], config: Mapping[str, Any]) -> Quantization:
    """Checkpoints that are tagged ``mxfp8`` load as ModelOpt's MXFP8 (``__init__.py``)."""
    names = _names(found, "ignore", "exclude_modules", "ignored_layers", "modules_to_not_convert")
    return _modelopt({**found, "quant_algo": "MXFP8", "ignore": names, "group_size": 32}, config)


_LINEAR_CLASSES: Final = frozenset({"Linear", "LinearBase", "RoutedExperts", "FusedMoE"})
_IDLE_CLASSES: Final = frozenset({"Embedding", "VocabParallelEmbedding"})


def _compressed_tensors(found: Mapping[str, Any], config: Mapping[str, Any]) -> Quantization:
    """``compressed_tensors.py``: groups of modules by name, expression or class.

    Targets that name modules go before classes; ``Linear`` is also the routed experts and never
    the head. A group of attention modules alone is about the KV cache.
    """
    kept = _Kept(found, config, "ignore")
    by_class: Scheme | None = None
    targets: list[tuple[str, Scheme]] = []
    used: list[Scheme] = []
    for name, group in _mapping(found, "config_groups").items():
        listed = _names(group, "targets")
        if len(listed) == 1 and listed[0].endswith("Attention"):
            continue
        scheme = _compressed_scheme(group, str(group.get("format") or found.get("format")), name)
        used.append(scheme)
        for target in listed:
            if target in _LINEAR_CLASSES:
                by_class = scheme
            elif target[:1].isupper() and target not in _IDLE_CLASSES:
                _refuse(f"config_groups.{name}.targets", f"{target!r} is not understood")
            elif target not in _IDLE_CLASSES:
                targets.append((target, scheme))
    if not used:
        _refuse("config_groups", "names no group of modules")
    named = _Modules(targets)

    def choose(name: str, layer: int | None, expert: bool) -> Scheme | None:
        found = named.find(name, layer, expert) if targets else None
        return found if found is not None or _is_head(name) else by_class

    capability = 8.0 if any(scheme.name == "mxfp4" for scheme in used) else 7.5
    kv_scheme = found.get("kv_cache_scheme")
    return _quantization(
        "compressed-tensors", choose, used, capability, kept, "fp8" if kv_scheme else None
    )


def _compressed_scheme(group: Mapping[str, Any], storage: str, name: str) -> Scheme:
    """``_get_scheme_from_parts``."""
    key = f"config_groups.{name}"
    weights = group.get("weights")
    if not isinstance(weights, Mapping):
        _refuse(f"{key}.weights", "is missing")
    given = group.get("input_activations")
    inputs: Mapping[str, Any] = given if isinstance(given, Mapping) else {}
    bits = _integer(weights, "num_bits")
    size = _integer(weights, "group_size", default=0)
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
            return replace(_block_scheme(weights.get("block_structure")), compute=compute)
        if strategy in ("channel", "tensor"):
            scheme = FP8_CHANNEL if strategy == "channel" else FP8_TENSOR
            return replace(scheme, compute=compute)
    if kind[0] == "int" and 2 <= bits <= 8 and strategy in ("group", "channel", "tensor"):
        if storage in ("pack-quantized", "marlin-24") and strategy != "tensor":
            return _integer_scheme(
                bits,
                size if strategy == "group" else 0,
                zeros=not symmetric,
                compute=_activations(group, inputs, key),
            )
        if storage in ("int-quantized", "naive-quantized") and bits in (4, 8) and symmetric:
            compute = _activations(group, inputs, key)
            if strategy == "group":
                return _integer_scheme(bits, size, zeros=False, compute=compute)
            return replace(INT8, name=f"int{bits}", weight_bits=bits, compute=compute)
    return _refuse(
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
    return _refuse(f"{key}.input_activations", f"{kind[1]}-bit {kind[0]} is not understood")


_READERS: Final[dict[str, Callable[[Mapping[str, Any], Mapping[str, Any]], Quantization]]] = {
    "fp8": _fp8,
    "fbgemm_fp8": _fbgemm,
    "awq": _awq,
    "gptq": _gptq,
    "compressed-tensors": _compressed_tensors,
    "modelopt": _modelopt,
    "mxfp4": _mxfp4,
    "mxfp8": _mxfp8,
    "bitsandbytes": _bitsandbytes,
    "auto-round": _auto_round,
    "experts_int8": _experts_int8,
}
