"""Figures and verdicts of data files: each stands in ``data_figures.csv`` a second time.

As in ``figures.csv``, what was measured, fitted or decided changes in two places or not at all: no
test of behaviour tells 1.213 from 1.231. Names and versions are held by their sources instead
(``test_spans.py``, ``make test-engine``). A failing test shows the lines that differ.
"""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

import vllm_operator

SOURCE = Path(vllm_operator.__file__).parent
WRITTEN = Path(__file__).with_name("data_figures.csv")
FIGURES: dict[str, tuple[str, str]] = {
    "engine/backends.csv": ("flag", "share"),
    "engine/batching.csv": (
        "since min_memory_gib excluded_name required_name",
        "max_num_batched_tokens max_num_seqs",
    ),
    "engine/block_sizes.csv": ("since capability sparse cache", "block_size forced"),
    "engine/bounds.csv": ("flag since value", "above least most below"),
    "engine/capabilities.csv": ("since", "oldest newest"),
    "engine/expert_padding.csv": ("architecture since capability", "hidden intermediate"),
    "engine/extra_arguments.csv": ("flag", "verdict since"),
    "engine/failures.csv": ("reason seen fragment since", "passes repair after weak"),
    "engine/kv_groups.csv": ("since", "padding"),
    "engine/prompt_logprobs.csv": ("since runner", "rows bytes_per_logit"),
    "engine/online_quantization.csv": ("method since", "linear experts min_capability dtypes"),
    "engine/quantization.csv": ("method since", "named weights compute oldest dtypes"),
    "engine/rejection.csv": ("since runner", "whole_bytes chunk_bytes chunk_logits_bytes"),
    "engine/state_blocks.csv": ("kind since mode", "blocks chunk"),
    "engine/streamer.csv": ("name", "value"),
    "engine/utilization.csv": ("since", "gpu_memory_utilization"),
    "hardware/cloud_labels.csv": ("label values", "product"),
    "hardware/gpus.csv": ("product", "reported_gib nvml_mib compute_capability"),
    "hardware/performance.csv": (
        "product",
        "generation bandwidth_gbs tflops_16bit tflops_fp8 tflops_int8 tflops_fp4 link link_gbs",
    ),
    "hardware/unified.csv": ("product", "expected_gib most_gib"),
    "lifecycle/hindrances.csv": ("seen fragment", "freed"),
    "sizing/memory/coefficients.csv": ("name since min_tensor_parallel", "expected high"),
    "sizing/performance/coefficients.csv": ("name generation link since", "value"),
    "sizing/performance/intervals.csv": ("figure kind", "factor runs"),
    "sizing/plan/startup.csv": ("name since", "value"),
}
"""By file: the columns that tell its rows apart, and those of figures and verdicts."""
KEY = 120
"""Characters of a row's key: a fragment of a message may be long."""


def figures(name: str) -> list[dict[str, str]]:
    """What a file says; verdicts that are common to many rows are left out."""
    keys, columns = (text.split() for text in FIGURES[name])
    with (SOURCE / name).open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    found = []
    for row in rows:
        told = " ".join(row[column] or "-" for column in columns)
        if told not in ("free -", "yes none 1 no", "no none 1 no"):
            key = " ".join(row[column] or "-" for column in keys)
            found.append({"file": name, "row": key[:KEY], "figures": told})
    return found


def written(name: str) -> list[dict[str, str]]:
    with WRITTEN.open(encoding="utf-8", newline="") as lines:
        return [row for row in csv.DictReader(lines) if row["file"] == name]


@pytest.mark.parametrize("name", FIGURES)
def test_figures_and_verdicts_of_a_data_file_are_those_written_down(name: str) -> None:
    assert figures(name) == written(name)


def test_every_line_that_is_written_down_is_of_a_file_that_is_compared() -> None:
    with WRITTEN.open(encoding="utf-8", newline="") as lines:
        assert {row["file"] for row in csv.DictReader(lines)} == set(FIGURES)
