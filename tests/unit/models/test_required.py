"""Which facts of a config a family cannot do without; each is refused by its own name.

``required.csv`` holds them, looked through: what is not there has a default of its own.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from unit.models.test_matrices import CONFIGS
from vllm_operator.errors import UnknownModel
from vllm_operator.models.architecture import architecture_from_config

TABLE = Path(__file__).with_name("required.csv")
OF_NO_SHAPE = {
    *("architectures", "model_type", "torch_dtype", "dtype", "quantization_config"),
    *("rope_scaling", "rope_parameters", "rope_theta", "tie_word_embeddings", "vision_config"),
}


def written() -> dict[str, list[str]]:
    with TABLE.open(encoding="utf-8", newline="") as lines:
        return {row["family"]: row["facts"].split() for row in csv.DictReader(lines)}


def without_each(config: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The config without each fact of its decoder."""
    inside = config.get("text_config")
    text = inside if isinstance(inside, dict) else config
    for fact in sorted(text.keys() - OF_NO_SHAPE - {"text_config"}):
        less = {key: value for key, value in text.items() if key != fact}
        if text[fact] is not None:
            yield fact, (less if text is config else {**config, "text_config": less})


def required(family: str) -> list[str]:
    found = []
    for fact, config in without_each(CONFIGS[family]):
        try:
            architecture_from_config(config)
        except UnknownModel:
            found.append(fact)
    return found


@pytest.mark.parametrize("family", sorted(CONFIGS))
def test_a_family_cannot_do_without_these_facts(family: str) -> None:
    assert required(family) == written()[family]


def test_every_row_is_of_a_family() -> None:
    assert written().keys() == CONFIGS.keys()
