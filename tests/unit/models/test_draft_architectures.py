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
