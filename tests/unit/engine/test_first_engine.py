"""Which engine serves, as each version's own oracle decides it."""

from dataclasses import replace

import pytest

from vllm_operator.engine.first_engine import (
    FACTS,
    Setup,
    first_engine_because,
    prefills_whole_prompts,
)
from vllm_operator.engine.tables import rows
from vllm_operator.engine.versions import Version

LLAMA = Setup("LlamaForCausalLM", capability=(8, 6))


def first(version: str, **changes: object) -> bool:
    return first_engine_because(Version.parse(version), replace(LLAMA, **changes)) is not None


@pytest.mark.parametrize("version", ["0.8.0", "0.8.5", "0.9.1", "0.10.0", "0.10.2", "0.30.0"])
def test_v1_serves_a_plain_model_on_a_plain_gpu(version: str):
    assert not first(version)


@pytest.mark.parametrize(
    ("changes", "first_versions", "later_versions"),
    [
        ({"capability": (7, 5)}, ("0.8.0", "0.10.0", "0.10.1.1"), ("0.10.2", "0.11.0")),
        ({"rocm": True, "capability": None}, ("0.8.5", "0.9.1"), ("0.9.2", "0.10.0")),
        ({"float32": True}, ("0.8.0", "0.9.1"), ("0.9.2",)),
        ({"pooling": True}, ("0.8.0", "0.9.1"), ("0.9.2",)),
        ({"recurrent": True}, ("0.8.0", "0.9.2", "0.10.1"), ("0.10.2",)),
        ({"pipeline": 2}, ("0.8.0", "0.9.0.1"), ("0.9.1",)),
        ({"quantization": "bitsandbytes"}, ("0.8.2",), ("0.8.3",)),
        ({"adapters": True}, ("0.8.2",), ("0.8.3",)),
        ({"drafts": "ngram"}, ("0.8.5.post1",), ("0.9.0",)),
        ({"drafts": "mlp_speculator"}, ("0.9.2",), ("0.10.0",)),
        ({"architecture": "Gemma3ForConditionalGeneration"}, ("0.8.0",), ("0.8.1",)),
        ({"kv_cache_dtype": "fp8"}, ("0.8.0", "0.10.0", "0.10.2"), ("0.11.0",)),
        ({"kv_cache_dtype": "fp8", "capability": (9, 0)}, ("0.8.1",), ("0.8.2", "0.10.2")),
        ({"kv_cache_dtype": "fp8", "capability": (10, 0)}, ("0.9.2",), ("0.10.0", "0.10.2")),
        ({"kv_cache_dtype": "fp8", "latent": True}, ("0.10.1",), ("0.10.2",)),
    ],
)
def test_what_v1_lacked_is_served_by_the_engine_before_it(
    changes: dict, first_versions: tuple[str, ...], later_versions: tuple[str, ...]
):
    assert [first(version, **changes) for version in first_versions] == [True] * len(first_versions)
    assert not any(first(version, **changes) for version in later_versions)


def test_a_gpu_that_is_not_known_is_taken_for_a_new_one():
    assert not first("0.8.5", capability=None)


def test_every_reason_names_facts_that_are_read():
    for row in rows("first_engine.csv"):
        names = [row["when"], *row["unless"].split("|")]
        assert {name for name in names if name} <= FACTS.keys()
        assert row["when"] or row["architectures"]
        assert row["because"]


def test_chunks_come_only_with_long_requests_of_plain_models():
    assert prefills_whole_prompts(LLAMA, 32_768)
    assert not prefills_whole_prompts(LLAMA, 32_769)
    for fact in ("multimodal", "latent", "windowed", "pooling", "adapters", "rocm"):
        assert prefills_whole_prompts(replace(LLAMA, **{fact: True}), 131_072)


@pytest.mark.parametrize(
    ("version", "first"),
    [
        ("0.9.2.dev364+gb432b7a28", True),
        ("0.9.2", False),
        ("0.10.0.dev1", False),
        ("0.30.0.dev5", False),
    ],
)
def test_a_development_build_may_still_do_what_the_release_before_did(version: str, first: bool):
    # cmontemuino/amd-mi300x-ml-benchmarks: MI300X, served by the engine before V1
    setup = Setup("LlamaForCausalLM", rocm=True)
    assert (first_engine_because(Version.parse(version), setup) is not None) is first
