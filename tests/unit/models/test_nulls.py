"""A null in a config is as if nothing stood there: transformers writes one for what is unset."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from vllm_operator.models.architecture import Architecture, architecture_from_config
from vllm_operator.models.families import FAMILIES

CATALOGUED = json.loads(
    files("vllm_operator.models").joinpath("catalogue.json").read_text("utf-8")
)["models"]
FAMILY_CONFIGS = json.loads(
    (Path(__file__).parents[2] / "support" / "families.json").read_text("utf-8")
)["families"]
CONFIGS: dict[str, dict[str, Any]] = {
    **{one["config"]["architectures"][0]: one["config"] for one in FAMILY_CONFIGS},
    **{one["config"]["architectures"][0]: one["config"] for one in CATALOGUED},
}
UNSET = (
    "attention_bias",
    "head_dim",
    "num_key_value_heads",
    "sliding_window",
    "tie_word_embeddings",
)


def with_nulls(config: dict[str, Any], family: str) -> dict[str, Any]:
    """Null for each default of the family and each common fact that the config leaves out."""
    known = FAMILIES[family]
    names = {*UNSET, *(known.text_defaults or {}), *known.spellings}
    text = config.get("text_config") if known.multimodal else None
    inside = text if isinstance(text, dict) else config
    filled = {**inside, **{name: None for name in names if name not in inside}}
    return filled if inside is config else {**config, "text_config": filled}


def described(found: Architecture) -> tuple[Any, ...]:
    caches = tuple((kind.cache, count) for kind, count in found.counts)
    return found.parameters, found.vocabulary_size, found.context_length, caches


def test_most_families_are_asked_and_those_with_defaults_and_spellings() -> None:
    assert len(CONFIGS) > 60
    special = {name for name, one in FAMILIES.items() if one.text_defaults or one.spellings}
    assert len(special & CONFIGS.keys()) >= 8


@pytest.mark.parametrize("family", sorted(CONFIGS))
def test_a_fact_that_is_null_is_one_that_is_left_out(family: str) -> None:
    config = CONFIGS[family]
    assert described(architecture_from_config(with_nulls(config, family))) == described(
        architecture_from_config(config)
    )
