"""Matrices of a layer join: what reads the hidden state has its width, and what writes it too."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from vllm_operator.models.architecture import Architecture, architecture_from_config
from vllm_operator.models.matrices import Matrix, Shard, Split

ENTRIES = json.loads(files("vllm_operator.models").joinpath("catalogue.json").read_text("utf-8"))[
    "models"
]
FAMILIES = json.loads((Path(__file__).parents[2] / "support" / "families.json").read_text("utf-8"))[
    "families"
]
CONFIGS: dict[str, dict[str, Any]] = {
    one["config"]["architectures"][0]: one["config"] for one in (*FAMILIES, *ENTRIES)
}
READ = {
    *("q_proj", "k_proj", "v_proj", "gate_proj", "up_proj", "in_proj", "in_proj_qkv", "in_proj_z"),
    *("in_proj_ba", "q_a_proj", "kv_a_proj_with_mqa", "wq_a", "wkv", "gate", "g_proj"),
    *("c_attn", "c_fc", "c_fc_0", "c_fc_1", "dense_h_to_4h", "fc1", "query_key_value", "w1", "w3"),
    "wqkv",
    "shared_expert_gate",
}
WRITE = {
    *("o_proj", "down_proj", "out_proj", "wo_b", "c_proj", "dense", "dense_4h_to_h", "fc2", "w2"),
    "wo",
}
OUTPUTS, INPUTS, HEADS, WHOLE = {Split.OUTPUTS}, {Split.INPUTS}, {Split.HEADS}, {Split.WHOLE}
SPLITS = {
    **dict.fromkeys(("q_proj", "q_b_proj", "kv_b_proj", "wo_a", "g_proj"), OUTPUTS),
    **dict.fromkeys(("gate_proj", "up_proj", "in_proj_qkv", "in_proj_z", "in_proj_ba"), OUTPUTS),
    **dict.fromkeys(("A", "dt_proj", "conv", "w1", "w3"), OUTPUTS),
    **dict.fromkeys(("c_fc_0", "c_fc_1", "dense_h_to_4h", "fc1"), OUTPUTS),
    **dict.fromkeys(("o_proj", "out_proj", "wo_b", "down_proj", "x_proj"), INPUTS),
    **dict.fromkeys(("dense", "dense_4h_to_h", "fc2", "w2", "wo"), INPUTS),
    **dict.fromkeys(("c_attn", "wqkv"), OUTPUTS | HEADS),
    # Param-2 has no copies of key/value heads.
    "query_key_value": OUTPUTS | HEADS | {Split.GROUPS},
    # GPT-2's feed-forward is divided, GPTBigCode's is not.
    "c_fc": OUTPUTS | WHOLE,
    "c_proj": INPUTS | WHOLE,
    # A linear attention's keys and values are as many as its queries.
    **dict.fromkeys(("k_proj", "v_proj"), HEADS | OUTPUTS),
    **dict.fromkeys(("gate", "shared_expert_gate"), WHOLE),
    **dict.fromkeys(("q_a_proj", "kv_a_proj_with_mqa", "wq_a", "wkv"), WHOLE),
    **dict.fromkeys(("wk", "weights_proj", "wkv_gate"), WHOLE),
    "conv1d": OUTPUTS | {Split.GROUPS},
    "in_proj": OUTPUTS | {Split.GROUPS},
    "wq_b": OUTPUTS | WHOLE,
}


def hidden_size(config: dict[str, Any]) -> int:
    text = config.get("text_config") or config.get("llm_config") or config
    named = ("hidden_size", "n_embd", "d_model")
    own = next((text[name] for name in named if name in text), config.get("hidden_size"))
    return int(own or 4096)


def latent_size(config: dict[str, Any]) -> int | None:
    return (config.get("text_config") or config).get("routed_expert_hidden_size")


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
    # Routed experts of a latent width read and write that.
    assert widths - {latent_size(config)} == {hidden_size(config)}


@pytest.mark.parametrize("family", sorted(CONFIGS))
def test_what_a_feed_forward_widens_it_narrows_again(family: str) -> None:
    found = [one for _, one in matrices(architecture_from_config(CONFIGS[family]))]
    down = {one.name: one.inputs for one in found if one.name.endswith(".down_proj")}
    up = {one.name: one.outputs for one in found if one.name.endswith(".up_proj")}
    assert {name.replace("up_proj", "down_proj"): width for name, width in up.items()} == down


@pytest.mark.parametrize("family", sorted(CONFIGS))
def test_ranks_divide_each_matrix_as_vllm_s_layer_does(family: str) -> None:
    model = architecture_from_config(CONFIGS[family])
    every = [matrix for kind in model.kinds for matrix in kind.matrices]
    found = {(one.name.rpartition(".")[2], one.split) for one in every}
    assert {
        (name, split) for name, split in found if split not in SPLITS.get(name, {split})
    } == set()


def test_the_names_of_most_matrices_are_known() -> None:
    models = [architecture_from_config(config) for config in CONFIGS.values()]
    names = [name for model in models for name, _ in matrices(model)]
    assert len(names) > 1000
    assert sum(name in SPLITS for name in names) > 0.95 * len(names)
    assert sum(name in READ | WRITE for name in names) > 0.8 * len(names)


@pytest.mark.parametrize("family", sorted(CONFIGS))
def test_words_are_divided_in_whole_blocks_of_the_vocabulary(family: str) -> None:
    model = architecture_from_config(CONFIGS[family])
    assert model.embedding.split is Split.VOCABULARY
    assert model.head is None or model.head.split is Split.VOCABULARY


RANKS: dict[str, tuple[Matrix, dict[str, Any], Shard]] = {
    "outputs and their bias, the last rank padded": (
        Matrix("q", 10, 7, Split.OUTPUTS, bias=True), {"tensor": 4}, Shard(10, 2, 2, 1)
    ),
    "inputs, the last rank padded, and the whole bias": (
        Matrix("o", 10, 7, Split.INPUTS, bias=True), {"tensor": 4}, Shard(3, 7, 7, 1)
    ),
    "heads": (Matrix("k", 10, 8, Split.HEADS, 4, bias=True), {"tensor": 2}, Shard(10, 4, 4, 1)),
    "fewer heads than ranks": (
        Matrix("k", 10, 8, Split.HEADS, 4, bias=True), {"tensor": 8}, Shard(10, 2, 2, 1)
    ),
    "words, in blocks of 64": (
        Matrix("e", 10, 100, Split.VOCABULARY, bias=True), {"tensor": 2}, Shard(10, 64, 64, 1)
    ),
    "nothing": (Matrix("g", 10, 7, Split.WHOLE, bias=True), {"tensor": 4}, Shard(10, 7, 7, 1)),
    "an encoder whose heads are not divided evenly": (
        Matrix("o", 10, 8, Split.INPUTS, 3), {"tensor": 2}, Shard(10, 8, 0, 1)
    ),
    "an encoder whose heads are divided evenly": (
        Matrix("o", 10, 8, Split.INPUTS, 4), {"tensor": 2}, Shard(5, 8, 0, 1)
    ),
    "each expert over the experts' ranks": (
        Matrix("w", 10, 8, Split.OUTPUTS, experts=5),
        {"tensor": 2, "expert_ranks": 4},
        Shard(10, 2, 0, 5),
    ),
    "an expert's narrow part, padded": (
        Matrix("w", 10, 8, Split.OUTPUTS, experts=5, smallest=4),
        {"tensor": 2, "expert_ranks": 4},
        Shard(10, 4, 0, 5),
    ),
    "an expert's narrow inputs, padded": (
        Matrix("w", 10, 8, Split.INPUTS, experts=5, smallest=6),
        {"tensor": 2, "expert_ranks": 4},
        Shard(6, 8, 0, 5),
    ),
    "whole experts, the most of them": (
        Matrix("w", 10, 8, Split.OUTPUTS, experts=5, copies=3),
        {"tensor": 2, "expert_ranks": 4, "whole_experts": True},
        Shard(10, 8, 0, 6),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("matrix", "ranks", "expected"), RANKS.values(), ids=RANKS)
def test_the_fullest_rank_holds_this_part(
    matrix: Matrix, ranks: dict[str, Any], expected: Shard
) -> None:
    assert matrix.on_rank(**ranks) == expected
