"""Data files are whole: no row has a cell that no column reads."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

import vllm_operator

SOURCE = Path(vllm_operator.__file__).parent


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.csv")), ids=lambda path: path.name)
def test_every_row_has_a_cell_for_each_column_and_no_other(path: Path) -> None:
    with path.open(newline="") as file:
        header, *rows = csv.reader(file)
    assert [row for row in rows if len(row) != len(header)] == []
