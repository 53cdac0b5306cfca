"""Names of modules: what checkpoints, vLLM and the shapes call the same matrix."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

from vllm_operator.models.reader import layer_number

from .settings import refuse

_FUSED: Final[dict[str, tuple[str, ...]]] = {
    "qkv_proj": ("q_proj", "k_proj", "v_proj"),
    "gate_up_proj": ("gate_proj", "up_proj"),
    "w13": ("w1", "w3"),
    "in_proj_qkvz": ("in_proj_qkv", "in_proj_z"),
    "in_proj_ba": ("in_proj_b", "in_proj_a"),
    "fused_qkv_a_proj": ("q_a_proj", "kv_a_proj_with_mqa"),
    "fused_wqa_wkv": ("wq_a", "wkv"),
}

FUSED_PART: Final[Mapping[str, str]] = {
    part: whole for whole, parts in _FUSED.items() for part in parts
}
"""By the last component of a matrix's name: the matrix that vLLM loads it into, with others."""

_OTHER_NAMES: Final = {**_FUSED, **{part: (whole,) for part, whole in FUSED_PART.items()}}
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

_OWN_LAYERS: Final = (
    ("transformer.h.", "model.layers."),
    ("transformer.encoder.layers.", "model.layers."),
    ("gpt_neox.layers.", "model.layers."),
)
"""What stands before the number of a layer in GPT-2, Falcon and EXAONE, ChatGLM, GPT-NeoX."""

MOST_LAYERS: Final = 1000
"""More than any model has; ``layers.78*`` is written out up to there."""


LONGEST_PROSE: Final = 256


def split_name(path: str) -> tuple[str, str] | None:
    """Number and name of ``model.layers.N.name``; None where it is no module of the decoder's."""
    for own, common in _OWN_LAYERS:
        path = common + path.removeprefix(own) if path.startswith(own) else path
    head, found, tail = path.partition("layers.")
    if not found or (head and not _DECODERS.issuperset(head[:-1].split("."))):
        return None
    number, _, name = tail.partition(".")
    return number, name


def without_expert(name: str) -> str:
    """The name without the number of a routed expert: all of a layer's have one scheme."""
    head, found, tail = name.partition("experts.")
    if not found:
        return name
    number, _, rest = tail.partition(".")
    if layer_number(number) is None:
        return name
    return f"{head}experts.{rest}" if rest else f"{head}experts"


@lru_cache(maxsize=4096)
def outside_name(name: str) -> str:
    """A module's name outside the decoder, without numbers: all layers of a tower are equal."""
    parts = [part for part in name.split(".") if not part.isdigit()]
    while len(parts) > 1 and parts[0] == "model":
        parts.pop(0)
    return ".".join(parts)


@lru_cache(maxsize=4096)
def spellings(name: str) -> tuple[str, ...]:
    """The name, and what else its matrix may be called."""
    names = [name]
    for ours, theirs in _OTHER_MODULES:
        names.extend(one.replace(ours, theirs, 1) for one in [*names] if ours in one)
    for one in [*names]:
        head, dot, last = one.rpartition(".")
        names.extend(f"{head}{dot}{other}" for other in _OTHER_NAMES.get(last, ()))
    return tuple(dict.fromkeys(names))


@lru_cache(maxsize=4096)
def parents(name: str) -> tuple[str, ...]:
    """The name and those of the modules that it is in, the layer itself (an empty name) last."""
    result = [name]
    while name:
        name = name.rpartition(".")[0]
        result.append(name)
    return tuple(result)


@lru_cache(maxsize=4096)
def sequences(name: str) -> tuple[str, ...]:
    """Every run of a name's components."""
    parts = name.split(".")
    return tuple(
        ".".join(parts[start:end])
        for start in range(len(parts))
        for end in range(start + 1, len(parts) + 1)
    )


def layers_in_prose(text: str, config: Mapping[str, Any]) -> list[str]:
    """The layers that a list names in words, as the cards of Nemotron's checkpoints do."""
    if len(text) > LONGEST_PROSE:
        refuse("ignore", f"{text[:80]!r}… names no module")
    match = re.fullmatch(
        r"(?:the )?attention layers(?P<mamba> and the mamba layers preceding them)?(?: \([^)]*\))?",
        text.strip().lower(),
    )
    kinds = config.get("layers_block_type") or config.get("hybrid_override_pattern")
    if match is None or not kinds or not isinstance(kinds, (list, str)):
        refuse("ignore", f"{text!r} names no module")
    attention = [number for number, kind in enumerate(kinds) if kind in ("attention", "*")]
    layers = set(attention)
    if match["mamba"]:
        layers |= {
            number - 1 for number in attention if number and kinds[number - 1] in ("mamba", "M")
        }
    return [f"model.layers.{number}" for number in sorted(layers)]


HEAD: Final = "lm_head"


def is_embedding(name: str) -> bool:
    """Tables, which are counted in full (Gemma has some for each layer, outside the layers)."""
    return name.rpartition(".")[2].startswith("embed_tokens")


def is_head(name: str) -> bool:
    """The output head, of the model or of a draft."""
    return name == HEAD or name.endswith("." + HEAD)


def in_decoder(name: str, layer: int | None) -> bool:
    """Whether a method that quantises decoder layers only takes this module (or a draft's)."""
    return layer is not None or name.startswith("mtp.layers.")
