"""What sizing knows of a model: the shapes of a dense decoder, read from its ``config.json``.

A config is understood whole or refused by the name of the fact that is not understood: a wrong
guess about a layer becomes an out-of-memory error on somebody's GPUs. Families and the facts that
are not supported stand in the data files beside this module, with their sources.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib.resources import files
from typing import Any, Final, Literal

from vllm_operator.errors import UnknownModel

from .rope import context_length_of, rope_scaling_of

FIELD: Final = "spec.model.config"

LIMITS: Final[Mapping[str, int]] = {
    "hidden_size": 2**18,
    "intermediate_size": 2**20,
    "ffn_dim": 2**20,
    "num_hidden_layers": 4096,
    "num_attention_heads": 2**14,
    "num_key_value_heads": 2**14,
    "head_dim": 4096,
    "vocab_size": 2**26,
    "max_position_embeddings": 2**30,
    "word_embed_proj_dim": 2**18,
}
"""Largest value of each fact: far above any model, and small enough that all byte figures fit the
64-bit integers of the Kubernetes API."""

READ_FACTS: Final = frozenset(
    {
        *LIMITS,
        "architectures",
        "model_type",
        "attention_bias",
        "mlp_bias",
        "tie_word_embeddings",
        "torch_dtype",
        "dtype",
        "rope_scaling",
        "rope_parameters",
        "partial_rotary_factor",
        "sliding_window",
        "use_sliding_window",
        "layer_types",
    }
)
"""The keys of a ``config.json`` that are read (and kept in the plan)."""

DataType = Literal["bfloat16", "float16", "float32"]


@dataclass(frozen=True, slots=True)
class Family:
    """How the checkpoints of one architecture are built; a row of ``families.csv``."""

    architecture: str
    model_type: str
    gated_mlp: bool
    query_key_value_bias: str
    output_bias: str
    mlp_bias: str
    query_key_norm: bool
    norm_bias: bool
    learned_positions: bool
    tied_by_default: bool
    key_value_heads_default: str
    head_dim_default: str
    intermediate_size_fact: str


@dataclass(frozen=True)
class Architecture:
    """A dense decoder with grouped-query (or multi-head) attention; counts, not bytes."""

    name: str
    hidden_size: int
    intermediate_size: int
    layers: int
    attention_heads: int
    key_value_heads: int
    head_dim: int
    vocabulary_size: int
    context_length: int
    """Longest request in tokens that the model's positions allow (vLLM's derived max_model_len)."""
    rotary_positions: int
    """Rows of the rotary table; 0 where positions are learned."""
    rotary_dim: int
    tied_embeddings: bool
    gated_mlp: bool
    query_key_value_bias: bool
    output_bias: bool
    mlp_bias: bool
    query_key_norm: bool
    norm_bias: bool
    learned_position_rows: int
    dtype: DataType
    """Data type that the checkpoint names."""

    @cached_property
    def parameters(self) -> int:
        """Number of parameters; tied embeddings count once."""
        query = self.attention_heads * self.head_dim
        key_value = 2 * self.key_value_heads * self.head_dim
        attention = self.hidden_size * (2 * query + key_value)
        attention += (query + key_value) * self.query_key_value_bias
        attention += self.hidden_size * self.output_bias
        attention += 2 * self.head_dim * self.query_key_norm
        wide = 2 if self.gated_mlp else 1
        mlp = (wide + 1) * self.hidden_size * self.intermediate_size
        mlp += (wide * self.intermediate_size + self.hidden_size) * self.mlp_bias
        norm = self.hidden_size * (2 if self.norm_bias else 1)
        embeddings = self.vocabulary_size * self.hidden_size * (1 if self.tied_embeddings else 2)
        embeddings += self.learned_position_rows * self.hidden_size
        return self.layers * (attention + mlp + 2 * norm) + norm + embeddings


@lru_cache(maxsize=1)
def families() -> Mapping[str, Family]:
    """The supported architectures by name."""
    text = files(__package__).joinpath("families.csv").read_text(encoding="utf-8")
    yes = {"yes": True, "no": False}
    return {
        row["architecture"]: Family(
            architecture=row["architecture"],
            model_type=row["model_type"],
            gated_mlp=yes[row["gated_mlp"]],
            query_key_value_bias=row["query_key_value_bias"],
            output_bias=row["output_bias"],
            mlp_bias=row["mlp_bias"],
            query_key_norm=yes[row["query_key_norm"]],
            norm_bias=yes[row["norm_bias"]],
            learned_positions=yes[row["learned_positions"]],
            tied_by_default=yes[row["tied_by_default"]],
            key_value_heads_default=row["key_value_heads_default"],
            head_dim_default=row["head_dim_default"],
            intermediate_size_fact=row["intermediate_size_fact"],
        )
        for row in csv.DictReader(text.splitlines())
    }


@lru_cache(maxsize=1)
def unsupported_facts() -> Mapping[str, str]:
    """Facts that this release cannot size, with what they mean."""
    text = files(__package__).joinpath("unsupported_facts.csv").read_text(encoding="utf-8")
    return {row["fact"]: row["what"] for row in csv.DictReader(text.splitlines())}


def relevant_facts(config: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a ``config.json`` that sizing reads, sorted; null counts as absent."""
    wanted = READ_FACTS | unsupported_facts().keys()
    return {key: config[key] for key in sorted(config) if key in wanted and config[key] is not None}


