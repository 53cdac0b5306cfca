"""Data files are whole, and known by what is in them."""

from __future__ import annotations

import csv
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest

import vllm_operator
from vllm_operator.hardware import catalogue as gpus
from vllm_operator.hardware import performance as peaks
from vllm_operator.models import catalogue as models
from vllm_operator.sizing.performance import coefficients, intervals
from vllm_operator.sizing.plan import startup

SOURCE = Path(vllm_operator.__file__).parent


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.csv")), ids=lambda path: path.name)
def test_every_row_has_a_cell_for_each_column_and_no_other(path: Path) -> None:
    with path.open(newline="") as file:
        header, *rows = csv.reader(file)
    assert [row for row in rows if len(row) != len(header)] == []


@pytest.mark.parametrize(
    ("fingerprint", "path"),
    [
        (gpus.fingerprint, "hardware/gpus.csv"),
        (peaks.fingerprint, "hardware/performance.csv"),
        (models.fingerprint, "models/catalogue.json"),
        (coefficients.fingerprint, "sizing/performance/coefficients.csv"),
        (intervals.fingerprint, "sizing/performance/intervals.csv"),
        (startup.fingerprint, "sizing/plan/startup.csv"),
    ],
    ids=lambda one: one if isinstance(one, str) else "",
)
def test_a_fingerprint_is_that_of_the_file_whose_figures_are_used(
    fingerprint: Callable[[], str], path: str
) -> None:
    assert fingerprint() == sha256((SOURCE / path).read_bytes()).hexdigest()[:16]
