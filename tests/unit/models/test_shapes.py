"""What a token of each family keeps, rotates, drafts and goes through: a row for each in a table.

What somebody counted: parameters of ``test_architecture.py`` and bytes of ``test_released.py``.
This table holds what those sums do not show. Its numbers are this code's own, looked through once;
a line that changes says which plans change.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from support.families import RELEASED
from vllm_operator.models import catalogue
from vllm_operator.models.architecture import architecture_from_config
from vllm_operator.models.families import FAMILIES
from vllm_operator.models.shapes import (
    Architecture,
    AttentionCache,
    Cache,
    CompressedCache,
    LatentCache,
    Layer,
)

TABLE = Path(__file__).with_name("shapes.csv")
with TABLE.open(encoding="utf-8", newline="") as file:
    ROWS = tuple(csv.DictReader(file))
RELEASED_CONFIGS = {one.like: one.config for one in RELEASED}


def config_of(model: str) -> dict[str, Any]:
    facts = catalogue.find(model)
    return RELEASED_CONFIGS[model] if facts is None else dict(facts.config)


def cache_told(cache: Cache) -> str:
    if isinstance(cache, AttentionCache):
        window = f" of {cache.window}" if cache.window else ""
        index = f" index {cache.indexer_dim}" if cache.indexer_dim else ""
        return f"{cache.heads} x {cache.key_dim}+{cache.value_dim}{window}{index}"
    if isinstance(cache, LatentCache):
        return f"latent {cache.rank}+{cache.rope_dim} index {cache.indexer_dim}"
    if isinstance(cache, CompressedCache):
        dims = f"{cache.dim} rotating {cache.rope_dim} of {cache.window}"
        return f"compressed {dims} by {cache.ratio} index {cache.indexer_dim}"
    window = f"{cache.convolution} by {cache.convolution_kernel}"
    groups = f"{cache.groups} x {cache.group_state}, {cache.heads} heads"
    return f"{cache.kind} {window}, {cache.state} of {cache.state_bytes} B, {groups}"


def layer_told(layer: Layer) -> str:
    kept = " and ".join(cache_told(one) for one in layer.kept) or "nothing"
    shared = "" if layer.cache_of is None else f" of layer {layer.cache_of}"
    attends = f"{layer.query_heads} x {layer.query_dim}>{layer.value_dim}"
    wide = f"{layer.intermediate}/{layer.expert_intermediate} x {layer.experts_per_token}"
    return f"({attends}; {kept}{shared}; {wide})"


def gone_through(layer: Layer) -> int:
    """Elements of a layer's matrices that one token is multiplied with."""
    return sum(
        matrix.parameters // matrix.experts * matrix.active if matrix.experts else matrix.parameters
        for matrix in layer.matrices
    )


def told(architecture: Architecture) -> dict[str, str]:
    layers = [f"{count} {layer_told(kind)}" for kind, count in architecture.counts]
    gone = sum(gone_through(kind) * count for kind, count in architecture.counts)
    return {
        "context": str(architecture.context_length),
        "stated": str(architecture.stated_length or ""),
        "rotary": str(architecture.rotary_elements),
        "heads": f"{architecture.attention_heads}/{architecture.key_value_heads}",
        "dtype": architecture.dtype,
        "indexed": str(architecture.indexed_tokens),
        "draft": str(architecture.draft_parameters),
        "active": str(gone),
        "layers": " ".join(layers),
    }


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["model"])
def test_a_config_is_read_as_it_was_when_it_was_looked_through(row: dict[str, str]) -> None:
    assert {"model": row["model"], **told(architecture_from_config(config_of(row["model"])))} == row


def test_every_architecture_of_the_catalogue_and_of_the_released_configs_has_a_row() -> None:
    known = {config_of(model)["architectures"][0] for model in catalogue.known_models()}
    known |= {one.config["architectures"][0] for one in RELEASED}
    assert {config_of(row["model"])["architectures"][0] for row in ROWS} >= known & set(FAMILIES)
