"""A data file says one thing of one thing: no two rows hold for one key in one release."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Mapping
from itertools import combinations
from pathlib import Path

import pytest

import vllm_operator

ROOT = Path(vllm_operator.__file__).parent
TABLES = sorted(str(path.relative_to(ROOT)) for path in ROOT.rglob("*.csv"))
KEYS = {
    "engine/architectures.csv": ("architecture",),
    "engine/backends.csv": ("flag",),
    "engine/bounds.csv": ("flag", "value"),
    "engine/choices.csv": ("flag", "value"),
    "engine/compilation.csv": ("key",),
    "engine/eagle3.csv": ("architecture",),
    "engine/encoder_data.csv": ("architecture",),
    "engine/environment.csv": ("name",),
    "engine/expert_padding.csv": ("architecture", "capability"),
    "engine/extra_arguments.csv": ("flag",),
    "engine/flags.csv": ("flag",),
    "engine/graphs.csv": ("runner",),
    "engine/half_precision.csv": ("architecture",),
    "engine/images.csv": ("repository",),
    "engine/kv_groups.csv": (),
    "engine/latency_edges.csv": ("meaning",),
    "engine/lora.csv": ("architecture",),
    "engine/metrics.csv": ("meaning",),
    "engine/model_addresses.csv": ("scheme",),
    "engine/online_quantization.csv": ("method",),
    "engine/own_drafts.csv": ("architecture",),
    "engine/parsers.csv": ("flag", "parser"),
    "engine/prompt_logprobs.csv": ("runner",),
    "engine/quantization.csv": ("method", "named", "weights", "compute"),
    "engine/rejection.csv": ("runner",),
    "engine/replaced_flags.csv": ("flag",),
    "engine/reserved_environment.csv": ("name",),
    "engine/since.csv": ("name",),
    "engine/sparse_attention.csv": (),
    "engine/speculation.csv": ("method",),
    "engine/state_blocks.csv": ("kind", "mode"),
    "engine/utilization.csv": (),
    "engine/values.csv": ("flag", "value"),
    "engine/capabilities.csv": (),
    "hardware/cloud_labels.csv": ("label", "values"),
    "hardware/cloud_parts.csv": ("label", "beside", "values"),
    "hardware/gpus.csv": ("product",),
    "hardware/performance.csv": ("product",),
    "hardware/unplanned.csv": ("names",),
    "hardware/vendors.csv": ("prefix",),
    "models/families/gone.csv": ("architecture",),
    "sizing/memory/coefficients.csv": ("name", "min_tensor_parallel"),
    "sizing/performance/coefficients.csv": ("name", "generation", "link"),
    "sizing/performance/intervals.csv": ("figure", "kind"),
    "sizing/plan/startup.csv": ("name",),
}
"""By what a row is found; of a table that is not named here, by all that it says."""
IN_ORDER = {
    "engine/batching.csv",
    "engine/block_sizes.csv",
    "engine/failures.csv",
    "engine/first_engine.csv",
    "engine/refusals.csv",
    "engine/runners.csv",
    "lifecycle/hindrances.csv",
}
"""Tables of which the first row that fits is taken."""


def release(text: str, missing: int) -> tuple[int, ...]:
    parts = [int(one) for one in text.split(".")] if text else []
    return tuple([*parts, *[missing] * 3][:3])


def overlap(one: Mapping[str, str], other: Mapping[str, str]) -> bool:
    """Whether both hold in some release; ``until`` without a patch means all of them."""

    def first(row: Mapping[str, str]) -> tuple[int, ...]:
        return release(row.get("since") or "", 0)

    def last(row: Mapping[str, str]) -> tuple[int, ...]:
        return release(row.get("until") or "", 999)

    return first(one) <= last(other) and first(other) <= last(one)


def test_every_table_that_is_named_is_there() -> None:
    assert KEYS.keys() | IN_ORDER <= set(TABLES)
    assert len(TABLES) > 45


@pytest.mark.parametrize("table", sorted(set(TABLES) - IN_ORDER))
def test_no_two_rows_speak_of_the_same_in_one_release(table: str) -> None:
    groups: dict[tuple[str, ...], list[Mapping[str, str]]] = defaultdict(list)
    with (ROOT / table).open(encoding="utf-8", newline="") as lines:
        for row in csv.DictReader(lines):
            names = KEYS.get(table, tuple(row.keys() - {"since", "until", "source"}))
            groups[tuple(row[name] for name in sorted(names))].append(row)
    assert len(groups) >= 1
    twice = [
        key for key, rows in groups.items() if any(overlap(*two) for two in combinations(rows, 2))
    ]
    assert twice == []


@pytest.mark.parametrize("table", TABLES)
def test_a_row_begins_before_it_ends(table: str) -> None:
    with (ROOT / table).open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert [
        row
        for row in rows
        if release(row.get("since") or "", 0) > release(row.get("until") or "", 999)
    ] == []
