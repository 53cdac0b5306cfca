"""A draft is known by the one architecture that its config names."""

from __future__ import annotations

from typing import Any

import pytest

from unit.sizing.examples import EAGLE3, LLAMA_8B
from vllm_operator.errors import UnknownModel
from vllm_operator.models import catalogue
from vllm_operator.models.architecture import architecture_from_config
from vllm_operator.models.drafts import eagle_draft


def target() -> Any:
    facts = catalogue.find(LLAMA_8B)
    assert facts is not None
    return architecture_from_config(facts.config)


@pytest.mark.parametrize("names", [["LlamaForCausalLM"], ("LlamaForCausalLM",)])
def test_one_known_name_is_read(names: Any) -> None:
    config = {**EAGLE3, "architectures": names}
    assert len(eagle_draft(config, "eagle3", target(), None).layers) == 1


@pytest.mark.parametrize(
    "names",
    [
        None,
        [],
        "LlamaForCausalLM",
        "L",
        {"LlamaForCausalLM": 1},
        7,
        ["LlamaForCausalLM"] * 2,
        ["LlamaForCausalLM", "OPTForCausalLM"],
        ["OPTForCausalLM"],
    ],
)
def test_anything_else_is_refused_by_the_name_of_the_fact(names: Any) -> None:
    with pytest.raises(UnknownModel) as refusal:
        eagle_draft({**EAGLE3, "architectures": names}, "eagle3", target(), None)
    assert refusal.value.field.endswith("architectures")


WHOLE = {name: value for name, value in EAGLE3.items() if name != "draft_vocab_size"}
PROJECTION, HEAD, EMBEDDING = "fc", "lm_head", "embed_tokens"
ALL = (PROJECTION, HEAD, EMBEDDING)


@pytest.mark.parametrize(
    ("method", "config", "stored", "matrices"),
    [
        ("eagle", WHOLE, None, ALL),
        ("eagle", WHOLE, 400_000_000, (PROJECTION,)),
        ("eagle", WHOLE, 1_600_000_000, (PROJECTION, EMBEDDING)),
        ("eagle", WHOLE, 2_600_000_000, ALL),
        ("eagle", EAGLE3, 1_600_000_000, (PROJECTION, EMBEDDING)),
        ("eagle3", EAGLE3, None, ALL),
        ("eagle3", EAGLE3, 850_000_000, (PROJECTION, HEAD)),
        ("eagle3", EAGLE3, 1_900_000_000, ALL),
        ("eagle3", WHOLE, 1_600_000_000, (PROJECTION, HEAD)),
        ("eagle3", WHOLE, 2_700_000_000, ALL),
    ],
)
def test_what_a_head_has_of_its_own_is_told_by_the_bytes_of_its_tensors(
    method: Any, config: dict[str, Any], stored: int | None, matrices: tuple[str, ...]
) -> None:
    found = eagle_draft(config, method, target(), stored)
    assert tuple(matrix.name for matrix in found.matrices) == matrices


@pytest.mark.parametrize(("config", "elements"), [(WHOLE, 266_240), (EAGLE3, 394_240)])
def test_a_head_with_fewer_tokens_than_the_model_has_an_index_of_them(
    config: dict[str, Any], elements: int
) -> None:
    assert eagle_draft(config, "eagle3", target(), None).elements == elements