def architecture_from_config(config: Mapping[str, Any]) -> Architecture:
    """Read a ``config.json``.

    Raises ``UnknownModel`` with the field ``spec.model.config.<fact>`` for the first fact that is
    missing, malformed or not supported.
    """
    family = _family(config)
    _refuse_unsupported(config)
    hidden_size = _count(config, "hidden_size")
    heads = _count(config, "num_attention_heads")
    head_dim = _head_dim(config, family, hidden_size, heads)
    key_value_heads = _key_value_heads(config, family, heads)
    positions = _count(config, "max_position_embeddings")
    _refuse_sliding_window(config, positions)
    scaling = rope_scaling_of(config)
    context_length = context_length_of(positions, scaling)
    if (
        family.learned_positions
        and _count(config, "word_embed_proj_dim", hidden_size) != hidden_size
    ):
        raise _refusal("word_embed_proj_dim", "must equal hidden_size in this release")
    return Architecture(
        name=family.architecture,
        hidden_size=hidden_size,
        intermediate_size=_count(config, family.intermediate_size_fact),
        layers=_count(config, "num_hidden_layers"),
        attention_heads=heads,
        key_value_heads=key_value_heads,
        head_dim=head_dim,
        vocabulary_size=_count(config, "vocab_size"),
        context_length=context_length,
        rotary_positions=0 if family.learned_positions else context_length,
        rotary_dim=_rotary_dim(config, head_dim),
        tied_embeddings=_flag(config, "tie_word_embeddings", family.tied_by_default),
        gated_mlp=family.gated_mlp,
        query_key_value_bias=_bias(config, family.query_key_value_bias),
        output_bias=_bias(config, family.output_bias),
        mlp_bias=_bias(config, family.mlp_bias),
        query_key_norm=family.query_key_norm,
        norm_bias=family.norm_bias,
        # OPT's table has two rows more than it has positions (modeling_opt.py, offset = 2).
        learned_position_rows=positions + 2 if family.learned_positions else 0,
        dtype=_dtype(config),
    )


def _refusal(fact: str, message: str) -> UnknownModel:
    return UnknownModel(f"{FIELD}.{fact}"[:200], message)


def _family(config: Mapping[str, Any]) -> Family:
    names = config.get("architectures")
    known = families()
    if names is None:
        model_type = config.get("model_type")
        for family in known.values():
            if family.model_type == model_type:
                return family
        raise _refusal(
            "architectures",
            f"is missing, and model_type {_shown(model_type)} does not stand for one of "
            f"{', '.join(known)}; give the model's config.json as it is",
        )
    if not isinstance(names, (list, tuple)) or len(names) != 1 or not isinstance(names[0], str):
        raise _refusal("architectures", f"must be a list of one name, and is {_shown(names)}")
    if names[0] not in known:
        raise _refusal(
            "architectures",
            f"{_shown(names[0])} cannot be sized in this release, which knows {', '.join(known)}",
        )
    return known[names[0]]


