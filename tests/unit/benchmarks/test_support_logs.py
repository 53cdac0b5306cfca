from __future__ import annotations

from collections import Counter

import pytest
from support_logs import (
    Class,
    Classified,
    classify,
    read_rows,
    scored,
)
from support_starts import LoggedStart, family_of, release_of, source_of

ROWS = read_rows()
BLANK = dict.fromkeys(ROWS[0], "")
STARTED = {
    **BLANK,
    "id": "T1",
    "source_url": "https://github.com/somebody/something/blob/main/vllm.log",
    "vllm_version": "0.11.0",
    "model_id": "Qwen/Qwen3-8B",
    "gpu_name": "NVIDIA L4",
    "tensor_parallel": "1",
    "gpu_memory_utilization": "0.9",
    "max_model_len": "8192",
    "available_kv_gib": "3.0",
    "outcome": "started",
}


def verdict(**changes: str) -> Classified:
    return classify([STARTED | changes], readings=[])[0]


def start(**changes: str) -> LoggedStart:
    found = verdict(**changes).start
    assert found is not None
    return found


def logged(row_id: str) -> LoggedStart:
    return next(one.start for one in classify(ROWS) if one.id == row_id and one.start)


def test_every_row_of_the_file_has_a_class():
    kinds = Counter(one.kind for one in classify(ROWS))
    assert kinds == {Class.SCORED: 73, Class.APART: 42, Class.LEFT_OUT: 30}


def test_every_row_that_is_not_scored_has_a_reason():
    assert all(one.reason for one in classify(ROWS) if one.kind is not Class.SCORED)


def test_every_scored_start_has_a_figure_above_zero():
    figures = [(one.kv_gib, one.kv_tokens, one.max_concurrency) for one in scored(ROWS)]
    assert all(next(value for value in values if value is not None) > 0 for values in figures)


def test_a_start_that_printed_its_kv_cache_is_scored():
    assert verdict().kind is Class.SCORED


def test_a_refused_start_that_still_measured_its_kv_cache_is_scored():
    assert verdict(outcome="kv_too_small").kind is Class.SCORED


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"vllm_version": ""}, "the version is not known"),
        ({"vllm_version": "dev"}, "the version is not known"),
        ({"vllm_version": "0.7.3"}, "vLLM before 0.8.0, which is not planned"),
        ({"available_kv_gib": ""}, "no figure of the KV cache was printed"),
        ({"tensor_parallel": ""}, "the tensor-parallel size is not stated"),
    ],
)
def test_a_row_that_does_not_say_enough_is_left_out(changes: dict[str, str], reason: str):
    found = verdict(**changes)
    assert (found.kind, found.reason) == (Class.LEFT_OUT, reason)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"non_torch_gib": "-1.25"}, "another process used the GPU"),
        ({"notes": "two engines start on the same GPU"}, "another process used the GPU"),
        ({"notes": "results doc (patched vLLM)"}, "a patched engine"),
        ({"vllm_version": "0.27.1 + PR diff f4c27c0d"}, "a patched engine"),
        ({"available_kv_gib": "-1.54"}, "nothing was left for the KV cache"),
        ({"gpu_name": "NVIDIA Jetson Thor"}, "the GPU's memory is not known"),
        ({"vllm_version": "0.13.0+faa43dbf.nv26.01"}, "a vendor's own build"),
        ({"notes": "APPROXIMATE (~50 GB)"}, "figures rounded by hand"),
        ({"speculative": "mtp"}, "speculative decoding, which is not planned"),
        (
            {"gpu_memory_utilization": "", "notes": "gpu_memory_utilization not shown"},
            "the utilisation was set, or may have been, and is not shown",
        ),
    ],
)
def test_a_start_that_is_not_comparable_is_listed_apart(changes: dict[str, str], reason: str):
    found = verdict(**changes)
    assert (found.kind, found.reason) == (Class.APART, reason)


@pytest.mark.parametrize(
    ("text", "release"),
    [
        ("0.10.0", "0.10.0"),
        ("0.8.5.post1", "0.8.5"),
        ("0.8.5.dev22+g1575c1701", "0.8.5"),
        ("0.11.0+torch271", "0.11.0"),
        ("0.26.1rc1.dev156+g0eec856cc.d20260731", "0.26.1"),
        ("0.1.dev18496+gd4e0675a7", None),
        ("dev", None),
        ("", None),
    ],
)
def test_a_version_is_read_as_the_release_it_leads_to(text: str, release: str | None):
    assert release_of(text) == release


def test_a_build_that_only_counts_commits_is_dated_by_a_reading():
    assert logged("L107").version == "0.25.0"


def test_a_reading_never_replaces_what_the_row_states():
    reading = {"source": source_of(STARTED["source_url"]), "id": "*", "field": "vllm_version"}
    found = classify([STARTED], [{**reading, "value": "0.20.0", "evidence": "a date"}])[0]
    assert found.start is not None
    assert found.start.version == "0.11.0"


@pytest.mark.parametrize(
    ("address", "source"),
    [
        (
            "https://github.com/mrpid12org/imageworks/blob/157dd1f/vllm.log",
            "https://github.com/mrpid12org/imageworks",
        ),
        (
            "https://github.com/vllm-project/vllm/issues/16141",
            "https://github.com/vllm-project/vllm/issues/16141",
        ),
        ("https://docs.vultr.com/inference-cookbook", "https://docs.vultr.com/inference-cookbook"),
    ],
)
def test_a_source_is_the_repository_or_the_thread(address: str, source: str):
    assert source_of(address) == source


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("NVIDIA H100 NVL", "H100 NVL"),
        ("NVIDIA L40S", "L40S"),
        ("Tesla T4", "T4"),
        ("NVIDIA A100-SXM4-40GB", "A100"),
        ("AMD Radeon RX 9070 XT", "RX 9070 XT"),
    ],
)
def test_the_family_of_a_gpu_is_read_from_its_name(name: str, family: str):
    assert family_of(name) == family


def test_the_server_s_defaults_fill_what_is_not_stated():
    found = start(gpu_name="NVIDIA H100 80GB HBM3")
    assert (found.max_num_seqs, found.max_num_batched_tokens) == (1024, 8192)


def test_a_program_with_llm_has_larger_batches():
    assert start(notes="script with LLM()").max_num_batched_tokens == 8192


def test_default_batches_are_no_larger_than_all_sequences_together():
    assert start(max_num_seqs="1", max_model_len="512").max_num_batched_tokens == 512


def test_what_was_taken_for_an_unstated_knob_is_said():
    assert start().assumed == (
        "max_num_seqs 256: vLLM 0.11.0's default (serve)",
        "max_num_batched_tokens 2048: vLLM 0.11.0's default (serve)",
    )


def test_an_unstated_utilisation_is_the_version_s_default():
    assert start(gpu_memory_utilization="").utilization == 0.9


def test_the_printed_parts_correct_a_rounded_utilisation():
    assert logged("L147").utilization == 0.95


def test_memory_that_another_start_on_the_machine_reports_is_used():
    sister = STARTED | {"id": "T2", "gpu_memory_gib_reported": "22.16"}
    found = classify([STARTED, sister], readings=[])[0].start
    assert found is not None
    assert found.gpu_memory_gib == 22.16


def test_a_start_that_printed_blocks_ran_on_the_first_engine():
    assert logged("L086").engine == "V0"
