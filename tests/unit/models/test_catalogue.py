"""The catalogue holds models that can be sized, each with its source."""

import json
from importlib.resources import files

import pytest

from vllm_operator.models import catalogue
from vllm_operator.models.architecture import architecture_from_config, relevant_facts

ENTRIES = json.loads(
    files("vllm_operator.models").joinpath("catalogue.json").read_text(encoding="utf-8")
)["models"]


def test_more_than_a_hundred_models_are_known():
    assert len(catalogue.known_models()) >= 100


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry["id"])
def test_a_model_has_a_source_a_hash_and_no_fact_that_is_not_read(entry: dict):
    assert entry["source"]
    assert len(entry["sha256"]) == 64
    assert relevant_facts(entry["config"]) == entry["config"]
    assert architecture_from_config(entry["config"]).parameters > 10**8


def test_a_name_is_found_in_any_case():
    assert catalogue.find("qwen/qwen3-8b") is catalogue.find("Qwen/Qwen3-8B")


def test_a_model_that_is_not_there_is_none():
    assert catalogue.find("nobody/nothing") is None


def test_a_misspelt_name_is_answered_with_the_nearest():
    assert catalogue.nearest("Qwen/Qwen3-8b-Base") == "Qwen/Qwen3-8B"


def test_a_name_like_no_other_has_no_nearest():
    assert catalogue.nearest("xyz") is None


def test_known_models_are_sorted_and_the_fingerprint_is_stable():
    known = catalogue.known_models()
    assert list(known) == sorted(known, key=str.casefold)
    assert catalogue.fingerprint() == catalogue.fingerprint()