def _refuse_unsupported(config: Mapping[str, Any]) -> None:
    for fact, what in unsupported_facts().items():
        value = config.get(fact)
        if value:
            raise _refusal(
                fact, f"says {what}, which cannot be sized in this release; serve a dense, "
                "unquantised decoder"
            )  # fmt: skip
    kinds = config.get("layer_types")
    if kinds is not None and (
        not isinstance(kinds, (list, tuple)) or any(kind != "full_attention" for kind in kinds)
    ):
        raise _refusal(
            "layer_types", "names layers other than full_attention, which cannot be sized in "
            "this release"
        )  # fmt: skip


def _refuse_sliding_window(config: Mapping[str, Any], positions: int) -> None:
    window = config.get("sliding_window")
    if window is None or config.get("use_sliding_window") is False:
        return
    # A window that no request can outgrow masks nothing.
    if isinstance(window, int) and window >= positions:
        return
    raise _refusal(
        "sliding_window",
        f"is {_shown(window)}: sliding-window attention cannot be sized in this release",
    )


def _count(config: Mapping[str, Any], fact: str, default: int | None = None) -> int:
    value = config.get(fact)
    if value is None:
        if default is None:
            raise _refusal(fact, "is missing; give the model's config.json as it is")
        return default
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= LIMITS[fact]:
        raise _refusal(
            fact, f"must be a whole number from 1 to {LIMITS[fact]}, and is {_shown(value)}"
        )
    return value


def _flag(config: Mapping[str, Any], fact: str, default: bool) -> bool:
    value = config.get(fact)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise _refusal(fact, f"must be true or false, and is {_shown(value)}")
    return value


def _bias(config: Mapping[str, Any], rule: str) -> bool:
    if rule.startswith("fact:"):
        return _flag(config, rule.removeprefix("fact:"), False)
    return rule == "yes"


def _head_dim(config: Mapping[str, Any], family: Family, hidden_size: int, heads: int) -> int:
    if config.get("head_dim") is not None:
        return _count(config, "head_dim")
    if family.head_dim_default.isdigit():
        return int(family.head_dim_default)
    if hidden_size % heads:
        raise _refusal(
            "head_dim", f"is missing, and hidden_size {hidden_size} is no multiple of "
            f"num_attention_heads {heads}"
        )  # fmt: skip
    return hidden_size // heads


def _key_value_heads(config: Mapping[str, Any], family: Family, heads: int) -> int:
    default = heads if family.key_value_heads_default == "attention_heads" else None
    count = _count(config, "num_key_value_heads", default)
    if heads % count:
        raise _refusal(
            "num_key_value_heads", f"{count} does not divide num_attention_heads {heads}"
        )
    return count


def _rotary_dim(config: Mapping[str, Any], head_dim: int) -> int:
    factor = config.get("partial_rotary_factor")
    if factor is None:
        return head_dim
    if isinstance(factor, bool) or not isinstance(factor, (int, float)) or not 0 < factor <= 1:
        raise _refusal("partial_rotary_factor", f"must lie in (0, 1], and is {_shown(factor)}")
    return int(head_dim * factor)


def _dtype(config: Mapping[str, Any]) -> DataType:
    fact = "torch_dtype" if config.get("torch_dtype") is not None else "dtype"
    value = config.get(fact)
    match str(value).removeprefix("torch."):
        case "bfloat16":
            return "bfloat16"
        case "float16" | "half":
            return "float16"
        case "float32" | "float" | "None":
            return "float32"
    raise _refusal(fact, f"{_shown(value)} is none of bfloat16, float16 and float32")


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:79]}…"
