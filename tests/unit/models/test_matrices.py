"""Matrices of a layer join: what reads the hidden state has its width, and what writes it too."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

import pytest

from vllm_operator.models.architecture import Architecture, architecture_from_config
from vllm_operator.models.matrices import Matrix, Split

ENTRIES = json.loads(files("vllm_operator.models").joinpath("catalogue.json").read_text("utf-8"))[
    "models"
]
CONFIGS: dict[str, dict[str, Any]] = {
    one["config"]["architectures"][0]: one["config"] for one in ENTRIES
}
READ = {
    *("q_proj", "k_proj", "v_proj", "gate_proj", "up_proj", "in_proj", "in_proj_qkv", "in_proj_z"),
    *("in_proj_ba", "q_a_proj", "kv_a_proj_with_mqa", "wq_a", "wkv", "gate", "g_proj"),
    "shared_expert_gate",
}
WRITE = {"o_proj", "down_proj", "out_proj", "wo_b"}
INSIDE = {
    *("q_b_proj", "kv_b_proj", "wq_b", "wo_a"),  # of a latent
    *("conv1d", "x_proj", "dt_proj", "A"),  # of a recurrent state
    *("wk", "weights_proj", "wkv_gate"),  # of an index
}


def hidden_size(config: dict[str, Any]) -> int:
    text = config.get("text_config") or config.get("llm_config") or config
    return int(text.get("hidden_size", config.get("hidden_size", 4096)))


def matrices(model: Architecture) -> list[tuple[str, Matrix]]:
    return [
        (matrix.name.rpartition(".")[2], matrix)
        for kind in model.kinds
        for matrix in kind.matrices
        if "indexer" not in matrix.name
    ]


@pytest.mark.parametrize("family", sorted(CONFIGS))
def test_what_reads_the_hidden_state_and_what_writes_it_has_its_width(family: str) -> None:
    config = CONFIGS[family]
    found = matrices(architecture_from_config(config))
    widths = {
        *(matrix.inputs for name, matrix in found if name in READ),
        *(matrix.outputs for name, matrix in found if name in WRITE),
    }
    assert widths == {hidden_size(config)}
    assert {name for name, _ in found} <= READ | WRITE | INSIDE


@pytest.mark.parametrize("family", sorted(CONFIGS))
def test_what_a_feed_forward_widens_it_narrows_again(family: str) -> None:
    found = [one for _, one in matrices(architecture_from_config(CONFIGS[family]))]
    down = {one.name: one.inputs for one in found if one.name.endswith(".down_proj")}
    up = {one.name: one.outputs for one in found if one.name.endswith(".up_proj")}
    assert up
    assert {name.replace("up_proj", "down_proj"): width for name, width in up.items()} == down


@pytest.mark.parametrize("family", sorted(CONFIGS))
def test_ranks_divide_what_is_widened_by_outputs_and_what_is_narrowed_by_inputs(
    family: str,
) -> None:
    found = matrices(architecture_from_config(CONFIGS[family]))
    assert {one.split for name, one in found if name in ("up_proj", "gate_proj")} <= {
        Split.OUTPUTS,
        Split.WHOLE,
    }
    assert {one.split for name, one in found if name in WRITE} <= {Split.INPUTS, Split.WHOLE}
    assert any(one.split is Split.INPUTS for name, one in found if name in WRITE)
