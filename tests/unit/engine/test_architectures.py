"""Each architecture is served from the version on that its row names."""

import csv
import re
from pathlib import Path

import pytest

from vllm_operator.engine.architectures import unserved_because
from vllm_operator.engine.devices import (
    accepted_block_sizes,
    latent_block_size,
    oldest_capability,
    runs_block_size,
)
from vllm_operator.engine.tables import rows
from vllm_operator.engine.versions import NEWEST_KNOWN, OLDEST, Version
from vllm_operator.models import catalogue
from vllm_operator.models.architecture import decoder_of
from vllm_operator.models.families import FAMILIES

LOGS = Path(__file__).parents[3] / "benchmarks/data/vllm_startup_logs.csv"


def version(text: str) -> Version:
    return Version.parse(text)


def test_every_family_that_sizing_knows_has_a_row():
    assert {row["architecture"] for row in rows("architectures.csv")} == set(FAMILIES)


def test_every_family_is_served_by_the_newest_version():
    assert [name for name in FAMILIES if unserved_because(name, NEWEST_KNOWN)] == []


@pytest.mark.parametrize(
    ("name", "too_old", "first"),
    [
        ("Qwen3_5ForConditionalGeneration", "0.8.5", "0.17.0"),
        ("GptOssForCausalLM", "0.8.5", "0.10.1"),
        ("DeepseekV4ForCausalLM", "0.11.0", "0.20.0"),
        ("Qwen3ForCausalLM", "0.8.3", "0.8.4"),
    ],
)
def test_an_older_version_is_refused_with_the_first_that_works(name: str, too_old: str, first: str):
    why = unserved_because(name, version(too_old))
    assert why is not None
    assert first in why
    assert unserved_because(name, version(first)) is None


def test_a_development_build_is_not_judged_by_its_number():
    build = version("0.16.1rc1.dev265+gd106bf39f")
    assert unserved_because("Qwen3_5ForConditionalGeneration", build) is None


def test_what_is_not_in_the_table_is_not_refused():
    assert unserved_because("SomethingForCausalLM", OLDEST) is None


def started() -> list[tuple[str, str, str]]:
    """Id, version and architecture of each logged start that came as far as the KV cache."""
    found = []
    with LOGS.open(encoding="utf-8") as lines:
        for row in csv.DictReader(lines):
            facts = catalogue.find(row["model_id"])
            known = re.match(r"\d+\.\d+\.\d+", row["vllm_version"])
            reached = row["outcome"] in ("started", "kv_too_small")
            if not reached or facts is None or known is None:
                continue
            if version(row["vllm_version"]).release >= OLDEST.release:
                name = decoder_of(facts.config["architectures"][0])
                found.append((row["id"], row["vllm_version"], name))
    return found


def test_no_start_that_was_logged_is_refused():
    logged = started()
    assert len(logged) > 80
    refused = [one for one in logged if unserved_because(one[2], version(one[1]))]
    assert refused == []


@pytest.mark.parametrize(
    ("release", "oldest"), [("0.8.5", (7, 0)), ("0.19.1", (7, 0)), ("0.33.0", (7, 5))]
)
def test_images_start_at_a_compute_capability_of_their_version(release: str, oldest: tuple):
    assert oldest_capability(version(release)) == oldest


@pytest.mark.parametrize(
    ("release", "capability", "pinned", "sparse", "small", "size"),
    [
        ("0.8.5", (9, 0), None, False, False, 64),
        ("0.8.5", (8, 0), None, False, False, 16),
        ("0.11.0", (9, 0), 128, False, False, 64),  # FlashMLA wanted 64 and nothing else
        ("0.12.0", (9, 0), 128, False, False, 128),
        ("0.11.0", (10, 0), None, False, False, 128),
        ("0.9.2", (10, 0), None, False, False, 16),
        ("0.16.0", (10, 0), None, False, False, 64),
        ("0.11.0", (10, 0), None, True, False, 64),
        ("0.30.0", (9, 0), None, False, False, 16),  # FlashAttention's MLA
        ("0.30.0", (9, 0), None, False, True, 64),
        ("0.30.0", (9, 0), None, True, False, 64),
        ("0.30.0", (9, 0), 16, False, True, 16),
        ("0.30.0", (10, 0), None, False, False, 32),
        ("0.30.0", None, None, False, False, 16),
    ],
)
def test_latent_attention_has_the_block_size_of_its_kernels(
    release: str, capability: tuple | None, pinned: int | None, sparse: bool, small: bool, size: int
):
    found = latent_block_size(
        version(release), capability, pinned, sparse=sparse, small_cache=small
    )
    assert found == size


@pytest.mark.parametrize(
    ("size", "first", "xformers", "runs"),
    [
        (16, False, False, True),
        (48, False, False, True),
        (8, False, False, False),
        (1, False, False, False),
        (8, True, False, True),
        (64, True, False, True),
        (64, True, True, False),
        (1, True, True, False),
    ],
)
def test_kernels_take_multiples_of_16_and_those_before_v1_some_others(
    size: int, first: bool, xformers: bool, runs: bool
):
    assert runs_block_size(size, first_engine=first, xformers=xformers) is runs


def test_the_engine_before_v1_takes_8_beside_them_and_xformers_alone_none_above_32():
    assert accepted_block_sizes(version("0.8.5"), first_engine=True) == "8, 16, 32, 64, 128"
    old = accepted_block_sizes(version("0.8.5"), first_engine=True, xformers=True)
    assert old == "8, 16, 32"


def test_accepted_block_sizes_are_those_that_also_run():
    assert accepted_block_sizes(version("0.8.5")) == "16, 32, 64, 128"
    assert accepted_block_sizes(version("0.30.0")) == "the multiples of 16"


EXACTLY_64 = (64, 64, 64, 64, 64, 64)
MULTIPLES_OF_64 = (64, 64, 64, 128, 192, 256)
MULTIPLES_OF_128 = (128, 128, 128, 128, 128, 256)
AS_PINNED = (16, 32, 64, 128, 192, 256)


@pytest.mark.parametrize(
    ("release", "major", "sparse", "sizes"),
    [
        ("0.11.0", 9, False, EXACTLY_64),
        ("0.12.0", 9, False, MULTIPLES_OF_64),
        ("0.17.0", 9, False, MULTIPLES_OF_64),
        ("0.18.0", 9, False, AS_PINNED),
        ("0.11.0", 10, False, (128,) * 6),
        ("0.12.0", 10, False, MULTIPLES_OF_128),
        ("0.15.0", 10, False, MULTIPLES_OF_128),
        ("0.16.0", 10, False, MULTIPLES_OF_64),
        ("0.17.0", 10, False, MULTIPLES_OF_64),
        ("0.18.0", 10, False, AS_PINNED),
        ("0.11.0", 9, True, EXACTLY_64),
        ("0.17.0", 10, True, EXACTLY_64),
        ("0.18.0", 10, True, AS_PINNED),
    ],
)
def test_a_pinned_block_size_of_latent_attention_is_kept_where_its_kernels_take_it(
    release: str, major: int, sparse: bool, sizes: tuple[int, ...]
):
    found = [
        latent_block_size(version(release), (major, 0), pinned, sparse=sparse, small_cache=False)
        for pinned in AS_PINNED
    ]
    assert tuple(found) == sizes
