"""What ``families.csv`` says of each family, looked through.

Modules are those that a layer's matrices lie in, as lists of what is not quantised name them; facts
those of a config that the family cannot do without; silences the others whose default is not what
the example says, with the parameters that it has more or less without them, or what else is read
differently. Its numbers are this code's own, looked through once. A failing test shows the row.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from unit.models.test_matrices import CONFIGS
from unit.models.test_shapes import told
from vllm_operator.errors import UnknownModel
from vllm_operator.models.architecture import architecture_from_config

TABLE = Path(__file__).with_name("families.csv")
OF_NO_SHAPE = {
    *("architectures", "model_type", "torch_dtype", "dtype", "quantization_config"),
    *("rope_scaling", "rope_parameters", "rope_theta", "tie_word_embeddings", "vision_config"),
}


def written() -> dict[str, dict[str, str]]:
    with TABLE.open(encoding="utf-8", newline="") as lines:
        return {row["family"]: row for row in csv.DictReader(lines)}


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


def silences(family: str) -> list[str]:
    """What the example becomes where it is silent about a fact that has a default."""
    said = architecture_from_config(CONFIGS[family])
    found = []
    for fact, config in without_each(CONFIGS[family]):
        try:
            silent = architecture_from_config(config)
        except UnknownModel:
            continue
        before, after = told(said), told(silent)
        differs = [name for name in before if before[name] != after[name]]
        more = silent.parameters - said.parameters
        if more or differs:
            found.append(f"{fact} {more:+}" if more else f"{fact} {' '.join(differs)}")
    return found


def modules(family: str) -> set[str]:
    model = architecture_from_config(CONFIGS[family])
    return {one.name.rpartition(".")[0] for kind in model.kinds for one in kind.matrices}


def row_of(family: str) -> dict[str, str]:
    facts, parents = " ".join(required(family)), " ".join(sorted(modules(family)))
    default = "; ".join(silences(family))
    return {"family": family, "modules": parents, "facts": facts, "silences": default}


@pytest.mark.parametrize("family", sorted(CONFIGS))
def test_a_family_has_these_modules_these_facts_and_these_defaults(family: str) -> None:
    assert row_of(family) == written().get(family)


def test_every_row_is_of_a_family() -> None:
    assert written().keys() == CONFIGS.keys()
