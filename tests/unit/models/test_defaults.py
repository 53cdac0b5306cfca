"""What a family takes for a fact that a config leaves out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from vllm_operator.models.architecture import Architecture, architecture_from_config
from vllm_operator.models.shapes import AttentionCache

CONFIGS = {
    one["config"]["architectures"][0]: one["config"]
    for one in json.loads(
        (Path(__file__).parents[2] / "support" / "families.json").read_text("utf-8")
    )["families"]
}


def architecture(family: str, **facts: Any) -> Architecture:
    """A family's example with other facts; None leaves one out."""
    config = {**CONFIGS[family], **facts}
    return architecture_from_config({key: one for key, one in config.items() if one is not None})


def windows(model: Architecture) -> list[int | None]:
    kept = (kind.cache for kind, count in model.counts for _ in range(count))
    return [one.window for one in kept if isinstance(one, AttentionCache)]


WITHOUT_WINDOW = {
    "Cohere2ForCausalLM": {4097, None},
    "Exaone4ForCausalLM": {None},
    "Gemma2ForCausalLM": {4096, None},
    "Olmo3ForCausalLM": {4096, None},
    "PhiMoEForCausalLM": {None},
    "Qwen2MoeForCausalLM": {None},
}


@pytest.mark.parametrize(("family", "expected"), WITHOUT_WINDOW.items())
def test_a_window_that_is_left_out_is_the_family_s_own_or_none(
    family: str, expected: set[int | None]
) -> None:
    assert set(windows(architecture(family, sliding_window=None))) == expected


def test_experts_that_every_token_goes_through_are_there_where_their_width_is() -> None:
    with_shared, without = (
        architecture("GraniteMoeSharedForCausalLM", shared_intermediate_size=width)
        for width in (32, None)
    )
    names = [
        {one.name.partition(".")[0] for kind in model.kinds for one in kind.matrices}
        for model in (with_shared, without)
    ]
    assert names[0] - names[1] == {"shared_mlp"}
