"""In which order a model's facts are looked for."""

from __future__ import annotations

from typing import Any, NoReturn

import pytest

from vllm_operator.api.pod import KeyReference
from vllm_operator.api.v1alpha1 import Model
from vllm_operator.errors import UnknownModel
from vllm_operator.models.facts import ModelFacts
from vllm_operator.models.sources import facts_of

CATALOGUED = "Qwen/Qwen2.5-7B-Instruct"
CONFIG = {"config": {"hidden_size": 1}}
MAP = {"configMapRef": {"name": "facts", "key": "config.json"}}


def from_map(reference: KeyReference) -> str:
    return f"{reference.name}/{reference.key}"


def from_hub(model: Model) -> str:
    return f"hub of {model.id}"


def never(_: object) -> NoReturn:
    raise AssertionError("it is not asked")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"id": CATALOGUED, **CONFIG, **MAP}, "inline"),
        ({"id": CATALOGUED, **MAP}, "facts/config.json"),
        ({"id": CATALOGUED}, "catalogue"),
        ({"id": "my/model"}, "hub of my/model"),
    ],
    ids=["the manifest", "the ConfigMap", "the catalogue", "the Hub"],
)
def test_the_first_that_has_facts_is_taken(given: dict[str, Any], expected: str) -> None:
    found = facts_of(Model.model_validate(given), from_map, from_hub)
    assert (found.source if isinstance(found, ModelFacts) else found) == expected


@pytest.mark.parametrize("given", [CONFIG, {}], ids=["the manifest", "the catalogue"])
def test_nobody_is_asked_for_what_is_known(given: dict[str, Any]) -> None:
    found = facts_of(Model.model_validate({"id": CATALOGUED, **given}), never, never)
    assert isinstance(found, ModelFacts)


PLACES = ["s3://models/{}", "gs://a/b/{}/", "az://models/{}", "/opt/{}"]


@pytest.mark.parametrize("place", PLACES)
def test_a_place_that_ends_with_a_catalogued_repository_has_its_facts(place: str) -> None:
    model = Model.model_validate({"id": place.format(CATALOGUED)})
    named = facts_of(Model.model_validate({"id": CATALOGUED}), never, never)
    assert facts_of(model, never, never) == named


@pytest.mark.parametrize("place", PLACES)
def test_the_hub_is_never_asked_for_a_place_and_the_fields_that_help_are_named(place: str) -> None:
    model = Model.model_validate({"id": place.format("team/qwen")})
    with pytest.raises(UnknownModel) as refused:
        facts_of(model, never, never)
    assert refused.value.field == "spec.model.config"
    assert model.id in refused.value.message
    assert "spec.model.configMapRef" in refused.value.message


@pytest.mark.parametrize("place", PLACES)
def test_facts_of_a_place_are_those_that_are_given(place: str) -> None:
    inline = {"id": place.format(CATALOGUED), **CONFIG}
    found = facts_of(Model.model_validate(inline), never, never)
    assert isinstance(found, ModelFacts)
    assert found.source == "inline"
    mapped = {"id": place.format(CATALOGUED), **MAP}
    assert facts_of(Model.model_validate(mapped), from_map, never) == "facts/config.json"
