"""How far positions reach under every scaling that vLLM knows."""

from __future__ import annotations

from typing import Any

import pytest

from vllm_operator.errors import UnknownModel
from vllm_operator.models.rope import context_length_of, is_yarn, rope_scaling_of


def length(**scaling: Any) -> int:
    return context_length_of(4096, scaling)


def refused(**scaling: Any) -> str:
    with pytest.raises(UnknownModel) as refusal:
        length(**scaling)
    return refusal.value.field.removeprefix("spec.model.config.")


def test_without_scaling_the_positions_are_the_limit() -> None:
    assert context_length_of(4096, None) == 4096
    assert length(factor=2.0) == 4096


@pytest.mark.parametrize("key", ["rope_type", "type"])
@pytest.mark.parametrize("kind", ["default", "llama3", "longrope", "su", "mrope", "proportional"])
def test_some_scalings_are_in_the_positions_already(key: str, kind: str) -> None:
    assert length(**{key: kind, "factor": 2.0}) == 4096


@pytest.mark.parametrize("key", ["rope_type", "type"])
@pytest.mark.parametrize("kind", ["linear", "dynamic", "ntk"])
def test_some_scalings_multiply_the_positions_whatever_the_original_ones_were(
    key: str, kind: str
) -> None:
    scaling = {key: kind, "factor": 2.5, "original_max_position_embeddings": 1024}
    assert length(**scaling) == 10240


@pytest.mark.parametrize(("original", "limit"), [(1024, 2048), (None, 8192)])
def test_yarn_multiplies_the_original_positions_or_those_there_are(
    original: int | None, limit: int
) -> None:
    given = {} if original is None else {"original_max_position_embeddings": original}
    assert length(rope_type="yarn", factor=2.0, **given) == limit


def test_without_a_factor_nothing_is_multiplied() -> None:
    assert length(rope_type="linear") == 4096


def test_the_newer_name_of_the_type_wins() -> None:
    assert length(rope_type="linear", type="default", factor=2.0) == 8192
    assert is_yarn({"rope_type": "yarn", "type": "linear"})
    assert is_yarn({"type": "yarn"})
    assert not is_yarn({"rope_type": "linear", "type": "yarn"})
    assert not is_yarn(None)


@pytest.mark.parametrize("kind", ["another", 7, None, ["yarn"]])
def test_a_type_that_is_not_known_is_refused(kind: object) -> None:
    assert refused(rope_type=kind, factor=2.0) == "rope_scaling"


@pytest.mark.parametrize("name", ["factor", "original_max_position_embeddings"])
@pytest.mark.parametrize("value", [0, -1.0, True, "2", None, 2**30])
def test_what_is_no_positive_number_is_refused_by_its_name(name: str, value: object) -> None:
    assert refused(rope_type="yarn", **{name: value}) == f"rope_scaling.{name}"


def test_a_length_that_no_request_has_is_refused() -> None:
    assert length(rope_type="linear", factor=1 / 4096) == 1
    assert refused(rope_type="linear", factor=1 / 4097) == "rope_scaling.factor"
    assert length(rope_type="linear", factor=2.0**17) == 2**29
    assert refused(rope_type="linear", factor=2.0**18) == "rope_scaling.factor"


YARN = {"rope_type": "yarn", "factor": 4.0}


@pytest.mark.parametrize(
    ("config", "scaling"),
    [
        ({}, None),
        ({"rope_scaling": None, "rope_parameters": None}, None),
        ({"rope_scaling": YARN}, YARN),
        ({"rope_scaling": {"rope_type": "default"}}, {"rope_type": "default"}),
        ({"rope_parameters": YARN}, YARN),
        ({"rope_parameters": {"rope_type": "default"}}, None),
        ({"rope_parameters": {"rope_theta": 10000}}, None),
        ({"rope_parameters": {"full_attention": YARN, "sliding_attention": {}}}, YARN),
        ({"rope_scaling": YARN, "rope_parameters": {"rope_type": "linear"}}, YARN),
    ],
)
def test_the_scaling_stands_under_either_name_and_that_of_full_layers_counts(
    config: dict[str, Any], scaling: dict[str, Any] | None
) -> None:
    assert rope_scaling_of(config) == scaling


@pytest.mark.parametrize("fact", ["rope_scaling", "rope_parameters"])
def test_a_scaling_that_is_no_object_is_refused_by_its_name(fact: str) -> None:
    with pytest.raises(UnknownModel) as refusal:
        rope_scaling_of({fact: [1]})
    assert refusal.value.field == f"spec.model.config.{fact}"
